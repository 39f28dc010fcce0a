//! `walrelay replay`: events once more, each once, while the line goes on as if nothing were.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::consumer::Entry;
use crate::harness::ledger::Ledger;
use crate::harness::relay::{Finished, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert_many};

const COPIES: &str = "pg_replication_slots WHERE slot_name LIKE 'walrelay_replay_%'";

fn with(settings: &Settings, line: &str) -> Settings {
    let words: Vec<&str> = line.split(' ').collect();
    settings.clone().with_arguments(&words)
}

async fn replay(settings: &Settings, line: &str) -> Finished {
    with(settings, line).finish("replay").await
}

async fn done(settings: &Settings, line: &str) -> String {
    let done = replay(settings, line).await;
    assert_eq!(done.code, Some(0), "{line}:\n{}", done.output);
    done.output
}

async fn refused(settings: &Settings, line: &str, code: i32, says: &[&str]) {
    let done = replay(settings, line).await;
    assert_eq!(done.code, Some(code), "{line}:\n{}", done.output);
    for words in says {
        assert!(done.output.contains(words), "{words:?} is not in:\n{}", done.output);
    }
}

async fn bookmark(settings: &Settings, name: &str) {
    let made = with(settings, &format!("create {name}")).finish("bookmark").await;
    assert_eq!(made.code, Some(0), "{}", made.output);
}

/// The number in the payload of an event.
fn number(entry: &Entry) -> i64 {
    serde_json::from_str::<Value>(entry.get("payload")).unwrap()["n"].as_i64().unwrap()
}

async fn numbers(world: &World, stream: &str) -> Vec<i64> {
    world.consumer_of(stream).read_all().await.iter().map(number).collect()
}

/// What the line itself keeps, in both servers.
async fn line(world: &World) -> (String, BTreeMap<String, String>) {
    let slot = "SELECT concat_ws(' ', confirmed_flush_lsn, restart_lsn, active)
                FROM pg_replication_slots WHERE slot_name = 'walrelay'";
    let mut redis = world.redis.connection().await;
    let mut find = redis::cmd("KEYS");
    find.arg(format!("walrelay:{{{STREAM}}}:walrelay@*"));
    let keys: Vec<String> = find.query_async(&mut redis).await.unwrap();
    let key = keys.iter().find(|key| !key.ends_with("watermark")).expect("a checkpoint");
    let checkpoint = redis::Cmd::hgetall(key).query_async(&mut redis).await.unwrap();
    (world.postgres.text(slot).await, checkpoint)
}

async fn lsn(world: &World) -> String {
    world.postgres.text("SELECT pg_current_wal_insert_lsn()::text").await
}

#[tokio::test]
async fn fifty_thousand_events_come_again_in_order_and_the_line_does_not_notice() {
    let world = World::new().await;
    let (settings, client) = (&world.settings, world.postgres.client().await);
    let mut relay = settings.start_ready().await;
    bookmark(settings, "before").await;
    for from in (0..50).map(|part| part * 1_000 + 1) {
        insert_many(&client, from, from + 999).await.unwrap();
    }
    let middle = lsn(&world).await;
    // Live traffic: until the replay has ended, and some more.
    let over = std::sync::atomic::AtomicBool::new(false);
    let traffic = async {
        let mut n = 50_000;
        while !over.load(std::sync::atomic::Ordering::Relaxed) || n < 50_200 {
            n += 10;
            insert_many(&client, n - 9, n).await.unwrap();
        }
    };
    let again = async {
        let text = done(settings, "--bookmark before --stream rebuild").await;
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        text
    };
    let (text, ()) = tokio::join!(again, traffic);
    let ledger = Ledger::of_one_writer(&client).await;
    let entries = world.consumer_of("rebuild").read_all().await;
    assert!(text.contains(&format!("replayed {} events", entries.len())), "{text}");
    assert!((50_000..ledger.len()).contains(&entries.len()), "{} came", entries.len());
    assert!(entries.iter().map(number).eq((1..).take(entries.len())), "a prefix, in order");
    let live = world.consumer().read(ledger.len()).await;
    ledger.assert_exactly_once(&live);
    for (again, first) in entries.iter().zip(&live) {
        let (last, fields) = again.fields.split_last().unwrap();
        assert_eq!(*last, ("replayed".to_owned(), "true".to_owned()));
        assert_eq!(fields, first.fields, "the same event but for that, topic and all");
    }
    world.until_marked().await;
    relay.drain().await;

    let before = line(&world).await;
    let text = done(settings, &format!("--bookmark before --until {middle} --stream part")).await;
    assert!(text.contains("replayed 50000 events"), "up to there and no further: {text}");
    let text = done(settings, "--bookmark before --type Nothing --stream part").await;
    assert!(text.contains("replayed 0 events"), "{text}");
    assert_eq!(line(&world).await, before, "neither slot nor checkpoint has moved");
    assert_eq!(count(&client, COPIES).await, 0);
}

#[tokio::test]
async fn a_replay_that_is_killed_goes_on_without_a_gap_or_a_repeat_and_leaves_no_slot() {
    let world = World::new().await;
    let (settings, client) = (&world.settings, world.postgres.client().await);
    bookmark(settings, "start").await;
    for from in (0..60).map(|part| part * 100 + 1) {
        insert_many(&client, from, from + 99).await.unwrap();
    }
    let mut target = world.consumer_of("rebuild");
    let line = "--bookmark start --stream rebuild --rate 2000/s";
    let mut first = with(settings, line).spawn("replay");
    target.until_len(1_000).await;
    assert_eq!(count(&client, COPIES).await, 1);
    first.kill9();
    wait::until_equal("copies of slots", 0, PATIENCE, async || count(&client, COPIES).await).await;
    // Rows that come meanwhile are not in its range.
    insert_many(&client, 6_001, 6_100).await.unwrap();
    let so_far = target.len().await.unwrap();
    assert!((1_000..6_000).contains(&so_far), "killed in the middle: {so_far}");
    let mut second = with(settings, line).with("log_format", "text").spawn("replay");
    target.until_len(so_far + 500).await;
    second.interrupt();
    assert_eq!(second.exit_code(PATIENCE).await, Some(1));
    let said = second.output();
    assert!(said.contains("going on with the replay") && said.contains("same command"), "{said}");
    let text = done(settings, line).await;
    assert!(text.contains("replayed 6000 events") && text.contains("by earlier runs"), "{text}");
    let entries = target.read_all().await;
    assert!(entries.iter().map(number).eq(1..=6_000), "each once, in order: {}", entries.len());
    // The last run alone sent these, as evenly as was asked.
    let tail = &entries[so_far.max(3_500)..];
    let millis = |entry: &Entry| entry.id.split_once('-').unwrap().0.parse::<u64>().unwrap();
    let pace = u64::try_from(tail.len() - 100).unwrap() * 1_000 / 2_000;
    let span = millis(&tail[tail.len() - 1]) - millis(&tail[0]);
    assert!(span >= pace, "{} events in {span} ms", tail.len());

    refused(settings, line, 1, &["is finished: 6000 events", "--again"]).await;
    let again = "--bookmark start --stream rebuild --again";
    assert!(done(settings, again).await.contains("replayed 6100 events"), "up to the present");
    assert_eq!(target.len().await, Some(12_100));

    // A Redis that forgot the end of what was replayed is noticed by the next batch.
    let mut third = with(settings, "--bookmark start --stream other --rate 1000/s")
        .with("log_format", "text")
        .spawn("replay");
    world.consumer_of("other").until_len(300).await;
    let mut redis = world.redis.connection().await;
    let mut find = redis::cmd("KEYS");
    find.arg("walrelay:{other}:replay:*");
    let keys: Vec<String> = find.query_async(&mut redis).await.unwrap();
    redis::Cmd::del(keys).query_async::<()>(&mut redis).await.unwrap();
    assert_eq!(third.exit_code(PATIENCE).await, Some(1));
    assert!(third.output().contains("GAP"), "{}", third.output());
}

/// Rows 1 to 6, an hour apart, the last one hour old, of two aggregates; and a dead one, 7.
const ROWS: &str = "INSERT INTO identity.outbox (event_type, aggregate_id, topic, payload,
        created_at, published, dead_lettered_at)
    SELECT
        CASE WHEN n % 2 = 0 THEN 'UserDeleted' ELSE 'UserCreated' END,
        CASE WHEN n IN (2, 3) THEN 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'
            ELSE gen_random_uuid() END,
        CASE WHEN n = 6 THEN 'orders' ELSE 'identity.user.v1' END,
        jsonb_build_object('n', n),
        now() - make_interval(hours => 7 - n::int, secs => 10),
        n < 7,
        CASE WHEN n = 7 THEN now() END
    FROM generate_series(1, 7) AS n ORDER BY n";

async fn event_id(client: &Client, id: i64) -> String {
    let query = "SELECT event_id::text FROM identity.outbox WHERE id = $1";
    client.query_one(query, &[&id]).await.unwrap().get(0)
}

#[tokio::test]
async fn rows_of_the_table_come_again_by_time_id_and_aggregate() {
    let world = World::new().await;
    let (settings, client) = (&world.settings, world.postgres.client().await);
    client.batch_execute(ROWS).await.unwrap();
    let third = event_id(&client, 3).await;
    for (number, (line, wanted)) in [
        ("--since 150m".to_owned(), &[5, 6, 7][..]),
        ("--since 5.5h --until 3.5h".to_owned(), &[2, 3]),
        ("--since 1d --type UserDeleted".to_owned(), &[2, 4, 6]),
        ("--since 1d --type UserDeleted --type UserCreated --until 3h".to_owned(), &[1, 2, 3, 4]),
        (format!("--id 5 {} 1", third.to_uppercase()), &[1, 3, 5]),
        ("--aggregate A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11".to_owned(), &[2, 3]),
        ("--id 99".to_owned(), &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = format!("t{number}");
        let text = done(settings, &format!("{line} --stream {stream}")).await;
        assert_eq!(numbers(&world, &stream).await, wanted, "{line}:\n{text}");
    }
    let dry = done(settings, "--since 1d --dry-run").await;
    for words in ["would replay 7 events", "stream orders: 1", "first: row 1,", "last: row 7,"] {
        assert!(dry.contains(words), "{words:?} is not in:\n{dry}");
    }
    let mut redis = world.redis.connection().await;
    let keys = async |redis: &mut MultiplexedConnection, pattern: &str| {
        let mut find = redis::cmd("KEYS");
        find.arg(pattern).query_async::<Vec<String>>(redis).await.unwrap()
    };
    assert!(keys(&mut redis, "orders").await.is_empty(), "a dry run writes nothing");
    assert!(keys(&mut redis, STREAM).await.is_empty(), "a dry run writes nothing");
    assert_eq!(keys(&mut redis, "walrelay:replay:*").await.len(), 7, "one for each that was made");
    // Without a target each goes to its own stream, and whoever did that is told.
    let text = done(settings, "--id 5 6").await;
    assert!(text.contains("consumers see them a second time"), "{text}");
    assert_eq!(numbers(&world, STREAM).await, [5]);
    assert_eq!(numbers(&world, "orders").await, [6]);
    for (format, member) in [("json", "event_id"), ("cloudevents", "id")] {
        let other = settings.clone().with("entry_format", format);
        done(&other, &format!("--id 3 --stream {format}")).await;
        let entries = world.consumer_of(format).read(1).await;
        let data: Value = serde_json::from_str(entries[0].get("data")).unwrap();
        assert_eq!((&data["replayed"], &data[member]), (&true.into(), &third.as_str().into()));
        assert_eq!(data["topic"], STREAM, "the topic that it had");
    }
    refused(settings, "--id nonsense", 2, &["neither a row id nor an event id"]).await;
    refused(settings, "--since yesterday", 2, &["--since", "RFC 3339"]).await;
    refused(settings, "--since 2026-13-45T00:00:00Z", 2, &["is no time"]).await;
    refused(settings, "--aggregate nobody", 2, &["is no uuid"]).await;
    redis::Cmd::set("taken", 1).query_async::<()>(&mut redis).await.unwrap();
    refused(settings, "--id 1 --stream taken", 1, &["WRONGTYPE", "\"taken\""]).await;
}

#[tokio::test]
async fn dead_letters_come_again_once_each_and_the_rows_stay_dead() {
    let world = World::new().await;
    let (settings, client) = (&world.settings, world.postgres.client().await);
    client.batch_execute(ROWS).await.unwrap();
    let dead = event_id(&client, 7).await;
    let orphan = "11111111-2222-3333-4444-555555555555";
    let mut redis = world.redis.connection().await;
    for (event, n) in [(dead.as_str(), 7), (orphan, 8), (dead.as_str(), 7)] {
        let mut letter = redis::cmd("XADD");
        letter.arg(format!("{STREAM}.dlq")).arg("*").arg("original_event_id").arg(event);
        letter.arg("event_type").arg("UserCreated").arg("topic").arg(STREAM);
        letter.arg("aggregate_id").arg(orphan).arg("payload").arg(format!("{{\"n\": {n}}}"));
        letter.arg("error_message").arg("no").arg("attempts").arg(5);
        letter.arg("failed_at").arg("x").arg("created_at").arg("2026-11-21T04:38:15.000001+00:00");
        letter.query_async::<String>(&mut redis).await.unwrap();
    }
    let states = "SELECT string_agg(o::text, E'\\n' ORDER BY id) FROM identity.outbox AS o";
    let before = world.postgres.text(states).await;
    let text = done(settings, "--dlq --dry-run").await;
    assert!(text.contains("would replay 2 events") && text.contains("first: entry "), "{text}");
    let text = done(settings, "--dlq").await;
    assert!(
        text.contains("replayed 2 events") && text.contains("1 event had no row any more"),
        "{text}"
    );
    let entries = world.consumer().read(2).await;
    assert_eq!([entries[0].event_id(), entries[1].event_id()], [dead.as_str(), orphan]);
    assert_eq!(entries[0].get("aggregate_type"), "user", "the row says more than the letter");
    assert_eq!(entries[1].get("occurred_at"), "2026-11-21T04:38:15.000001+00:00");
    assert!(entries.iter().all(|entry| entry.get("replayed") == "true"));
    let named = format!("--dlq={STREAM}.dlq --stream inspection --until 1h");
    assert!(done(settings, &named).await.contains("replayed 0 events"), "they died later");
    assert_eq!(world.postgres.text(states).await, before);
}

#[tokio::test]
async fn an_lsn_that_is_kept_is_found_and_one_that_is_not_is_refused_with_what_there_is() {
    let world = World::new().await;
    let (settings, client) = (&world.settings, world.postgres.client().await);
    bookmark(settings, "old").await;
    insert_many(&client, 1, 10).await.unwrap();
    let ten = lsn(&world).await;
    insert_many(&client, 11, 30).await.unwrap();
    // The bookmark is behind, the slot of the line is past it.
    let mut relay = settings.start_ready().await;
    world.until_marked().await;
    world.until_confirmed().await;
    done(settings, &format!("--from-lsn {ten} --stream late")).await;
    assert!(numbers(&world, "late").await.into_iter().eq(11..=30));
    let mut filtered = with(settings, &format!("--from-lsn {ten} --dry-run --type None"));
    filtered = filtered.without("redis_url").with("redis_url", "redis://127.0.0.1:1");
    let dry = filtered.finish("replay").await;
    assert!(dry.output.contains("would replay 0 events"), "without Redis: {}", dry.output);
    let says = ["can no longer send what is behind 0/1:", "(bookmark old)", "still holds 30 rows"];
    refused(settings, "--from-lsn 0/1", 1, &[&says[..], &["replay --since 20"]].concat()).await;
    refused(settings, "--from-lsn FFFF/0", 2, &["ahead of the WAL"]).await;
    refused(settings, "--from-lsn here", 2, &["not an LSN"]).await;
    refused(settings, "--bookmark none", 1, &["there is no bookmark \"none\""]).await;
    refused(settings, "--bookmark old --until 2h", 2, &["up to an LSN"]).await;
    let limit = "SELECT pg_drop_replication_slot('walrelay_bookmark_old')";
    client.batch_execute(limit).await.unwrap();
    refused(settings, &format!("--from-lsn {ten}"), 1, &["(slot walrelay)"]).await;
    relay.drain().await;
    wait::until("no copy is left", Duration::from_secs(10), async || {
        (count(&client, COPIES).await == 0).then_some(())
    })
    .await;
}

/// As after a restore or an upgrade: the planner knows nothing, takes few rows for meant, and would
/// sort all that is left for each page.
#[tokio::test]
async fn a_table_that_nobody_has_analysed_is_read_once() {
    const ROWS: i64 = 20_000;
    let world = World::with(&[("autovacuum", "off")], &[]).await;
    insert_many(&world.postgres.client().await, 1, ROWS).await.unwrap();
    let read = async || {
        // A session tells what it has read at the latest when it ends.
        world.until_no_session().await;
        let read = "SELECT (seq_tup_read + idx_tup_fetch)::text FROM pg_stat_user_tables
                    WHERE relname = 'outbox'";
        world.postgres.text(read).await.parse::<i64>().unwrap()
    };
    let before = read().await;
    done(&world.settings, "--since 2h --stream other").await;
    let rows = read().await - before;
    assert_eq!(numbers(&world, "other").await, (1..=ROWS).collect::<Vec<_>>());
    assert!(rows <= 3 * ROWS, "{rows} rows were read: to count {ROWS}, and to replay them");
}

#[tokio::test]
async fn what_could_not_become_an_event_is_told_by_the_last_run() {
    let world = World::new().await;
    let (settings, client) = (&world.settings, world.postgres.client().await);
    bookmark(settings, "start").await;
    // RFC 3339 cannot say it.
    let never = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, created_at)
        VALUES ('A', gen_random_uuid(), '{}', 'infinity')";
    client.batch_execute(never).await.unwrap();
    insert_many(&client, 1, 1_000).await.unwrap();
    let line = "--bookmark start --stream rebuild";
    let mut first = with(settings, &format!("{line} --rate 100/s")).spawn("replay");
    world.consumer_of("rebuild").until_len(50).await;
    first.interrupt();
    assert_eq!(first.exit_code(PATIENCE).await, Some(1));
    let told = ["replayed 1000 events", "by earlier runs", "1 could not become events"];
    refused(settings, line, 1, &told).await;
}

#[tokio::test]
async fn an_aggregate_is_found_however_its_uuid_is_typed() {
    const AGGREGATE: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    let world = World::new().await;
    let (settings, client) = (&world.settings, world.postgres.client().await);
    bookmark(settings, "start").await;
    let rows = format!(
        "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
         VALUES ('A', '{AGGREGATE}', '{{\"n\": 1}}'), ('A', gen_random_uuid(), '{{\"n\": 2}}')"
    );
    client.batch_execute(&rows).await.unwrap();
    let mut redis = world.redis.connection().await;
    for (aggregate, n) in [(AGGREGATE, 3), ("11111111-2222-3333-4444-555555555555", 4)] {
        let mut letter = redis::cmd("XADD");
        letter.arg(format!("{STREAM}.dlq")).arg("*").arg("original_event_id").arg(n);
        letter.arg("event_type").arg("A").arg("topic").arg(STREAM).arg("aggregate_id");
        letter.arg(aggregate).arg("payload").arg(format!("{{\"n\": {n}}}"));
        letter.arg("created_at").arg("2026-11-21T04:38:15.000001+00:00");
        letter.query_async::<String>(&mut redis).await.unwrap();
    }
    let typed = AGGREGATE.to_uppercase();
    for (source, wanted) in [("--bookmark start", 1), ("--since 1d", 1), ("--dlq", 3)] {
        let stream = format!("of{}", source.replace([' ', '-'], "_"));
        done(settings, &format!("{source} --aggregate {typed} --stream {stream}")).await;
        assert_eq!(numbers(&world, &stream).await, [wanted], "{source}");
    }
}
