//! A slot that is gone or lost heals by itself: the table says what is missing, and the streams
//! what the table does not know yet.

use std::time::Duration;

use crate::harness::ledger::Ledger;
use crate::harness::postgres::Stop;
use crate::harness::relay::Relay;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert_many, write_through};

const DROP: &str = "SELECT pg_drop_replication_slot('walrelay')";

async fn slots_lost(relay: &Relay) -> i64 {
    relay.status().await["reconnects"]["slots_lost"].as_i64().unwrap()
}

/// Each row once, whatever the order: a backlog goes by id, and its writer commits by id.
async fn assert_healed(world: &World, relay: &Relay) {
    world.assert_all_published().await;
    world.until_marked().await;
    assert_eq!(slots_lost(relay).await, 1, "{}", relay.output());
    relay.until_output("the replication slot is lost").await;
}

#[tokio::test]
async fn a_slot_that_was_dropped_while_the_relay_was_away_is_begun_anew_without_a_gap() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 1_000).await.unwrap();
    world.until_marked().await;
    relay.drain().await;
    insert_many(&client, 1_001, 2_000).await.unwrap();
    client.batch_execute(DROP).await.unwrap();
    insert_many(&client, 2_001, 3_000).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 3_001, 4_000).await.unwrap();
    assert_healed(&world, &relay).await;
    relay.drain().await;
}

#[tokio::test]
async fn a_slot_that_is_dropped_while_it_streams_is_begun_anew_without_a_gap() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    let writer = tokio::spawn(write_through(world.postgres.socket_url(), 4_000, 5));
    world.consumer().until_len(1_000).await;
    wait::until("the slot is dropped", PATIENCE, async || {
        let end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots";
        client.execute(end, &[]).await.unwrap();
        client.batch_execute(DROP).await.ok()
    })
    .await;
    writer.await.unwrap();
    assert_healed(&world, &relay).await;
    relay.drain().await;
}

#[tokio::test]
async fn a_slot_whose_wal_was_removed_is_replaced_without_a_gap() {
    let keep = [("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "64MB")];
    let world = World::with(&keep, &[]).await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.until_marked().await;
    relay.drain().await;
    insert_many(&client, 101, 200).await.unwrap();
    wait::until("the slot is lost", Duration::from_secs(120), async || {
        let fill = "CREATE TABLE IF NOT EXISTS filler (t text);
                    INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 40000);
                    SELECT pg_switch_wal(); CHECKPOINT";
        client.batch_execute(fill).await.unwrap();
        let query = "SELECT wal_status = 'lost' FROM pg_replication_slots";
        client.query_one(query, &[]).await.unwrap().get::<_, bool>(0).then_some(())
    })
    .await;
    let setup = world.settings.finish("setup").await;
    assert!(setup.output.contains("`walrelay run` replaces it"), "{}", setup.output);
    let strict = world.settings.clone().with("auto_create", "false").finish("run").await;
    assert_eq!(strict.code, Some(1), "{}", strict.output);
    assert!(strict.output.contains("\"walrelay\" is lost"), "{}", strict.output);
    let mut relay = world.settings.start_ready().await;
    assert_healed(&world, &relay).await;
    let healthy = "pg_replication_slots WHERE wal_status <> 'lost'";
    assert_eq!(count(&client, healthy).await, 1);
    relay.drain().await;
}

#[tokio::test]
async fn a_database_restored_without_its_slots_goes_on_without_a_gap() {
    let mut world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&world.postgres.client().await, 1, 100).await.unwrap();
    world.until_marked().await;
    relay.drain().await;
    insert_many(&world.postgres.client().await, 101, 200).await.unwrap();
    world.postgres.stop(Stop::Fast).await;
    world.postgres.back_up();
    world.postgres.restart().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&world.postgres.client().await, 201, 300).await.unwrap();
    world.consumer().until_len(300).await;
    relay.drain().await;
    world.postgres.stop(Stop::Fast).await;
    world.postgres.put_back();
    world.postgres.forget_slots();
    world.postgres.restart().await;

    let client = world.postgres.client().await;
    insert_many(&client, 1_001, 1_010).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1_011, 1_020).await.unwrap();
    world.until_marked().await;
    // Those that the copy does not have stay in the stream; those it has come once.
    let entries = world.consumer().read(320).await;
    let known = Ledger::of_one_writer(&client).await;
    let of_table: Vec<_> =
        entries.iter().filter(|entry| known.has(entry.event_id())).cloned().collect();
    known.assert_exactly_once(&of_table);
    assert_eq!(entries.len(), 320);
    relay.drain().await;
}

/// A relay has published rows `1..=50` and cannot mark them; it is gone, and so is the slot if
/// `is_dropped`. Rows up to 100 come afterwards.
pub async fn unmarked(world: &World, is_dropped: bool) {
    let client = world.postgres.client().await;
    let mut holder = world.postgres.client().await;
    insert_many(&client, 1, 50).await.unwrap();
    let lock = holder.transaction().await.unwrap();
    lock.execute("SELECT FROM identity.outbox FOR UPDATE", &[]).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    world.consumer().until_len(50).await;
    relay.kill9();
    if is_dropped {
        wait::until("the slot is dropped", PATIENCE, async || {
            client.batch_execute(DROP).await.ok()
        })
        .await;
    }
    lock.rollback().await.unwrap();
    insert_many(&client, 51, 100).await.unwrap();
    let unmarked = count(&client, "identity.outbox WHERE NOT published").await;
    assert_eq!(unmarked, 100, "no row may be marked, or this test shows nothing");
}

#[tokio::test]
async fn rows_that_were_published_and_not_marked_are_found_in_the_stream() {
    for format in ["fields", "json", "cloudevents"] {
        let mut world = World::new().await;
        world.settings = world.settings.with("entry_format", format);
        unmarked(&world, true).await;
        let mut relay = world.settings.start_ready().await;
        world.until_marked().await;
        let entries = world.consumer().read_all().await;
        assert_eq!(entries.len(), 100, "{format}:\n{}", relay.output());
        relay.until_output("rows were in their streams").await;
        relay.drain().await;
    }
}

#[tokio::test]
async fn a_redis_that_lost_the_stream_as_well_gets_everything_that_is_unpublished() {
    let world = World::new().await;
    unmarked(&world, true).await;
    world.redis.run(&format!("DEL {STREAM}")).await;
    let mut relay = world.settings.start_ready().await;
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}
