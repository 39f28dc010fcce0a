//! SIGTERM at any moment ends the relay in time, with exit code 0, and loses and doubles nothing.

use std::time::Duration;

use crate::harness::proxy::Proxy;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, insert, write_through};

const EVENTS: i64 = 30_000;
/// What the README gives a drain with the default `shutdown_grace`, and what a busy machine adds.
const END_WITHIN: Duration = Duration::from_secs(15);

/// The seed of the moments: told at the start, taken from `CHAOS_SEED` to repeat them.
fn moments() -> fastrand::Rng {
    let told = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = told.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    eprintln!("CHAOS_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

#[tokio::test]
async fn sigterm_at_twenty_random_moments_ends_it_in_time_and_doubles_nothing() {
    let mut random = moments();
    let world = World::new().await;
    let wire = Proxy::start(world.redis.port());
    let settings = world.settings.clone().with("redis_url", &world.redis.url_at(wire.port()));
    let writer = tokio::spawn(write_through(world.postgres.socket_url(), EVENTS, 5));
    for round in 0..20 {
        let mut relay = settings.start();
        relay.alive().await;
        if round % 4 > 0 {
            relay.ready().await;
        }
        // The others hear it while they start.
        tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
        if round % 5 == 4 {
            wire.stall();
            tokio::time::sleep(Duration::from_millis(random.u64(0..1_000))).await;
        }
        relay.terminate();
        assert_eq!(relay.exit_code(END_WITHIN).await, Some(0), "{}", relay.output());
        wire.mend();
    }
    let mut relay = settings.start_ready().await;
    writer.await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_redis_that_answers_nothing_from_the_start_does_not_hold_up_the_end() {
    let world = World::new().await;
    let wire = Proxy::start(world.redis.port());
    let settings = world.settings.clone().with("redis_url", &world.redis.url_at(wire.port()));
    let mut relay = settings.start_ready().await;
    wire.stall();
    insert(&world.postgres.client().await, 1).await.unwrap();
    wait::until("the event is on its way", PATIENCE, async || {
        (relay.status().await["lag"]["events"] == 1).then_some(())
    })
    .await;
    relay.terminate();
    assert_eq!(relay.exit_code(END_WITHIN).await, Some(0), "{}", relay.output());
    wire.mend();
    let mut relay = settings.start_ready().await;
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn sigterm_for_leader_and_standby_in_turn_doubles_nothing() {
    let mut random = moments();
    let world = World::new().await;
    let other = crate::harness::relay::Settings::new(&world.postgres.url(), &world.redis.url());
    let settings = [world.settings.clone(), other];
    let mut relays = [settings[0].start_ready().await, settings[1].start_ready().await];
    let writer = tokio::spawn(write_through(world.postgres.socket_url(), EVENTS, 5));
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(random.u64(0..700))).await;
        let whom = random.usize(0..2);
        relays[whom].terminate();
        let code = relays[whom].exit_code(END_WITHIN).await;
        assert_eq!(code, Some(0), "{}", relays[whom].output());
        relays[whom] = settings[whom].start();
        relays[whom].alive().await;
    }
    writer.await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    for relay in &mut relays {
        relay.drain().await;
    }
}
