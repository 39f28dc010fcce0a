//! Parked events go out exactly once, whoever dies while they are tried, and an event whose
//! publishing kills the relay is given up.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::consumer::Entry;
use crate::harness::ledger::assert_rising_by;
use crate::harness::parked::{column, park};
use crate::harness::proxy::Proxy;
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert};

const ROWS: i64 = 8_000;

fn eager(settings: &Settings) -> Settings {
    settings.clone().with("durability", "memory").with("poll_interval", "100ms")
}

async fn assert_once_and_in_order(world: &World, rows: i64) {
    world.until_unparked().await;
    let entries = world.consumer().read_all().await;
    let mut ids: Vec<&str> = entries.iter().map(Entry::event_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((entries.len(), ids.len()), (rows.try_into().unwrap(), rows.try_into().unwrap()));
    assert_rising_by(&entries, "aggregate_id");
}

#[tokio::test]
async fn a_relay_killed_while_it_retries_doubles_and_reorders_nothing() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    park(&client, (1, ROWS), 40, STREAM).await;
    let mut consumer = world.consumer();
    for kill in 1..=15 {
        let mut relay = eager(&world.settings).start();
        consumer
            .until_len(usize::try_from(kill * ROWS / 40 + fastrand::i64(0..100)).unwrap())
            .await;
        relay.kill9();
    }
    let mut relay = eager(&world.settings).start_ready().await;
    assert_once_and_in_order(&world, ROWS).await;
    relay.drain().await;
}

#[tokio::test]
async fn a_relay_killed_between_its_steps_doubles_nothing() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let wire = Proxy::start(world.redis.port());
    let sql = Proxy::start(world.postgres.port());
    let settings = eager(&world.settings)
        .with("redis_url", &world.redis.url_at(wire.port()))
        .with("database_url", &world.postgres.url_at(sql.port()));
    for round in 0..6 {
        let mut relay = settings.start_ready().await;
        park(&client, (round * 100 + 1, round * 100 + 100), 10, STREAM).await;
        // Slow enough for the steps to be told apart: written and unanswered, answered and
        // uncommitted, committed and not forgotten.
        wire.delay(std::time::Duration::from_millis(30));
        sql.delay(std::time::Duration::from_millis(30));
        let written = usize::try_from(round * 100 + 1).unwrap();
        world.consumer().until_len(written).await;
        match round % 3 {
            0 => wire.hold_replies(),
            1 => sql.hold_replies(),
            _ => {}
        }
        relay.kill9();
        wire.cut();
        sql.cut();
        wire.mend();
        sql.mend();
    }
    let mut relay = settings.start_ready().await;
    assert_once_and_in_order(&world, 600).await;
    relay.drain().await;
}

#[tokio::test]
async fn wires_that_break_while_rows_are_tried_double_nothing() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let wire = Proxy::start(world.redis.port());
    let sql = Proxy::start(world.postgres.port());
    let settings = eager(&world.settings)
        .with("redis_url", &world.redis.url_at(wire.port()))
        .with("database_url", &world.postgres.url_at(sql.port()));
    let mut relay = settings.start_ready().await;
    park(&client, (1, ROWS), 40, STREAM).await;
    let mut consumer = world.consumer();
    for cut in 1..10 {
        consumer.until_len(usize::try_from(cut * ROWS / 10).unwrap()).await;
        if cut % 2 == 0 { wire.cut() } else { sql.cut() }
    }
    assert_once_and_in_order(&world, ROWS).await;
    let burnt = "identity.outbox WHERE attempts > 0";
    assert_eq!(count(&client, burnt).await, 0);
    relay.drain().await;
}

#[tokio::test]
async fn a_redis_that_restarts_in_the_middle_has_each_event_once() {
    let mut world = World::new().await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("poll_interval", "100ms");
    let mut relay = settings.start_ready().await;
    park(&client, (1, ROWS), 40, STREAM).await;
    for part in [3, 2] {
        world.consumer().until_len(usize::try_from(ROWS / part).unwrap()).await;
        world.redis.kill9();
        world.redis.restart().await;
    }
    assert_once_and_in_order(&world, ROWS).await;
    relay.drain().await;
}

/// A relay whose memory has a bound that the operating system enforces.
fn bounded(script: &Path, settings: Settings, kilobytes: u32) -> Settings {
    let relay = env!("CARGO_BIN_EXE_walrelay");
    let text = format!("#!/bin/sh\nulimit -v {kilobytes}\nexec {relay} \"$@\"\n");
    std::fs::write(script, text).unwrap();
    std::fs::set_permissions(script, Permissions::from_mode(0o755)).unwrap();
    settings.with_other_binary(script)
}

#[tokio::test]
async fn an_event_that_kills_the_relay_ends_among_the_dead_letters_and_others_go_out() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    park(&client, (1, 200), 200, STREAM).await;
    let large =
        "UPDATE identity.outbox SET payload = jsonb_build_object('x', repeat('x', 200000000))
                 WHERE payload->>'n' = '77'";
    client.execute(large, &[]).await.unwrap();
    // The slot is to start behind that: only the poller is to meet it.
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    world.settings.setup().await;
    let home = tempfile::tempdir().unwrap();
    let settings = eager(&world.settings)
        .with("max_event_bytes", "512MiB")
        .with("max_retry_attempts", "2")
        .with("retry_base_delay", "100ms");
    let settings = bounded(&home.path().join("bounded"), settings, 250_000);
    let mut deaths = 0;
    let dead = "identity.outbox WHERE dead_lettered_at IS NOT NULL";
    loop {
        let mut relay = settings.start();
        let is_over = wait::until("the end of the relay, or of the row", PATIENCE, async || {
            if !relay.running() {
                return Some(false);
            }
            (count(&client, dead).await == 1).then_some(true)
        })
        .await;
        if is_over {
            insert(&client, 201).await.unwrap();
            world.consumer().until_len(200).await;
            world.until_unparked().await;
            relay.drain().await;
            break;
        }
        deaths += 1;
        assert!(deaths < 12, "it kills the relay for ever");
    }
    assert!(deaths >= 5, "{deaths}");
    let letters = world.consumer_of("identity.user.v1.dlq").read(1).await;
    assert!(letters[0].get("error_message").contains("ended the process"), "{letters:?}");
    assert_eq!(letters[0].get("attempts"), "2");
    client
        .execute("DELETE FROM identity.outbox WHERE dead_lettered_at IS NULL", &[])
        .await
        .unwrap();
    assert_eq!(column(&client, "attempts").await.as_deref(), Some("2"));
}
