//! Wires that break: cut, silent, or with the reply lost after the write.

use std::time::Duration;

use crate::harness::proxy::Proxy;
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count, insert_many, write_through};

/// A world whose relay reaches both servers through a proxy each: PostgreSQL's, then Redis's.
async fn wired(postgres: &[(&str, &str)]) -> (World, Settings, Proxy, Proxy) {
    let world = World::with(postgres, &[]).await;
    let to_postgres = Proxy::start(world.postgres.port());
    let to_redis = Proxy::start(world.redis.port());
    let settings = world
        .settings
        .clone()
        .with("database_url", &world.postgres.url_at(to_postgres.port()))
        .with("redis_url", &world.redis.url_at(to_redis.port()))
        .with("reconnect_delay_max", "500ms");
    (world, settings, to_postgres, to_redis)
}

#[tokio::test]
async fn servers_that_are_down_at_start_are_waited_for_in_either_order() {
    for postgres_first in [true, false] {
        let mut world = World::new().await;
        insert_many(&world.postgres.client().await, 1, 10).await.unwrap();
        world.postgres.stop(crate::harness::postgres::Stop::Fast).await;
        world.redis.stop().await;
        let mut relay = world.settings.start();
        relay.until_output("trying again").await;
        relay.until_state("connecting").await;
        let (code, _) = relay.get("/livez").await.expect("an answer");
        assert_eq!(code, 200, "it is alive, and a restart would not help");
        if postgres_first {
            world.postgres.restart().await;
            world.redis.restart().await;
        } else {
            world.redis.restart().await;
            world.postgres.restart().await;
        }
        relay.ready().await;
        world.assert_all_published().await;
        relay.drain().await;
    }
}

#[tokio::test]
async fn wires_cut_at_random_moments_lose_and_double_nothing() {
    let (world, settings, to_postgres, to_redis) = wired(&[]).await;
    let mut relay = settings.start_ready().await;
    let url = world.postgres.socket_url();
    let writer = tokio::spawn(write_through(url, 40_000, 10));
    let mut consumer = world.consumer();
    for cut in 1..=20 {
        consumer.until_len(cut * 1_800 + fastrand::usize(0..500)).await;
        match fastrand::u8(0..3) {
            0 => to_postgres.cut(),
            1 => to_redis.cut(),
            _ => {
                to_postgres.cut();
                to_redis.cut();
            }
        }
    }
    writer.await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    assert!(relay.running());
    relay.drain().await;
}

#[tokio::test]
async fn a_reply_lost_after_the_write_and_then_a_crash_double_nothing() {
    let (world, settings, _to_postgres, to_redis) = wired(&[]).await;
    let client = world.postgres.client().await;
    for round in 0..4 {
        let mut relay = settings.start_ready().await;
        relay.until_state("streaming").await;
        let first = round * 2_000 + 1;
        insert_many(&client, first, first + 999).await.unwrap();
        world.assert_all_published().await;
        to_redis.hold_replies();
        insert_many(&client, first + 1_000, first + 1_999).await.unwrap();
        // Some of it is written, and the relay cannot know.
        world.consumer().until_len(usize::try_from(first + 1_000).unwrap()).await;
        to_redis.cut();
        if round % 2 == 0 {
            relay.kill9();
            to_redis.mend();
        } else {
            to_redis.mend();
            world.assert_all_published().await;
            relay.drain().await;
        }
    }
    let mut relay = settings.start_ready().await;
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_reply_that_never_comes_is_given_up_and_doubles_nothing() {
    let (world, settings, _to_postgres, to_redis) = wired(&[]).await;
    let client = world.postgres.client().await;
    let mut relay = settings.with("redis_timeout", "1s").start_ready().await;
    insert_many(&client, 1, 1_000).await.unwrap();
    world.assert_all_published().await;
    to_redis.hold_replies();
    insert_many(&client, 1_001, 2_000).await.unwrap();
    relay.until_state("holding").await;
    to_redis.mend();
    world.assert_all_published().await;
    relay.until_state("streaming").await;
    relay.drain().await;
}

#[tokio::test]
async fn a_wire_to_postgres_that_went_silent_is_replaced() {
    let (world, settings, to_postgres, _to_redis) = wired(&[("wal_sender_timeout", "2s")]).await;
    let client = world.postgres.client().await;
    let mut relay = settings.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.assert_all_published().await;
    to_postgres.stall();
    insert_many(&client, 101, 200).await.unwrap();
    wait::until_equal("the server gives the connection up", 0, PATIENCE, async || {
        count(&client, "pg_stat_replication").await
    })
    .await;
    to_postgres.cut();
    to_postgres.mend();
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn sigterm_while_redis_is_away_ends_the_relay_within_its_grace() {
    let (world, settings, _to_postgres, to_redis) = wired(&[]).await;
    let client = world.postgres.client().await;
    // No reply is given up before the grace is over: it alone ends the drain.
    let settings = settings.with("shutdown_grace", "2s").with("redis_timeout", "1h");
    let mut relay = settings.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.assert_all_published().await;
    // Nothing else may be on its way: what waits from here on waits for Redis.
    wait::until_equal("the rows are settled", true, PATIENCE, async || {
        relay.status().await["lag"]["events"] == 0
    })
    .await;
    to_redis.stall();
    insert_many(&client, 101, 200).await.unwrap();
    wait::until_equal("the rows have arrived", false, PATIENCE, async || {
        relay.status().await["lag"]["events"] == 0
    })
    .await;
    relay.terminate();
    assert_eq!(relay.exit_code(Duration::from_secs(10)).await, Some(0), "{}", relay.output());
    to_redis.mend();
    let mut relay = world.settings.start_ready().await;
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn either_signal_ends_a_relay_that_waits_for_a_server_at_once() {
    let mut world = World::new().await;
    let client = world.postgres.client().await;
    // Waits so long that only the signal can end them.
    let patient = world.settings.clone().with("reconnect_delay_max", "1h");
    let mut relay = patient.start_ready().await;
    world.redis.kill9();
    insert_many(&client, 1, 100).await.unwrap();
    relay.until_state("holding").await;
    relay.terminate();
    assert_eq!(relay.exit_code(PATIENCE).await, Some(0), "{}", relay.output());
    let mut relay = patient.start();
    relay.until_output("trying again").await;
    relay.interrupt();
    assert_eq!(relay.exit_code(PATIENCE).await, Some(0), "{}", relay.output());
    world.redis.restart().await;
    let mut relay = world.settings.start_ready().await;
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_second_signal_ends_the_relay_at_once() {
    let (world, settings, _to_postgres, to_redis) = wired(&[]).await;
    let client = world.postgres.client().await;
    let mut relay = settings.with("shutdown_grace", "1h").start_ready().await;
    to_redis.stall();
    insert_many(&client, 1, 100).await.unwrap();
    wait::until_equal("the rows have arrived", false, PATIENCE, async || {
        relay.status().await["lag"]["events"] == 0
    })
    .await;
    relay.terminate();
    relay.until_state("draining").await;
    relay.interrupt();
    assert_eq!(relay.exit_code(Duration::from_secs(5)).await, Some(130));
    to_redis.mend();
    let mut relay = world.settings.start_ready().await;
    world.assert_all_published().await;
    relay.drain().await;
}
