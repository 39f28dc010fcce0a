//! Rows are settled after their entries are safe, and the slot is confirmed after the rows are.

use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;

use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert, insert_many};

async fn confirmed(client: &Client) -> String {
    let query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots";
    client.query_one(query, &[]).await.unwrap().get(0)
}

async fn checkpoint_key(redis: &mut MultiplexedConnection) -> String {
    let mut keys = redis::cmd("KEYS");
    let keys: Vec<String> = keys.arg("walrelay:*").query_async(redis).await.unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].contains(&format!("{{{STREAM}}}")), "in the stream's hash slot: {keys:?}");
    keys[0].clone()
}

#[tokio::test]
async fn mark_sets_published_and_published_at_of_every_row() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 5_000).await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    assert_eq!(count(&client, "identity.outbox WHERE published_at IS NULL").await, 0);
    assert_eq!(count(&client, "identity.outbox WHERE attempts <> 0").await, 0);
    relay.drain().await;
}

#[tokio::test]
async fn delete_removes_what_is_published() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.clone().with("after_publish", "delete").start_ready().await;
    insert_many(&client, 1, 5_000).await.unwrap();
    wait::until_equal("rows left", 0, PATIENCE, async || count(&client, "identity.outbox").await)
        .await;
    assert_eq!(world.consumer().read_all().await.len(), 5_000);
    relay.drain().await;
}

#[tokio::test]
async fn keep_touches_no_row() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.clone().with("after_publish", "keep").start_ready().await;
    insert_many(&client, 1, 5_000).await.unwrap();
    world.assert_all_published().await;
    world.until_confirmed().await;
    assert_eq!(count(&client, "identity.outbox WHERE NOT published").await, 5_000);
    relay.drain().await;
}

/// How often the whole outbox was read. A session tells when it ends.
async fn whole_reads(world: &World) -> String {
    world.until_no_session().await;
    let reads = "SELECT seq_scan::text FROM pg_stat_user_tables WHERE relname = 'outbox'";
    world.postgres.text(reads).await
}

/// As after a restore or an upgrade: the planner knows nothing, and takes every row for meant.
#[tokio::test]
async fn a_table_that_nobody_has_analysed_is_not_read_whole() {
    let world = World::with(&[("autovacuum", "off")], &[]).await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 20_000).await.unwrap();
    let before = whole_reads(&world).await;
    let mut relay = world.settings.start_ready().await;
    world.consumer().until_len(20_000).await;
    relay.drain().await;
    let mut again = world.settings.start_ready().await;
    insert_many(&client, 20_001, 20_100).await.unwrap();
    world.consumer().until_len(20_100).await;
    again.drain().await;
    assert_eq!(whole_reads(&world).await, before);
}

#[tokio::test]
async fn the_slot_is_not_confirmed_past_a_row_that_cannot_be_marked() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut holder = world.postgres.client().await;
    let mut relay = world.settings.clone().with("durability", "memory").start();
    insert(&client, 1).await.unwrap();
    let lock = holder.transaction().await.unwrap();
    lock.execute("SELECT FROM identity.outbox FOR UPDATE", &[]).await.unwrap();
    let before: String = {
        let query = "SELECT pg_current_wal_insert_lsn()::text";
        client.query_one(query, &[]).await.unwrap().get(0)
    };
    relay.ready().await;
    world.consumer().until_len(1).await;
    insert_many(&client, 2, 100).await.unwrap();
    world.consumer().until_len(100).await;
    relay.until_output("locked by another session").await;
    // As if the server were lost now: everything from the locked row on must come again.
    let query = "SELECT $1::text::pg_lsn >= $2::text::pg_lsn";
    let stands = confirmed(&client).await;
    let is_past: bool = client.query_one(query, &[&stands, &before]).await.unwrap().get(0);
    assert!(!is_past, "the slot is at {stands}, the unmarked row before {before}");
    relay.kill9();
    lock.commit().await.unwrap();
    let mut relay = world.settings.start_ready().await;
    world.until_marked().await;
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_row_that_becomes_visible_late_is_published_at_once_and_marked_then() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.clone().with("durability", "memory").start_ready().await;
    // The commit is in the WAL, yet nobody sees it before a standby that does not exist confirms.
    let set = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
    client.execute(set, &[]).await.unwrap();
    client.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
    wait::until_equal("the setting holds", "nobody".to_owned(), PATIENCE, async || {
        let row = client.query_one("SHOW synchronous_standby_names", &[]).await.unwrap();
        row.get::<_, String>(0)
    })
    .await;
    let waiting = world.postgres.client().await;
    let writer = tokio::spawn(async move { insert(&waiting, 1).await });
    world.consumer().until_len(1).await;
    assert_eq!(count(&client, "identity.outbox").await, 0, "published before it is visible");
    assert!(!writer.is_finished());
    client.execute("SET synchronous_commit = local", &[]).await.unwrap();
    client.execute("ALTER SYSTEM RESET synchronous_standby_names", &[]).await.unwrap();
    client.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
    writer.await.unwrap().unwrap();
    wait::until_equal("the row is marked", 1, PATIENCE, async || {
        count(&client, "identity.outbox WHERE published").await
    })
    .await;
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_row_deleted_by_the_application_is_published_and_does_not_hold_the_line() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    let both = "BEGIN;
        INSERT INTO identity.outbox (event_type, aggregate_id, payload)
        VALUES ('Gone', gen_random_uuid(), '{}');
        DELETE FROM identity.outbox; COMMIT";
    client.batch_execute(both).await.unwrap();
    insert(&client, 2).await.unwrap();
    let entries = world.consumer().read(2).await;
    assert_eq!(entries[0].get("event_type"), "Gone");
    world.until_marked().await;
    world.until_confirmed().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_stream_is_trimmed_to_about_its_maxlen() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.clone().with("stream_maxlen", "1000").start_ready().await;
    for round in 0..20 {
        insert_many(&client, round * 500 + 1, round * 500 + 500).await.unwrap();
    }
    world.until_marked().await;
    let length = world.consumer().len().await.unwrap();
    assert!((1_000..1_300).contains(&length), "{length} entries for a maxlen of 1000");
    let entries = world.consumer().read_all().await;
    assert_eq!(entries.last().unwrap().get("payload"), r#"{"n": 10000}"#);
    relay.drain().await;
}

#[tokio::test]
async fn a_flushed_script_cache_is_filled_again() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    let mut redis = world.redis.connection().await;
    for round in 0..5 {
        insert_many(&client, round * 1_000 + 1, round * 1_000 + 1_000).await.unwrap();
        let mut flush = redis::cmd("SCRIPT");
        flush.arg("FLUSH").query_async::<()>(&mut redis).await.unwrap();
    }
    world.assert_all_published().await;
    assert!(relay.running());
    relay.drain().await;
}

#[tokio::test]
async fn a_newer_epoch_in_the_checkpoint_stops_a_leader_from_writing() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.clone().with("reconnect_delay_max", "10s").start_ready().await;
    insert(&client, 1).await.unwrap();
    world.consumer().until_len(1).await;
    let mut redis = world.redis.connection().await;
    let key = checkpoint_key(&mut redis).await;
    let read = redis::Cmd::hget(&key, "epoch");
    let epoch: i64 = read.query_async(&mut redis).await.unwrap();
    redis::Cmd::hset(&key, "epoch", epoch + 1_000_000_000)
        .query_async::<()>(&mut redis)
        .await
        .unwrap();
    insert(&client, 2).await.unwrap();
    relay.until_output("FENCED").await;
    // It takes the slot anew, and with it an epoch above the one it met.
    world.assert_all_published().await;
    let read = redis::Cmd::hget(&key, "epoch");
    let now: i64 = read.query_async(&mut redis).await.unwrap();
    assert!(now > epoch + 1_000_000_000, "{now} is no newer epoch");
    relay.drain().await;
}

#[tokio::test]
async fn a_redis_with_older_data_gets_what_the_slot_still_has() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    // Confirming is held back by two seconds: what Redis forgets in that time is sent again.
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 500).await.unwrap();
    world.consumer().until_len(500).await;
    let mut redis = world.redis.connection().await;
    let key = checkpoint_key(&mut redis).await;
    let epoch = redis::Cmd::hget(&key, "epoch");
    let before: i64 = epoch.query_async(&mut redis).await.unwrap();
    redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await.unwrap();
    insert(&client, 501).await.unwrap();
    world.assert_all_published().await;
    // A leader that slept through this still holds the epoch that Redis has forgotten.
    let after: i64 = epoch.query_async(&mut redis).await.unwrap();
    assert!(after > before, "epoch {after} after {before}");
    relay.drain().await;
}
