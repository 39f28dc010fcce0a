//! Marked, deleted or kept; and nothing is confirmed before that.

use crate::BINARY;
use crate::harness::{STREAM, Stream, World, eventually};
use crate::writers::insert;

async fn counts(world: &World, sql: &str, expected: &str) {
    eventually(&format!("{sql} is {expected}"), async || {
        let seen = world.postgres.text(sql).await;
        if seen == expected { Ok(()) } else { Err(seen) }
    })
    .await;
}

const CONFIRMED: &str =
    "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'walrelay'";

#[tokio::test]
async fn published_rows_are_marked_with_their_time() {
    let world = World::start(BINARY).await;
    let _relay = world.relay(BINARY).start().await;
    insert(&world.postgres.client().await, 5_000).await;
    let marked =
        "SELECT count(*) FROM identity.outbox WHERE published AND published_at >= created_at";
    counts(&world, marked, "5000").await;
}

#[tokio::test]
async fn published_rows_are_deleted_when_that_is_wanted() {
    let world = World::start(BINARY).await;
    let _relay = world.relay(BINARY).set("after_publish", "delete").start().await;
    insert(&world.postgres.client().await, 5_000).await;
    Stream::open(&world.redis, STREAM).await.reaches(5_000).await;
    counts(&world, "SELECT count(*) FROM identity.outbox", "0").await;
}

#[tokio::test]
async fn published_rows_are_left_alone_when_that_is_wanted() {
    let world = World::start(BINARY).await;
    let plan = world.relay(BINARY).set("after_publish", "keep").set("durability", "memory");
    let _relay = plan.start().await;
    let before = world.postgres.text(CONFIRMED).await;
    insert(&world.postgres.client().await, 500).await;
    eventually("the slot is told", async || {
        let now = world.postgres.text(CONFIRMED).await;
        if now == before { Err(now) } else { Ok(()) }
    })
    .await;
    let untouched = "SELECT count(*) FROM identity.outbox WHERE NOT published AND xmax = 0";
    assert_eq!(world.postgres.text(untouched).await, "500");
}

#[tokio::test]
async fn nothing_is_confirmed_past_a_row_that_is_not_marked() {
    let world = World::start(BINARY).await;
    let relay = world.relay(BINARY).set("durability", "memory").start().await;
    // A trigger of the application's locks each new row from another session's point of view: hold it.
    let client = world.postgres.client().await;
    let holder = world.postgres.client().await;
    holder.batch_execute("BEGIN; LOCK TABLE identity.outbox IN SHARE MODE").await.unwrap();
    let before = world.postgres.text("SELECT pg_current_wal_lsn()").await;
    // SHARE lets nobody write, so the row comes from the holder itself.
    insert(&holder, 10).await;
    holder.batch_execute("COMMIT; BEGIN; SELECT FROM identity.outbox FOR UPDATE").await.unwrap();
    Stream::open(&world.redis, STREAM).await.reaches(10).await;
    eventually("the relay says that it waits for the lock", async || {
        if relay.output().contains("locked by another session") {
            Ok(())
        } else {
            Err(String::new())
        }
    })
    .await;
    let passed = format!("SELECT ({CONFIRMED}) > '{before}'");
    insert(&client, 10).await;
    Stream::open(&world.redis, STREAM).await.reaches(20).await;
    assert_eq!(world.postgres.text(&passed).await, "f", "an unmarked row was passed");
    holder.batch_execute("ROLLBACK").await.unwrap();
    counts(&world, "SELECT count(*) FROM identity.outbox WHERE published", "20").await;
    counts(&world, &passed, "t").await;
}

#[tokio::test]
async fn a_row_that_is_not_visible_yet_is_waited_for() {
    let world = World::start(BINARY).await;
    let _relay = world.relay(BINARY).set("durability", "memory").start().await;
    // A commit that waits for a synchronous standby is in the WAL, and nobody sees it.
    world.postgres.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    world.postgres.run("SELECT pg_reload_conf()").await;
    eventually("commits wait for the standby", async || {
        let names = world.postgres.text("SHOW synchronous_standby_names").await;
        if names == "nobody" { Ok(()) } else { Err(names) }
    })
    .await;
    let url = world.postgres.url();
    let writer = tokio::spawn(async move {
        let (client, connection) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        insert(&client, 100).await;
    });
    Stream::open(&world.redis, STREAM).await.reaches(100).await;
    assert_eq!(
        world.postgres.text("SELECT count(*) FROM identity.outbox").await,
        "0",
        "not visible yet"
    );
    let client = world.postgres.client().await;
    client.batch_execute("SET synchronous_commit = local").await.unwrap();
    client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    writer.await.unwrap();
    counts(&world, "SELECT count(*) FROM identity.outbox WHERE published", "100").await;
}

#[tokio::test]
async fn marking_stays_hot() {
    let world = World::start(BINARY).await;
    let _relay = world.relay(BINARY).set("durability", "memory").start().await;
    insert(&world.postgres.client().await, 3_000).await;
    counts(&world, "SELECT count(*) FROM identity.outbox WHERE published", "3000").await;
    // Statistics come some time after the fact.
    let hot = "SELECT n_tup_upd > 0 AND n_tup_hot_upd > n_tup_upd * 0.95 FROM pg_stat_user_tables \
               WHERE relname = 'outbox'";
    counts(&world, hot, "t").await;
}
