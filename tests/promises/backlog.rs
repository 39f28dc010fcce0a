//! Rows from before the slot are published first, each once and in order, and nothing falls between
//! them and what comes meanwhile.

use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::ledger::{Ledger, assert_rising_by};
use crate::harness::postgres;
use crate::harness::proxy::Proxy;
use crate::harness::relay::{Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count, insert_many};

/// Rows of a backlog that takes a second or so.
const BACKLOG: i64 = 20_000;

/// A world without a slot, whose table holds rows `1..=BACKLOG` of a hundred aggregates.
async fn world() -> World {
    let world = World::new().await;
    let client = world.postgres.client().await;
    client.batch_execute("SELECT pg_drop_replication_slot('walrelay')").await.unwrap();
    write(&client, 1, BACKLOG, "").await;
    world
}

/// Rows `from..=to` in one transaction; each row's aggregate is one of a hundred of that writer.
async fn write(client: &Client, from: i64, to: i64, writer: &str) {
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 SELECT 'UserCreated', md5($3 || n % 100)::uuid, jsonb_build_object('n', n)
                 FROM generate_series($1::int8, $2) AS n ORDER BY n";
    client.execute(query, &[&from, &to, &writer]).await.unwrap();
}

/// Four writers that go on until `until` rows are in the table.
fn writers(world: &World, until: i64) -> Vec<tokio::task::JoinHandle<()>> {
    let spawn = |number: usize| {
        let url = world.postgres.socket_url();
        tokio::spawn(async move {
            let client = postgres::client(&url).await;
            let mut from = 1;
            while count(&client, "identity.outbox").await < until {
                write(&client, from, from + 4, &format!("writer {number} ")).await;
                from += 5;
            }
        })
    };
    (0..4).map(spawn).collect()
}

/// Everything in the table is in the stream once, in order by aggregate.
async fn assert_exactly_once(world: &World) {
    let client = world.postgres.client().await;
    let mut committed = Ledger::of_one_writer(&client).await;
    let entries = world.consumer().read(committed.len()).await;
    assert_rising_by(&entries, "aggregate_id");
    let mut sorted = entries.clone();
    sorted.sort_by(|a, b| a.event_id().cmp(b.event_id()));
    committed.sort();
    committed.assert_exactly_once(&sorted);
}

async fn settled(relay: &Relay) -> Value {
    relay.status().await["backlog"]["done"].take()
}

/// Awaits the middle of the backlog.
async fn until_some_settled(world: &World, rows: i64) {
    let client = world.postgres.client().await;
    wait::until("a part of the backlog is settled", PATIENCE, async || {
        (count(&client, "identity.outbox WHERE published").await >= rows).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_first_start_publishes_what_is_there_and_what_comes_meanwhile() {
    let world = world().await;
    let writers = writers(&world, BACKLOG + 5_000);
    let mut relay = world.settings.start();
    relay.until_state("snapshot").await;
    assert_eq!(relay.get("/readyz").await.unwrap().0, 503, "what is committed now waits");
    for writer in writers {
        writer.await.unwrap();
    }
    relay.ready().await;
    assert_exactly_once(&world).await;
    world.until_marked().await;
    assert_eq!(relay.status().await["backlog"], Value::Null);
    assert_eq!(relay.status().await["reconnects"]["slots_lost"], 0, "it never was");
    let client = world.postgres.client().await;
    let slots = "pg_replication_slots WHERE NOT temporary AND slot_name = 'walrelay'";
    assert_eq!(count(&client, slots).await, 1);
    assert_eq!(count(&client, "pg_replication_slots").await, 1, "the temporary one is gone");
    relay.drain().await;
}

#[tokio::test]
async fn a_relay_killed_again_and_again_in_the_middle_doubles_nothing() {
    let world = world().await;
    let writers = writers(&world, BACKLOG + 2_000);
    for part in [1, 6_000, 12_000] {
        let mut relay = world.settings.start();
        until_some_settled(&world, part).await;
        relay.kill9();
        let client = world.postgres.client().await;
        assert_eq!(count(&client, "pg_replication_slots WHERE NOT temporary").await, 0);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut relay = world.settings.start_ready().await;
    assert_exactly_once(&world).await;
    world.until_marked().await;
    relay.drain().await;
}

/// Entries are there long before they are durable and marked: the two seconds of an older Redis.
#[tokio::test]
async fn a_relay_killed_between_writing_and_marking_doubles_nothing() {
    let world = world().await;
    let mut relay = world.settings.start();
    world.consumer().until_len(10_000).await;
    relay.kill9();
    let client = world.postgres.client().await;
    let marked = count(&client, "identity.outbox WHERE published").await;
    assert!(marked < 5_000, "{marked} rows were marked at once: this test shows nothing");
    let mut relay = world.settings.start_ready().await;
    assert_exactly_once(&world).await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_redis_that_restarts_in_the_middle_is_waited_for_in_the_same_snapshot() {
    let mut world = world().await;
    let mut relay = world.settings.start();
    world.consumer().until_len(5_000).await;
    world.redis.kill9();
    relay.until_state("holding").await;
    let client = world.postgres.client().await;
    assert_eq!(count(&client, "pg_replication_slots WHERE temporary").await, 1, "it is kept");
    write(&client, 1, 100, "meanwhile ").await;
    world.redis.restart().await;
    relay.ready().await;
    assert_exactly_once(&world).await;
    world.until_marked().await;
    let begun = relay.output().matches("publishing the unpublished rows").count();
    assert_eq!(begun, 1, "one snapshot serves:\n{}", relay.output());
    relay.drain().await;
}

/// Its rows are read on by their number, not by what it calls `id`.
#[tokio::test]
async fn a_foreign_table_is_read_on_where_redis_went_away() {
    const ROWS: i64 = 500;
    const PUBLISHED: &str = "public.outbox WHERE published";
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    let rows = format!(
        "CREATE TABLE public.outbox (id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
             aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL,
             type varchar(255) NOT NULL, payload jsonb);
         INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload)
         SELECT 'order', 'a', 'Placed', to_jsonb(n) FROM generate_series(1, {ROWS}) AS n"
    );
    client.batch_execute(&rows).await.unwrap();
    let proxy = Proxy::start(world.redis.port());
    let settings = world.settings.clone().with("outbox_table", "public.outbox");
    let settings = settings.with("outbox_preset", "debezium").with("durability", "memory");
    let settings = settings.with("redis_url", &world.redis.url_at(proxy.port()));
    let settings = settings.with("max_rate", "100");
    settings.setup().await;
    let mut relay = settings.start();
    wait::until("a part of the backlog is settled", PATIENCE, async || {
        (count(&client, PUBLISHED).await >= 20).then_some(())
    })
    .await;
    proxy.cut();
    relay.ready().await;
    let entries = world.consumer_of("outbox.event.order").read(500).await;
    let told: Vec<&str> = entries.iter().map(|entry| entry.get("payload")).collect();
    assert_eq!(told, (1..=ROWS).map(|n| n.to_string()).collect::<Vec<_>>(), "each once");
    wait::until_equal("published rows", ROWS, PATIENCE, async || count(&client, PUBLISHED).await)
        .await;
    relay.drain().await;
}

#[tokio::test]
async fn a_postgres_that_restarts_in_the_middle_costs_a_new_snapshot_and_nothing_else() {
    let mut world = world().await;
    let mut relay = world.settings.start();
    world.consumer().until_len(5_000).await;
    world.postgres.kill9();
    world.postgres.restart().await;
    relay.ready().await;
    assert_exactly_once(&world).await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn sigterm_in_the_middle_ends_it_and_the_next_one_goes_on() {
    let world = world().await;
    let mut relay = world.settings.start();
    until_some_settled(&world, 1).await;
    relay.drain().await;
    let mut relay = world.settings.start_ready().await;
    assert_exactly_once(&world).await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn of_two_relays_that_start_at_once_one_does_it_and_the_other_stands_by() {
    let world = world().await;
    let other = Settings::new(&world.postgres.url(), &world.redis.url());
    let (mut one, mut two) = (world.settings.start(), other.start());
    one.ready().await;
    two.ready().await;
    assert_exactly_once(&world).await;
    world.until_marked().await;
    let both = [one.status().await["state"].take(), two.status().await["state"].take()];
    assert!(both.contains(&"streaming".into()) && both.contains(&"standby".into()), "{both:?}");
    let (leader, standby) =
        if both[0] == "streaming" { (&mut one, &two) } else { (&mut two, &one) };
    leader.kill9();
    standby.until_state("streaming").await;
    let client = world.postgres.client().await;
    write(&client, 1, 100, "later ").await;
    assert_exactly_once(&world).await;
}

#[tokio::test]
async fn what_redis_remembers_of_the_backlog_is_forgotten_when_it_is_settled() {
    let world = world().await;
    let mut relay = world.settings.start_ready().await;
    world.until_marked().await;
    let mut redis = world.redis.connection().await;
    let mut keys = redis::cmd("KEYS");
    keys.arg("walrelay:*:delivered");
    let there: Vec<String> = keys.query_async(&mut redis).await.unwrap();
    assert_eq!(there.len(), 1, "{there:?}");
    wait::until("it is forgotten", PATIENCE, async || {
        let left: Vec<String> = keys.query_async(&mut redis).await.unwrap();
        left.is_empty().then_some(())
    })
    .await;
    relay.drain().await;
}

#[tokio::test]
async fn with_keep_every_row_is_published_at_least_once_and_the_log_says_so() {
    let world = world().await;
    let mut relay = world.settings.clone().with("after_publish", "keep").start_ready().await;
    assert_exactly_once(&world).await;
    relay.until_output("does not tell which rows").await;
    let client = world.postgres.client().await;
    assert_eq!(count(&client, "identity.outbox WHERE published").await, 0);
    relay.drain().await;
}

#[tokio::test]
async fn with_delete_rows_go_as_they_are_published() {
    let world = world().await;
    let ledger = Ledger::of_one_writer(&world.postgres.client().await).await;
    let mut relay = world.settings.clone().with("after_publish", "delete").start_ready().await;
    ledger.assert_exactly_once(&world.consumer().read(ledger.len()).await);
    let client = world.postgres.client().await;
    assert_eq!(count(&client, "identity.outbox").await, 0);
    relay.drain().await;
}

#[tokio::test]
async fn told_to_ignore_it_the_relay_begins_with_the_present_and_says_what_is_left() {
    let world = world().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.clone().with("backlog", "ignore").start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    assert_eq!(world.consumer().read(10).await.len(), 10);
    relay.until_output("unpublished rows from before the slot").await;
    wait::until_equal("rows that are left", BACKLOG, PATIENCE, async || {
        count(&client, "identity.outbox WHERE NOT published").await
    })
    .await;
    relay.drain().await;
}

#[tokio::test]
async fn setup_leaves_the_slot_to_the_relay_where_there_are_rows_to_publish() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    client.batch_execute("SELECT pg_drop_replication_slot('walrelay')").await.unwrap();
    insert_many(&client, 1, 10).await.unwrap();
    let done = world.settings.finish("setup").await;
    assert_eq!(done.code, Some(0), "{}", done.output);
    assert!(done.output.contains("left to `walrelay run`"), "{}", done.output);
    assert_eq!(count(&client, "pg_replication_slots").await, 0);
    let strict = world.settings.clone().with("auto_create", "false").finish("run").await;
    assert_eq!(strict.code, Some(1), "{}", strict.output);
    assert!(strict.output.contains("auto_create = true"), "{}", strict.output);
    let mut relay = world.settings.start_ready().await;
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn what_is_refused_is_parked_and_its_aggregate_waits_behind_it() {
    let world = world().await;
    let client = world.postgres.client().await;
    let mut redis = world.redis.connection().await;
    let _: () = redis::cmd("SET").arg("taken").arg(1).query_async(&mut redis).await.unwrap();
    let aim = "UPDATE identity.outbox SET topic = 'taken' WHERE payload->>'n' = '7000'";
    assert_eq!(client.execute(aim, &[]).await.unwrap(), 1);
    // Parked before, as by an earlier line: what comes behind waits as well.
    let park = "UPDATE identity.outbox SET next_attempt_at = now() + '1 h', attempts = 1,
                wal_position = '0000000000000001-00000001' WHERE payload->>'n' = '19901'";
    assert_eq!(client.execute(park, &[]).await.unwrap(), 1);
    let mut relay = world.settings.clone().with("retry_jitter", "0").start_ready().await;
    until_slot(&client).await;
    let behind = (BACKLOG - 7_000) / 100;
    let rows = "SELECT payload->>'n' AS n, attempts, error_message, wal_position,
                next_attempt_at > now() + interval '50 s' AS is_later
                FROM identity.outbox WHERE NOT published ORDER BY wal_position, id";
    let rows = client.query(rows, &[]).await.unwrap();
    let n = |row: &tokio_postgres::Row| row.get::<_, String>("n").parse::<i64>().unwrap();
    let chain: Vec<_> = rows.iter().filter(|row| n(row) % 100 == 0).collect();
    assert_eq!(chain.len(), usize::try_from(behind).unwrap() + 1);
    assert!(chain.windows(2).all(|pair| n(pair[0]) < n(pair[1])), "in their order");
    assert_eq!((n(chain[0]), chain[0].get::<_, i32>("attempts")), (7_000, 1));
    assert!(chain[0].get::<_, String>("error_message").contains("WRONGTYPE"));
    assert!(chain[0].get::<_, bool>("is_later"));
    for row in &chain[1..] {
        assert_eq!(row.get::<_, i32>("attempts"), 0);
        assert!(row.get::<_, String>("error_message").starts_with("waits behind"));
    }
    assert_eq!(rows.len(), chain.len() + 200, "and those of the one that was parked before");
    let entries = world.consumer().read_all().await;
    assert_eq!(entries.len(), usize::try_from(BACKLOG).unwrap() - rows.len());
    assert_rising_by(&entries, "aggregate_id");
    relay.drain().await;
}

/// Awaits the end of the backlog.
async fn until_slot(client: &Client) {
    wait::until("the slot is there", PATIENCE, async || {
        let there = "pg_replication_slots WHERE slot_name = 'walrelay'";
        (count(client, there).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn progress_is_told_while_it_lasts() {
    let world = world().await;
    let mut holder = world.postgres.client().await;
    let relay = world.settings.start();
    // Not before: the snapshot waits for transactions that are open.
    world.consumer().until_len(1).await;
    let lock = holder.transaction().await.unwrap();
    let hold = "SELECT FROM identity.outbox WHERE id = $1 FOR UPDATE";
    lock.execute(hold, &[&BACKLOG]).await.unwrap();
    wait::until("some rows are settled, and no more", PATIENCE, async || {
        settled(&relay).await.as_i64().filter(|done| *done >= 1_000)
    })
    .await;
    let status = relay.status().await;
    assert_eq!(status["backlog"]["rows"], BACKLOG);
    assert!(status["backlog"]["rows_per_second"].as_f64() > Some(0.0), "{status}");
    relay.until_output("seconds_left").await;
    let (_, page) = relay.get("/metrics").await.unwrap();
    assert!(page.contains("walrelay_state{state=\"snapshot\"} 1"), "{page}");
    assert!(!page.contains("walrelay_backlog_left 0"), "{page}");
    lock.rollback().await.unwrap();
    relay.until_state("streaming").await;
    assert_exactly_once(&world).await;
}
