//! The slot: never pinned by a quiet outbox, never in the way, one leader at a time.

use crate::BINARY;
use crate::harness::postgres::Stop;
use crate::harness::{STREAM, Stream, World, eventually};
use crate::writers::{insert, record, truth};

const BEHIND: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::int8 \
                      FROM pg_replication_slots WHERE slot_name = 'walrelay'";

async fn confirmed_is_near(world: &World) {
    eventually("the slot follows", async || {
        let behind: u64 = world.postgres.text(BEHIND).await.parse().unwrap();
        if behind < 1_000_000 { Ok(()) } else { Err(format!("{behind} bytes behind")) }
    })
    .await;
}

#[tokio::test]
async fn a_quiet_outbox_beside_a_busy_table_pins_no_wal() {
    let world = World::start(BINARY).await;
    let _relay = world.relay(BINARY).start().await;
    insert(&world.postgres.client().await, 1).await;
    world
        .postgres
        .run("CREATE TABLE busy (pad text); ALTER TABLE busy ALTER pad SET STORAGE PLAIN")
        .await;
    for _ in 0..10 {
        let sql = "INSERT INTO busy SELECT repeat('x', 2000) FROM generate_series(1, 10000)";
        world.postgres.run(sql).await;
    }
    let written = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8";
    assert!(world.postgres.text(written).await.parse::<u64>().unwrap() > 200_000_000);
    confirmed_is_near(&world).await;
}

#[tokio::test]
async fn an_idle_relay_does_not_hold_up_a_fast_shutdown_of_postgresql() {
    let mut world = World::start(BINARY).await;
    let mut relay = world.relay(BINARY).start().await;
    insert(&world.postgres.client().await, 10).await;
    Stream::open(&world.redis, STREAM).await.reaches(10).await;
    // The harness panics when it does not end.
    world.postgres.stop(Stop::Fast);
    assert!(relay.is_running());
    world.postgres.restart().await;
    insert(&world.postgres.client().await, 10).await;
    Stream::open(&world.redis, STREAM).await.reaches(20).await;
    relay.becomes("streaming").await;
}

#[tokio::test]
async fn a_second_relay_stands_by_and_takes_over_when_the_first_is_killed() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    let mut leader = world.relay(BINARY).start().await;
    let mut standby = world.relay(BINARY).spawn();
    standby.becomes("standby").await;
    assert_eq!(standby.get("/readyz"), Some((200, "standby\n".to_owned())));
    let client = world.postgres.client().await;
    insert(&client, 100).await;
    leader.kill();
    insert(&client, 100).await;
    standby.becomes("streaming").await;
    let expected = truth(&world.postgres).await;
    Stream::open(&world.redis, STREAM).await.holds_exactly(&expected).await;
}

#[tokio::test]
async fn a_leader_whose_epoch_is_over_writes_nothing_more_and_starts_again() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    let mut relay = world.relay(BINARY).start().await;
    let client = world.postgres.client().await;
    insert(&client, 10).await;
    let mut stream = Stream::open(&world.redis, STREAM).await;
    stream.reaches(10).await;
    let system = world.postgres.text("SELECT system_identifier FROM pg_control_system()").await;
    let checkpoint = format!("walrelay:{{{STREAM}}}:walrelay@{system}");
    world.redis.run(&format!("HINCRBY {checkpoint} epoch 1000000000000")).await;
    insert(&client, 10).await;
    // It steps down, and takes the stream over anew: a new line.
    let expected = truth(&world.postgres).await;
    stream.holds_exactly(&expected).await;
    relay.becomes("streaming").await;
    assert!(relay.number("/reconnects/lines") > 1);
    assert!(relay.output().contains("FENCED"), "{}", relay.output());
}

#[tokio::test]
async fn an_emptied_script_cache_and_a_lost_checkpoint_restart_the_line() {
    let world = World::start(BINARY).await;
    let _relay = world.relay(BINARY).start().await;
    let client = world.postgres.client().await;
    let mut stream = Stream::open(&world.redis, STREAM).await;
    insert(&client, 10).await;
    stream.reaches(10).await;
    world.redis.run("SCRIPT FLUSH SYNC").await;
    insert(&client, 10).await;
    stream.reaches(20).await;
    world.redis.run("FLUSHALL").await;
    insert(&client, 10).await;
    // A Redis that came back empty gets all that the slot still holds, the newest events at least.
    stream.reaches(10).await;
}

#[tokio::test]
async fn publication_and_slot_are_created_when_that_is_allowed() {
    let world = World::start(BINARY).await;
    world
        .postgres
        .run("SELECT pg_drop_replication_slot('walrelay'); DROP PUBLICATION walrelay")
        .await;
    let refused = world.relay(BINARY).set("auto_create", "false").spawn().exit_code();
    assert_eq!(refused, 1);
    insert(&world.postgres.client().await, 3).await;
    let relay = world.relay(BINARY).start().await;
    insert(&world.postgres.client().await, 5).await;
    Stream::open(&world.redis, STREAM).await.reaches(5).await;
    assert!(relay.output().contains("unpublished rows from before the slot"), "{}", relay.output());
}
