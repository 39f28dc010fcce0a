//! Several lines on one outbox, each with its share of the aggregates: nothing is lost, nothing
//! comes twice, and each aggregate keeps its order.

use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::ledger::{Ledger, assert_rising_by};
use crate::harness::relay::{Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count};

/// Of one writer.
const ROWS: i64 = 3_000;
/// Few enough for each to have many events, and more than there are shards.
const AGGREGATES: i64 = 40;

pub fn shards(settings: &Settings, shards: u8) -> Settings {
    settings.clone().with("shards", &shards.to_string())
}

/// Another relay on the same servers, with pages of its own.
fn another(world: &World) -> Settings {
    Settings::new(&world.postgres.url(), &world.redis.url())
}

/// The rows `from..=to` in one transaction; each `n` stands in its payload, and its aggregate is
/// one of a few.
pub async fn insert(client: &Client, from: i64, to: i64) {
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 SELECT 'Any', lpad(to_hex(n % $3), 32, '0')::uuid, jsonb_build_object('n', n)
                 FROM generate_series($1::int8, $2) AS n ORDER BY n";
    client.execute(query, &[&from, &to, &AGGREGATES]).await.unwrap();
}

/// `ROWS` rows behind `from`, four in a transaction.
pub async fn write(client: Client, from: i64) {
    for first in (from + 1..=from + ROWS).step_by(4) {
        insert(&client, first, first + 3).await;
    }
}

/// Every row is in the stream once, and each aggregate's in the order of commit.
pub async fn assert_all_published(world: &World) {
    let ledger = Ledger::of_one_writer(&world.postgres.client().await).await;
    let entries = world.consumer().read(ledger.len()).await;
    ledger.assert_same_events(&entries);
    assert_rising_by(&entries, "aggregate_id");
}

/// The names of all slots.
pub async fn slots(world: &World) -> String {
    let query = "SELECT coalesce(string_agg(slot_name, ' ' ORDER BY slot_name), '')
                 FROM pg_replication_slots";
    world.postgres.text(query).await
}

/// What each shard of the process is doing.
async fn states(relay: &Relay) -> Vec<Value> {
    let status = relay.status().await;
    let shards = status["shards"].as_array().expect("several shards");
    shards.iter().map(|shard| shard["state"].clone()).collect()
}

#[tokio::test]
async fn each_aggregate_keeps_its_order_under_a_writer_and_sigkill() {
    let world = World::bare(&[], &[]).await;
    for (stage, of) in [(0, 2), (1, 4)] {
        let settings = shards(&world.settings, of);
        settings.setup().await;
        let before = world.consumer().len().await.unwrap_or_default();
        let writer = tokio::spawn(write(world.postgres.client().await, stage * ROWS));
        for kill in 1..=3 {
            let mut relay = settings.start_ready().await;
            world.consumer().until_len(before + 250 * kill).await;
            relay.kill9();
        }
        let mut relay = settings.start_ready().await;
        writer.await.unwrap();
        assert_all_published(&world).await;
        world.until_marked().await;
        // Each has done its share.
        let status = relay.status().await;
        assert_eq!(status["shards"].as_array().map(Vec::len), Some(usize::from(of)));
        assert_eq!(slots(&world).await.split(' ').count(), usize::from(of));
        relay.drain().await;
    }
}

#[tokio::test]
async fn shards_in_several_processes_work_side_by_side_and_each_has_its_own_standby() {
    let world = World::bare(&[], &[]).await;
    let all = shards(&world.settings, 2);
    all.setup().await;
    let of = |settings: Settings, shard: &str| shards(&settings, 2).with("shard", shard);
    let mut first = of(world.settings.clone(), "1").start_ready().await;
    let mut second = of(another(&world), "2").start_ready().await;
    let mut standby = of(another(&world), "2").start();
    standby.until_state("standby").await;
    let writer = tokio::spawn(write(world.postgres.client().await, 0));
    world.consumer().until_len(200).await;
    second.kill9();
    standby.until_state("streaming").await;
    writer.await.unwrap();
    assert_all_published(&world).await;
    world.until_marked().await;
    assert_eq!(lines(&first).await, 1, "what happens to the one does not touch the other");
    first.drain().await;
    standby.drain().await;
}

/// Times lines came up.
async fn lines(relay: &Relay) -> Value {
    relay.status().await["reconnects"]["lines"].take()
}

#[tokio::test]
async fn trouble_of_one_shard_leaves_the_others_alone_and_the_pages_tell_which() {
    let world = World::bare(&[], &[]).await;
    let settings = shards(&world.settings, 3);
    settings.setup().await;
    let mut relay = settings.start_ready().await;
    assert_eq!(lines(&relay).await, 3);
    let query = "SELECT pg_terminate_backend(active_pid)::text FROM pg_replication_slots
                 WHERE slot_name = 'walrelay_2of3'";
    assert_eq!(world.postgres.text(query).await, "true");
    wait::until_equal("the lines", Value::from(4), PATIENCE, async || lines(&relay).await).await;
    relay.ready().await;
    write(world.postgres.client().await, 0).await;
    assert_all_published(&world).await;
    world.until_marked().await;
    assert_eq!(lines(&relay).await, 4);
    let (_, page) = relay.get("/metrics").await.expect("a page");
    for shard in 1..=3 {
        let line = format!("walrelay_state{{shard=\"{shard}\",state=\"streaming\"}} 1");
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    let status = relay.status().await;
    let slots = "walrelay_1of3, walrelay_2of3, walrelay_3of3";
    assert_eq!(status["endpoints"]["slot"], slots);
    assert_eq!(status["events"]["published"], ROWS);
    let log = relay.output();
    let is_of = |line: &&str| line.contains("trying again") && line.contains("\"shard\":2");
    assert_eq!(log.lines().filter(is_of).count(), 1, "{log}");
    relay.drain().await;
}

#[tokio::test]
async fn lines_of_different_divisions_and_pollers_never_work_at_one_time() {
    let world = World::bare(&[], &[]).await;
    shards(&world.settings, 2).setup().await;
    let settings = |of| shards(&another(&world), of);
    let mut two = settings(2).start_ready().await;
    let mut others = Vec::new();
    let poller = another(&world).with("mode", "poll");
    for settings in [settings(1), settings(3), poller] {
        let relay = settings.start();
        relay.until_state("standby").await;
        others.push(relay);
    }
    let client = world.postgres.client().await;
    for n in 0..3 {
        insert(&client, n * 100 + 1, n * 100 + 100).await;
        assert_all_published(&world).await;
        world.until_marked().await;
        if n < 2 {
            // Whoever is next: nobody works beside it.
            let mut gone = if n == 0 {
                std::mem::replace(&mut two, others.remove(0))
            } else {
                others.remove(0)
            };
            gone.drain().await;
        }
    }
    for relay in others.iter_mut().chain([&mut two]) {
        relay.drain().await;
    }
    assert_all_published(&world).await;
}

#[tokio::test]
async fn while_shards_have_no_slots_yet_no_other_division_begins() {
    let world = World::bare(&[], &[]).await;
    world.settings.clone().with("mode", "poll").setup().await;
    let client = world.postgres.client().await;
    insert(&client, 1, 100).await;
    // A snapshot waits for it.
    client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let mut two = shards(&world.settings, 2).start();
    wait::until("both take a snapshot", PATIENCE, async || {
        let status = two.status().await;
        let shards = status["shards"].as_array()?;
        (shards.len() == 2 && shards.iter().all(|shard| shard["state"] == "snapshot")).then_some(())
    })
    .await;
    let mut others = Vec::new();
    for settings in [another(&world), another(&world).with("mode", "poll")] {
        let relay = settings.start();
        relay.until_state("standby").await;
        others.push(relay);
    }
    assert_eq!(world.consumer().len().await, Some(0));
    client.batch_execute("COMMIT").await.unwrap();
    two.ready().await;
    assert_all_published(&world).await;
    world.until_marked().await;
    for relay in others.iter_mut().chain([&mut two]) {
        relay.drain().await;
    }
}

#[tokio::test]
async fn a_filter_of_another_kind_is_refused_with_the_statement_that_mends_it() {
    let world = World::bare(&[], &[]).await;
    let settings = shards(&world.settings, 2);
    settings.setup().await;
    let wrong = "ALTER PUBLICATION walrelay_2of2 SET TABLE identity.outbox WHERE (id % 2 = 0)";
    world.postgres.run(wrong).await;
    insert(&world.postgres.client().await, 1, 100).await;
    let done = settings.finish("run").await;
    assert_eq!(done.code, Some(1), "{}", done.output);
    assert!(done.output.contains("its row filter is another one"), "{}", done.output);
    assert_eq!(settings.finish("setup").await.code, Some(1), "setup sees it as well");
    // As it says.
    let hint = done.output.rsplit("ALTER PUBLICATION").next().expect("a statement");
    let mend = hint.split("; and").next().expect("its end");
    world.postgres.run(&format!("ALTER PUBLICATION{mend}")).await;
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay_2of2')").await;
    let mut relay = settings.start_ready().await;
    insert(&world.postgres.client().await, 101, 200).await;
    assert_all_published(&world).await;
    world.until_marked().await;
    relay.drain().await;
}

/// Publications with their filters, and slots.
const MADE: &str = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT 'slot ' || slot_name AS line FROM pg_replication_slots
    UNION ALL SELECT concat_ws(' ', pubname, tablename, rowfilter) FROM pg_publication_tables
) AS lines";

#[tokio::test]
async fn setup_makes_every_shard_and_printed_makes_the_same_and_repeated_nothing() {
    let worlds = [World::bare(&[], &[]).await, World::bare(&[], &[]).await];
    let settings = shards(&worlds[0].settings, 3);
    settings.setup().await;
    let made = worlds[0].postgres.text(MADE).await;
    assert_eq!(made.matches("slot walrelay_").count(), 3, "{made}");
    assert_eq!(made.matches("walrelay_2of3 outbox (((hash_record(").count(), 1, "{made}");
    let again = settings.finish("setup").await;
    assert!(again.code == Some(0) && !again.output.contains("created"), "{}", again.output);
    let print = shards(&worlds[1].settings, 3).with_arguments(&["--print"]).finish("setup").await;
    for _ in 0..2 {
        worlds[1].postgres.psql(&print.output);
        assert_eq!(worlds[1].postgres.text(MADE).await, made);
    }
    // What lines of two shards sent, slots made beside theirs would send again.
    shards(&worlds[0].settings, 2).finish("setup").await;
    assert_eq!(slots(&worlds[0]).await, "walrelay_1of3 walrelay_2of3 walrelay_3of3");
}

#[tokio::test]
async fn aggregates_of_any_type_and_none_at_all_are_each_in_one_shard() {
    for (kind, aggregate) in [
        ("uuid", "lpad(to_hex(n % 7), 32, '0')::uuid"),
        ("varchar(40)", "'order ' || n % 7"),
        ("bigint", "n % 7 - 3"),
    ] {
        let world = World::bare(&[], &[]).await;
        world.settings.clone().with("mode", "poll").setup().await;
        let alter = format!(
            "ALTER TABLE identity.outbox ALTER aggregate_id DROP NOT NULL,
                ALTER aggregate_id TYPE {kind} USING NULL"
        );
        world.postgres.run(&alter).await;
        let rows = format!(
            "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
             SELECT 'Any', CASE WHEN n % 9 > 0 THEN {aggregate} END, jsonb_build_object('n', n)
             FROM generate_series(1, 100) AS n ORDER BY n"
        );
        let settings = shards(&world.settings, 3);
        // Before the slots, and after: a snapshot, and the WAL.
        world.postgres.run(&rows).await;
        let mut relay = settings.start_ready().await;
        world.until_marked().await;
        let (_, page) = relay.get("/metrics").await.expect("a page");
        let line = "walrelay_backlog_rows_total 100";
        assert!(page.lines().any(|found| found == line), "each is in one snapshot\n{page}");
        world.postgres.run(&rows).await;
        world.until_marked().await;
        let ledger = Ledger::of_one_writer(&world.postgres.client().await).await;
        let entries = world.consumer().read(200).await;
        ledger.assert_same_events(&entries);
        relay.drain().await;
    }
}

#[tokio::test]
async fn a_partitioned_outbox_is_divided_by_its_root() {
    let world = World::bare(&[], &[]).await;
    let create = "CREATE SCHEMA identity; CREATE TABLE identity.outbox (
             id bigserial PRIMARY KEY, event_id uuid NOT NULL DEFAULT gen_random_uuid(),
             event_type text NOT NULL, aggregate_id uuid NOT NULL, payload jsonb NOT NULL,
             published boolean NOT NULL DEFAULT false
         ) PARTITION BY RANGE (id);
         CREATE TABLE identity.one PARTITION OF identity.outbox FOR VALUES FROM (1) TO (1500);
         CREATE TABLE identity.rest PARTITION OF identity.outbox DEFAULT";
    world.postgres.run(create).await;
    let settings = shards(&world.settings, 2);
    settings.setup().await;
    let mut relay = settings.start_ready().await;
    write(world.postgres.client().await, 0).await;
    assert_all_published(&world).await;
    world.until_marked().await;
    assert_eq!(states(&relay).await, ["streaming", "streaming"]);
    relay.drain().await;
}

#[tokio::test]
async fn parked_events_of_every_shard_are_tried_again_in_order() {
    let world = World::bare(&[], &[]).await;
    let quick = |settings: Settings| {
        settings.with("retry_base_delay", "200ms").with("poll_interval", "100ms")
    };
    let settings = quick(shards(&world.settings, 2));
    settings.setup().await;
    world.redis.run("SET taken x").await;
    let mut relay = settings.start_ready().await;
    let rows = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
                SELECT 'Any', lpad(to_hex(n % 10), 32, '0')::uuid, jsonb_build_object('n', n),
                    'taken'
                FROM generate_series(1, 200) AS n ORDER BY n";
    world.postgres.run(rows).await;
    let client = world.postgres.client().await;
    let parked = "identity.outbox WHERE next_attempt_at IS NOT NULL AND NOT published";
    wait::until_equal("parked rows", 200, PATIENCE, async || count(&client, parked).await).await;
    relay.kill9();
    world.redis.run("DEL taken").await;
    // One by one: each finds its own parked rows.
    let mut one = quick(shards(&another(&world), 2)).with("shard", "1").start_ready().await;
    wait::until("the first shard's rows", PATIENCE, async || {
        (one.status().await["retry"]["parked"] == 0).then_some(())
    })
    .await;
    let left = count(&client, parked).await;
    assert!(left > 0 && left < 200, "the other shard's rows are left to it: {left}");
    let mut two = quick(shards(&another(&world), 2)).with("shard", "2").start_ready().await;
    world.until_unparked().await;
    let entries = world.consumer_of("taken").read(200).await;
    Ledger::of_one_writer(&client).await.assert_same_events(&entries);
    assert_rising_by(&entries, "aggregate_id");
    one.drain().await;
    two.drain().await;
}
