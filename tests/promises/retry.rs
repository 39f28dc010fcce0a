//! What is parked is tried again when it is due, in order within its aggregate, and an outage
//! counts as no attempt.

use std::time::Duration;

use serde_json::Value;

use crate::harness::ledger::{Ledger, assert_rising_by};
use crate::harness::parked::{PARKED, column, park};
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert_many};

const BROKEN: &str = "broken";

/// Settings that wait for no disk and hardly for anything else.
fn eager(settings: &Settings) -> Settings {
    settings
        .clone()
        .with("durability", "memory")
        .with("poll_interval", "100ms")
        .with("retry_base_delay", "200ms")
        .with("retry_jitter", "0")
}

#[tokio::test]
async fn parked_rows_go_out_once_in_the_order_of_each_aggregate() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    park(&client, (1, 3_000), 7, STREAM).await;
    // One of another aggregate for ever, as an application may: nothing else waits for it.
    park(&client, (3_001, 3_001), 10_000, STREAM).await;
    let forever = "UPDATE identity.outbox SET next_attempt_at = 'infinity' WHERE id = 3001";
    client.execute(forever, &[]).await.unwrap();
    let mut relay = eager(&world.settings).start_ready().await;
    let left = async || count(&client, PARKED).await;
    wait::until_equal("parked rows, but for the one for ever", 1, PATIENCE, left).await;
    let entries = world.consumer().read_all().await;
    assert_eq!(entries.len(), 3_000);
    assert_rising_by(&entries, "aggregate_id");
    let done = "identity.outbox WHERE published AND published_at IS NOT NULL \
                AND error_message IS NULL AND attempts = 0";
    assert_eq!(count(&client, done).await, 3_000);
    assert_eq!(relay.status().await["retry"]["delivered"], 3_000);
    relay.drain().await;
}

#[tokio::test]
async fn the_pause_grows_after_each_refusal_as_the_settings_say() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run("SET broken x").await;
    let log = "CREATE TABLE tries (attempts int, started int, pause float8, message text);
        CREATE FUNCTION tried() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO tries VALUES (NEW.attempts, NEW.started_attempts, date_part('epoch',
                NEW.next_attempt_at - clock_timestamp()), NEW.error_message);
            RETURN NULL; END $$;
        CREATE TRIGGER tried AFTER UPDATE ON identity.outbox FOR EACH ROW
            WHEN (NEW.attempts > OLD.attempts) EXECUTE FUNCTION tried()";
    world.postgres.run(log).await;
    park(&client, (1, 1), 1, BROKEN).await;
    let settings = eager(&world.settings)
        .with("max_retry_attempts", "5")
        .with("retry_multiplier", "2")
        .with("retry_max_delay", "600ms");
    let mut relay = settings.start_ready().await;
    world.until_unparked().await;
    let rows = client.query("SELECT * FROM tries ORDER BY attempts", &[]).await.unwrap();
    assert_eq!(rows.len(), 5);
    for (row, pause) in rows.iter().zip([0.2, 0.4, 0.6, 0.6]) {
        let seen: f64 = row.get("pause");
        assert!(seen <= pause && seen > pause - 0.1, "{seen} s for a pause of {pause} s");
        let (attempts, started): (i32, i32) = (row.get("attempts"), row.get("started"));
        assert_eq!(attempts, started);
        assert!(row.get::<_, String>("message").starts_with("WRONGTYPE"));
    }
    assert_eq!(column(&client, "attempts").await.as_deref(), Some("5"));
    assert_eq!(column(&client, "dead_lettered_at IS NOT NULL").await.as_deref(), Some("true"));
    relay.drain().await;
}

#[tokio::test]
async fn later_events_of_an_aggregate_wait_and_others_do_not() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run("SET broken x").await;
    // The first of aggregate 1 goes to another stream than those behind it.
    park(&client, (1, 1), 2, BROKEN).await;
    park(&client, (2, 20), 2, STREAM).await;
    let settings = eager(&world.settings).with("retry_base_delay", "1h");
    let mut relay = settings.clone().start_ready().await;
    world.consumer().until_len(10).await;
    wait::until_equal("the first is refused", 1, PATIENCE, async || {
        count(&client, "identity.outbox WHERE attempts = 1").await
    })
    .await;
    let waiting = "identity.outbox WHERE NOT published AND attempts = 0 AND started_attempts = 0";
    assert_eq!(count(&client, waiting).await, 9);
    world.redis.run("DEL broken").await;
    client.execute("UPDATE identity.outbox SET next_attempt_at = now()", &[]).await.unwrap();
    world.until_unparked().await;
    assert_rising_by(&world.consumer().read_all().await, "aggregate_id");
    let first = world.consumer_of(BROKEN).read(1).await;
    let behind = world.consumer().read_all().await;
    let behind = behind.iter().find(|entry| entry.get("payload") == r#"{"n": 3}"#).unwrap();
    let at = |id: &str| id.split('-').next().unwrap().parse::<i64>().unwrap();
    assert!(at(&first[0].id) <= at(&behind.id), "{} came after {}", first[0].id, behind.id);
    relay.drain().await;
}

#[tokio::test]
async fn without_ordering_nobody_waits() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run("SET broken x").await;
    park(&client, (1, 1), 1, BROKEN).await;
    park(&client, (2, 20), 1, STREAM).await;
    let settings = eager(&world.settings).with("ordering", "none").with("retry_base_delay", "1h");
    let mut relay = settings.start_ready().await;
    world.consumer().until_len(19).await;
    wait::until_equal("parked rows", 1, PATIENCE, async || count(&client, PARKED).await).await;
    relay.drain().await;
}

#[tokio::test]
async fn an_outage_burns_no_attempt_and_opens_the_circuit() {
    let mut world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = eager(&world.settings).start_ready().await;
    for outage in ["full", "gone"] {
        if outage == "full" {
            world.redis.run("CONFIG SET maxmemory 1").await;
        } else {
            world.redis.kill9();
        }
        park(&client, (1, 100), 10, STREAM).await;
        wait::until_equal("the circuit is open", Value::from("open"), PATIENCE, async || {
            relay.status().await["retry"]["circuit"].take()
        })
        .await;
        let retry = relay.status().await["retry"].take();
        assert!(retry["error"].is_string() && retry["since"].is_u64(), "{retry}");
        if outage == "full" {
            world.redis.run("CONFIG SET maxmemory 0").await;
        } else {
            world.redis.restart().await;
        }
        world.until_unparked().await;
        let burnt = "identity.outbox WHERE attempts > 0 OR started_attempts > 1";
        assert_eq!(count(&client, burnt).await, 0, "{outage}");
        wait::until_equal("the circuit is closed", Value::from("closed"), PATIENCE, async || {
            relay.status().await["retry"]["circuit"].take()
        })
        .await;
    }
    let (_, page) = relay.get("/metrics").await.unwrap();
    assert!(page.contains("walrelay_retry_circuit_open 0"), "{page}");
    assert!(!page.contains("walrelay_retry_outages_total 0"), "{page}");
    relay.drain().await;
}

#[tokio::test]
async fn ten_thousand_rows_of_one_aggregate_are_few_waits_and_little_memory() {
    const ROWS: i64 = 10_000;
    let world = World::new().await;
    let client = world.postgres.client().await;
    // Each wait for the disk takes two seconds with a Redis that cannot be asked.
    let mut relay = world.settings.clone().with("poll_interval", "100ms").start_ready().await;
    let before = relay.peak_rss_kb();
    park(&client, (1, ROWS), 1, STREAM).await;
    let larger = "UPDATE identity.outbox SET payload = payload || jsonb_build_object('x',
        (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 250) AS n))";
    client.execute(larger, &[]).await.unwrap();
    world.consumer().until_len(usize::try_from(ROWS).unwrap()).await;
    world.until_unparked().await;
    let ledger = Ledger::of_one_writer(&client).await;
    ledger.assert_exactly_once(&world.consumer().read_all().await);
    let grown = relay.peak_rss_kb() - before;
    assert!(grown < 32 * 1024, "{grown} kB for 80 MB of payloads");
    relay.drain().await;
}

#[tokio::test]
async fn a_scheduled_event_goes_out_when_it_is_due() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = eager(&world.settings).with("poll_interval", "1m").start_ready().await;
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, next_attempt_at)
        VALUES ('Later', gen_random_uuid(), '{}', now() + interval '1500 ms')
        RETURNING (extract(epoch FROM next_attempt_at) * 1000)::int8";
    // Seen by the look at the start, for the next one is a minute away.
    relay.drain().await;
    let due: i64 = client.query_one(query, &[]).await.unwrap().get(0);
    relay = eager(&world.settings).with("poll_interval", "1m").start_ready().await;
    let entries = world.consumer().read(1).await;
    let at: i64 = entries[0].id.split('-').next().unwrap().parse().unwrap();
    assert!(at >= due, "{} ms too early", due - at);
    world.until_unparked().await;
    // No slot can send it again: nothing has to be remembered.
    assert_eq!(column(&client, "next_attempt_at").await, None);
    assert_eq!(column(&client, "attempts").await.as_deref(), Some("0"));
    relay.drain().await;
}

#[tokio::test]
async fn two_pollers_share_the_work_and_keep_the_order() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let first = eager(&world.settings);
    let other = Settings::new(&world.postgres.url(), &world.redis.url());
    let second = eager(&other).with("slot_name", "second");
    second.setup().await;
    let mut relays = [first.start_ready().await, second.start_ready().await];
    for round in 0..20 {
        park(&client, (round * 500 + 1, round * 500 + 500), 3, STREAM).await;
    }
    let _: Vec<_> = world.consumer().read(10_000).await;
    world.until_unparked().await;
    let entries = world.consumer().read_all().await;
    assert_eq!(entries.len(), 10_000);
    assert_rising_by(&entries, "aggregate_id");
    for relay in &mut relays {
        relay.drain().await;
    }
}

#[tokio::test]
async fn live_events_and_parked_ones_go_out_side_by_side_and_nothing_is_kept_in_redis() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = eager(&world.settings).start_ready().await;
    park(&client, (1, 500), 50, STREAM).await;
    insert_many(&client, 501, 1_000).await.unwrap();
    world.consumer().until_len(1_000).await;
    world.until_unparked().await;
    let mut redis = world.redis.connection().await;
    wait::until("what was remembered is forgotten", Duration::from_secs(60), async || {
        let mut keys = redis::cmd("KEYS");
        keys.arg("*:delivered");
        let keys: Vec<String> = keys.query_async(&mut redis).await.unwrap();
        keys.is_empty().then_some(())
    })
    .await;
    relay.drain().await;
}

/// Nothing is got done while the first row of an aggregate is somebody else's: it is not tried on
/// and on, without a look at anything else.
#[tokio::test]
async fn behind_a_row_that_another_session_has_locked_the_poller_rests() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    park(&client, (1, 2), 1, STREAM).await;
    let lock = "BEGIN; SELECT FROM identity.outbox WHERE id = 1 FOR UPDATE";
    client.batch_execute(lock).await.unwrap();
    let mut relay = eager(&world.settings).start_ready().await;
    let parked = async || relay.status().await["retry"]["parked"].take();
    wait::until_equal("both", Value::from(2), PATIENCE, parked).await;
    let later = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, next_attempt_at)
        VALUES ('Later', gen_random_uuid(), '{}', 'infinity')";
    world.postgres.run(later).await;
    wait::until_equal("one more", Value::from(3), PATIENCE, parked).await;
    client.batch_execute("COMMIT").await.unwrap();
    let entries = world.consumer().read(2).await;
    assert_rising_by(&entries, "aggregate_id");
    relay.drain().await;
}

/// However many rows it has to choose from, what it has chosen it publishes.
#[tokio::test]
async fn a_choice_that_takes_longer_than_a_claim_lasts_is_published_all_the_same() {
    let world = World::new().await;
    park(&world.postgres.client().await, (1, 1), 1, STREAM).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(11); RETURN NEW; END';
        CREATE TRIGGER slow BEFORE UPDATE OF started_attempts ON identity.outbox
            FOR EACH ROW EXECUTE FUNCTION slow()";
    world.postgres.run(slow).await;
    let mut relay = world.settings.start_ready().await;
    world.until_unparked().await;
    assert_eq!(world.consumer().read(1).await.len(), 1);
    relay.drain().await;
}

/// From a dump, say, or by logical replication: no slot of this server can send it again, and it is
/// older than all that was parked here.
#[tokio::test]
async fn what_another_server_had_parked_beyond_the_end_of_this_wal_goes_out_first() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    park(&client, (1, 2), 1, STREAM).await;
    let foreign = "UPDATE identity.outbox SET wal_position = 'ffff000000000000-00000001'
        WHERE id = 1";
    client.execute(foreign, &[]).await.unwrap();
    let mut relay = eager(&world.settings).start_ready().await;
    // The third comes by the line, and waits behind both.
    let live = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
        SELECT event_type, aggregate_id, '{\"n\": 3}' FROM identity.outbox WHERE id = 1";
    client.execute(live, &[]).await.unwrap();
    world.until_marked().await;
    let entries = world.consumer().read_all().await;
    let payloads: Vec<&str> = entries.iter().map(|entry| entry.get("payload")).collect();
    assert_eq!(payloads, [r#"{"n": 1}"#, r#"{"n": 2}"#, r#"{"n": 3}"#]);
    relay.drain().await;
}
