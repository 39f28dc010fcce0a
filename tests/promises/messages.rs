//! Events without a table: what `identity.emit_message` writes comes out as rows do, and what
//! cannot be published becomes a row.

use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::consumer::Entry;
use crate::harness::ledger::Ledger;
use crate::harness::postgres::{self, Stop};
use crate::harness::relay::{Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert};

const PARKED: &str = "identity.outbox WHERE next_attempt_at IS NOT NULL AND NOT published";
const DEAD: &str = "identity.outbox WHERE dead_lettered_at IS NOT NULL";
const ID: &str = "gen_random_uuid()";

fn with_messages(world: &World) -> Settings {
    world.settings.clone().with("messages", "true")
}

/// Runs a query of one text.
async fn text(client: &Client, query: &str) -> String {
    client.query_one(query, &[]).await.unwrap_or_else(|e| panic!("{query}: {e}")).get(0)
}

/// A message for `topic`, of an aggregate that is made of the letter; its event's id.
async fn emit(client: &Client, topic: &str, aggregate: char) -> String {
    let call = format!(
        "SELECT identity.emit_message('Said', md5('{aggregate}')::uuid, '{{\"n\": 1}}',
             topic => '{topic}')::text"
    );
    text(client, &call).await
}

/// A message as anybody may write it, after what `pg_logical_emit_message` takes.
async fn emit_by_hand(client: &Client, arguments: &str) {
    client.execute(&format!("SELECT pg_logical_emit_message({arguments})"), &[]).await.unwrap();
}

/// The events `from..to` in one transaction, by turns as a row and as a message; their ids.
async fn emit_by_turns(client: &Client, from: i64, to: i64) -> Vec<String> {
    let query = "SELECT (CASE WHEN n % 2 = 0
                     THEN identity.emit_event('Row', md5((n % 7)::text)::uuid,
                         jsonb_build_object('n', n))
                     ELSE identity.emit_message('Message', md5((n % 7)::text)::uuid,
                         jsonb_build_object('n', n))
                 END)::text FROM generate_series($1::int8, $2::int8 - 1) AS n";
    let rows = client.query(query, &[&from, &to]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn ids(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.event_id().to_owned()).collect()
}

async fn lines(relay: &Relay) -> Value {
    relay.status().await["reconnects"]["lines"].take()
}

async fn done(settings: &Settings, command: &str, arguments: &[&str]) -> String {
    let done = settings.clone().with_arguments(arguments).finish(command).await;
    assert_eq!(done.code, Some(0), "{command} {arguments:?}:\n{}", done.output);
    done.output
}

#[tokio::test]
async fn rows_and_messages_come_once_and_in_order_whenever_the_relay_dies_and_are_replayed() {
    const EVENTS: i64 = 24_000;
    const EACH: i64 = 400;
    const KILLS: i64 = 8;
    let world = World::new().await;
    let settings = with_messages(&world);
    let mut relay = settings.start_ready().await;
    done(&settings, "bookmark", &["create", "before"]).await;
    let url = world.postgres.socket_url();
    let writer = tokio::spawn(async move {
        let client = postgres::client(&url).await;
        let mut committed = Vec::new();
        for from in (0..EVENTS / EACH).map(|part| part * EACH) {
            committed.extend(emit_by_turns(&client, from, from + EACH).await);
        }
        committed
    });
    let mut consumer = world.consumer();
    for kill in 1..=KILLS {
        let at = (kill - 1) * EVENTS / KILLS + fastrand::i64(1..EVENTS / KILLS);
        consumer.until_len(usize::try_from(at).unwrap()).await;
        relay.kill9();
        relay = settings.start();
    }
    let committed = writer.await.unwrap();
    let entries = consumer.read(committed.len()).await;
    Ledger::new(committed.clone()).assert_exactly_once(&entries);
    world.until_confirmed().await;
    world.until_marked().await;
    let client = world.postgres.client().await;
    assert_eq!(count(&client, "identity.outbox").await, EVENTS / 2, "messages have no rows");
    let names = |entry: &Entry| {
        let fields = entry.fields.iter().map(|(name, _)| name.clone());
        fields.collect::<Vec<_>>()
    };
    assert_eq!(names(&entries[0]), names(&entries[1]), "a row and a message look alike");
    assert_eq!(entries[1].get("payload"), "{\"n\": 1}");

    let found = done(&settings, "verify", &["--strict"]).await;
    assert!(found.contains("emit_message"), "what it cannot tell is said:\n{found}");
    relay.drain().await;
    // Once more, out of the WAL; half of it without the messages.
    done(&settings, "replay", &["--bookmark", "before", "--stream", "again"]).await;
    let again = world.consumer_of("again").read_all().await;
    assert_eq!(ids(&again), committed);
    let off = &world.settings;
    done(off, "replay", &["--bookmark", "before", "--stream", "rows"]).await;
    assert_eq!(world.consumer_of("rows").len().await, usize::try_from(EVENTS / 2).ok());
}

#[tokio::test]
async fn only_what_is_committed_wanted_and_ours_is_published() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    emit(&client, STREAM, 'a').await;
    insert(&client, 1).await.unwrap();
    world.until_confirmed().await;
    assert_eq!(world.consumer().len().await, Some(1), "messages are not on");
    relay.drain().await;

    let mut relay = with_messages(&world).start_ready().await;
    let call = format!("SELECT identity.emit_message('No', {ID}, '{{}}')");
    client.batch_execute(&format!("BEGIN; {call}; ROLLBACK")).await.unwrap();
    let first = emit(&client, STREAM, 'a').await;
    client.batch_execute("BEGIN").await.unwrap();
    let before = emit(&client, STREAM, 'b').await;
    client.batch_execute(&format!("SAVEPOINT s; {call}; ROLLBACK TO s; RELEASE s")).await.unwrap();
    let after = emit(&client, STREAM, 'b').await;
    client.batch_execute("COMMIT").await.unwrap();
    let content = format!(
        "json_build_object('event_id', {ID}, 'event_type', 'No', 'aggregate_id', {ID},
             'payload', 1)::text"
    );
    for prefix in ["walrelay", "walrelay:app.outbox", "walrelay:identity.outbox2"] {
        emit_by_hand(&client, &format!("true, '{prefix}', {content}")).await;
    }
    let loose = format!("false, 'walrelay:identity.outbox', {content}");
    emit_by_hand(&client, &loose).await;
    emit_by_hand(&client, &loose).await;
    emit_by_hand(&client, &format!("true, 'walrelay:identity.outbox', {content}")).await;
    let entries = world.consumer().read(5).await;
    assert_eq!(ids(&entries)[1..4], [first, before, after]);
    assert_eq!(entries[4].get("event_type"), "No", "by hand it is as good");
    world.until_confirmed().await;
    assert_eq!(world.consumer().len().await, Some(5));
    assert_eq!(relay.output().matches("not transactional").count(), 1, "{}", relay.output());

    // Refused where it is written: as emit_event refuses it, whose rules it has.
    for (arguments, code) in [
        (format!("' ', {ID}, '1'"), "22023"),
        ("'A', NULL, '1'".to_owned(), "22004"),
        (format!("'A', {ID}, NULL"), "22004"),
        (format!("'A', {ID}, '1', topic => E'a\\nb'"), "22023"),
        (format!("'A', {ID}, '1', traceparent => 'x'"), "22023"),
        (format!("'A', {ID}, '1', correlation_id => repeat('x', 17000000)"), "54000"),
    ] {
        let call = format!("SELECT identity.emit_message({arguments})");
        let error = client.execute(&call, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{call}");
    }
    relay.drain().await;

    // Turned off while the slot may send one again: rows behind it would come twice.
    let unheard = with_messages(&world).with("feedback_interval", "1m");
    let mut relay = unheard.start_ready().await;
    insert(&client, 2).await.unwrap();
    emit(&client, STREAM, 'a').await;
    let all = ids(&world.consumer().read(7).await);
    relay.kill9();
    insert(&client, 3).await.unwrap();
    let off = world.settings.finish("run").await;
    assert_eq!(off.code, Some(1), "{}", off.output);
    assert!(off.output.contains("hint: set messages = true"), "{}", off.output);
    let mut relay = with_messages(&world).start_ready().await;
    assert_eq!(ids(&world.consumer().read(8).await)[..7], all);
    world.until_confirmed().await;
    relay.drain().await;
    let mut relay = world.settings.start_ready().await;
    insert(&client, 4).await.unwrap();
    world.until_confirmed().await;
    assert_eq!(world.consumer().len().await, Some(9));
    relay.drain().await;
}

#[tokio::test]
async fn a_refused_message_is_parked_known_after_a_crash_retried_in_order_and_given_up() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run("SET taken x").await;
    let settings = with_messages(&world)
        .with("poll_interval", "100ms")
        .with("retry_base_delay", "100ms")
        .with("max_retry_attempts", "1000");
    // The slot hears of nothing before the relay dies: all is sent again.
    let mut relay = settings.clone().with("feedback_interval", "1m").start_ready().await;
    let first = emit(&client, "taken", 'a').await;
    wait::until_equal("parked", 1, PATIENCE, async || count(&client, PARKED).await).await;
    let behind = emit(&client, STREAM, 'a').await;
    let second = emit(&client, "taken", 'a').await;
    let other = emit(&client, STREAM, 'b').await;
    wait::until_equal("parked", 3, PATIENCE, async || count(&client, PARKED).await).await;
    world.consumer().until_len(1).await;
    assert_eq!(lines(&relay).await, 1, "in its place, without another look into the WAL");
    relay.kill9();
    let why = text(&client, &format!("SELECT min(error_message) FROM {PARKED}")).await;
    assert!(why.contains("WRONGTYPE"), "{why}");
    let mut relay = settings.start_ready().await;
    world.until_confirmed().await;
    assert_eq!(count(&client, "identity.outbox").await, 3, "each has one row");
    assert_eq!(ids(&world.consumer().read_all().await), std::slice::from_ref(&other));
    world.redis.run("DEL taken").await;
    world.until_marked().await;
    assert_eq!(ids(&world.consumer_of("taken").read_all().await), [first, second]);
    assert_eq!(ids(&world.consumer().read_all().await), [other, behind]);
    // What has a row by now is verified by it, and a replay has it once.
    done(&settings, "verify", &[]).await;
    relay.drain().await;

    world.redis.run("DEL taken").await;
    world.redis.run("SET taken x").await;
    let mut relay = settings.with("max_retry_attempts", "2").start_ready().await;
    let given_up = emit(&client, "taken", 'c').await;
    let letter = world.consumer_of("taken.dlq").read(1).await.remove(0);
    assert_eq!(letter.get("original_event_id"), given_up);
    assert_eq!(letter.get("attempts"), "2");
    assert_eq!(letter.get("payload"), "{\"n\": 1}");
    wait::until_equal("dead", 1, PATIENCE, async || count(&client, DEAD).await).await;
    relay.drain().await;
}

/// What anybody may write under our prefix, and what is said of it.
fn hostile() -> Vec<(String, &'static str)> {
    let prefix = "true, 'walrelay:identity.outbox'";
    let known = "\"event_id\": \"0a0eebc9-9c0b-4ef8-bb6d-6bb9bd380a11\",
                 \"aggregate_id\": \"0a0eebc9-9c0b-4ef8-bb6d-6bb9bd380a11\"";
    let taken = format!("\"topic\": \"taken\", \"event_type\": \"A\", {known}");
    let of = |content: &str| format!("{prefix}, '{content}'");
    vec![
        (format!("{prefix}, '\\xff00'::bytea"), "not UTF-8"),
        (of(""), "not a JSON object"),
        (of("{\"a\": "), "not a JSON object"),
        (of("{}"), "no payload"),
        (of(&format!("{{{known}, \"payload\": 1}}")), "no event_type"),
        (of("{\"event_id\": \"7\", \"payload\": 1}"), "no event_id"),
        (of(&format!("{{{taken}, \"payload\": 1, \"topic\": {{}}}}")), "should be a string"),
        // Both are events until their stream refuses them: the first gets the row.
        (of(&format!("{{{taken}, \"payload\": 1}}")), "WRONGTYPE"),
        (of(&format!("{{{taken}, \"payload\": 2}}")), "another row"),
        // PostgreSQL alone knows that.
        (of(&format!("{{{}, \"payload\": \"\\u0000\"}}", taken.replace("0a0", "1a0"))), "as a row"),
        (format!("{prefix}, repeat('x', 70000000)"), "content was not read"),
    ]
}

#[tokio::test]
async fn what_is_no_event_becomes_a_dead_letter_that_says_why_and_the_line_goes_on() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.redis.run("SET taken x").await;
    let settings = with_messages(&world)
        .with("max_event_bytes", "1MiB")
        .with("poll_interval", "100ms")
        .with("max_retry_attempts", "1")
        .with("dlq_stream_name", "dead");
    let mut relay = settings.start_ready().await;
    client.batch_execute("BEGIN").await.unwrap();
    for (arguments, _) in hostile() {
        emit_by_hand(&client, &arguments).await;
    }
    client.batch_execute("COMMIT").await.unwrap();
    let good = emit(&client, STREAM, 'a').await;
    assert_eq!(ids(&world.consumer().read(1).await), [good]);
    let all = hostile().len();
    let letters = world.consumer_of("dead").read(all).await;
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.get("error_message")).collect();
    for (arguments, says) in hostile() {
        let found = reasons.iter().filter(|reason| reason.contains(says)).count();
        let expected = hostile().iter().filter(|(_, other)| *other == says).count();
        assert_eq!(found, expected, "{says:?} for {arguments:.80}: {reasons:#?}");
    }
    let evidence = letters.iter().find(|letter| letter.get("error_message").contains("a JSON"));
    assert!(evidence.unwrap().get("payload").contains("\"reason\""), "it shows what was written");
    wait::until_equal("dead", i64::try_from(all).unwrap(), PATIENCE, async || {
        count(&client, DEAD).await
    })
    .await;
    world.until_confirmed().await;
    assert_eq!(lines(&relay).await, 1, "nothing of it stops the line");
    assert!(!relay.output().contains("xxxxx"), "no content in a log");
    relay.drain().await;
}

#[tokio::test]
async fn a_server_that_cannot_deliver_messages_is_refused_by_everybody() {
    let mut world = World::bare(&[("wal_level", "replica")], &[]).await;
    world.settings.clone().with("mode", "poll").setup().await;
    let client = world.postgres.client().await;
    let call = format!("SELECT identity.emit_message('A', {ID}, '1')");
    let error = client.execute(&call, &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55000", "{error:?}");
    let auto = with_messages(&world).with("mode", "auto");
    let run = auto.finish("run").await;
    assert_eq!(run.code, Some(1), "{}", run.output);
    assert!(run.output.contains("messages = true") && run.output.contains("wal_level = replica"));
    let check = auto.finish("check").await;
    assert_eq!(check.code, Some(2), "{}", check.output);
    assert!(check.output.contains("setting messages"), "{}", check.output);
    let poll = with_messages(&world).with("mode", "poll").finish("check").await;
    assert_eq!(poll.code, Some(2), "{}", poll.output);
    assert!(poll.output.contains("does not go with mode"), "{}", poll.output);
    // And a role that could not give a refused one a row.
    world.postgres.stop(Stop::Immediate).await;
    world.postgres.set("wal_level", "logical");
    world.postgres.restart().await;
    let role = world.settings.clone().with_arguments(&["--role", "relay"]);
    role.setup().await;
    world.postgres.run("ALTER ROLE relay PASSWORD 'relay'").await;
    let relay =
        with_messages(&world).with("database_url", &world.postgres.url_of("relay", "relay"));
    world.postgres.run("REVOKE ALL ON SEQUENCE identity.outbox_id_seq FROM relay").await;
    let run = relay.finish("run").await;
    assert_eq!(run.code, Some(1), "{}", run.output);
    assert!(run.output.contains("GRANT USAGE ON SEQUENCE identity.outbox_id_seq"));
    let check = relay.finish("check").await;
    assert!(check.output.contains("sequence identity.outbox_id_seq"), "{}", check.output);
    role.setup().await;
    // What setup grants is enough, also for the row of a refused one.
    let mut running = relay.start_ready().await;
    world.redis.run("SET taken x").await;
    let client = world.postgres.client().await;
    emit(&client, "taken", 'a').await;
    wait::until_equal("parked", 1, PATIENCE, async || count(&client, PARKED).await).await;
    running.drain().await;
}
