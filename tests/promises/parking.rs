//! What cannot be published is parked in its own row, and the line goes on in its place.

use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::relay::Relay;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert, insert_many};

/// One event for `topic`, of an aggregate of its own.
async fn insert_for(client: &Client, topic: &str, payload: &str) {
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
                 VALUES ('Any', gen_random_uuid(), $1::text::jsonb, $2)";
    client.execute(query, &[&payload, &topic]).await.unwrap();
}

/// So many events for `topic` in one transaction, each of an aggregate of its own.
async fn insert_many_for(client: &Client, topic: &str, events: i64) {
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
                 SELECT 'Any', gen_random_uuid(), jsonb_build_object('n', n), $1
                 FROM generate_series(1, $2::int8) AS n";
    client.execute(query, &[&topic, &events]).await.unwrap();
}

const PARKED: &str =
    "identity.outbox WHERE next_attempt_at IS NOT NULL AND wal_position IS NOT NULL
                      AND NOT published AND dead_lettered_at IS NULL";

async fn until_parked(client: &Client, rows: i64) {
    wait::until_equal("parked rows", rows, PATIENCE, async || count(client, PARKED).await).await;
}

async fn until_all_but(client: &Client, rows: i64) {
    wait::until_equal("rows left to mark", rows, PATIENCE, async || {
        count(client, "identity.outbox WHERE NOT published").await
    })
    .await;
}

/// Times the line came up.
async fn lines(relay: &Relay) -> Value {
    relay.status().await["reconnects"]["lines"].take()
}

async fn set_bulk_max(redis: &mut MultiplexedConnection, bytes: &str) {
    let mut command = redis::cmd("CONFIG");
    command.arg("SET").arg("proto-max-bulk-len").arg(bytes);
    command.query_async::<()>(redis).await.unwrap();
}

/// As a poller does, by hand: what is parked is out.
async fn release(client: &Client, which: &str) {
    let query = format!(
        "UPDATE identity.outbox SET published = true, published_at = now()
         WHERE next_attempt_at IS NOT NULL AND {which}"
    );
    assert!(client.execute(&query, &[]).await.unwrap() > 0);
}

#[tokio::test]
async fn events_for_a_key_of_another_type_are_parked_and_the_other_streams_go_on() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run("SET taken x").await;
    let mut relay = world.settings.start_ready().await;
    for n in 1..=20 {
        insert(&client, n).await.unwrap();
        insert_for(&client, "taken", "{}").await;
        insert_for(&client, "other", "{}").await;
    }
    until_parked(&client, 20).await;
    until_all_but(&client, 20).await;
    world.until_confirmed().await;
    assert_eq!(world.consumer().len().await, Some(20));
    assert_eq!(world.consumer_of("other").len().await, Some(20));
    assert_eq!(lines(&relay).await, 1, "in its place");
    let row = client
        .query_one(&format!("SELECT * FROM {PARKED} ORDER BY id LIMIT 1"), &[])
        .await
        .expect("a row");
    assert_eq!(row.get::<_, i32>("attempts"), 1);
    assert_eq!(row.get::<_, i32>("started_attempts"), 1);
    assert!(row.get::<_, &str>("error_message").contains("WRONGTYPE"));
    let query = format!("{PARKED} AND next_attempt_at > now() + interval '50 seconds'");
    assert_eq!(count(&client, &query).await, 20, "they are tried again after the pause");
    relay.drain().await;
}

#[tokio::test]
async fn a_stream_that_is_healed_takes_events_again_without_a_restart() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run("SET taken x").await;
    let mut relay = world.settings.clone().with("poll_interval", "100ms").start_ready().await;
    insert_for(&client, "taken", "{}").await;
    until_parked(&client, 1).await;
    world.redis.run("DEL taken").await;
    wait::until("the relay has noticed", PATIENCE, async || {
        insert_for(&client, "taken", "{}").await;
        (world.consumer_of("taken").len().await > Some(0)).then_some(())
    })
    .await;
    assert_eq!(lines(&relay).await, 1);
    // In flight, not at its opening.
    world.redis.run("DEL taken").await;
    world.redis.run("SET taken x").await;
    insert_many_for(&client, "taken", 1_000).await;
    // And whatever was on its way when the key became something else.
    wait::until("all that is not published is parked", PATIENCE, async || {
        let parked = count(&client, PARKED).await;
        let is_all = parked == count(&client, "identity.outbox WHERE NOT published").await;
        (parked >= 1_000 && is_all).then_some(())
    })
    .await;
    assert_eq!(lines(&relay).await, 1);
    relay.drain().await;
}

#[tokio::test]
async fn events_for_a_stream_that_is_not_ours_to_write_are_parked() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world
        .redis
        .run("ACL SETUSER relay on >secret +@all ~walrelay:* ~identity.user.v1 %R~theirs")
        .await;
    let url = world.redis.url().replace("redis://", "redis://relay:secret@");
    let mut relay = world.settings.clone().with("redis_url", &url).start_ready().await;
    insert_for(&client, "theirs", "{}").await;
    insert(&client, 2).await.unwrap();
    until_parked(&client, 1).await;
    world.consumer().until_len(1).await;
    let why = world.postgres.text(&format!("SELECT error_message FROM {PARKED}")).await;
    assert!(why.contains("NOPERM"), "{why}");
    // Taken away while it is written.
    world.redis.run("ACL SETUSER relay resetkeys ~walrelay:* ~other").await;
    insert_many(&client, 3, 500).await.unwrap();
    insert_for(&client, "other", "{}").await;
    until_parked(&client, 499).await;
    world.consumer_of("other").until_len(1).await;
    world.until_confirmed().await;
    assert_eq!(lines(&relay).await, 1);
    relay.drain().await;
}

#[tokio::test]
async fn an_event_too_large_for_redis_is_parked_alone() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    // The relay has read the old limit.
    let mut redis = world.redis.connection().await;
    set_bulk_max(&mut redis, "1048576").await;
    insert_many(&client, 1, 300).await.unwrap();
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 SELECT 'Large', gen_random_uuid(), to_jsonb(repeat('y', 2000000))";
    client.execute(query, &[]).await.unwrap();
    insert_many(&client, 302, 600).await.unwrap();
    // The one connection is cut, and the next line knows the limit.
    until_parked(&client, 1).await;
    until_all_but(&client, 1).await;
    world.consumer().until_len(599).await;
    let why = world.postgres.text(&format!("SELECT error_message FROM {PARKED}")).await;
    assert!(why.contains("max_event_bytes is"), "{why}");
    relay.drain().await;
}

/// Each of so many events is refused by itself.
#[tokio::test]
async fn ten_thousand_refused_events_are_parked_without_a_restart_and_in_flat_memory() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("log_level", "error");
    let mut relay = settings.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.consumer().until_len(100).await;
    world.until_marked().await;
    // No id is left behind this one.
    let last = format!("{0}-{0}", u64::MAX);
    world.redis.run(&format!("XADD {STREAM} {last} event_id last")).await;
    let before = relay.rss_kb();
    insert_many(&client, 101, 10_100).await.unwrap();
    insert_for(&client, "other", "{}").await;
    until_parked(&client, 10_000).await;
    until_all_but(&client, 10_000).await;
    world.until_confirmed().await;
    assert_eq!(lines(&relay).await, 1);
    let grown = relay.rss_kb().saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} kB more than before");
    let order = "SELECT array_agg((payload->>'n')::int ORDER BY wal_position, id)
                 = array_agg((payload->>'n')::int ORDER BY (payload->>'n')::int)
                 FROM identity.outbox WHERE wal_position IS NOT NULL";
    assert_eq!(world.postgres.text(&format!("SELECT ({order})::text")).await, "true");
    // The next lines know of them, and hold nothing of them but that.
    relay.kill9();
    let mut relay = settings.start_ready().await;
    let stands = relay.rss_kb();
    assert!(stands < before + 24 * 1024, "{stands} kB with 10,000 parked rows, {before} without");
    insert_for(&client, "other", "{}").await;
    world.consumer_of("other").until_len(2).await;
    assert_eq!(count(&client, PARKED).await, 10_000);
    relay.drain().await;
}

#[tokio::test]
async fn rows_that_cannot_become_events_are_parked_for_the_dead_letters() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let text = "ALTER TABLE identity.outbox ALTER COLUMN payload TYPE text";
    client.batch_execute(text).await.unwrap();
    let settings = world.settings.clone().with("max_event_bytes", "64KiB");
    let mut relay = settings.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 VALUES ('Broken', gen_random_uuid(), '{\"secret-value\": tru'),
                        ('Large', gen_random_uuid(), to_json(repeat('y', 100000))::text)";
    client.batch_execute(query).await.unwrap();
    insert_many(&client, 13, 20).await.unwrap();
    until_parked(&client, 2).await;
    until_all_but(&client, 2).await;
    world.until_confirmed().await;
    assert_eq!(world.consumer().len().await, Some(18));
    let query = format!("{PARKED} AND attempts = 0 AND next_attempt_at <= now()");
    assert_eq!(count(&client, &query).await, 2, "due at once");
    let why = format!("SELECT string_agg(error_message, '; ' ORDER BY id) FROM {PARKED}");
    let why = world.postgres.text(&why).await;
    assert!(why.contains("payload is not JSON; the event has 1"), "{why}");
    assert!(!relay.output().contains("secret-value"), "no payload in the log");
    assert_eq!(lines(&relay).await, 1);
    relay.drain().await;
}

#[tokio::test]
async fn an_event_whose_row_was_deleted_is_put_back_as_a_parked_row() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let more = "ALTER TABLE identity.outbox ADD note varchar(10), ADD twice int
                    GENERATED ALWAYS AS (attempts * 2) STORED";
    client.batch_execute(more).await.unwrap();
    world.redis.run("SET taken x").await;
    let mut relay = world.settings.start_ready().await;
    let both = "BEGIN;
        INSERT INTO identity.outbox
            (event_id, event_type, aggregate_id, payload, topic, created_at, note)
        VALUES ('00000000-0000-0000-0000-00000000000#', 'Gone', gen_random_uuid(),
            '{\"n\": 12345678901234567890}', 'taken', '2020-02-02 02:02:02.000002+00', 'it''s');
        DELETE FROM identity.outbox WHERE topic = 'taken' AND next_attempt_at IS NULL; COMMIT";
    client.batch_execute(&both.replace('#', "1")).await.unwrap();
    until_parked(&client, 1).await;
    let before = lines(&relay).await.as_i64().unwrap();
    // The relay knows by now that this stream refuses, and has the row at hand.
    for n in ["2", "3", "4"] {
        client.batch_execute(&both.replace('#', n)).await.unwrap();
    }
    until_parked(&client, 4).await;
    assert_eq!(lines(&relay).await, before, "no restart for each");
    let query = format!(
        "{PARKED} AND event_type = 'Gone' AND payload->>'n' = '12345678901234567890'
         AND created_at = '2020-02-02 02:02:02.000002+00' AND note = 'it''s' AND topic = 'taken'
         AND event_id::text LIKE '00000000-%' AND attempts = 1"
    );
    assert_eq!(count(&client, &query).await, 4);
    world.until_confirmed().await;
    assert_eq!(count(&client, "identity.outbox").await, 4, "once each");
    relay.drain().await;
}

#[tokio::test]
async fn a_row_that_is_locked_or_not_visible_yet_is_parked_later_and_other_streams_go_on() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut holder = world.postgres.client().await;
    world.redis.run("SET taken x").await;
    insert_for(&client, "taken", "{}").await;
    let lock = holder.transaction().await.unwrap();
    lock.execute("SELECT FROM identity.outbox FOR UPDATE", &[]).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    insert(&client, 2).await.unwrap();
    world.consumer().until_len(1).await;
    relay.until_output("to be parked are locked").await;
    assert_eq!(count(&client, PARKED).await, 0);
    lock.commit().await.unwrap();
    until_parked(&client, 1).await;

    let set = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
    client.execute(set, &[]).await.unwrap();
    client.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
    wait::until_equal("the setting holds", "nobody".to_owned(), PATIENCE, async || {
        world.postgres.text("SHOW synchronous_standby_names").await
    })
    .await;
    let waiting = world.postgres.client().await;
    let writer = tokio::spawn(async move { insert_for(&waiting, "taken", "{}").await });
    let waits = "pg_stat_activity WHERE wait_event = 'SyncRep'";
    wait::until("the commit waits", PATIENCE, async || {
        (count(&client, waits).await > 0).then_some(())
    })
    .await;
    client.execute("SET synchronous_commit = local", &[]).await.unwrap();
    insert(&client, 4).await.unwrap();
    world.consumer().until_len(2).await;
    assert_eq!(count(&client, PARKED).await, 1, "nobody sees the other");
    client.execute("ALTER SYSTEM RESET synchronous_standby_names", &[]).await.unwrap();
    client.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
    writer.await.unwrap();
    until_parked(&client, 2).await;
    relay.drain().await;
}

#[tokio::test]
async fn a_parked_event_that_the_slot_sends_again_is_not_published_by_the_line() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut holder = world.postgres.client().await;
    world.redis.run("SET taken x").await;
    // What cannot be marked keeps the slot where it is.
    insert(&client, 1).await.unwrap();
    let lock = holder.transaction().await.unwrap();
    lock.execute("SELECT FROM identity.outbox FOR UPDATE", &[]).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    insert_many_for(&client, "taken", 50).await;
    insert(&client, 2).await.unwrap();
    until_parked(&client, 50).await;
    world.consumer().until_len(2).await;
    relay.kill9();
    lock.commit().await.unwrap();
    world.redis.run("DEL taken").await;
    let settings = world.settings.clone().with("poll_interval", "100ms");
    let mut relay = settings.start_ready().await;
    until_all_but(&client, 50).await;
    world.until_confirmed().await;
    insert_for(&client, "taken", "{}").await;
    world.consumer_of("taken").until_len(1).await;
    assert_eq!(count(&client, PARKED).await, 50, "they wait for the poller");
    assert_eq!(world.consumer().len().await, Some(2));
    // Once they are out, and the slot cannot go back to them, nothing remembers them.
    release(&client, "wal_position IS NOT NULL").await;
    wait::until_equal("rows that remember", 0, PATIENCE, async || {
        client.batch_execute("CHECKPOINT").await.unwrap();
        count(&client, "identity.outbox WHERE next_attempt_at IS NOT NULL").await
    })
    .await;
    relay.drain().await;
}

async fn insert_of(client: &Client, aggregate: i32, topic: &str) {
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
                 VALUES ('Any', md5($1::int4::text)::uuid, '{}', $2)";
    client.execute(query, &[&aggregate, &topic]).await.unwrap();
}

#[tokio::test]
async fn later_events_of_an_aggregate_wait_behind_its_parked_one_and_go_on_after_it() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run("SET taken x").await;
    let settings = world.settings.clone().with("poll_interval", "100ms");
    let mut relay = settings.start_ready().await;
    insert_of(&client, 1, "taken").await;
    until_parked(&client, 1).await;
    for _ in 0..3 {
        insert_of(&client, 1, STREAM).await;
        insert_of(&client, 2, STREAM).await;
    }
    until_parked(&client, 4).await;
    until_all_but(&client, 4).await;
    assert_eq!(world.consumer().len().await, Some(3), "other aggregates never wait");
    let query = format!(
        "SELECT string_agg(attempts::text, ' ' ORDER BY wal_position COLLATE \"C\", id)
         FROM {PARKED}"
    );
    assert_eq!(world.postgres.text(&query).await, "1 0 0 0");
    let behind = format!("{PARKED} AND error_message LIKE 'waits behind%'");
    assert_eq!(count(&client, &behind).await, 3);
    // So it is for the next line.
    relay.kill9();
    let mut relay = settings.start_ready().await;
    insert_of(&client, 1, STREAM).await;
    until_parked(&client, 5).await;
    // Not before the last of them is out.
    release(&client, "attempts = 1").await;
    insert_of(&client, 1, STREAM).await;
    until_parked(&client, 5).await;
    release(&client, "attempts = 0").await;
    wait::until_equal("rows that remember", 0, PATIENCE, async || {
        client.batch_execute("CHECKPOINT").await.unwrap();
        count(&client, "identity.outbox WHERE next_attempt_at IS NOT NULL").await
    })
    .await;
    insert_of(&client, 1, STREAM).await;
    world.consumer().until_len(4).await;
    relay.drain().await;
}

#[tokio::test]
async fn without_an_order_only_the_refused_event_is_parked() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run("SET taken x").await;
    let mut relay = world.settings.clone().with("ordering", "none").start_ready().await;
    insert_of(&client, 1, "taken").await;
    until_parked(&client, 1).await;
    for _ in 0..3 {
        insert_of(&client, 1, STREAM).await;
    }
    world.consumer().until_len(3).await;
    until_all_but(&client, 1).await;
    relay.drain().await;
}
