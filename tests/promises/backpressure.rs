//! A slow or absent Redis costs time, never memory and never the replication connection.

use tokio_postgres::Client;

use crate::harness::proxy::Proxy;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, insert_many};

/// The relay's promise for its memory, whatever comes.
const RSS_MAX_KB: u64 = 64 * 1024;
/// The relay with nothing to do has some 10 MB; what an outage may add is its bounded queues.
const OUTAGE_GROWTH_KB: u64 = 32 * 1024;
const SHORT: [(&str, &str); 1] = [("wal_sender_timeout", "2s")];

async fn walsender(client: &Client) -> Option<i32> {
    let query = "SELECT pid FROM pg_stat_replication";
    client.query_opt(query, &[]).await.unwrap().map(|row| row.get(0))
}

/// Awaits several times wal_sender_timeout by PostgreSQL's own clock, in which the same walsender
/// must go on hearing from the relay.
async fn outlast_timeouts(client: &Client, pid: i32) {
    let query = "SELECT clock_timestamp()::text";
    let began: String = client.query_one(query, &[]).await.unwrap().get(0);
    let query = "SELECT clock_timestamp() - $1::text::timestamptz > interval '12 seconds'";
    wait::until("six times wal_sender_timeout", PATIENCE, async || {
        assert_eq!(walsender(client).await, Some(pid), "the replication connection was given up");
        client.query_one(query, &[&began]).await.unwrap().get::<_, bool>(0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_million_rows_in_one_transaction_fit_in_64_megabytes() {
    const ROWS: i64 = 1_000_000;
    let world = World::new().await;
    let settings =
        world.settings.clone().with("durability", "memory").with("after_publish", "keep");
    let mut relay = settings.start_ready().await;
    insert_many(&world.postgres.client().await, 1, ROWS).await.unwrap();
    world.assert_all_published().await;
    let peak = relay.peak_rss_kb();
    assert!(peak < RSS_MAX_KB, "the relay's memory peaked at {peak} kB");
    relay.drain().await;
}

#[tokio::test]
async fn a_huge_logical_message_of_somebody_else_is_passed_over_in_flat_memory() {
    let world = World::new().await;
    let settings = world.settings.clone().with("max_event_bytes", "1MB");
    let mut relay = settings.start_ready().await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 10).await.unwrap();
    for transactional in [true, false] {
        let emit = "SELECT pg_logical_emit_message($1, 'theirs', repeat('x', 100000000))";
        client.execute(emit, &[&transactional]).await.unwrap();
    }
    insert_many(&client, 11, 20).await.unwrap();
    world.assert_all_published().await;
    world.until_confirmed().await;
    let peak = relay.peak_rss_kb();
    assert!(peak < RSS_MAX_KB, "the relay's memory peaked at {peak} kB");
    relay.drain().await;
}

#[tokio::test]
async fn a_crash_in_a_big_transaction_goes_on_from_its_middle_while_redis_is_slow() {
    const ROWS: i64 = 300_000;
    let world = World::with(&SHORT, &[]).await;
    let wire = Proxy::start(world.redis.port());
    // A third of it takes several times wal_sender_timeout.
    wire.throttle(5_000_000);
    let settings = world.settings.clone().with("redis_url", &world.redis.url_at(wire.port()));
    let settings = settings.with("after_publish", "keep");
    let mut relay = settings.start_ready().await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, ROWS).await.unwrap();
    let mut consumer = world.consumer();
    consumer.until_len(1).await;
    let pid = walsender(&client).await.expect("a walsender");
    consumer.until_len(usize::try_from(ROWS / 3).unwrap()).await;
    assert_eq!(walsender(&client).await, Some(pid), "a slow Redis is no reason to reconnect");
    assert!(relay.peak_rss_kb() < RSS_MAX_KB, "peak: {} kB", relay.peak_rss_kb());
    relay.kill9();
    let before = i64::try_from(consumer.len().await.unwrap()).unwrap();
    assert!(before < ROWS, "it was too fast to be killed");
    let mut relay = settings.start_ready().await;
    consumer.until_len(usize::try_from(ROWS / 2).unwrap()).await;
    wire.mend();
    world.assert_all_published().await;
    let skipped = relay.status().await["events"]["duplicates"].as_i64().unwrap();
    assert!(skipped >= before, "{before} were there, {skipped} were skipped");
    assert!(relay.peak_rss_kb() < RSS_MAX_KB, "peak: {} kB", relay.peak_rss_kb());
    relay.drain().await;
}

#[tokio::test]
async fn redis_that_is_stalled_keeps_the_replication_connection_and_the_memory() {
    let world = World::with(&SHORT, &[]).await;
    let proxy = Proxy::start(world.redis.port());
    let settings = world.settings.clone().with("redis_url", &world.redis.url_at(proxy.port()));
    // Shorter than the default, so that both phases are seen: calls that wait, and holding.
    let mut relay = settings.with("redis_timeout", "5s").start_ready().await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.assert_all_published().await;
    let pid = walsender(&client).await.expect("a walsender");
    proxy.stall();
    for round in 1..=100 {
        insert_many(&client, round * 1_000 + 1, round * 1_000 + 1_000).await.unwrap();
    }
    let before = relay.rss_kb();
    outlast_timeouts(&client, pid).await;
    let growth = relay.rss_kb().saturating_sub(before);
    assert!(growth < OUTAGE_GROWTH_KB, "{growth} kB more while Redis was away");
    relay.until_state("holding").await;
    proxy.mend();
    world.assert_all_published().await;
    assert!(relay.peak_rss_kb() < RSS_MAX_KB, "peak: {} kB", relay.peak_rss_kb());
    relay.drain().await;
}

#[tokio::test]
async fn redis_that_is_gone_keeps_the_replication_connection() {
    let mut world = World::with(&SHORT, &[]).await;
    // Rarer than the server bears: its timeout counts more than this setting.
    let mut relay = world.settings.clone().with("feedback_interval", "60s").start_ready().await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.assert_all_published().await;
    let pid = walsender(&client).await.expect("a walsender");
    world.redis.kill9();
    for round in 1..=50 {
        insert_many(&client, round * 1_000 + 1, round * 1_000 + 1_000).await.unwrap();
    }
    outlast_timeouts(&client, pid).await;
    relay.until_state("holding").await;
    let ready = relay.get("/readyz").await.expect("an answer").0;
    assert_eq!(ready, 503, "a relay that cannot publish is not ready");
    world.redis.restart().await;
    world.assert_all_published().await;
    relay.until_state("streaming").await;
    relay.drain().await;
}

#[tokio::test]
async fn a_slow_wire_to_redis_delays_and_loses_nothing() {
    let world = World::with(&SHORT, &[]).await;
    let proxy = Proxy::start(world.redis.port());
    proxy.throttle(1_500_000);
    let settings = world.settings.clone().with("redis_url", &world.redis.url_at(proxy.port()));
    let mut relay = settings.start_ready().await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 40_000).await.unwrap();
    world.consumer().until_len(1).await;
    let pid = walsender(&client).await.expect("a walsender");
    world.assert_all_published().await;
    assert_eq!(walsender(&client).await, Some(pid), "a slow Redis is no reason to reconnect");
    assert!(relay.peak_rss_kb() < RSS_MAX_KB, "peak: {} kB", relay.peak_rss_kb());
    relay.drain().await;
}

#[tokio::test]
async fn a_full_redis_is_waited_for() {
    let world = World::with(&SHORT, &[("maxmemory-policy", "noeviction")]).await;
    let mut relay = world.settings.start_ready().await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.assert_all_published().await;
    let mut redis = world.redis.connection().await;
    let mut limit = redis::cmd("CONFIG");
    limit.arg("SET").arg("maxmemory").arg("1mb");
    limit.query_async::<()>(&mut redis).await.unwrap();
    insert_many(&client, 101, 20_000).await.unwrap();
    relay.until_state("holding").await;
    let last = relay.status().await["last_error"]["error"].take();
    assert!(last.as_str().is_some_and(|text| text.contains("OOM")), "the status says why: {last}");
    let mut limit = redis::cmd("CONFIG");
    limit.arg("SET").arg("maxmemory").arg("0");
    limit.query_async::<()>(&mut redis).await.unwrap();
    world.assert_all_published().await;
    relay.drain().await;
}
