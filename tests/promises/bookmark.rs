//! `walrelay bookmark`: positions of the WAL are pinned by slots that are nobody's line.

use serde_json::Value;

use crate::harness::relay::{Finished, Settings};
use crate::harness::world::{World, count, insert_many};

async fn command(settings: &Settings, line: &str) -> Finished {
    let words: Vec<&str> = line.split(' ').collect();
    settings.clone().with_arguments(&words[1..]).finish(words[0]).await
}

async fn done(settings: &Settings, line: &str) -> String {
    let done = command(settings, line).await;
    assert_eq!(done.code, Some(0), "{line}:\n{}", done.output);
    done.output
}

async fn refused(settings: &Settings, line: &str, code: i32, says: &[&str]) {
    let done = command(settings, line).await;
    assert_eq!(done.code, Some(code), "{line}:\n{}", done.output);
    for words in says {
        assert!(done.output.contains(words), "{words:?} is not in:\n{}", done.output);
    }
}

async fn bookmarks(settings: &Settings) -> Vec<Value> {
    let lines = done(settings, "bookmark list --json").await;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const CONFIRMED: &str = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots
                         WHERE slot_name = 'walrelay'";

#[tokio::test]
async fn a_position_is_pinned_while_the_relay_streams_and_until_it_is_dropped() {
    let world = World::new().await;
    let (settings, client) = (&world.settings, world.postgres.client().await);
    let mut relay = settings.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.until_marked().await;
    let text = done(settings, "bookmark create before").await;
    assert!(text.contains("bookmark before: at ") && text.contains("bookmark drop before"));
    done(settings, "bookmark create exact --now").await;
    refused(settings, "bookmark create before", 1, &["is there already"]).await;
    insert_many(&client, 101, 3_000).await.unwrap();
    world.until_marked().await;
    world.until_confirmed().await;
    relay.drain().await;

    let found = bookmarks(settings).await;
    let names: Vec<&str> = found.iter().map(|found| found["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["before", "exact"]);
    for bookmark in &found {
        assert!(bookmark["retained_bytes"].as_u64().unwrap() > 300_000, "{bookmark}");
        assert_eq!(bookmark["wal_status"], "reserved", "{bookmark}");
        assert_eq!(bookmark["lost"], false, "{bookmark}");
        assert!(bookmark["age_seconds"].is_number(), "{bookmark}");
    }
    let table = done(settings, "bookmark list").await;
    assert!(table.starts_with("NAME") && table.contains("iB  "), "{table}");
    let dry = done(settings, "replay --bookmark exact --dry-run").await;
    assert!(dry.contains("would replay 2900 events"), "exact, to the event: {dry}");

    // To drop one is to drop nothing else.
    refused(
        settings,
        "bookmark drop walrelay",
        1,
        &["no bookmark \"walrelay\"", "is no bookmark;"],
    )
    .await;
    refused(settings, "bookmark drop Walrelay", 2, &["a-z, 0-9 and _"]).await;
    let physical = "SELECT pg_create_physical_replication_slot('walrelay_bookmark_physical')";
    world.postgres.run(physical).await;
    refused(settings, "bookmark drop physical", 1, &["is no bookmark, though"]).await;
    done(settings, "bookmark drop walrelay_bookmark_exact").await;
    assert_eq!(bookmarks(settings).await.len(), 1);
    assert_eq!(count(&client, "pg_replication_slots").await, 3);

    // The server takes no more: for a bookmark, and for the copy that a replay needs.
    let fill = "SELECT pg_create_physical_replication_slot('full_' || n)
                FROM generate_series(1, current_setting('max_replication_slots')::int - 3) AS n";
    world.postgres.run(fill).await;
    for line in ["bookmark create more", "bookmark create more --now", "replay --bookmark before"] {
        let says = ["needs a free replication slot", "full_1", "max_replication_slots"];
        refused(settings, line, 1, &says).await;
    }
}

#[tokio::test]
async fn no_line_takes_a_bookmark_for_its_own_and_one_bookmark_serves_all_shards() {
    let world = World::new().await;
    let (settings, client) = (&world.settings, world.postgres.client().await);
    done(settings, "bookmark create 1of2").await;
    for base in ["walrelay_bookmark", "walrelay_bookmark_1of2"] {
        let taken = settings.clone().with("slot_name", base);
        refused(&taken, "setup", 2, &["slot_name", "begins as the slots of bookmarks do"]).await;
    }
    // From one line to two: the slot of the one is cleared away, the bookmark is not.
    let sharded = settings.clone().with("shards", "2");
    let mut relay = sharded.start_ready().await;
    let slots = "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots";
    let all = "walrelay_1of2 walrelay_2of2 walrelay_bookmark_1of2";
    assert_eq!(world.postgres.text(slots).await, all);
    done(&sharded, "bookmark create both").await;
    let write = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 SELECT 'UserCreated', md5((n % 50)::text)::uuid, jsonb_build_object('n', n)
                 FROM generate_series(1, 600) AS n ORDER BY n";
    client.batch_execute(write).await.unwrap();
    world.until_marked().await;
    relay.drain().await;
    let text = done(&sharded, "replay --bookmark both --stream rebuild").await;
    assert!(text.contains("replayed 600 events into stream rebuild"), "{text}");
    let entries = world.consumer_of("rebuild").read(600).await;
    let number = |entry: &crate::harness::consumer::Entry| {
        serde_json::from_str::<Value>(entry.get("payload")).unwrap()["n"].as_i64().unwrap()
    };
    assert!(entries.iter().map(number).eq(1..=600), "in the order of commit, over all shards");
    // What one line had pinned, one line replays.
    let text = done(settings, "replay --bookmark 1of2 --stream whole").await;
    assert!(text.contains("replayed 600 events"), "{text}");
    assert_eq!(world.postgres.text(CONFIRMED_ANY).await, "0", "no copy is left");
}

const CONFIRMED_ANY: &str =
    "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name LIKE 'walrelay_replay_%'";

#[tokio::test]
async fn a_bookmark_without_anything_to_pin_says_what_is_missing() {
    let world = World::bare(&[], &[]).await;
    let settings = &world.settings;
    let says = ["publication \"walrelay\" does not exist", "walrelay setup"];
    refused(settings, "bookmark create early", 1, &says).await;
    settings.setup().await;
    let confirmed = world.postgres.text(CONFIRMED).await;
    let text = done(settings, "bookmark create idle").await;
    assert!(text.contains(&format!("bookmark idle: at {confirmed}")), "where the slot stands");
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    refused(settings, "bookmark create gone", 1, &["\"walrelay\" does not exist", "--now"]).await;
    assert_eq!(done(settings, "bookmark list").await.lines().count(), 2);
    done(settings, "bookmark drop idle").await;
    assert_eq!(done(settings, "bookmark list").await, "no bookmarks\n");
}
