//! What orchestrators and dashboards ask for: readiness as it is, and every number under its name.

use std::collections::BTreeSet;

use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, insert_many};

/// Dashboards and alerts are built on these: to rename one is to break them.
const METRICS: [&str; 24] = [
    "walrelay_events_published_total",
    "walrelay_events_duplicate_total",
    "walrelay_rows_marked_total",
    "walrelay_rows_gone_total",
    "walrelay_rows_ignored_total",
    "walrelay_batches_total",
    "walrelay_lines_total",
    "walrelay_restarts_total",
    "walrelay_redis_outages_total",
    "walrelay_errors_total",
    "walrelay_events_retried_total",
    "walrelay_retries_refused_total",
    "walrelay_events_dead_lettered_total",
    "walrelay_retry_outages_total",
    "walrelay_parked_rows",
    "walrelay_due_rows",
    "walrelay_dead_rows",
    "walrelay_retry_circuit_open",
    "walrelay_lag_bytes",
    "walrelay_lag_events",
    "walrelay_lag_seconds",
    "walrelay_position_bytes{position=\"confirmed\"}",
    "walrelay_state{state=\"streaming\"}",
    "walrelay_build_info{version=",
];

/// What alerts and dashboard ask for.
const WATCHED: [(&str, &str); 2] = [
    ("alerts.yml", include_str!("../../docker/observability/alerts.yml")),
    ("dashboard.json", include_str!("../../docker/observability/dashboard.json")),
];

/// The metrics that a text names.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("walrelay_")).collect()
}

/// The value of a metric on the page.
fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not in\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn every_metric_is_there_under_its_name_before_anything_has_happened() {
    let world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    relay.until_state("streaming").await;
    let (_, page) = relay.get("/metrics").await.unwrap();
    for name in METRICS {
        value(&page, name);
    }
    for (file, text) in WATCHED {
        let named = metrics_in(text);
        assert!(named.len() >= 5, "{file} names {named:?}");
        for name in named {
            let is_there = page.lines().any(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
            });
            assert!(is_there, "{file} asks for {name}, which is not in\n{page}");
        }
    }
    relay.drain().await;
}

#[tokio::test]
async fn health_fails_while_redis_is_away_and_the_numbers_say_so() {
    let mut world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.until_marked().await;
    world.redis.kill9();
    insert_many(&client, 101, 200).await.unwrap();
    relay.until_state("holding").await;
    let health = world.settings.finish("health").await;
    assert_eq!(health.code, Some(1), "{}", health.output);
    assert!(health.output.contains("not ready: holding"), "{}", health.output);
    let (_, page) = relay.get("/metrics").await.unwrap();
    assert!(value(&page, "walrelay_redis_outages_total") >= 1.0, "{page}");
    assert!(value(&page, "walrelay_lag_seconds") > 0.0, "{page}");
    assert!(value(&page, "walrelay_state{state=\"holding\"}") > 0.0, "{page}");
    world.redis.restart().await;
    world.assert_all_published().await;
    world.until_marked().await;
    wait::until("the lag is over", PATIENCE, async || {
        let (_, page) = relay.get("/metrics").await?;
        (value(&page, "walrelay_lag_seconds") < 0.001).then_some(())
    })
    .await;
    assert_eq!(world.settings.finish("health").await.code, Some(0));
    relay.drain().await;
}

#[tokio::test]
async fn rows_that_were_deleted_before_they_could_be_marked_are_counted() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    let both = "BEGIN;
        INSERT INTO identity.outbox (event_type, aggregate_id, payload)
        SELECT 'Gone', gen_random_uuid(), '{}' FROM generate_series(1, 3);
        DELETE FROM identity.outbox; COMMIT";
    client.batch_execute(both).await.unwrap();
    world.consumer().until_len(3).await;
    wait::until_equal("rows counted as gone", 3, PATIENCE, async || {
        relay.status().await["events"]["gone"].as_i64().unwrap()
    })
    .await;
    relay.drain().await;
}
