//! `walrelay verify`: finds what is planted and nothing else, on a live system; and repairs.

use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::consumer::Entry;
use crate::harness::ledger::Ledger;
use crate::harness::relay::{Finished, Relay, Settings};
use crate::harness::wait::PATIENCE;
use crate::harness::world::{STREAM, World, count, insert_many, write_through};

/// Ten events of each aggregate, a thousand in each transaction, so that aggregates span some.
const FILL: &str = "INSERT INTO identity.outbox (event_type, aggregate_id, topic, payload)
    SELECT 'Filled', lpad(to_hex(n % ($2::int8 / 10)), 32, '0')::uuid,
        CASE WHEN n % 100 = 0 THEN 'other' ELSE 'identity.user.v1' END,
        jsonb_build_object('n', n, 'pad', repeat('x', $3))
    FROM generate_series($1::int8, $1 + 999) AS n ORDER BY n";

async fn fill(client: &Client, total: i64, pad: i32) {
    for from in (1..=total).step_by(1_000) {
        client.execute(FILL, &[&from, &total, &pad]).await.unwrap();
    }
}

pub async fn verify(settings: &Settings, arguments: &[&str]) -> Finished {
    settings.clone().with_arguments(arguments).finish("verify").await
}

/// The report as JSON, and the exit code.
pub async fn report(settings: &Settings, arguments: &[&str], code: i32) -> Value {
    let done = verify(settings, &[&["--json"], arguments].concat()).await;
    assert_eq!(done.code, Some(code), "{arguments:?}:\n{}", done.output);
    let line = done.output.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("no object:\n{}", done.output))).unwrap()
}

/// The rows of the findings of each kind; a kind without any is left out.
pub fn found(report: &Value) -> Vec<(&str, u64, Vec<i64>)> {
    let findings = report["findings"].as_object().unwrap().iter();
    let kinds = findings.map(|(kind, found)| {
        let rows = found["first"].as_array().unwrap().iter();
        let rows = rows.map(|finding| finding["row"].as_i64().unwrap_or(-1)).collect();
        (kind.as_str(), found["count"].as_u64().unwrap(), rows)
    });
    kinds.filter(|(_, count, _)| *count > 0).collect()
}

async fn add(world: &World, entry: &Entry, change: impl Fn(&str, &str) -> String) {
    let mut command = redis::cmd("XADD");
    command.arg(STREAM).arg("*");
    for (name, value) in &entry.fields {
        command.arg(name).arg(change(name, value));
    }
    let mut connection = world.redis.connection().await;
    command.query_async::<String>(&mut connection).await.unwrap();
}

pub async fn delete(world: &World, entry: &Entry) {
    world.redis.run(&format!("XDEL {STREAM} {}", entry.id)).await;
}

/// Makes a row young enough: no entry as old as its own was can have been trimmed. As if it had
/// been written a minute behind what is the oldest entry.
async fn not_trimmed(client: &Client, row: i64) {
    let later = "UPDATE identity.outbox SET created_at = now() + interval '1 minute' WHERE id = $1";
    assert_eq!(client.execute(later, &[&row]).await.unwrap(), 1);
}

/// The entry of a row.
async fn entry_of(world: &World, entries: &[Entry], row: i64) -> Entry {
    let query = format!("SELECT event_id::text FROM identity.outbox WHERE id = {row}");
    let event_id = world.postgres.text(&query).await;
    entries.iter().find(|entry| entry.event_id() == event_id).unwrap().clone()
}

/// What the judge says: each event once.
async fn assert_once_each(world: &World, client: &Client) {
    let ledger = Ledger::of_one_writer(client).await;
    let entries = world.consumer().read(ledger.len()).await;
    ledger.assert_same_events(&entries);
}

#[tokio::test]
async fn what_is_planted_is_found_and_nothing_else_while_others_write() {
    const ROWS: i64 = 20_000;
    let world = World::new().await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("durability", "memory");
    let mut relay = settings.start_ready().await;
    fill(&client, ROWS, 1_000).await;
    let traffic = tokio::spawn(write_through(world.postgres.url(), 1_000_000, 1));

    let clean = report(&settings, &["--strict"], 0).await;
    assert_eq!(found(&clean), [], "{clean}");
    assert_eq!(clean["streams"].as_array().unwrap().len(), 2, "{clean}");

    let mut consumer = world.consumer();
    let entries = consumer.read(usize::try_from(ROWS / 100 * 99).unwrap()).await;
    let entry = async |row| entry_of(&world, &entries, row).await;
    delete(&world, &entry(4_711).await).await;
    add(&world, &entry(5_001).await, |_, value| value.to_owned()).await;
    // The last two of an aggregate, the other way round; and the last of others, changed.
    let (one, two) = (entry(17_005).await, entry(19_005).await);
    for planted in [&two, &one] {
        delete(&world, planted).await;
        add(&world, planted, |_, value| value.to_owned()).await;
    }
    for (row, field) in [(19_101, "payload"), (19_102, "event_type")] {
        let planted = entry(row).await;
        delete(&world, &planted).await;
        let changed = |name: &str, value: &str| {
            if name == field { value.replace('1', "2").replace("ed", "") } else { value.to_owned() }
        };
        add(&world, &planted, changed).await;
    }
    add(&world, &entry(5_002).await, |name, value| match name {
        "event_id" => "00000000-aaaa-bbbb-cccc-000000000000".to_owned(),
        _ => value.to_owned(),
    })
    .await;
    not_trimmed(&client, 4_711).await;
    let planted = report(&settings, &[], 1).await;
    assert_eq!(
        found(&planted),
        [
            ("changed", 2, vec![19_101, 19_102]),
            ("doubled", 1, vec![5_001]),
            ("missing", 1, vec![4_711]),
            ("out_of_order", 1, vec![17_005]),
            ("stranger", 1, vec![-1]),
        ],
        "{planted}"
    );
    let changed = &planted["findings"]["changed"]["first"];
    assert_eq!(
        (&changed[0]["detail"], &changed[1]["detail"]),
        (&"payload".into(), &"event_type".into())
    );
    let out = verify(&settings, &["--from-id", "4000", "--to-id", "4999"]).await;
    assert_eq!(out.code, Some(1), "{}", out.output);
    for words in ["rows 4000 to 4999", "1 missing", "missing  4711", "walrelay verify --repair"] {
        assert!(out.output.contains(words), "{words:?} is not in:\n{}", out.output);
    }
    assert!(!out.output.contains("xxxx"), "no payload:\n{}", out.output);
    traffic.abort();
    relay.drain().await;
}

#[tokio::test]
async fn rows_in_every_state_streams_in_every_format_and_what_was_trimmed_are_told_apart() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("durability", "memory");
    for (n, format) in [(1, "fields"), (101, "json"), (201, "cloudevents")] {
        let mut relay = settings.clone().with("entry_format", format).start_ready().await;
        insert_many(&client, n, n + 99).await.unwrap();
        world.until_marked().await;
        relay.drain().await;
    }
    let states = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, published,
            published_at, next_attempt_at, dead_lettered_at)
        SELECT 'State', gen_random_uuid(), '{}', n IN (3, 4), CASE n WHEN 3 THEN now() END,
            CASE n WHEN 1 THEN now() END, CASE WHEN n IN (2, 3) THEN now() END
        FROM generate_series(1, 5) AS n ORDER BY n";
    client.batch_execute(states).await.unwrap();
    let all = report(&settings, &[], 0).await;
    let rows = &all["rows"];
    assert_eq!(rows["settled"], 300, "{all}");
    for state in ["parked", "dead", "discarded", "imported", "waiting"] {
        assert_eq!(rows[state], 1, "{state}: {all}");
    }
    assert_eq!(all["entries"]["read"], 300, "{all}");

    world.redis.run(&format!("XTRIM {STREAM} MAXLEN 200")).await;
    let trimmed = report(&settings, &[], 0).await;
    assert_eq!(trimmed["rows"]["trimmed"], 100, "{trimmed}");
    let shown = verify(&settings, &[]).await.output;
    assert!(shown.contains("100 whose entries were trimmed"), "{shown}");

    // Of a stream from which single entries were deleted too nobody can tell what is older.
    let entries = world.consumer().read_all().await;
    delete(&world, &entries[150]).await;
    not_trimmed(&client, 251).await;
    let deleted = report(&settings, &[], 1).await;
    assert_eq!(found(&deleted), [("missing", 1, vec![251])], "{deleted}");
    assert_eq!(deleted["rows"]["untold"], 100, "{deleted}");
    let strict = report(&settings, &["--strict"], 1).await;
    assert_eq!(strict["findings"]["missing"]["count"], 101, "{strict}");

    for (arguments, settled, missing) in [
        (&["--from-id", "201", "--to-id", "250"][..], 50, 0),
        (&["--from-id", "201", "--to-id", "260"], 60, 1),
        (&["--since", "1h", "--stream", STREAM], 300, 1),
        (&["--since", "2100-01-01"], 0, 0),
        (&["--until", "1h"], 0, 0),
        (&["--stream", "nobodys"], 0, 0),
    ] {
        let report = report(&settings, arguments, i32::from(missing > 0)).await;
        assert_eq!(report["rows"]["settled"], settled, "{arguments:?}: {report}");
        assert_eq!(report["findings"]["missing"]["count"], missing, "{arguments:?}: {report}");
    }
    let wrong: [&[&str]; 3] =
        [&["--since", "soon"], &["--from-id", "2", "--to-id", "1"], &["--yes"]];
    for wrong in wrong {
        let done = verify(&settings, wrong).await;
        assert_eq!(done.code, Some(2), "{wrong:?}:\n{}", done.output);
    }
}

#[tokio::test]
async fn what_redis_lost_is_published_again_once_by_the_running_relay() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let settings =
        world.settings.clone().with("durability", "memory").with("poll_interval", "100ms");
    let mut relay = settings.start_ready().await;
    insert_many(&client, 1, 1_500).await.unwrap();
    world.until_marked().await;
    relay.drain().await;
    world.redis.run("FLUSHALL").await;
    // The slot may hold some of it: nobody but its relay can tell.
    insert_many(&client, 1_501, 1_501).await.unwrap();
    let refused = verify(&settings, &["--repair", "--yes"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    assert!(refused.output.contains("no relay runs on it"), "{}", refused.output);
    assert_eq!(count(&client, "identity.outbox WHERE published").await, 1_500);

    let mut relay = settings.start_ready().await;
    let asked = verify(&settings, &["--repair"]).await;
    assert_eq!(asked.code, Some(2), "{}", asked.output);
    assert!(asked.output.contains("1500 rows would be published"), "{}", asked.output);
    let traffic = tokio::spawn(write_through(world.postgres.url(), 1_000, 5));
    let repaired = report(&settings, &["--repair", "--yes"], 0).await;
    assert_eq!(repaired["repaired"]["published"], 1_500, "{repaired}");
    traffic.await.unwrap();
    assert_once_each(&world, &client).await;
    let entries = world.consumer().read_all().await;
    delete(&world, &entries[0]).await;
    let shown = verify(&settings, &["--repair"]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.output);
    for words in ["1 published again", "stand behind later", "cannot be restored"] {
        assert!(shown.output.contains(words), "{words:?} is not in:\n{}", shown.output);
    }
    assert_once_each(&world, &client).await;
    relay.drain().await;

    // Rows that do not say whether they are published: the slot says so.
    let keep = settings.clone().with("after_publish", "keep");
    let mut relay = keep.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    let clean = report(&keep, &["--strict"], 0).await;
    assert!(clean["rows"]["settled"].as_u64() >= Some(2_601), "{clean}");
    let entries = world.consumer().read(2_601).await;
    let event_id = entries[2_590].event_id();
    let row = format!("SELECT id::text FROM identity.outbox WHERE event_id = '{event_id}'");
    not_trimmed(&client, world.postgres.text(&row).await.parse().unwrap()).await;
    delete(&world, &entries[2_590]).await;
    let repaired = report(&keep, &["--repair"], 0).await;
    assert_eq!(repaired["repaired"]["published"], 1, "{repaired}");
    assert_once_each(&world, &client).await;
    relay.drain().await;
    insert_many(&client, 1, 1).await.unwrap();
    let done = verify(&keep, &[]).await;
    assert_eq!(done.code, Some(1), "{}", done.output);
    assert!(done.output.contains("no relay runs on it"), "{}", done.output);
}

/// The most memory that a process took, as far as it was seen before its end.
async fn peak_kb(running: &mut Relay) -> u64 {
    let mut peak_kb = 0;
    while running.running() {
        peak_kb = peak_kb.max(running.try_peak_rss_kb().unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    peak_kb
}

#[tokio::test]
async fn large_entries_behind_small_ones_are_read_a_few_at_a_time() {
    let world = World::with(&[], &[("appendonly", "no")]).await;
    let large = "x".repeat(256 * 1024);
    let mut pipe = redis::pipe();
    for (count, value) in [(1_200, "small"), (400, large.as_str())] {
        for _ in 0..count {
            pipe.cmd("XADD").arg(STREAM).arg("*").arg("name").arg(value).ignore();
        }
    }
    pipe.query_async::<()>(&mut world.redis.connection().await).await.unwrap();
    // Slow enough to be looked at behind each page.
    let slowly = world.settings.clone().with_arguments(&["--rate", "1000"]);
    let mut running = slowly.start_command("verify");
    let peak_kb = peak_kb(&mut running).await;
    assert_eq!(running.exit_code(PATIENCE).await, Some(0), "{}", running.output());
    assert!(running.output().contains("1600 of somebody else"), "{}", running.output());
    assert!((1..64 * 1_024).contains(&peak_kb), "{peak_kb} kB for 100 MiB of entries");
}

#[tokio::test]
#[ignore = "a million events take minutes: make million"]
async fn a_million_events_are_found_as_they_should_be_in_bounded_memory() {
    const ROWS: i64 = 1_000_000;
    let world = World::with(&[("max_wal_size", "4GB")], &[("appendonly", "no")]).await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("durability", "memory");
    let mut relay = settings.start_ready().await;
    fill(&client, ROWS, 200).await;
    world.consumer().until_len(usize::try_from(ROWS / 100 * 99).unwrap()).await;
    let traffic = tokio::spawn(write_through(world.postgres.url(), ROWS, 1));
    let mut running = settings.clone().with_arguments(&["--strict"]).start_command("verify");
    let peak_kb = peak_kb(&mut running).await;
    traffic.abort();
    let code = running.exit_code(PATIENCE).await;
    eprintln!("{}peak RSS of verify: {peak_kb} kB", running.output());
    assert_eq!(code, Some(0), "{}", running.output());
    assert!(running.output().contains("nothing wrong"), "{}", running.output());
    assert!((1..64 * 1_024).contains(&peak_kb), "{peak_kb} kB");
    relay.drain().await;
}
