//! `walrelay dlq`: dead events are found, shown, tried again or given up; whole or not at all.

use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::relay::Finished;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count};

/// Rows 1 to 4 are dead, since 1, 2, 3 and 4 hours; 5 is parked, 6 published, 7 new, 8 discarded.
const ROWS: &str = "INSERT INTO identity.outbox (event_type, aggregate_id, topic, payload,
        published, attempts, started_attempts, next_attempt_at, dead_lettered_at, error_message,
        wal_position)
    SELECT
        CASE WHEN n % 2 = 0 THEN 'UserDeleted' ELSE 'UserCreated' END,
        CASE WHEN n = 3 THEN 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' ELSE gen_random_uuid() END,
        CASE WHEN n = 4 THEN 'orders' END,
        jsonb_build_object('secret', 'tell-nobody', 'n', n),
        n IN (6, 8),
        CASE WHEN n IN (6, 7) THEN 0 ELSE 5 END,
        CASE WHEN n IN (6, 7) THEN 0 ELSE 6 END,
        CASE WHEN n IN (1, 5) THEN now() + interval '1 day' END,
        CASE WHEN n <= 4 OR n = 8 THEN now() - make_interval(hours => n::int) END,
        CASE WHEN n NOT IN (6, 7) THEN 'WRONGTYPE Operation against a key, no ' || n END,
        CASE WHEN n <> 2 THEN '0000000001000000-00000001' END
    FROM generate_series(1, 8) AS n ORDER BY n";

const STATES: &str = "SELECT string_agg(concat_ws(' ', id, published, attempts, started_attempts,
        next_attempt_at, published_at, dead_lettered_at, error_message, wal_position, event_id),
        E'\\n' ORDER BY id) FROM identity.outbox";

async fn scene() -> (World, Client) {
    let world = World::new().await;
    let client = world.postgres.client().await;
    client.batch_execute(ROWS).await.unwrap();
    (world, client)
}

async fn dlq(world: &World, arguments: &[&str]) -> Finished {
    world.settings.clone().with_arguments(arguments).finish("dlq").await
}

/// What must work, and what it printed.
async fn done(world: &World, arguments: &[&str]) -> String {
    let done = dlq(world, arguments).await;
    assert_eq!(done.code, Some(0), "{arguments:?}:\n{}", done.output);
    done.output
}

async fn refused(world: &World, arguments: &[&str], code: i32, says: &[&str]) {
    let done = dlq(world, arguments).await;
    assert_eq!(done.code, Some(code), "{arguments:?}:\n{}", done.output);
    for words in says {
        assert!(done.output.contains(words), "{words:?} is not in:\n{}", done.output);
    }
    assert!(!done.output.contains("panicked"), "{}", done.output);
}

/// The ids that a list has, in its order.
async fn listed(world: &World, arguments: &[&str]) -> Vec<i64> {
    let arguments = [&["list", "--json"], arguments].concat();
    let lines = done(world, &arguments).await;
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_i64().unwrap();
    lines.lines().map(id).collect()
}

#[tokio::test]
async fn dead_events_are_listed_by_every_filter_and_never_with_their_payload() {
    let (world, _client) = scene().await;
    for (arguments, ids) in [
        (&[][..], &[4, 3, 2, 1][..]),
        (&["--stream", "orders"], &[4]),
        (&["--stream", "identity.user.v1"], &[3, 2, 1]),
        (&["--type", "UserDeleted"], &[4, 2]),
        (&["--aggregate", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], &[3]),
        (&["--older-than", "150m"], &[4, 3]),
        (&["--newer-than", "150m"], &[2, 1]),
        (&["--older-than", "1.5h", "--newer-than", "3.5h", "--type", "UserDeleted"], &[2]),
        (&["--stream", "no'such\"stream"], &[]),
        (&["--limit", "2"], &[4, 3]),
        (&["--parked"], &[5]),
    ] {
        assert_eq!(listed(&world, arguments).await, ids, "{arguments:?}");
    }
    let table = done(&world, &["list", "--limit", "3"]).await;
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(table.starts_with("ID  EVENT ID"), "{table}");
    assert!(table.contains("WRONGTYPE Operation") && table.contains("UserCreated"), "{table}");
    assert!(table.contains("3 of 4 dead events"), "{table}");
    assert!(done(&world, &["list", "--type", "None"]).await.contains("no dead events"));
    for arguments in [&["list"][..], &["list", "--json"], &["list", "--parked"]] {
        assert!(!done(&world, arguments).await.contains("tell-nobody"), "{arguments:?}");
    }
    let line = done(&world, &["list", "--json", "--limit", "1"]).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["stream"], &line["attempts"]), (&"orders".into(), &5.into()));
    assert!(line["dead_lettered_at"].as_str().unwrap().ends_with('Z'), "{line}");
}

#[tokio::test]
async fn one_row_is_shown_whole_by_either_id() {
    let (world, client) = scene().await;
    let query = "SELECT event_id::text FROM identity.outbox WHERE id = 3";
    let event_id: String = client.query_one(query, &[]).await.unwrap().get(0);
    for id in ["3", event_id.as_str(), event_id.to_uppercase().as_str()] {
        let text = done(&world, &["show", id]).await;
        for words in ["tell-nobody", "WRONGTYPE Operation against a key, no 3", event_id.as_str()] {
            assert!(text.contains(words), "{words:?} is not in:\n{text}");
        }
        let row: Value =
            serde_json::from_str(&done(&world, &["show", "--json", id]).await).unwrap();
        assert_eq!((&row["id"], &row["payload"]["secret"]), (&3.into(), &"tell-nobody".into()));
    }
    refused(&world, &["show", "99"], 1, &["\"99\"", "hint: "]).await;
    refused(&world, &["show", "nonsense"], 2, &["neither a row id nor an event id"]).await;
}

#[tokio::test]
async fn a_retried_event_is_due_with_its_event_id_and_new_attempts_while_redis_is_down() {
    let (mut world, client) = scene().await;
    world.redis.stop().await;
    world.settings = world.settings.without("redis_url");
    let column = "SELECT string_agg(event_id::text || wal_position, ' ' ORDER BY id)
                  FROM identity.outbox";
    let before = world.postgres.text(column).await;
    assert!(done(&world, &["retry", "1", "2"]).await.contains("2 events: due now"));
    let fresh = "identity.outbox WHERE id IN (1, 2) AND NOT published AND attempts = 0
        AND started_attempts = 0 AND next_attempt_at <= now() AND dead_lettered_at IS NULL
        AND error_message IS NULL";
    assert_eq!(count(&client, fresh).await, 2);
    assert_eq!(world.postgres.text(column).await, before, "event id and position stay");
    assert_eq!(listed(&world, &[]).await, [4, 3]);
    assert!(done(&world, &["retry", "--all", "--stream", "orders"]).await.contains("1 event:"));
    assert!(done(&world, &["retry", "--all"]).await.contains("1 event:"));
    assert!(done(&world, &["retry", "--all"]).await.contains("0 events:"));
    assert_eq!(
        count(&client, "identity.outbox WHERE id IN (5, 6, 7, 8) AND attempts = 0").await,
        2
    );
}

#[tokio::test]
async fn one_name_that_is_not_dead_leaves_all_as_they_are_and_is_named() {
    let (world, _client) = scene().await;
    let before = world.postgres.text(STATES).await;
    let nobody = "11111111-2222-3333-4444-555555555555";
    for command in [&["retry"][..], &["discard", "--yes"], &["discard"]] {
        for (wrong, says) in [
            ("5", "5 (parked)"),
            ("6", "6 (published)"),
            ("7", "7 (not published yet)"),
            ("8", "8 (discarded)"),
            ("99", "99 (no such row)"),
            (nobody, "(no such event)"),
        ] {
            let arguments = [command, &["1", wrong, "2"]].concat();
            refused(&world, &arguments, 1, &[says, "nothing was changed"]).await;
        }
    }
    refused(&world, &["retry", "1", "--type", "UserCreated"], 2, &["--all"]).await;
    refused(&world, &["retry", "--all", "--older-than", "soon"], 2, &["--older-than"]).await;
    refused(&world, &["retry"], 2, &["<ID>"]).await;
    assert_eq!(world.postgres.text(STATES).await, before);
}

#[tokio::test]
async fn to_discard_takes_a_yes_and_keeps_when_and_why_an_event_died() {
    let (world, client) = scene().await;
    let before = world.postgres.text(STATES).await;
    refused(&world, &["discard", "1"], 2, &["1 event would be discarded", "--yes"]).await;
    refused(&world, &["discard", "--all"], 2, &["WRONGTYPE", "4 dead events", "--yes"]).await;
    assert_eq!(world.postgres.text(STATES).await, before, "without --yes nothing happens");
    assert!(done(&world, &["discard", "1", "--yes"]).await.contains("1 event: discarded"));
    let settled = "identity.outbox WHERE id = 1 AND published AND published_at IS NOT NULL
        AND dead_lettered_at IS NOT NULL AND attempts = 5 AND next_attempt_at IS NOT NULL
        AND error_message = 'discarded: WRONGTYPE Operation against a key, no 1'";
    assert_eq!(count(&client, settled).await, 1);
    assert_eq!(listed(&world, &[]).await, [4, 3, 2]);
    let all = ["discard", "--all", "--yes", "--older-than", "210m"];
    assert!(done(&world, &all).await.contains("1 event: discarded"));
    assert_eq!(listed(&world, &[]).await, [3, 2]);
}

#[tokio::test]
async fn of_two_who_decide_at_once_the_second_finds_nothing_left() {
    let (world, client) = scene().await;
    client
        .batch_execute("BEGIN; SELECT FROM identity.outbox WHERE id = 1 FOR UPDATE")
        .await
        .unwrap();
    let second = world.settings.clone().with_arguments(&["retry", "1", "2"]);
    let observer = world.postgres.client().await;
    let first = async {
        wait::until("somebody waits for the row", PATIENCE, async || {
            (count(&observer, "pg_locks WHERE NOT granted").await > 0).then_some(())
        })
        .await;
        let discard = "UPDATE identity.outbox SET published = true WHERE id = 1; COMMIT";
        client.batch_execute(discard).await.unwrap();
    };
    let (second, ()) = tokio::join!(second.finish("dlq"), first);
    assert_eq!(second.code, Some(1), "{}", second.output);
    assert!(second.output.contains("1 (discarded)"), "{}", second.output);
    assert_eq!(listed(&world, &[]).await, [4, 3, 2]);
}

#[tokio::test]
async fn a_hundred_thousand_dead_events_are_retried_by_one_statement() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let many = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, dead_lettered_at)
        SELECT 'UserCreated', gen_random_uuid(), '{}', now() FROM generate_series(1, 100000)";
    client.batch_execute(many).await.unwrap();
    let list = done(&world, &["list"]).await;
    assert!(list.contains("100 of 100000 dead events"), "{list}");
    assert!(done(&world, &["retry", "--all"]).await.contains("100000 events: due now"));
    assert_eq!(count(&client, "identity.outbox WHERE dead_lettered_at IS NOT NULL").await, 0);
}

#[tokio::test]
async fn other_widths_of_ids_and_event_ids_of_text_work_and_a_bare_table_is_sent_to_setup() {
    let mut world = World::bare(&[], &[]).await;
    refused(&world, &["list"], 1, &["identity.outbox does not exist", "walrelay setup"]).await;
    let client = world.postgres.client().await;
    for (name, width) in [("Small \"one\"", "smallint"), ("plain", "integer")] {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let create = format!(
            "CREATE TABLE {quoted} (id {width} PRIMARY KEY, event_id varchar(40) NOT NULL,
                 event_type varchar(40), aggregate_id bigint, payload json)"
        );
        client.batch_execute(&create).await.unwrap();
        world.settings = world.settings.with("outbox_table", &format!("public.{quoted}"));
        refused(&world, &["list"], 1, &["lacks the columns", "walrelay setup"]).await;
        world.settings.setup().await;
        let insert = format!(
            "INSERT INTO {quoted} (id, event_id, event_type, aggregate_id, payload,
                 dead_lettered_at)
             VALUES (1, 'one', 'A', 17, '{{\"b\": 1.10,  \"a\": 2}}', now()),
                 (2, 'Two', 'B', 18, '[]', now())"
        );
        client.batch_execute(&insert).await.unwrap();
        assert_eq!(listed(&world, &["--aggregate", "17"]).await, [1]);
        let text = done(&world, &["show", "one"]).await;
        assert!(text.contains("{\"b\": 1.10,  \"a\": 2}"), "as it was written: {text}");
        refused(&world, &["retry", "two"], 1, &["two (no such event)"]).await;
        assert!(done(&world, &["retry", "1", "Two"]).await.contains("2 events: due now"));
        client.batch_execute("SELECT pg_drop_replication_slot('walrelay')").await.unwrap();
        client.batch_execute("DROP PUBLICATION walrelay").await.unwrap();
    }
}
