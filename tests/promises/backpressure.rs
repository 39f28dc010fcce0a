//! Bounded memory and answered keepalives, however large a transaction and however slow Redis.

use crate::BINARY;
use crate::harness::{Proxy, STREAM, Stream, World, eventually};
use crate::writers::{insert, record, truth};

/// What the relay may ever need; a buffered transaction of this size would take hundreds.
const MEMORY_KIB_MAX: u64 = 64 * 1024;

const WALSENDER: &str = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'walrelay'";

#[tokio::test]
async fn a_million_rows_in_one_transaction_pass_in_flat_memory() {
    let world = World::start(BINARY).await;
    let mut relay = world.relay(BINARY).set("after_publish", "keep").start().await;
    insert(&world.postgres.client().await, 1_000_000).await;
    let mut stream = Stream::open(&world.redis, STREAM).await;
    stream.reaches(1_000_000).await;
    assert!(relay.peak_kib() < MEMORY_KIB_MAX, "{} KiB", relay.peak_kib());
    // Rows of one transaction are numbered in the order of their INSERTs: the payload says which.
    let entries = stream.entries().await;
    let in_order = entries
        .iter()
        .zip(1..)
        .all(|(entry, n)| entry.field("payload").starts_with(&format!("{{\"n\": {n},")));
    assert!(in_order && entries.len() == 1_000_000);
    relay.becomes("streaming").await;
}

#[tokio::test]
async fn redis_may_be_away_for_many_times_wal_sender_timeout() {
    let mut world = World::with(BINARY, &["wal_sender_timeout=1s"], &[]).await;
    record(&world.postgres).await;
    let mut relay = world.relay(BINARY).start().await;
    let walsender = world.postgres.text(WALSENDER).await;
    let client = world.postgres.client().await;
    insert(&client, 100).await;
    Stream::open(&world.redis, STREAM).await.reaches(100).await;
    world.redis.kill();
    insert(&client, 60_000).await;
    relay.becomes("holding").await;
    let peak = relay.peak_kib();
    // Ten times the timeout, counted by PostgreSQL's own clock.
    let begun = world.postgres.text("SELECT extract(epoch FROM clock_timestamp())::int8").await;
    let waited = format!("SELECT extract(epoch FROM clock_timestamp())::int8 - {begun}");
    eventually("the outage has lasted", async || {
        assert_eq!(world.postgres.text(WALSENDER).await, walsender, "the walsender is the same");
        let waited: u64 = world.postgres.text(&waited).await.parse().unwrap();
        if waited > 10 { Ok(()) } else { Err(format!("{waited} s")) }
    })
    .await;
    assert!(relay.peak_kib() < peak + 1024, "memory is flat: {} then {}", peak, relay.peak_kib());
    world.redis.restart().await;
    let expected = truth(&world.postgres).await;
    Stream::open(&world.redis, STREAM).await.holds_exactly(&expected).await;
    relay.becomes("streaming").await;
    assert!(relay.peak_kib() < MEMORY_KIB_MAX);
}

#[tokio::test]
async fn a_redis_that_stalls_holds_the_reader_up_and_not_the_walsender() {
    let world = World::with(BINARY, &["wal_sender_timeout=2s"], &[]).await;
    record(&world.postgres).await;
    let proxy = Proxy::start(world.redis.port()).await;
    let plan = world.relay(BINARY).set("redis_timeout", "1h");
    let plan = plan.set("redis_url", &world.redis.url_at(proxy.port()));
    let relay = plan.start().await;
    let walsender = world.postgres.text(WALSENDER).await;
    proxy.stall();
    insert(&world.postgres.client().await, 100_000).await;
    let begun = world.postgres.text("SELECT extract(epoch FROM clock_timestamp())::int8").await;
    let waited = format!("SELECT extract(epoch FROM clock_timestamp())::int8 - {begun}");
    eventually("three timeouts have passed", async || {
        assert_eq!(world.postgres.text(WALSENDER).await, walsender, "the walsender is the same");
        let waited: u64 = world.postgres.text(&waited).await.parse().unwrap();
        if waited > 6 { Ok(()) } else { Err(format!("{waited} s")) }
    })
    .await;
    assert!(relay.peak_kib() < MEMORY_KIB_MAX, "{} KiB", relay.peak_kib());
    proxy.resume();
    let expected = truth(&world.postgres).await;
    Stream::open(&world.redis, STREAM).await.holds_exactly(&expected).await;
    assert_eq!(world.postgres.text(WALSENDER).await, walsender);
    assert_eq!(relay.number("/reconnects/lines"), 1);
}
