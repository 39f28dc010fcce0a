//! `walrelay status`: what goes on, from the relay or else from the servers, and an exit code.

use serde_json::Value;

use crate::harness::relay::{Said, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, insert_many};

fn status(settings: &Settings, arguments: &[&str]) -> Said {
    settings.clone().with_arguments(arguments).say("status")
}

/// The object of --json, and the exit code.
fn object(settings: &Settings, arguments: &[&str]) -> (Value, Option<i32>) {
    let said = status(settings, &[&["--json"], arguments].concat());
    let report = serde_json::from_str(&said.stdout);
    (report.unwrap_or_else(|error| panic!("{error}: {said:?}")), said.code)
}

fn lsn(report: &Value, pointer: &str) -> u64 {
    let text = report.pointer(pointer).and_then(Value::as_str);
    let text = text.unwrap_or_else(|| panic!("no {pointer} in {report:#}"));
    let (high, low) = text.split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

#[tokio::test]
async fn a_relay_is_shown_with_its_positions_and_its_standby_beside_it_and_an_outage_is_no_0() {
    let mut world = World::new().await;
    let client = world.postgres.client().await;
    let mut leader = world.settings.start_ready().await;
    insert_many(&client, 1, 20).await.unwrap();
    world.until_marked().await;
    world.until_confirmed().await;
    let (report, code) = object(&world.settings, &[]);
    assert_eq!((code, &report["ok"]), (Some(0), &true.into()), "{report:#}");
    assert_eq!((&report["source"], &report["role"]), (&"relay".into(), &"leader".into()));
    assert_eq!((&report["state"], &report["mode"]), (&"streaming".into(), &"wal".into()));
    assert_eq!((&report["published"], &report["rows"]["parked"]), (&20.into(), &0.into()));
    let line = &report["lines"][0];
    assert_eq!((&line["slot"], &line["state"]), (&"walrelay".into(), &"streaming".into()));
    assert!(lsn(&report, "/lines/0/confirmed") <= lsn(&report, "/current_lsn"), "{report:#}");
    for name in ["received", "published", "settled", "restart"] {
        assert!(lsn(&report, &format!("/lines/0/{name}")) > 0, "{name}");
    }
    assert!(line["held_by"]["application"].as_str().unwrap().starts_with("walrelay-"));
    assert!(report["rates"].is_object(), "told, or made of two looks: {report:#}");
    let table = status(&world.settings, &[]);
    assert_eq!((table.code, table.stderr.as_str()), (Some(0), ""));
    let current = report["current_lsn"].as_str().unwrap().split_once('/').unwrap().0;
    assert_says(
        &table.stdout,
        &["streaming for ", "leader", "mode wal", "0 parked, 0 due, 0 dead"],
    );
    assert_says(&table.stdout, &["SLOT", "CONFIRMED", "POSTGRESQL", &format!("{current}/")]);
    assert!(!table.stdout.contains('\x1b'), "no colour but on a terminal");

    let port = wait::free_port().to_string();
    let mut standby = world.settings.clone().with("http_port", &port).start();
    let url = format!("http://127.0.0.1:{port}");
    wait::until("the other one stands by", PATIENCE, async || {
        let said = status(&world.settings, &["--url", &url, "--json"]);
        let report: Value = serde_json::from_str(&said.stdout).ok()?;
        (report["role"] == "standby").then(|| assert_eq!(said.code, Some(0), "{report:#}"))
    })
    .await;
    standby.drain().await;

    world.redis.kill9();
    insert_many(&client, 21, 21).await.unwrap();
    wait::until("an exit code that is not 0", PATIENCE, async || {
        let said = status(&world.settings, &[]);
        (said.code != Some(0)).then(|| {
            assert_eq!(said.code, Some(1), "{said:?}");
            assert_says(&said.stdout, &["walrelay "]);
        })
    })
    .await;
    leader.kill9();
}

#[tokio::test]
async fn without_a_relay_the_servers_are_asked_and_that_is_said() {
    let mut world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.clone().with("http_port", "0").start();
    insert_many(&client, 1, 5).await.unwrap();
    world.until_marked().await;
    // Nobody answers, but somebody reads the slot.
    let (report, code) = object(&world.settings.clone().with("http_port", "0"), &[]);
    assert_eq!((code, &report["source"]), (Some(0), &"servers".into()), "{report:#}");
    assert_eq!((&report["state"], &report["role"]), (&"streaming".into(), &"leader".into()));
    assert_says(report["no_answer"].as_str().unwrap(), &["http_port is 0"]);
    relay.drain().await;

    insert_many(&client, 6, 8).await.unwrap();
    let change = "UPDATE identity.outbox SET next_attempt_at = now() - interval '1 h' WHERE id = 6;
        UPDATE identity.outbox SET dead_lettered_at = now() WHERE id = 7";
    client.batch_execute(change).await.unwrap();
    let (report, code) = object(&world.settings, &[]);
    assert_eq!((code, &report["ok"]), (Some(1), &false.into()), "{report:#}");
    assert_eq!(report["state"], "not running");
    let rows = &report["rows"];
    let counts = ["unpublished", "parked", "due", "dead"].map(|name| rows[name].as_i64());
    assert_eq!(counts, [Some(1); 4], "{report:#}");
    let line = &report["lines"][0];
    assert_eq!((&line["state"], &line["held_by"]), (&"idle".into(), &Value::Null));
    assert_eq!(line["wal_status"], "reserved");
    assert!(lsn(&report, "/lines/0/published") <= lsn(&report, "/current_lsn"));
    let stream = &report["streams"][0];
    assert_eq!((&stream["name"], &stream["entries"]), (&STREAM.into(), &5.into()));
    assert!(stream["last_id"].is_string() && stream["checkpoint"].is_string(), "{report:#}");
    let said = status(&world.settings, &[]);
    assert_says(&said.stderr, &["no answer", "this is what the servers say"]);
    assert_says(&said.stdout, &["not running", "1 not published", "1 due, 1 dead", "idle"]);

    // What cannot be counted is not known, and costs no more than its time.
    client.batch_execute("BEGIN; LOCK TABLE identity.outbox").await.unwrap();
    world.redis.kill9();
    let (report, code) = object(&world.settings, &[]);
    assert_eq!((code, &report["rows"]["parked"]), (Some(1), &Value::Null), "{report:#}");
    assert!(report["rows"]["error"].is_string() && report["redis"]["error"].is_string());
    assert_eq!(report["lines"][0]["slot"], "walrelay");
    world.postgres.kill9();
    let (report, code) = object(&world.settings, &[]);
    assert_eq!((code, &report["state"]), (Some(1), &"unknown".into()), "{report:#}");
    assert!(report["postgres"]["error"].is_string());
    let wrong = status(&world.settings, &["--url", "relay:8080"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert_says(&wrong.stderr, &["--url", "http://HOST:PORT"]);
}

#[tokio::test]
async fn a_watch_goes_on_without_the_relay_and_ends_well_when_interrupted() {
    let world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    let watch = |more: &[&str]| {
        let arguments = [&["--watch", "0.1"], more].concat();
        world.settings.clone().with_arguments(&arguments).spawn("status")
    };
    let (mut lines, mut objects) = (watch(&[]), watch(&["--json"]));
    let both = async |words: &str| {
        wait::until(words, PATIENCE, async || {
            let said = [lines.output(), objects.output()];
            said.iter().all(|said| said.contains(words)).then_some(())
        })
        .await;
    };
    both("streaming").await;
    relay.kill9();
    both("not running").await;
    let mut relay = world.settings.start_ready().await;
    wait::until("the relay is seen again", PATIENCE, async || {
        lines.output().lines().last()?.contains(" streaming").then_some(())
    })
    .await;
    lines.interrupt();
    objects.terminate();
    assert_eq!(lines.exit_code(PATIENCE).await, Some(0));
    assert_eq!(objects.exit_code(PATIENCE).await, Some(0));
    assert!(!lines.output().contains('\x1b'), "lines elsewhere than on a terminal");
    assert_says(&lines.output(), &["Z streaming for ", "leader, lag 0 events", "no answer from"]);
    for line in objects.output().lines() {
        let look: Value = serde_json::from_str(line).unwrap();
        assert!(look["at"].is_string() && look["state"].is_string(), "{look}");
    }

    // On a terminal it begins at the top again, and knows colours.
    let watch = world.settings.clone().with_arguments(&["--watch"]);
    let said = watch.say_on_terminal("status", "Ctrl-C ends", "\x03");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_says(&said.stdout, &["\x1b[Hstate"]);
    let coloured = world.settings.say_on_terminal("status", "", "").stdout;
    assert_says(&coloured, &["\x1b[32mstreaming\x1b[0m"]);
    let plain = world.settings.clone().with_variable("NO_COLOR", "1");
    assert!(!plain.say_on_terminal("status", "", "").stdout.contains("\x1b["));
    relay.drain().await;
}

#[tokio::test]
async fn each_shard_is_a_row_and_what_another_division_left_is_told() {
    let world = World::bare(&[], &[]).await;
    let two = world.settings.clone().with("shards", "2");
    two.setup().await;
    let mut relay = two.start_ready().await;
    let (report, code) = object(&two, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    for (at, slot) in ["walrelay_1of2", "walrelay_2of2"].into_iter().enumerate() {
        let line = &report["lines"][at];
        assert_eq!((&line["slot"], &line["shard"]), (&slot.into(), &(at + 1).into()));
        assert!(line["held_by"]["pid"].is_number(), "{report:#}");
    }
    assert_says(&status(&two, &[]).stdout, &["\nwalrelay_1of2  streaming", "\nwalrelay_2of2"]);
    relay.drain().await;
    let (report, code) = object(&world.settings, &[]);
    let lines = report["lines"].as_array().unwrap();
    assert_eq!((code, lines.len()), (Some(1), 3), "{report:#}");
    assert_eq!((&lines[0]["state"], &lines[1]["state"]), (&"missing".into(), &"left over".into()));
    assert_eq!(lines[2]["is_left_over"], true);
}
