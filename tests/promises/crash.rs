//! Exactly once, whoever is killed and whenever: the relay, Redis, PostgreSQL.

use crate::harness::ledger::Ledger;
use crate::harness::postgres::Stop;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, insert_many, write_through};

const EVENTS: i64 = 100_000;
const KILLS: i64 = 20;

#[tokio::test]
async fn a_relay_killed_twenty_times_publishes_each_event_once_and_in_order() {
    let world = World::new().await;
    let writer = tokio::spawn(write_through(world.postgres.socket_url(), EVENTS, 20));
    let mut consumer = world.consumer();
    for kill in 1..=KILLS {
        let mut relay = world.settings.start();
        // Every fourth dies at some point of its start, the others while they publish.
        if kill % 4 == 0 {
            let words = fastrand::usize(0..6);
            wait::until("some lines of log", PATIENCE, async || {
                (relay.output().lines().count() >= words).then_some(())
            })
            .await;
        } else {
            let from = kill * EVENTS / (KILLS + 1);
            let at = from + fastrand::i64(0..EVENTS / KILLS / 2);
            consumer.until_len(usize::try_from(at).unwrap()).await;
        }
        relay.kill9();
    }
    let mut relay = world.settings.start_ready().await;
    writer.await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn redis_postgres_and_relay_killed_in_turn_lose_and_double_nothing() {
    let mut world = World::new().await;
    let writer = tokio::spawn(write_through(world.postgres.socket_url(), EVENTS / 2, 10));
    let mut relay = world.settings.start_ready().await;
    let mut consumer = world.consumer();
    let steps = 8;
    for step in 1..steps {
        consumer.until_len(usize::try_from(step * EVENTS / 2 / steps).unwrap()).await;
        match step % 4 {
            0 => {
                relay.kill9();
                relay = world.settings.start();
            }
            1 => {
                world.redis.kill9();
                world.redis.restart().await;
            }
            2 => {
                world.postgres.stop(Stop::Immediate).await;
                world.postgres.restart().await;
            }
            _ => {
                world.postgres.kill9();
                world.redis.kill9();
                world.postgres.restart().await;
                world.redis.restart().await;
            }
        }
    }
    writer.await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    assert!(relay.running(), "an outage must not end the relay");
    relay.drain().await;
}

#[tokio::test]
async fn a_relay_killed_in_a_big_transaction_resumes_in_its_middle() {
    const ROWS: i64 = 100_000;
    let world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&world.postgres.client().await, 1, ROWS).await.unwrap();
    let mut consumer = world.consumer();
    for part in [3, 2] {
        consumer.until_len(usize::try_from(ROWS / part).unwrap()).await;
        relay.kill9();
        let before = consumer.read_all().await;
        assert!(before.len() < usize::try_from(ROWS).unwrap(), "it was too fast to be killed");
        relay = world.settings.start_ready().await;
    }
    world.assert_all_published().await;
    let seen = relay.status().await["events"]["duplicates"].as_i64();
    assert!(seen >= Some(ROWS / 2), "the slot sends all of it again, {seen:?} were skipped");
    relay.drain().await;
}

#[tokio::test]
async fn a_leader_that_was_frozen_cannot_write_after_another_took_over() {
    let world = World::with(&[("wal_sender_timeout", "2s")], &[]).await;
    let url = world.postgres.socket_url();
    let mut frozen = world.settings.start_ready().await;
    let writer = tokio::spawn(write_through(url, 20_000, 5));
    let mut consumer = world.consumer();
    consumer.until_len(2_000).await;
    frozen.freeze();
    let second = crate::harness::relay::Settings::new(&world.postgres.url(), &world.redis.url());
    let mut second = second.start_ready().await;
    // A standby is ready as well: it leads once the server has given the frozen one up.
    second.until_state("streaming").await;
    consumer.until_len(6_000).await;
    frozen.thaw();
    writer.await.unwrap();
    world.assert_all_published().await;
    frozen.until_state("standby").await;
    second.kill9();
    frozen.until_state("streaming").await;
    let client = world.postgres.client().await;
    insert_many(&client, 20_001, 20_100).await.unwrap();
    world.assert_all_published().await;
    frozen.drain().await;
}

#[tokio::test]
async fn entries_published_before_redis_died_are_there_without_the_relay() {
    let mut world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&world.postgres.client().await, 1, 1_000).await.unwrap();
    let entries = world.consumer().read(1_000).await;
    world.until_marked().await;
    relay.drain().await;
    world.redis.kill9();
    world.redis.restart().await;
    let ledger = Ledger::of_one_writer(&world.postgres.client().await).await;
    ledger.assert_exactly_once(&world.consumer().read_all().await);
    assert_eq!(entries, world.consumer().read_all().await);
}
