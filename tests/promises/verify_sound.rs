//! `walrelay verify` on systems that are sound, though they do not look it: odd clocks, streams
//! that were trimmed, rows that went by `retention`, an order that nobody promised.

use tokio_postgres::Client;

use crate::harness::world::{STREAM, World, count};
use crate::poll::polled;
use crate::verify::{delete, found, report, verify};

/// Rows whose time is ahead of every clock, as of sessions east of UTC that write it without one.
const AHEAD: &str = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, created_at)
    SELECT 'Ahead', gen_random_uuid(), '{}', now() + interval '2 hours'
    FROM generate_series(1, $1::int8)";
/// A row of always the same aggregate.
const ONE: &str = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
    VALUES ('One', '00000000-0000-0000-0000-000000000001', '{}')";

/// Rows 1 and 2, of which the second is published first: its transaction is the shorter one.
async fn write_crossed(world: &World, client: &Client) {
    let mut early = world.postgres.client().await;
    let transaction = early.transaction().await.unwrap();
    transaction.batch_execute(ONE).await.unwrap();
    client.batch_execute(ONE).await.unwrap();
    world.consumer().until_len(1).await;
    transaction.commit().await.unwrap();
    world.consumer().until_len(2).await;
    world.until_marked().await;
    assert_eq!(count(client, "identity.outbox WHERE id > 2").await, 0);
}

#[tokio::test]
async fn rows_whose_time_is_ahead_are_found_before_it_and_not_published_again() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("durability", "memory");
    let mut relay = settings.start_ready().await;
    client.execute(AHEAD, &[&10_i64]).await.unwrap();
    world.until_marked().await;
    let sound = report(&settings, &["--from-id", "1"], 0).await;
    assert_eq!(sound["entries"]["read"], 10, "{sound}");
    report(&settings, &["--from-id", "1", "--repair"], 0).await;
    let entries = world.consumer().read_all().await;
    assert_eq!(entries.len(), 10);
    // What is nowhere is missing, as ever.
    delete(&world, &entries[4]).await;
    let lacking = report(&settings, &["--from-id", "1"], 1).await;
    assert_eq!(found(&lacking), [("missing", 1, vec![5])], "{lacking}");
    relay.drain().await;
}

#[tokio::test]
async fn what_trimming_may_have_taken_is_not_missing_nor_published_again_unasked() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("durability", "memory");
    let mut relay = settings.start_ready().await;
    write_crossed(&world, &client).await;
    // A single entry that was deleted: removals do not tell any more what trimming took.
    world.redis.run(&format!("XADD {STREAM} * any thing")).await;
    delete(&world, &world.consumer().read_all().await[2]).await;
    world.redis.run(&format!("XTRIM {STREAM} MAXLEN 1")).await;
    let trimmed = report(&settings, &[], 0).await;
    assert_eq!(trimmed["rows"]["untold"], 1, "{trimmed}");
    let asked = verify(&settings, &["--strict", "--repair"]).await;
    assert_eq!(asked.code, Some(2), "{}", asked.output);
    assert!(asked.output.contains("may have been trimmed"), "{}", asked.output);
    assert_eq!(world.consumer().len().await, Some(1), "nothing is published again");

    // A time that runs ahead does not make rows younger than what was trimmed.
    client.execute(AHEAD, &[&3_i64]).await.unwrap();
    world.until_marked().await;
    world.redis.run(&format!("XTRIM {STREAM} MAXLEN 1")).await;
    let trimmed = report(&settings, &[], 0).await;
    assert_eq!(trimmed["rows"]["untold"], 4, "{trimmed}");
    relay.drain().await;
}

#[tokio::test]
async fn entries_whose_rows_went_by_retention_are_no_strangers() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("durability", "memory");
    let mut relay = settings.start_ready().await;
    // The first is one that was dead for an hour: published late, and so kept for longer.
    let rows = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, created_at)
        SELECT 'Old', gen_random_uuid(), '{}', now() - make_interval(hours => hours)
        FROM unnest('{4, 3, 3}'::int[]) WITH ORDINALITY AS t (hours, n) ORDER BY n";
    client.batch_execute(rows).await.unwrap();
    world.until_marked().await;
    relay.drain().await;
    let entries = world.consumer().read_all().await;
    world.redis.run(&format!("DEL {STREAM}")).await;
    let mut redis = world.redis.connection().await;
    for entry in &entries {
        let (millis, number) = entry.id.split_once('-').unwrap();
        let earlier = millis.parse::<u64>().unwrap() - 2 * 3_600_000;
        let mut command = redis::cmd("XADD");
        command.arg(STREAM).arg(format!("{earlier}-{number}"));
        for (name, value) in &entry.fields {
            command.arg(name).arg(value);
        }
        command.query_async::<String>(&mut redis).await.unwrap();
    }
    client.batch_execute("DELETE FROM identity.outbox WHERE id > 1").await.unwrap();
    report(&settings.clone().with("retention", "30m"), &[], 0).await;
    for retention in ["30d", "off"] {
        let wrong = report(&settings.clone().with("retention", retention), &[], 1).await;
        assert_eq!(found(&wrong), [("stranger", 2, vec![-1, -1])], "{wrong}");
    }
}

#[tokio::test]
async fn pollers_that_keep_no_order_break_none() {
    let world = polled(&[]).await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("ordering", "none");
    let mut relay = settings.start_ready().await;
    write_crossed(&world, &client).await;
    relay.drain().await;
    let sound = report(&settings, &[], 0).await;
    assert!(sound["notes"].to_string().contains("ordering = none"), "{sound}");
    for (mode, ordering) in [("poll", "per-aggregate"), ("wal", "none")] {
        let promising = settings.clone().with("mode", mode).with("ordering", ordering);
        let wrong = report(&promising, &[], 1).await;
        assert_eq!(found(&wrong), [("out_of_order", 1, vec![1])], "{mode} {ordering}: {wrong}");
    }
}
