//! The page in a real browser: it shows what goes on, lets a person act, and runs nothing of what
//! the rows say.

use serde_json::Value;

use crate::harness::browser::{Browser, Key};
use crate::harness::relay::Relay;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count, insert_many};

const TOKEN: &str = "correct-horse-battery";

/// Rows 1 to 3 are dead, 4 is parked. Each text tries to be more than text.
const ROWS: &str = r#"INSERT INTO identity.outbox (event_type, aggregate_id, topic, payload,
        attempts, next_attempt_at, dead_lettered_at, error_message)
    SELECT
        CASE WHEN n = 2 THEN '<script>window.pwned = 1</script>' ELSE 'UserCreated' END,
        gen_random_uuid(),
        CASE WHEN n = 3 THEN '"><img/src=x/onerror="window.pwned=2">' END,
        '{"secret": "tell-nobody"}',
        5,
        CASE WHEN n = 4 THEN now() + interval '1 day' END,
        CASE WHEN n < 4 THEN now() - make_interval(hours => n::int) END,
        CASE n WHEN 2 THEN '''"><svg onload="window.pwned = 3">' ELSE 'WRONGTYPE, no ' || n END
    FROM generate_series(1, 4) AS n ORDER BY n"#;

/// The colours of the page against its background, by the formula of WCAG 2.1; the least.
const CONTRAST: &str = "(() => {
    const style = getComputedStyle(document.documentElement);
    const light = (name) => {
        const hex = style.getPropertyValue(name).trim();
        const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    return Math.min(...['--ink', '--soft', '--good', '--calm', '--warn', '--bad'].flatMap((ink) =>
        ['--paper', '--raised'].map((paper) => ratio(light(ink), light(paper)))));
})()";

/// The box of the dead event of this row.
fn chooses(row: u8) -> String {
    format!("at.closest('tbody')?.id === 'event-rows' && at.value === '{row}'")
}

#[tokio::test]
async fn a_person_sees_what_goes_on_and_acts_by_keyboard_whatever_the_rows_say() {
    let Some(mut browser) = Browser::start().await else { return };
    let world = World::new().await;
    let client = world.postgres.client().await;
    client.batch_execute(ROWS).await.unwrap();
    let settings = world.settings.clone().with("http_token", TOKEN).with("poll_interval", "100ms");
    let mut relay = settings.start_ready().await;
    browser.open(&relay.url()).await;
    browser.until_says("state", "Streaming").await;
    insert_many(&client, 10, 109).await.unwrap();
    browser.until_says("written", "100 published").await;
    browser.until("document.querySelector('#confirmed').textContent.includes('/')", "''").await;
    browser.until_says("undelivered-says", "3 dead, 1 parked").await;

    // Tab alone leads to the field, as everything before it is named and in order.
    browser.until_says("answer", "asks for its token").await;
    browser.tab_to("at.id === 'token'").await;
    browser.type_text("correct-horse-batterz").await;
    browser.press(Key::Enter).await;
    browser.until_says("answer", "not the token").await;
    browser.tab_to("at.id === 'token'").await;
    browser.type_text(TOKEN).await;
    browser.press(Key::Enter).await;
    let rows = "document.querySelectorAll('#event-rows tr').length";
    browser.until(&format!("{rows} === 4"), rows).await;
    assert_harmless(&mut browser).await;

    browser.tab_to(&chooses(1)).await;
    browser.press(Key::Space).await;
    browser.tab_to("at.id === 'retry'").await;
    browser.press(Key::Enter).await;
    browser.until_says("answer", "1 event: due now").await;
    browser.until(&format!("{rows} === 3"), rows).await;
    world.consumer().until_len(101).await;
    browser.tab_to(&chooses(2)).await;
    browser.press(Key::Space).await;
    browser.tab_to("at.id === 'discard'").await;
    browser.press(Key::Enter).await;
    browser.until("document.activeElement.value === 'no'", "document.activeElement.value").await;
    browser.press(Key::Escape).await;
    let discarded = "identity.outbox WHERE id = 2 AND published AND error_message ~ '^discarded'";
    assert_eq!(count(&client, discarded).await, 0, "whoever says nothing keeps it");
    browser.tab_to("at.id === 'discard'").await;
    browser.press(Key::Enter).await;
    browser.tab_to("at.value === 'yes'").await;
    browser.press(Key::Enter).await;
    browser.until_says("answer", "1 event: discarded").await;
    browser.until(&format!("{rows} === 2"), rows).await;
    assert_eq!(count(&client, discarded).await, 1);

    assert_fits_and_is_legible(&mut browser).await;
    relay.kill9();
    browser.until_says("state", "No answer").await;
    browser.until_says("fresh", "no answer for").await;
    assert_eq!(browser.value("document.body.classList.contains('gone')").await, true);
    let shown = browser.value("document.getElementById('written').textContent").await;
    assert!(shown.as_str().unwrap().ends_with("published"), "what was known last stays: {shown}");
    let home = relay.url();
    for url in browser.asked() {
        assert!(url.starts_with(&home) || url.starts_with("data:"), "asked for {url}");
    }
    assert_eq!(browser.complaints(), Vec::<&str>::new());
    let mut relay = settings.start_ready().await;
    browser.until_says("state", "Streaming").await;
    relay.drain().await;
}

/// What the rows say is there to read, and is nothing but text.
async fn assert_harmless(browser: &mut Browser) {
    let text = browser.value("document.getElementById('event-rows').textContent").await;
    let text = text.as_str().unwrap();
    for words in [
        "<script>window.pwned = 1</script>",
        "\"><img/src=x/onerror=\"window.pwned=2\">",
        "'\"><svg onload=\"window.pwned = 3\">",
        "WRONGTYPE, no 4",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    assert!(!text.contains("tell-nobody"), "{text}");
    let made = "document.querySelectorAll('#event-rows :is(script, img, svg, a)').length";
    assert_eq!(browser.value(made).await, 0);
    assert_eq!(browser.value("window.pwned === undefined").await, true);
}

/// On a phone nothing is wider than the screen, and in both schemes all can be read.
async fn assert_fits_and_is_legible(browser: &mut Browser) {
    browser.resize(360, 740).await;
    let width = browser.value("document.documentElement.scrollWidth").await;
    assert!(width.as_i64().unwrap() <= 360, "{width} pixels wide");
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        let ratio = browser.value(CONTRAST).await.as_f64().unwrap();
        assert!(ratio >= 4.5, "{scheme}: the least contrast is {ratio}");
    }
}

/// The status line, the headers and the body of an answer to `method path` with these headers.
async fn ask(relay: &Relay, line: &str, more: &[&str], body: &str) -> String {
    let length = format!("Content-Length: {}", body.len());
    let mut lines = vec![format!("{line} HTTP/1.0")];
    if !more.iter().any(|header| header.starts_with("Host:")) {
        lines.push("Host: localhost".into());
    }
    lines.extend(more.iter().map(|&header| header.to_owned()));
    lines.push(length);
    let request = format!("{}\r\n\r\n{body}", lines.join("\r\n"));
    relay.ask(&request).await.expect("an answer")
}

fn code(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn dead_events_are_shown_and_changed_for_the_token_only_and_never_by_a_foreign_page() {
    let mut world = World::new().await;
    let client = world.postgres.client().await;
    client.batch_execute(ROWS).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    assert_eq!(code(&ask(&relay, "GET /dead", &[], "").await), 200);
    assert_eq!(code(&ask(&relay, "GET /dead", &["Host: evil.example"], "").await), 403);
    let body = r#"{"ids": ["1", 2]}"#;
    let json = "Content-Type: application/json";
    let off = ask(&relay, "POST /dead/retry", &[json], body).await;
    assert!(code(&off) == 403 && off.contains("http_token"), "{off}");
    let page = ask(&relay, "GET /", &["Accept: text/html,*/*"], "").await;
    assert!(page.contains("frame-ancestors 'none'") && page.contains("<!doctype html>"), "{page}");
    assert!(page.contains("nosniff") && page.contains("no-referrer"), "{page}");
    assert!(ask(&relay, "GET /", &[], "").await.contains("text/plain"), "curl gets text");
    let head = ask(&relay, "HEAD /", &["Accept: text/html"], "").await;
    assert!(code(&head) == 200 && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(code(&ask(&relay, "DELETE /dead", &[], "").await), 405);
    relay.drain().await;

    let settings = world.settings.clone().with("http_token", TOKEN).with("connect_timeout", "4s");
    let mut relay = settings.start_ready().await;
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let shown = ask(&relay, "GET /dead", &[&bearer], "").await;
    assert!(code(&shown) == 200 && !shown.contains("tell-nobody"), "{shown}");
    let rows: Value = serde_json::from_str(shown.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let ids: Vec<&str> =
        rows["rows"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["3", "2", "1", "4"]);
    let foreign = "Origin: http://evil.example";
    let wrong = "Authorization: Bearer wrong-horse-battery";
    for (line, headers, body, wanted) in [
        ("GET /dead", &[][..], "", 401),
        ("GET /dead", &[wrong], "", 401),
        ("POST /dead/retry", &[json], body, 401),
        ("POST /dead/retry", &[json, wrong], body, 401),
        ("POST /dead/retry", &[json, &bearer, foreign], body, 403),
        ("POST /dead/retry", &[json, &bearer, "Sec-Fetch-Site: cross-site"], body, 403),
        ("POST /dead/retry", &["Content-Type: text/plain", &bearer], body, 415),
        ("POST /dead/discard", &[json, &bearer], "{\"ids\": []}", 400),
        ("POST /dead/discard", &[json, &bearer], "ids=1", 400),
        ("POST /dead/discard", &[json, &bearer], "{\"ids\": [1, 4]}", 409),
        ("GET /dead/retry", &[&bearer], "", 405),
    ] {
        let answer = ask(&relay, line, headers, body).await;
        assert_eq!(code(&answer), wanted, "{line} {headers:?} {body}:\n{answer}");
    }
    let dead = "identity.outbox WHERE dead_lettered_at IS NOT NULL AND NOT published";
    assert_eq!(count(&client, dead).await, 3, "none of these changed a row");
    let done = ask(&relay, "POST /dead/retry", &[json, &bearer], body).await;
    assert!(code(&done) == 200 && done.contains(r#"{"changed":2}"#), "{done}");
    assert_eq!(count(&client, dead).await, 1);

    world.postgres.freeze();
    let headers = [bearer.as_str()];
    let asking = ask(&relay, "GET /dead", &headers, "");
    let (unanswered, alive) = tokio::join!(asking, until_livez(&relay));
    assert!(code(&unanswered) == 503 && unanswered.contains("\"error\""), "{unanswered}");
    assert!(alive, "/livez answers while PostgreSQL does not");
    world.postgres.thaw();
    assert!(!relay.output().contains(TOKEN), "{}", relay.output());
    relay.drain().await;
}

async fn until_livez(relay: &Relay) -> bool {
    wait::until("/livez", PATIENCE, async || relay.get("/livez").await.map(|(code, _)| code == 200))
        .await
}
