//! With `max_rate` no more events a second go to Redis, however they are found, and everything else
//! is as it is without.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert, insert_many};
use crate::shards::{assert_all_published, shards};

const RATE: u32 = 400;
const EVENTS: u32 = 1_000;
/// So many may go at once, and the last ones before their time is over: twice what goes in 20 ms.
const AT_ONCE: u32 = RATE / 25 + 1;

fn limited(settings: &Settings) -> Settings {
    settings.clone().with("max_rate", &RATE.to_string())
}

/// However busy or quick the machine is, they cannot all be there before this.
fn at_least() -> Duration {
    Duration::from_secs(1) * (EVENTS - AT_ONCE) / RATE
}

async fn insert_all(client: &Client) {
    insert_many(client, 1, i64::from(EVENTS)).await.unwrap();
}

async fn until_all(world: &World, began: Instant) {
    world.consumer().until_len(usize::try_from(EVENTS).unwrap()).await;
    let took = began.elapsed();
    assert!(took >= at_least(), "{EVENTS} events at {RATE} a second in {took:?}");
}

#[tokio::test]
async fn the_line_keeps_to_it_and_lives_on_meanwhile() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    insert_all(&client).await;
    let began = Instant::now();
    let mut relay = limited(&world.settings).start_ready().await;
    until_all(&world, began).await;
    world.assert_all_published().await;
    world.until_marked().await;
    world.until_confirmed().await;
    assert_eq!(relay.status().await["endpoints"]["max_rate"], RATE);
    assert_eq!(relay.status().await["reconnects"]["restarts"], 0, "{}", relay.output());
    relay.drain().await;
}

#[tokio::test]
async fn all_shards_of_a_process_together_keep_to_it() {
    let world = World::bare(&[], &[]).await;
    let settings = limited(&shards(&world.settings, 2));
    settings.setup().await;
    insert_all(&world.postgres.client().await).await;
    let began = Instant::now();
    let mut relay = settings.start_ready().await;
    until_all(&world, began).await;
    assert_all_published(&world).await;
    relay.drain().await;
}

#[tokio::test]
async fn rows_from_before_the_slot_keep_to_it() {
    let world = World::new().await;
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    insert_all(&world.postgres.client().await).await;
    let began = Instant::now();
    let mut relay = limited(&world.settings).start();
    until_all(&world, began).await;
    relay.ready().await;
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn pollers_keep_to_it() {
    let world = World::new().await;
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    insert_all(&world.postgres.client().await).await;
    let began = Instant::now();
    // Else it would wait for Redis' disk most of the time.
    let settings = limited(&world.settings).with("mode", "poll").with("durability", "memory");
    let mut relay = settings.start_ready().await;
    until_all(&world, began).await;
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

/// As many as go in a second are tried without a pause, and no more.
#[tokio::test]
async fn parked_events_that_are_due_keep_to_it() {
    let world = World::new().await;
    world.redis.run(&format!("SET {STREAM} taken")).await;
    let settings = limited(&world.settings).with("durability", "memory");
    let settings = settings.with("retry_base_delay", "100ms").with("retry_multiplier", "1");
    let settings = settings.with("max_retry_attempts", "1000").with("poll_interval", "100ms");
    let mut relay = settings.start();
    let client = world.postgres.client().await;
    insert_all(&client).await;
    let parked = "identity.outbox WHERE next_attempt_at IS NOT NULL";
    wait::until_equal("parked rows", i64::from(EVENTS), PATIENCE, async || {
        count(&client, parked).await
    })
    .await;
    let began = Instant::now();
    world.redis.run(&format!("DEL {STREAM}")).await;
    world.consumer().until_len(usize::try_from(EVENTS).unwrap()).await;
    let took = began.elapsed();
    assert!(
        took + Duration::from_secs(1) >= at_least(),
        "{EVENTS} events at {RATE} a second in {took:?}"
    );
    relay.drain().await;
}

/// What waits for its turn is late, and a wish to stop does not wait for it.
#[tokio::test]
async fn a_slow_rate_tells_how_late_it_is_stops_when_told_to_and_goes_on_where_it_was() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 1_000).await.unwrap();
    let mut slow = world.settings.clone().with("max_rate", "10").start_ready().await;
    let is_late = async || slow.status().await["lag"]["seconds"].as_f64() > Some(0.0);
    wait::until("the relay is late", PATIENCE, async || is_late().await.then_some(())).await;
    for there in [2, 5, 10] {
        world.consumer().until_len(there).await;
        assert!(is_late().await, "with {there} of 1,000 events there");
    }
    slow.drain().await;
    let there = world.consumer().len().await.unwrap_or_default();
    assert!(there < 1_000, "{there}");
    let mut relay = world.settings.start_ready().await;
    insert(&client, 1_001).await.unwrap();
    world.assert_all_published().await;
    wait::until_equal("rows left", 0, PATIENCE, async || {
        count(&client, "identity.outbox WHERE NOT published").await
    })
    .await;
    relay.drain().await;
}
