//! Nothing is confirmed, and no row is marked, before its entry is safe by the level asked for.

use std::io::{Write, stderr};
use std::time::Duration;

use serde_json::Value;

use crate::harness::redis::Redis;
use crate::harness::relay::{Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert, insert_many};

const UNMARKED: &str = "identity.outbox WHERE NOT published";

/// How the relay says that it keeps its level.
async fn level(relay: &Relay) -> String {
    relay.status().await["endpoints"]["durability"].as_str().unwrap().to_owned()
}

/// Awaits all rows in the stream of another Redis than the world's.
async fn until_published(redis: &Redis, rows: usize) {
    crate::harness::consumer::Consumer::new(&redis.url(), STREAM).until_len(rows).await;
}

#[tokio::test]
async fn with_fsync_a_row_is_not_marked_before_the_append_only_file_is_safe() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert(&client, 1).await.unwrap();
    world.until_marked().await;
    let query = "SELECT published_at - created_at >= interval '2 seconds' FROM identity.outbox";
    let is_late: bool = client.query_one(query, &[]).await.unwrap().get(0);
    let level = level(&relay).await;
    assert!(is_late || level.contains("WAITAOF"), "{level}");
    relay.drain().await;
}

#[tokio::test]
async fn fsync_without_an_append_only_file_is_refused() {
    for setting in [("appendonly", "no"), ("appendfsync", "no")] {
        let world = World::with(&[], &[setting]).await;
        let done = world.settings.finish("run").await;
        assert_eq!(done.code, Some(1), "{}", done.output);
        assert!(done.output.contains("durability = memory"), "{}", done.output);
        let mut relay = world.settings.clone().with("durability", "memory").start_ready().await;
        relay.terminate();
        assert_eq!(relay.exit_code(Duration::from_secs(10)).await, Some(0));
    }
}

#[tokio::test]
async fn with_appendfsync_always_nothing_is_waited_for() {
    let world = World::with(&[], &[("appendfsync", "always")]).await;
    let mut relay = world.settings.start_ready().await;
    assert_eq!(level(&relay).await, "fsync");
    insert(&world.postgres.client().await, 1).await.unwrap();
    world.until_marked().await;
    relay.drain().await;
}

/// While Redis does not sync, entries appear at once and nothing is marked; then all is.
#[tokio::test]
async fn redis_is_asked_for_its_disk_where_it_can_be_asked() {
    let world = World::new().await;
    let Some(redis) = Redis::with_waitaof(&[]).await else {
        writeln!(stderr(), "SKIPPED: no Redis 7.2 or newer and no Valkey is here").ok();
        return;
    };
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("redis_url", &redis.url());
    let mut relay = settings.start_ready().await;
    assert!(level(&relay).await.starts_with("fsync (WAITAOF"), "{}", level(&relay).await);
    insert_many(&client, 1, 1_000).await.unwrap();
    world.until_marked().await;
    redis.run("CONFIG SET appendfsync no").await;
    insert_many(&client, 1_001, 1_500).await.unwrap();
    until_published(&redis, 1_500).await;
    relay.until_output("not safe yet").await;
    assert_eq!(count(&client, UNMARKED).await, 500, "not on disk, and yet marked");
    redis.run("CONFIG SET appendfsync everysec").await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn replicas_that_are_asked_for_are_waited_for() {
    let world = World::with(&[], &[("appendonly", "no")]).await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("durability", "replica:1");
    let mut relay = settings.start_ready().await;
    assert_eq!(level(&relay).await, "replica:1 (WAIT 1)");
    insert_many(&client, 1, 500).await.unwrap();
    world.consumer().until_len(500).await;
    relay.until_output("not safe yet").await;
    assert_eq!(count(&client, UNMARKED).await, 500, "no replica has it, and yet it is marked");
    let primary = format!("127.0.0.1 {}", world.redis.port());
    let _replica = Redis::start_with(&[("replicaof", &primary)]).await;
    world.until_marked().await;
    world.until_confirmed().await;
    relay.drain().await;
}

/// What Redis is, is read at each connect: a change counts from the next line on.
#[tokio::test]
async fn a_change_of_redis_is_acted_on_after_a_reconnect() {
    let mut world = World::with(&[], &[("appendfsync", "always")]).await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    assert_eq!(level(&relay).await, "fsync");
    world.redis.stop().await;
    world.redis.set("appendfsync", "everysec");
    world.redis.restart().await;
    wait::until("the relay sees what Redis is now", PATIENCE, async || {
        (level(&relay).await != "fsync").then_some(())
    })
    .await;
    insert(&client, 1).await.unwrap();
    world.until_marked().await;
    world.redis.stop().await;
    world.redis.set("appendonly", "no");
    world.redis.restart().await;
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1), "{}", relay.output());
    assert!(relay.output().contains("appendonly"), "{}", relay.output());
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_told_and_gets_what_the_slot_still_has() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = slow_to_confirm(&world.settings).start_ready().await;
    insert_many(&client, 1, 500).await.unwrap();
    world.consumer().until_len(500).await;
    world.redis.run("FLUSHALL").await;
    insert(&client, 501).await.unwrap();
    world.assert_all_published().await;
    let rollbacks: Value = relay.status().await["reconnects"]["redis_rollbacks"].take();
    assert_eq!(rollbacks, 1, "{}", relay.output());
    relay.until_output("without the stream's checkpoint").await;
    relay.drain().await;
}

/// What Redis forgets is sent again only as long as the slot was not told: here it is told late.
fn slow_to_confirm(settings: &Settings) -> Settings {
    settings.clone().with("feedback_interval", "20s")
}

/// The replica that takes over lacks the end of the stream: nothing of that was confirmed.
#[tokio::test]
async fn a_replica_that_lagged_and_took_over_gets_what_it_lacks() {
    let mut world = World::new().await;
    let client = world.postgres.client().await;
    let primary = format!("127.0.0.1 {}", world.redis.port());
    let mut replica = Redis::start_with(&[("replicaof", &primary)]).await;
    let settings = world.settings.clone().with("durability", "replica:1");
    let mut relay = settings.start_ready().await;
    insert_many(&client, 1, 500).await.unwrap();
    world.until_marked().await;
    world.until_confirmed().await;
    replica.stop().await;
    insert_many(&client, 501, 1_000).await.unwrap();
    world.consumer().until_len(1_000).await;
    relay.kill9();
    world.redis.kill9();
    replica.set("replicaof", "no one");
    replica.restart().await;
    let after = settings.with("redis_url", &replica.url()).with("durability", "fsync");
    let mut relay = after.start_ready().await;
    let mut consumer = crate::harness::consumer::Consumer::new(&replica.url(), STREAM);
    consumer.until_len(1_000).await;
    let ledger = crate::harness::ledger::Ledger::of_one_writer(&client).await;
    ledger.assert_exactly_once(&consumer.read_all().await);
    world.until_marked().await;
    relay.drain().await;
}
