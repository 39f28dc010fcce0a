//! Spans for a collector of OpenTelemetry, on real servers: `cargo test --features otel --test
//! otel`. What a binary without the feature does is in `tests/promises/tracing.rs`.
#![cfg(feature = "otel")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod receiver;

use std::collections::BTreeSet;

use tokio_postgres::Client;

use harness::relay::{Relay, Settings};
use harness::wait::{self, PATIENCE};
use harness::world::{STREAM, World, count};
use receiver::{PRODUCER, Receiver, Span};

/// So that nothing but the end of the relay sends spans.
const NEVER_MS: &str = "3600000";

/// Nothing is marked from now on, and so nothing confirmed.
const HOLD_MARKS: &str = "CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END';
    CREATE TRIGGER held BEFORE UPDATE ON identity.outbox
        FOR EACH STATEMENT EXECUTE FUNCTION held();
    SELECT pg_advisory_lock(7)";
const LET_MARKS_GO: &str = "SELECT pg_advisory_unlock(7)";

/// The parent of row `n`.
fn traceparent(n: u64, flags: &str) -> String {
    format!("00-{n:032x}-{n:016x}-{flags}")
}

/// Rows in one transaction; each says where it goes and what it is a child of.
async fn insert(client: &mut Client, rows: &[(&str, &str)]) {
    let query = "INSERT INTO identity.outbox
            (event_type, aggregate_id, payload, topic, traceparent)
        VALUES ('UserCreated', gen_random_uuid(), '{\"secret\": \"tell-nobody\"}', $1, $2)";
    let transaction = client.transaction().await.unwrap();
    for (topic, traceparent) in rows {
        transaction.execute(query, &[topic, traceparent]).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

fn traced(world: &World, receiver: &Receiver, delay_ms: &str) -> Settings {
    world
        .settings
        .clone()
        .with_variable("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint())
        .with_variable("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2")
        .with_variable("OTEL_BSP_SCHEDULE_DELAY", delay_ms)
        .with("retry_base_delay", "100ms")
        .with("retry_multiplier", "1")
        .with("max_retry_attempts", "1000")
        .with("poll_interval", "50ms")
}

/// Whose children they are.
fn parents(spans: &[Span]) -> Vec<u64> {
    let mut parents: Vec<u64> = spans
        .iter()
        .map(|span| {
            assert!(span.trace.ends_with(&span.parent), "{span:?}");
            u64::from_str_radix(&span.parent, 16).unwrap()
        })
        .collect();
    parents.sort_unstable();
    parents
}

async fn spans_counted(relay: &Relay, outcome: &str) -> u64 {
    let (_, page) = relay.get("/metrics").await.expect("an answer");
    let name = format!("walrelay_spans_total{{outcome=\"{outcome}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}

async fn until_left(client: &Client, rows: i64) {
    wait::until_equal("rows left to mark", rows, PATIENCE, async || {
        count(client, "identity.outbox WHERE NOT published").await
    })
    .await;
}

/// Entries of the usual stream with a sampled parent, against their spans.
async fn assert_fit_entries(world: &World, spans: &[Span]) {
    for entry in world.consumer().read_all().await {
        let of_event = |span: &&Span| span.attributes["messaging.message.id"] == entry.event_id();
        let found: Vec<&Span> = spans.iter().filter(of_event).collect();
        let parent = entry.find("traceparent").unwrap_or_default();
        if !parent.ends_with("-01") {
            assert!(found.is_empty(), "{entry:?} {found:?}");
            continue;
        }
        let [span] = found[..] else { panic!("{} spans of {entry:?}", found.len()) };
        assert_eq!(parent, format!("00-{}-{}-01", span.trace, span.parent), "the row's own");
        assert_ne!(span.id, span.parent);
        assert_eq!((span.name.as_str(), span.kind), ("publish identity.user.v1", PRODUCER));
        for (name, value) in [
            ("messaging.system", "redis"),
            ("messaging.operation.name", "publish"),
            ("messaging.operation.type", "send"),
            ("messaging.destination.name", STREAM),
            ("walrelay.event_type", "UserCreated"),
        ] {
            assert_eq!(span.attributes[name], value, "{span:?}");
        }
        // All clocks are this machine's. Redis's has milliseconds.
        let entered_ms: u64 = entry.id.split('-').next().unwrap().parse().unwrap();
        assert!(span.start <= span.end, "{span:?}");
        assert!(span.start / 1_000_000 <= entered_ms, "begins at the commit: {span:?} {entry:?}");
        assert!(entered_ms <= span.end / 1_000_000, "ends in the stream: {span:?} {entry:?}");
    }
}

/// What a collector gets: its key in each head, and no payload in any body.
fn assert_tell_nothing(receiver: &Receiver) {
    for request in receiver.requests() {
        assert!(request.head.starts_with("post /v1/traces http/1.1"), "{}", request.head);
        assert!(request.head.contains("api-key: hunter2"), "{}", request.head);
        let body = String::from_utf8_lossy(&request.body);
        assert!(!body.contains("tell-nobody") && !body.contains("hunter2"), "{body}");
    }
}

#[tokio::test]
async fn each_published_event_with_a_sampled_parent_has_one_span_and_no_other_has_any() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let mut client = world.postgres.client().await;
    world.redis.run("SET taken x").await;
    let settings = traced(&world, &receiver, "50");
    let mut relay = settings.start_ready().await;
    let parent = |n| traceparent(n, "01");
    let rows = [
        (STREAM, parent(1)),
        (STREAM, String::new()),
        (STREAM, parent(3)),
        ("taken", parent(4)),
        (STREAM, traceparent(5, "00")),
        (STREAM, "nonsense".to_owned()),
        ("other", parent(7)),
        (STREAM, parent(8)),
    ];
    insert(&mut client, &rows.each_ref().map(|(topic, parent)| (*topic, parent.as_str()))).await;
    let spans = receiver.until_spans(4).await;
    assert_eq!(parents(&spans), [1, 3, 7, 8]);
    world.consumer().until_len(6).await;
    assert_fit_entries(&world, &spans).await;
    wait::until_equal("spans counted", 4, PATIENCE, async || {
        spans_counted(&relay, "exported").await
    })
    .await;
    until_left(&client, 1).await;

    // What was refused, and is retried.
    world.redis.run("DEL taken").await;
    let spans = receiver.until_spans(5).await;
    assert_eq!(parents(&spans), [1, 3, 4, 7, 8]);
    assert!(spans.iter().any(|span| span.name == "publish taken"), "{spans:?}");
    until_left(&client, 0).await;

    // What the slot sends again.
    client.batch_execute(HOLD_MARKS).await.unwrap();
    insert(&mut client, &[(STREAM, &parent(9)), (STREAM, &parent(10))]).await;
    receiver.until_spans(7).await;
    relay.kill9();
    client.batch_execute(LET_MARKS_GO).await.unwrap();
    let settings = traced(&world, &receiver, NEVER_MS).with_variable("OTEL_SERVICE_NAME", "users");
    let mut relay = settings.start_ready().await;
    insert(&mut client, &[(STREAM, &parent(11))]).await;
    until_left(&client, 0).await;
    let status = relay.status().await;
    assert!(status["events"]["duplicates"].as_u64() >= Some(2), "{status}");
    assert_eq!(receiver.spans().len(), 7, "nothing was sent by now");
    relay.drain().await;
    let spans = receiver.spans();
    assert_eq!(parents(&spans), [1, 3, 4, 7, 8, 9, 10, 11], "sent before the end, and once");
    assert_fit_entries(&world, &spans).await;
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services.into_iter().collect::<Vec<_>>(), ["users", "walrelay"]);

    let mut polling = settings.with("mode", "poll").start_ready().await;
    insert(&mut client, &[(STREAM, &parent(12)), (STREAM, ""), (STREAM, &parent(14))]).await;
    until_left(&client, 0).await;
    polling.drain().await;
    let spans = receiver.spans();
    assert_eq!(parents(&spans)[8..], [12, 14]);
    assert_fit_entries(&world, &spans).await;

    assert_tell_nothing(&receiver);
    let said = relay.output() + &polling.output();
    assert!(said.contains("spans are exported") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_collector_that_never_answers_or_is_away_stops_nothing() {
    let (world, receiver) = (World::new().await, Receiver::start_silent().await);
    let mut client = world.postgres.client().await;
    let settings = traced(&world, &receiver, "10")
        .with_variable("OTEL_EXPORTER_OTLP_TIMEOUT", NEVER_MS)
        .with_variable("OTEL_BSP_MAX_QUEUE_SIZE", "64");
    let mut relay = settings.start_ready().await;
    let parent = traceparent(1, "01");
    insert(&mut client, &[(STREAM, &parent)]).await;
    receiver.until_spans(1).await;
    for _ in 0..10 {
        insert(&mut client, &[(STREAM, parent.as_str()); 100]).await;
    }
    world.assert_all_published().await;
    until_left(&client, 0).await;
    assert_eq!(spans_counted(&relay, "dropped").await, 1_001 - 64);
    assert_eq!(spans_counted(&relay, "exported").await, 0);
    relay.drain().await;
    let said = relay.output();
    assert_eq!(said.matches("spans are dropped").count(), 1, "{said}");
    assert!(said.contains("before the collector had taken the last spans"), "{said}");

    let port = wait::free_port();
    let away = format!("http://127.0.0.1:{port}");
    let settings =
        traced(&world, &receiver, "10").with_variable("OTEL_EXPORTER_OTLP_ENDPOINT", &away);
    let mut relay = settings.start_ready().await;
    for spans in 1..=2 {
        insert(&mut client, &[(STREAM, &parent)]).await;
        wait::until_equal("spans given up", spans, PATIENCE, async || {
            spans_counted(&relay, "failed").await
        })
        .await;
    }
    let receiver = Receiver::at(port, true).await;
    insert(&mut client, &[(STREAM, &parent)]).await;
    receiver.until_spans(1).await;
    relay.until_output("spans are exported again").await;
    relay.drain().await;
    assert_eq!(relay.output().matches("takes no spans").count(), 1, "{}", relay.output());
    world.assert_all_published().await;
}
