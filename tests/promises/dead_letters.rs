//! What is given up is in the dead letter stream, once for each death, before its row says so.

use serde_json::Value;

use crate::harness::parked::{PARKED, column, park};
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count};

pub const DLQ: &str = "identity.user.v1.dlq";
const DEAD: &str = "identity.outbox WHERE dead_lettered_at IS NOT NULL";

/// Settings that wait for no disk and hardly for anything else.
pub fn eager(settings: &Settings) -> Settings {
    settings
        .clone()
        .with("durability", "memory")
        .with("poll_interval", "100ms")
        .with("retry_base_delay", "50ms")
        .with("max_retry_attempts", "2")
}

/// Parked rows `1..=total` that can never be events: no stream has such a name.
async fn park_unfit(world: &World, total: i64) {
    park(&world.postgres.client().await, (1, total), total, "no\nname").await;
}

#[tokio::test]
async fn an_event_out_of_attempts_becomes_a_dead_letter_with_all_that_is_known() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run("SET broken x").await;
    park(&client, (1, 1), 1, "broken").await;
    let mut relay = eager(&world.settings).start_ready().await;
    let letters = world.consumer_of("broken.dlq").read(1).await;
    world.until_unparked().await;
    let names: Vec<&str> = letters[0].fields.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = [
        "original_event_id",
        "event_type",
        "topic",
        "aggregate_id",
        "payload",
        "error_message",
        "attempts",
        "failed_at",
        "created_at",
    ];
    assert_eq!(names, wanted);
    let text = async |name: &str| column(&client, name).await.unwrap();
    assert_eq!(letters[0].get("original_event_id"), text("event_id").await);
    assert_eq!(letters[0].get("event_type"), "Parked");
    assert_eq!(letters[0].get("topic"), "broken");
    assert_eq!(letters[0].get("aggregate_id"), text("aggregate_id").await);
    assert_eq!(letters[0].get("payload"), r#"{"n": 1}"#);
    assert_eq!(letters[0].get("error_message"), text("error_message").await);
    assert!(letters[0].get("error_message").starts_with("WRONGTYPE"));
    assert_eq!(letters[0].get("attempts"), "2");
    assert_eq!(text("attempts").await, "2");
    let rfc = "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')";
    assert!(text(rfc).await.starts_with(letters[0].get("created_at").trim_end_matches("+00:00")));
    assert!(letters[0].get("failed_at") >= letters[0].get("created_at"));
    assert_eq!(text("published").await, "false");
    let retry = relay.status().await["retry"].take();
    assert_eq!(retry["dead_lettered"], 1, "{retry}");
    wait::until_equal("dead rows on the page", Value::from(1), PATIENCE, async || {
        relay.status().await["retry"]["dead"].take()
    })
    .await;
    relay.drain().await;
}

#[tokio::test]
async fn an_event_that_can_never_be_one_dies_at_once() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    park_unfit(&world, 1).await;
    let mut relay = eager(&world.settings).start_ready().await;
    let letters = world.consumer_of(DLQ).read(1).await;
    assert!(letters[0].get("error_message").contains("control characters"));
    assert_eq!(letters[0].get("attempts"), "0");
    world.until_unparked().await;
    assert_eq!(count(&client, DEAD).await, 1);
    relay.drain().await;
}

#[tokio::test]
async fn one_stream_for_all_dead_letters_where_it_is_set() {
    let world = World::new().await;
    park_unfit(&world, 5).await;
    let settings = eager(&world.settings).with("dlq_stream_name", "graveyard");
    let mut relay = settings.start_ready().await;
    assert_eq!(world.consumer_of("graveyard").read(5).await.len(), 5);
    world.until_unparked().await;
    relay.drain().await;
}

#[tokio::test]
async fn without_its_letter_nothing_is_dead_and_others_go_on() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run(&format!("SET {DLQ} x")).await;
    world.redis.run("SET broken x").await;
    world.redis.run("SET broken.dlq x").await;
    park_unfit(&world, 1).await;
    park(&client, (2, 2), 300, "broken").await;
    park(&client, (3, 102), 300, STREAM).await;
    let mut relay = eager(&world.settings).start_ready().await;
    world.consumer().until_len(100).await;
    wait::until("the page says why", PATIENCE, async || {
        let retry = relay.status().await["retry"].take();
        let error = retry["dead_letter_error"].as_str()?;
        error.contains("WRONGTYPE").then_some(())
    })
    .await;
    wait::until_equal("rows that know why", 2, PATIENCE, async || {
        count(&client, "identity.outbox WHERE error_message LIKE '%takes no entry%'").await
    })
    .await;
    assert_eq!(count(&client, DEAD).await, 0);
    let burnt = "identity.outbox WHERE NOT published AND attempts > 1";
    assert_eq!(count(&client, burnt).await, 0, "waiting for the operator is no attempt");
    world.redis.run(&format!("DEL {DLQ} broken.dlq")).await;
    world.until_unparked().await;
    assert_eq!(world.consumer_of(DLQ).read_all().await.len(), 1);
    assert_eq!(world.consumer_of("broken.dlq").read_all().await.len(), 1);
    assert_eq!(count(&client, DEAD).await, 2);
    relay.drain().await;
}

#[tokio::test]
async fn an_event_that_dies_twice_has_two_letters() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    park_unfit(&world, 1).await;
    let mut relay = eager(&world.settings).start_ready().await;
    world.consumer_of(DLQ).until_len(1).await;
    world.until_unparked().await;
    let revive = "UPDATE identity.outbox SET attempts = 0, started_attempts = 0,
        dead_lettered_at = NULL, next_attempt_at = now(), error_message = NULL";
    client.execute(revive, &[]).await.unwrap();
    world.consumer_of(DLQ).until_len(2).await;
    world.until_unparked().await;
    assert_eq!(world.consumer_of(DLQ).read_all().await.len(), 2);
    relay.drain().await;
}

#[tokio::test]
async fn a_death_under_sigkill_is_one_letter() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    park_unfit(&world, 3_000).await;
    let mut letters = world.consumer_of(DLQ);
    for kill in 1..=8 {
        let mut relay = eager(&world.settings).start();
        letters.until_len(kill * 150 + fastrand::usize(0..100)).await;
        relay.kill9();
    }
    let mut relay = eager(&world.settings).start_ready().await;
    world.until_unparked().await;
    assert_eq!(count(&client, PARKED).await, 0);
    assert_eq!(count(&client, DEAD).await, 3_000);
    let letters = letters.read_all().await;
    let mut ids: Vec<&str> = letters.iter().map(|entry| entry.get("original_event_id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((letters.len(), ids.len()), (3_000, 3_000));
    relay.drain().await;
}
