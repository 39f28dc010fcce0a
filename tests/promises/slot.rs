//! The slot: WAL is not held for nothing, the slot is shared with nobody, and a lost one is loud.

use std::time::Duration;

use tokio_postgres::Client;

use crate::harness::postgres::Stop;
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{SLOT, World, insert, insert_many};

/// Bytes of WAL between what the slot has confirmed and the end.
async fn held(client: &Client) -> i64 {
    let query = "SELECT (pg_current_wal_insert_lsn() - confirmed_flush_lsn)::int8
                 FROM pg_replication_slots WHERE slot_name = $1";
    client.query_one(query, &[&SLOT]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_quiet_outbox_beside_a_busy_table_holds_no_wal() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    client.batch_execute("CREATE TABLE busy (filler text)").await.unwrap();
    let write = "INSERT INTO busy SELECT repeat(md5(n::text), 32) FROM generate_series(1, 9000) n";
    for _ in 0..20 {
        client.execute(write, &[]).await.unwrap();
    }
    let written: i64 = {
        let query = "SELECT pg_relation_size('busy')";
        client.query_one(query, &[]).await.unwrap().get(0)
    };
    assert!(written > 150_000_000, "only {written} bytes written");
    wait::until("the slot follows", PATIENCE, async || {
        (held(&client).await < 1_000_000).then_some(())
    })
    .await;
    insert(&client, 1).await.unwrap();
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_fast_shutdown_of_postgres_does_not_wait_for_the_relay() {
    let mut world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&world.postgres.client().await, 1, 100).await.unwrap();
    world.assert_all_published().await;
    world.until_confirmed().await;
    // The harness panics if the server has not ended in time.
    world.postgres.stop(Stop::Fast).await;
    assert!(relay.running(), "the relay waits for the server to come back");
    world.postgres.restart().await;
    insert_many(&world.postgres.client().await, 101, 200).await.unwrap();
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_fast_shutdown_during_a_backlog_ends_and_loses_nothing() {
    let mut world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&world.postgres.client().await, 1, 30_000).await.unwrap();
    world.consumer().until_len(1_000).await;
    world.postgres.stop(Stop::Fast).await;
    world.postgres.restart().await;
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_second_relay_on_the_slot_stands_by_and_takes_over() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut leader = world.settings.start_ready().await;
    leader.until_state("streaming").await;
    let other = Settings::new(&world.postgres.url(), &world.redis.url());
    let mut standby = other.start_ready().await;
    standby.until_state("standby").await;
    insert_many(&client, 1, 100).await.unwrap();
    world.assert_all_published().await;
    leader.kill9();
    standby.until_state("streaming").await;
    insert_many(&client, 101, 200).await.unwrap();
    world.assert_all_published().await;
    standby.drain().await;
}

#[tokio::test]
async fn a_standby_stops_at_once_when_told() {
    let world = World::new().await;
    let mut leader = world.settings.start_ready().await;
    leader.until_state("streaming").await;
    let other = Settings::new(&world.postgres.url(), &world.redis.url());
    let mut standby = other.start_ready().await;
    standby.until_state("standby").await;
    standby.drain().await;
    leader.drain().await;
}

#[tokio::test]
async fn a_missing_slot_and_publication_are_created_unless_told_not_to() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let drop = "SELECT pg_drop_replication_slot('walrelay'); DROP PUBLICATION walrelay";
    client.batch_execute(drop).await.unwrap();
    let strict = world.settings.clone().with("auto_create", "false");
    let done = strict.finish("run").await;
    assert_eq!(done.code, Some(1), "{}", done.output);
    assert!(done.output.contains("publication \"walrelay\" does not exist"), "{}", done.output);
    assert!(done.output.contains("walrelay setup"), "{}", done.output);

    insert(&client, 1).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    insert(&client, 2).await.unwrap();
    let entries = world.consumer().read(1).await;
    assert_eq!(entries[0].get("payload"), r#"{"n": 2}"#, "the slot begins where it was created");
    let output = relay.output();
    assert!(output.contains("unpublished rows from before the slot"), "{output}");
    relay.drain().await;
}

#[tokio::test]
async fn a_slot_that_was_lost_ends_the_relay_with_the_way_out() {
    let keep = [("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "64MB")];
    let world = World::with(&keep, &[]).await;
    let client = world.postgres.client().await;
    wait::until("the slot is lost", Duration::from_secs(120), async || {
        let fill = "CREATE TABLE IF NOT EXISTS filler (t text);
                    INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 40000);
                    SELECT pg_switch_wal(); CHECKPOINT";
        client.batch_execute(fill).await.unwrap();
        let query = "SELECT wal_status = 'lost' FROM pg_replication_slots";
        client.query_one(query, &[]).await.unwrap().get::<_, bool>(0).then_some(())
    })
    .await;
    let done = world.settings.finish("run").await;
    assert_eq!(done.code, Some(1), "{}", done.output);
    assert!(done.output.contains("\"walrelay\" is lost"), "{}", done.output);
    assert!(done.output.contains("pg_drop_replication_slot"), "{}", done.output);
}

#[tokio::test]
async fn a_walsender_that_is_terminated_is_replaced() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    for round in 0..3 {
        insert_many(&client, round * 1_000 + 1, round * 1_000 + 1_000).await.unwrap();
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
        client.execute(kill, &[]).await.unwrap();
        world.assert_all_published().await;
    }
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'walrelay'";
    client.execute(kill, &[]).await.unwrap();
    insert_many(&client, 3_001, 4_000).await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}
