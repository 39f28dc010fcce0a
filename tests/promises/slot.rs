//! The slot: WAL is not held for nothing, the slot is shared with nobody, and a lost one is loud.

use std::time::Duration;

use tokio_postgres::Client;

use crate::harness::postgres::Stop;
use crate::harness::proxy::Proxy;
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{SLOT, World, count, insert, insert_many};

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
async fn a_server_that_asks_where_we_stand_is_answered_at_once() {
    // It asks when it shuts down, and without this timeout nothing else makes the relay speak.
    let mut world = World::with(&[("wal_sender_timeout", "0")], &[]).await;
    let mut relay = world.settings.clone().with("feedback_interval", "60s").start_ready().await;
    relay.until_state("streaming").await;
    world.postgres.stop(Stop::Fast).await;
    world.postgres.restart().await;
    insert(&world.postgres.client().await, 1).await.unwrap();
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
async fn a_relay_that_is_slow_to_take_the_slot_is_not_overtaken() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let proxy = Proxy::start(world.postgres.port());
    proxy.delay(Duration::from_millis(500));
    let url = world.postgres.url_at(proxy.port());
    let mut slow = world.settings.clone().with("database_url", &url).start();
    // It has the table, and is some delayed questions away from taking the slot.
    wait::until_equal("its lock on the table", 1, PATIENCE, async || {
        count(&client, "pg_locks WHERE locktype = 'advisory' AND classid = 1635018099").await
    })
    .await;
    let other = Settings::new(&world.postgres.url(), &world.redis.url());
    let mut other = other.start_ready().await;
    other.until_state("standby").await;
    other.until_output("works on the table").await;
    slow.until_state("streaming").await;
    slow.kill9();
    other.until_state("streaming").await;
    insert(&client, 1).await.unwrap();
    world.assert_all_published().await;
    other.drain().await;
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
    let create = "CREATE PUBLICATION walrelay FOR TABLE identity.outbox WITH (publish = 'insert')";
    client.batch_execute(create).await.unwrap();
    let done = strict.finish("run").await;
    assert_eq!(done.code, Some(1), "{}", done.output);
    assert!(done.output.contains("slot \"walrelay\" does not exist"), "{}", done.output);
    client.batch_execute("DROP PUBLICATION walrelay").await.unwrap();

    insert(&client, 1).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    insert(&client, 2).await.unwrap();
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_slot_of_another_database_or_of_one_session_is_refused() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    client.batch_execute("CREATE DATABASE elsewhere").await.unwrap();
    let url = world.postgres.url();
    let url = format!("{}/elsewhere", url.strip_suffix("/postgres").unwrap());
    let there = world.settings.clone().with("database_url", &url).with("slot_name", "theirs");
    there.setup().await;
    let done = world.settings.clone().with("slot_name", "theirs").finish("run").await;
    assert_eq!(done.code, Some(1), "{}", done.output);
    assert!(done.output.contains("belongs to database \"elsewhere\""), "{}", done.output);
    let create = "SELECT pg_create_logical_replication_slot('passing', 'pgoutput', true)";
    client.execute(create, &[]).await.unwrap();
    let done = world.settings.clone().with("slot_name", "passing").finish("run").await;
    assert_eq!(done.code, Some(1), "{}", done.output);
    assert!(done.output.contains("temporary"), "{}", done.output);
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

/// The relay's link dies, and PostgreSQL's side of it does not notice: frozen, it cannot.
#[tokio::test]
async fn an_earlier_connection_of_its_own_is_ended_and_not_waited_for() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let proxy = Proxy::start(world.postgres.port());
    let url = world.postgres.url_at(proxy.port());
    let mut relay = world.settings.clone().with("database_url", &url).start_ready().await;
    insert(&client, 1).await.unwrap();
    world.assert_all_published().await;
    let walsender = world.postgres.text("SELECT pid FROM pg_stat_replication").await;
    let signal = |name: &str| {
        let done = std::process::Command::new("kill").args([name, walsender.as_str()]).status();
        assert!(done.unwrap().success(), "kill {name} {walsender}");
    };
    signal("-STOP");
    proxy.cut();
    insert(&client, 2).await.unwrap();
    relay.until_output("ending an earlier connection").await;
    relay.until_output(&format!("process {walsender} of PostgreSQL")).await;
    signal("-CONT");
    world.assert_all_published().await;
    relay.drain().await;
}
