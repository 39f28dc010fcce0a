//! /metrics by the letter of OpenMetrics; and each number moves when its fact happens.
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;

use crate::harness::parked::park;
use crate::harness::proxy::Proxy;
use crate::harness::relay::Relay;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, insert, insert_many};

/// A family of metrics, as the page declares it.
#[derive(Debug)]
struct Family {
    name: String,
    kind: String,
    unit: Option<String>,
    /// Name with labels, value.
    samples: Vec<(String, f64)>,
}

/// Reads the page as a strict parser does; panics at what is not allowed.
fn parse(page: &str) -> Vec<Family> {
    let body = page.strip_suffix("# EOF\n").expect("ends with # EOF");
    let (mut families, mut helped): (Vec<Family>, HashSet<String>) = (Vec::new(), HashSet::new());
    for line in body.lines() {
        let mut words = line.splitn(4, ' ');
        match [words.next(), words.next(), words.next(), words.next()] {
            [Some("#"), Some("HELP"), Some(name), Some(text)] => {
                assert!(text.len() > 10 && text.ends_with('.'), "{line}");
                assert!(helped.insert(name.to_owned()), "twice: {line}");
            }
            [Some("#"), Some("TYPE"), Some(name), Some(kind)] => {
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(helped.contains(name), "no help: {line}");
                let (name, kind) = (name.to_owned(), kind.to_owned());
                families.push(Family { name, kind, unit: None, samples: Vec::new() });
            }
            [Some("#"), Some("UNIT"), Some(name), Some(unit)] => {
                let family = families.last_mut().expect("a TYPE before the UNIT");
                assert!(family.name == name && name.ends_with(&format!("_{unit}")), "{line}");
                family.unit = Some(unit.to_owned());
            }
            _ => sample(families.last_mut().expect("a TYPE before samples"), line),
        }
    }
    families
}

fn sample(family: &mut Family, line: &str) {
    let (name, value) = line.rsplit_once(' ').expect("a value");
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let (bare, labels) = name.split_once('{').unwrap_or((name, "}"));
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
    for label in labels.split("\",").filter(|label| !label.is_empty()) {
        let (key, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        assert!(!key.is_empty() && key.chars().all(plain) && !value.is_empty(), "{line}");
    }
    assert!(bare == name || !labels.is_empty(), "an empty set of labels: {line}");
    let suffix = bare.strip_prefix(family.name.as_str()).unwrap_or_else(|| panic!("{line}"));
    let allowed: &[&str] = match family.kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        _ => &["_bucket", "_sum", "_count"],
    };
    assert!(allowed.contains(&suffix), "{line} in a {}", family.kind);
    assert!(family.samples.iter().all(|(known, _)| known != name), "twice: {line}");
    family.samples.push((name.to_owned(), value));
}

fn assert_openmetrics(page: &str) {
    let families = parse(page);
    let mut names = HashSet::new();
    for family in &families {
        let Family { name, kind, unit, samples } = family;
        assert!(names.insert(name), "declared twice: {name}");
        assert!(!samples.is_empty(), "nothing is said of {name}");
        for word in ["bytes", "seconds", "rows", "events"] {
            let is_named = kind != "counter" && name.ends_with(&format!("_{word}"));
            assert!(!is_named || unit.as_deref() == Some(word), "{name} does not declare its unit");
        }
        if kind == "histogram" {
            assert!(unit.is_some(), "{name}: of what?");
            let of = |what: &str| {
                let found = samples.iter().find(|(sample, _)| sample.contains(what));
                found.unwrap_or_else(|| panic!("{name} lacks {what}")).1
            };
            assert!((of("le=\"+Inf\"") - of("_count")).abs() < 0.5, "{samples:?}");
            let buckets = samples.iter().filter(|(sample, _)| sample.contains("_bucket"));
            let counts: Vec<f64> = buckets.map(|(_, count)| *count).collect();
            assert!(counts.is_sorted(), "{samples:?}");
        }
    }
}

async fn page(relay: &Relay) -> HashMap<String, f64> {
    let (_, page) = relay.get("/metrics").await.expect("a page");
    assert_openmetrics(&page);
    parse(&page).into_iter().flat_map(|family| family.samples).collect()
}

/// Awaits each of these to be above what is named beside it.
async fn until_above(relay: &Relay, wanted: &[(&str, f64)]) {
    wait::until(&format!("above: {wanted:?}"), PATIENCE, async || {
        let page = page(relay).await;
        let is_above = |(name, least): &(&str, f64)| {
            let name = format!("walrelay_{name}");
            page.get(&name).unwrap_or_else(|| panic!("{name} is not on the page")) > least
        };
        wanted.iter().all(is_above).then_some(())
    })
    .await;
}

async fn insert_for(client: &Client, topic: &str) {
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
                 VALUES ('Any', gen_random_uuid(), '{}', $1)";
    client.execute(query, &[&topic]).await.unwrap();
}

#[tokio::test]
async fn every_number_moves_when_its_fact_happens_and_the_page_stays_openmetrics() {
    let postgres = [("max_slot_wal_keep_size", "1GB")];
    let mut world = World::with(&postgres, &[]).await;
    let client = world.postgres.client().await;
    let wire = Proxy::start(world.redis.port());
    let settings = world.settings.clone().with("durability", "memory");
    let settings = settings.with("redis_url", &world.redis.url_at(wire.port()));
    let settings = settings.with("poll_interval", "100ms").with("retry_base_delay", "50ms");
    let settings = settings.with("max_retry_attempts", "3").with("heartbeat_interval", "100ms");
    let mut relay = settings.start_ready().await;

    insert_many(&client, 1, 300).await.unwrap();
    until_above(
        &relay,
        &[
            ("events_published_total", 299.0),
            ("rows_marked_total", 299.0),
            ("batches_total", 0.0),
            ("commit_to_entry_seconds_count", 0.0),
            ("commit_to_entry_seconds_sum", 0.0),
            ("batch_events_sum", 299.0),
            ("script_seconds_count", 0.0),
            ("heartbeat_round_trip_seconds_count", 0.0),
            ("heartbeat_age_seconds", 0.0),
            ("slot_safe_wal_bytes", 0.0),
            ("slot_retained_bytes", 0.0),
            ("slot_wal_status{wal_status=\"reserved\"}", 0.0),
        ],
    )
    .await;

    world.redis.run("SET broken x").await;
    insert_for(&client, "broken").await;
    insert_for(&client, "no\nname").await;
    park(&client, (301, 301), 1, STREAM).await;
    until_above(
        &relay,
        &[
            ("events_parked_total", 1.0),
            ("events_rejected_total{reason=\"wrongtype\"}", 0.0),
            ("events_rejected_total{reason=\"unfit\"}", 0.0),
            ("events_retried_total", 0.0),
            ("retries_refused_total", 0.0),
            ("events_dead_lettered_total", 1.0),
            ("dead_rows", 0.0),
        ],
    )
    .await;

    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
    client.execute(kill, &[]).await.unwrap();
    let lost = [("restarts_total", 0.0), ("reconnects_total{server=\"postgres\"}", 0.0)];
    until_above(&relay, &lost).await;
    until_above(&relay, &[("lines_total", 1.0)]).await;

    // Written, and the answer is lost: it is sent again.
    let written = world.consumer().len().await.unwrap();
    wire.hold_replies();
    insert(&client, 302).await.unwrap();
    world.consumer().until_len(written + 1).await;
    wire.cut();
    wire.mend();
    until_above(&relay, &[("events_duplicate_total", 0.0)]).await;

    lose_the_stream_to_others(&world, &client, &relay).await;

    world.redis.kill9();
    insert(&client, 305).await.unwrap();
    until_above(&relay, &[("redis_outages_total", 0.0)]).await;
    world.redis.restart().await;
    until_above(&relay, &[("reconnects_total{server=\"redis\"}", 0.0)]).await;
    until_published(&world, 305).await;
    relay.drain().await;
}

/// Another relay has taken the stream over; and one that knows less of it.
async fn lose_the_stream_to_others(world: &World, client: &Client, relay: &Relay) {
    let key = checkpoint_key(world).await;
    world.redis.run(&format!("HINCRBY {key} epoch 1")).await;
    insert(client, 303).await.unwrap();
    until_above(relay, &[("fenced_total", 0.0)]).await;
    until_published(world, 303).await;
    world.redis.run(&format!("HSET {key} position 0000000000000001-00000001")).await;
    insert(client, 304).await.unwrap();
    until_above(relay, &[("gaps_total", 0.0), ("redis_rollbacks_total", 0.0)]).await;
}

/// Awaits the event with that number.
async fn until_published(world: &World, n: i64) {
    wait::until(&format!("event {n}"), PATIENCE, async || {
        let entries = world.consumer().read_all().await;
        let payload = format!("{{\"n\": {n}}}");
        entries.iter().any(|entry| entry.get("payload") == payload).then_some(())
    })
    .await;
}

async fn checkpoint_key(world: &World) -> String {
    let mut keys = redis::cmd("KEYS");
    keys.arg(format!("walrelay:{{{STREAM}}}:walrelay@*"));
    let found: Vec<String> =
        keys.query_async(&mut world.redis.connection().await).await.expect("keys");
    found.into_iter().find(|key| !key.ends_with(":watermark")).expect("a checkpoint")
}

#[tokio::test]
async fn status_has_what_a_page_draws_and_of_several_shards_each_is_on_the_metrics() {
    let world = World::bare(&[], &[]).await;
    let settings = world.settings.clone().with("shards", "2").with("heartbeat_interval", "100ms");
    settings.setup().await;
    let mut relay = settings.start_ready().await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 500).await.unwrap();
    for stream in ["one", "one", "two"] {
        insert_for(&client, stream).await;
    }
    let streams = serde_json::json!([
        { "name": STREAM, "published": 500 },
        { "name": "one", "published": 2 },
        { "name": "two", "published": 1 },
    ]);
    let status = wait::until("all that is asked for", PATIENCE, async || {
        let status = relay.status().await;
        let is_there = status["streams"] == streams
            && status["heartbeat"]["age_seconds"].is_f64()
            && status["slot"]["wal_status"] == "reserved"
            && status["rates"]["per_second_10s"].as_f64() > Some(0.0);
        is_there.then_some(status)
    })
    .await;
    assert_eq!(status["role"], "leader");
    assert!(status["slot"]["retained_bytes"].as_i64() >= Some(0), "{status:#}");
    assert!(status["slot"]["safe_wal_size"].is_null(), "no bound is set: {status:#}");
    assert!(status["positions"]["current"].as_str().unwrap() > "0/0", "{status:#}");
    let first = &status["history"][0];
    for name in ["at", "published", "lag_events", "lag_bytes", "lag_seconds"] {
        assert!(first[name].is_number(), "{name} in {first}");
    }
    let page = page(&relay).await;
    for shard in [1, 2] {
        let age = page[&format!("walrelay_heartbeat_age_seconds{{shard=\"{shard}\"}}")];
        assert!(age >= 0.0, "{age}");
        assert!(page[&format!("walrelay_slot_safe_wal_bytes{{shard=\"{shard}\"}}")].is_nan());
    }
    relay.drain().await;
}
