//! With `max_rate` no more events a second go to Redis, however they are found, and everything else
//! is as it is without.

use std::time::{Duration, Instant};

use crate::harness::parked::park;
use crate::harness::relay::{Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, insert, insert_many};
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

/// A relay that has published them all, at that rate; `given` may go beside it.
async fn drained(world: &World, settings: &Settings, given: Duration) -> Relay {
    let began = Instant::now();
    let relay = settings.start_ready().await;
    world.consumer().until_len(usize::try_from(EVENTS).unwrap()).await;
    let took = began.elapsed();
    assert!(took + given >= at_least(), "{EVENTS} events at {RATE} a second in {took:?}");
    relay
}

/// The same events, in the table alone.
async fn without_slot() -> World {
    let world = World::new().await;
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    insert_all(&world).await;
    world
}

async fn insert_all(world: &World) {
    let client = world.postgres.client().await;
    insert_many(&client, 1, i64::from(EVENTS)).await.unwrap();
}

#[tokio::test]
async fn the_line_keeps_to_it_and_lives_on_meanwhile() {
    let world = World::new().await;
    insert_all(&world).await;
    let mut relay = drained(&world, &limited(&world.settings), Duration::ZERO).await;
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
    insert_all(&world).await;
    let mut relay = drained(&world, &settings, Duration::ZERO).await;
    assert_all_published(&world).await;
    relay.drain().await;
}

#[tokio::test]
async fn rows_from_before_the_slot_keep_to_it() {
    let world = without_slot().await;
    let mut relay = drained(&world, &limited(&world.settings), Duration::ZERO).await;
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn pollers_keep_to_it() {
    let world = without_slot().await;
    // Else it would wait for Redis' disk most of the time.
    let settings = limited(&world.settings).with("mode", "poll").with("durability", "memory");
    let mut relay = drained(&world, &settings, Duration::ZERO).await;
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

/// As many as go in a second are tried without a pause, and no more.
#[tokio::test]
async fn parked_events_that_are_due_keep_to_it() {
    let world = World::new().await;
    park(&world.postgres.client().await, (1, i64::from(EVENTS)), i64::from(EVENTS), STREAM).await;
    let settings = limited(&world.settings).with("durability", "memory");
    let mut relay = drained(&world, &settings, Duration::from_secs(1)).await;
    world.until_unparked().await;
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
    world.until_marked().await;
    relay.drain().await;
}
