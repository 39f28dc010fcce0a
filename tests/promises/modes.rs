//! From streaming to polling and back, on a live system: nothing is lost, and nothing comes twice.

use tokio_postgres::Client;

use crate::harness::relay::Settings;
use crate::harness::world::{SLOT, World, count, insert_many};
use crate::lost_slot::unmarked;

/// Of one writer.
const ROWS: i64 = 2_000;

fn polling(world: &World) -> Settings {
    world.settings.clone().with("mode", "poll").with("poll_interval", "200ms")
}

#[tokio::test]
async fn polling_begins_behind_what_a_killed_line_had_published_and_not_marked() {
    let world = World::new().await;
    unmarked(&world, false).await;
    let mut relay = polling(&world).start_ready().await;
    world.assert_all_published().await;
    world.until_marked().await;
    relay.until_output("the replication slot of mode = wal is dropped").await;
    let client = world.postgres.client().await;
    let left = count(&client, "pg_replication_slots").await;
    assert_eq!(left, 0, "it would hold WAL for ever");
    relay.drain().await;
    // And back again.
    insert_many(&client, 101, 120).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 121, 140).await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_line_that_was_frozen_while_pollers_took_over_writes_nothing_any_more() {
    let world = World::with(&[("wal_sender_timeout", "2s")], &[]).await;
    let client = world.postgres.client().await;
    let mut frozen = world.settings.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    world.until_marked().await;
    frozen.freeze();
    let other = Settings::new(&world.postgres.url(), &world.redis.url());
    let mut poller = other.with("mode", "poll").start_ready().await;
    insert_many(&client, 11, 20).await.unwrap();
    world.assert_all_published().await;
    frozen.thaw();
    frozen.until_state("standby").await;
    insert_many(&client, 21, 30).await.unwrap();
    world.assert_all_published().await;
    poller.drain().await;
    frozen.until_state("streaming").await;
    insert_many(&client, 31, 40).await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    frozen.drain().await;
}

/// Both have the slot_name of the defaults. While one streams the other need not wait, and while it
/// is away what its slot has still to send is left to it.
#[tokio::test]
async fn a_poller_leaves_the_slot_of_a_line_for_another_table_alone() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    client
        .batch_execute(
            "CREATE SCHEMA mail; CREATE TABLE mail.events (LIKE identity.outbox INCLUDING ALL)",
        )
        .await
        .unwrap();
    let mail = Settings::new(&world.postgres.url(), &world.redis.url());
    let mail = mail.with("mode", "poll").with("outbox_table", "mail.events");
    let mail = mail.with("poll_interval", "200ms");
    let mut line = world.settings.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    world.until_marked().await;
    let mut poller = mail.start_ready().await;
    poller.until_state("polling").await;
    poller.drain().await;
    line.drain().await;
    insert_many(&client, 11, 20).await.unwrap();
    let mut poller = mail.start_ready().await;
    let written = "INSERT INTO mail.events (event_type, aggregate_id, payload, topic)
        VALUES ('Sent', gen_random_uuid(), '{}', 'mail')";
    client.batch_execute(written).await.unwrap();
    world.consumer_of("mail").until_len(1).await;
    let slots = format!("pg_replication_slots WHERE slot_name = '{SLOT}'");
    assert_eq!(count(&client, &slots).await, 1, "{}", poller.output());
    let mut line = world.settings.start_ready().await;
    world.assert_all_published().await;
    line.drain().await;
    poller.drain().await;
}

/// Rows `from..from + ROWS`, four in a transaction, for as long as that takes.
async fn write(client: Client, from: i64) {
    for first in (from..from + ROWS).step_by(4) {
        insert_many(&client, first, first + 3).await.unwrap();
    }
}

#[tokio::test]
async fn modes_change_under_a_writer_by_sigkill_and_by_sigterm() {
    let world = World::new().await;
    let modes = [world.settings.clone(), polling(&world)];
    for (stage, settings) in (0..4).zip(modes.iter().cycle()) {
        let mut relay = settings.start_ready().await;
        let before = world.consumer().len().await.unwrap_or_default();
        let client = world.postgres.client().await;
        let writer = tokio::spawn(write(client, 1 + stage * ROWS));
        // In the middle of it, more or less.
        world.consumer().until_len(before + 200).await;
        if stage < 2 {
            relay.kill9();
        } else {
            relay.drain().await;
        }
        writer.await.unwrap();
    }
    let mut relay = world.settings.start_ready().await;
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}
