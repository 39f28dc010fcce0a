//! Events by one SQL call: what is refused could never be published, what is accepted is; users and
//! their events go together, in the order of the row, each once.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio_postgres::{Client, Error};

use crate::harness::consumer::Entry;
use crate::harness::postgres::{self, Postgres};
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count};

/// What docs/emitting.md gives an application; and a schema first in its search_path in which
/// names of ours mean something else.
const APPLICATION: &str = "
    CREATE ROLE app LOGIN PASSWORD 'app';
    GRANT USAGE ON SCHEMA identity TO app;
    GRANT INSERT ON identity.outbox TO app;
    GRANT USAGE ON SEQUENCE identity.outbox_id_seq TO app;
    GRANT SELECT, INSERT, UPDATE ON identity.users TO app;
    CREATE SCHEMA evil AUTHORIZATION app;
    CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE sql AS 'SELECT 1 / 0';
    CREATE FUNCTION evil.gen_random_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid';
    CREATE FUNCTION evil.differ(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
    CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.differ);
    ALTER ROLE app SET search_path = evil, pg_catalog, public";

async fn application(postgres: &Postgres) -> Client {
    postgres.run(APPLICATION).await;
    postgres::client(&postgres.url_of("app", "app")).await
}

/// The code and the message of a refusal.
fn refusal(answer: Result<u64, Error>, call: &str) -> (String, String) {
    let Err(error) = answer else { panic!("not refused: {call}") };
    let error = error.as_db_error().unwrap_or_else(|| panic!("{call}: {error}"));
    let hint = error.hint().unwrap_or_default();
    assert!(!hint.is_empty(), "{call}: {} without a hint", error.message());
    (error.code().code().to_owned(), error.message().to_owned())
}

/// The operators and functions of evil stand before PostgreSQL's: here we want the real one.
const ID: &str = "pg_catalog.gen_random_uuid()";

/// A call with these arguments behind type, aggregate and payload.
fn emit(more: &str) -> String {
    format!("SELECT identity.emit_event('Said', {ID}, '{{\"n\": 1}}'{more})::text")
}

fn traced(trace: &str) -> String {
    emit(&format!(", traceparent => '{trace}'"))
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Calls that are refused, by which SQLSTATE and with which words.
fn refused() -> Vec<(String, &'static str, &'static str)> {
    let event = |kind: &str, id: &str, payload: &str| {
        format!("SELECT identity.emit_event({kind}, {id}, {payload})")
    };
    let no_parent = TRACE.replace("00f067aa0ba902b7", &"0".repeat(16));
    let no_trace = TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
    vec![
        (event("''", ID, "'{}'"), "22023", "no event_type"),
        (event("E' \\n'", ID, "'{}'"), "22023", "no event_type"),
        (event("NULL", ID, "'{}'"), "22023", "no event_type"),
        (event("'A'", "NULL", "'{}'"), "22004", "no aggregate_id"),
        (event("'A'", ID, "NULL"), "22004", "no payload"),
        (emit(", ''"), "22023", "stream name"),
        (emit(", repeat('é', 257)"), "22023", "stream name"),
        (emit(", E'a\\nb'"), "22023", "stream name"),
        (emit(", 'a' || chr(127)"), "22023", "stream name"),
        (emit(", 'a' || chr(133)"), "22023", "stream name"),
        (emit(", correlation_id => repeat('é', 9999)"), "54000", "max_event_bytes is 20000"),
        // Twelve bytes in memory, and what PostgreSQL prints of them.
        (event("'A'", ID, "'1e20000'"), "54000", "max_event_bytes"),
        (traced("x"), "22023", "traceparent"),
        (traced(&TRACE.to_uppercase()), "22023", "traceparent"),
        (traced(&format!("{TRACE}-more")), "22023", "traceparent"),
        (traced(&format!("ff{}", &TRACE[2..])), "22023", "traceparent"),
        (traced(&no_parent), "22023", "traceparent"),
        (traced(&no_trace), "22023", "traceparent"),
    ]
}

const NAMED: &str = "0a0eebc9-9c0b-4ef8-bb6d-6bb9bd380a11";

/// Calls at the edge of what is accepted.
fn accepted() -> [String; 6] {
    [
        emit(""),
        emit(", repeat('é', 256)"),
        emit(&format!(", 'with a space €', 'order', {ID}, 'request 7'")),
        emit(&format!(", traceparent => '{TRACE}', schema_version => '2', event_id => '{NAMED}'")),
        traced(&format!("cc{}-later", &TRACE[2..])),
        emit(", correlation_id => repeat('c', 19800), traceparent => ''"),
    ]
}

#[tokio::test]
async fn what_emit_event_refuses_says_why_and_what_it_accepts_is_published_under_its_id() {
    let world = World::bare(&[], &[]).await;
    let settings = world.settings.clone().with("max_event_bytes", "20000");
    settings.setup().await;
    let app = application(&world.postgres).await;
    for (call, code, says) in refused() {
        let (found, message) = refusal(app.execute(&call, &[]).await, &call);
        assert_eq!(found, code, "{call}: {message}");
        assert!(message.contains(says), "{call}: {message}");
    }
    let owner = world.postgres.client().await;
    assert_eq!(count(&owner, "identity.outbox").await, 0, "refused and written all the same");
    let mut ids = Vec::new();
    for call in accepted() {
        app.batch_execute("BEGIN").await.unwrap();
        app.query_one(&call, &[]).await.unwrap();
        app.batch_execute("ROLLBACK; BEGIN").await.unwrap();
        ids.push(app.query_one(&call, &[]).await.unwrap().get::<_, String>(0));
        app.batch_execute("COMMIT").await.unwrap();
    }
    assert_eq!(ids[3], NAMED);
    let twice = app.execute(&accepted()[3], &[]).await;
    assert_eq!(twice.unwrap_err().code().unwrap().code(), "23505", "an event_id is there once");

    let mut relay = settings.start_ready().await;
    let entries = world.consumer().read(4).await;
    let found: Vec<&str> = entries.iter().map(Entry::event_id).collect();
    assert_eq!(found, [&ids[0], &ids[3], &ids[4], &ids[5]]);
    let says = |entry: &Entry, field: &str| entry.find(field).unwrap_or("nothing").to_owned();
    assert_eq!(says(&entries[0], "aggregate_type"), "user");
    assert_eq!(says(&entries[0], "payload"), "{\"n\": 1}");
    assert_eq!(says(&entries[0], "traceparent"), "nothing");
    assert_eq!(says(&entries[1], "traceparent"), TRACE);
    assert_eq!(says(&entries[1], "schema_version"), "2");
    assert_eq!(says(&entries[3], "traceparent"), "nothing");
    let other = world.consumer_of("with a space €").read(1).await.remove(0);
    assert_eq!(other.event_id(), ids[2]);
    assert_eq!(says(&other, "aggregate_type"), "order");
    assert_eq!(says(&other, "correlation_id"), "request 7");
    assert_eq!(world.consumer_of(&"é".repeat(256)).read(1).await[0].event_id(), ids[1]);
    world.until_marked().await;
    relay.drain().await;
}

/// The events of all users in the order of the outbox: type, changed fields, and the payload.
async fn events(client: &Client) -> Vec<(String, Value)> {
    let query = "SELECT event_type, payload::text FROM identity.outbox ORDER BY id";
    let rows = client.query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), serde_json::from_str(row.get(1)).unwrap())).collect()
}

/// What happened, shortly: types, with what has changed.
fn story(events: &[(String, Value)]) -> Vec<String> {
    let tell = |(kind, payload): &(String, Value)| {
        let kind = kind.strip_prefix("User").unwrap_or(kind);
        payload.get("changed_fields").map_or(kind.to_owned(), |fields| format!("{kind} {fields}"))
    };
    events.iter().map(tell).collect()
}

fn keys(payload: &Value) -> BTreeSet<&str> {
    payload.as_object().unwrap().keys().map(String::as_str).collect()
}

/// What the schemas of docs/emitting.md name.
const FIELDS: [&str; 7] =
    ["user_id", "tenant_id", "email", "display_name", "status", "created_at", "updated_at"];

/// What must work, as an application does it.
async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

#[tokio::test]
async fn a_user_and_its_events_are_one_and_callers_at_once_take_turns() {
    let world = World::new().await;
    let one = application(&world.postgres).await;
    let two = postgres::client(&world.postgres.url_of("app", "app")).await;
    let watch = world.postgres.client().await;
    let call = "SELECT u.id::text FROM identity.create_user('Ada@example.org', 'Ada') AS u";
    let user: String = one.query_one(call, &[]).await.unwrap().get(0);
    assert_nothing_is_told(&one, &user).await;
    assert_eq!(story(&events(&watch).await), ["Created"]);
    take_turns(&one, two, &watch, &user).await;
    let call = |function: &str| format!("SELECT identity.{}", function.replace("USER", &user));
    for _ in 0..2 {
        run(&one, &call("disable_user('USER', 'ops', 'left', 'request 9')")).await;
    }
    run(&one, &call("update_user('USER', status => 'active')")).await;
    let told = events(&watch).await;
    assert_told(&told);

    let mut relay = world.settings.start_ready().await;
    world.assert_all_published().await;
    let entries = world.consumer().read(told.len()).await;
    assert!(entries.iter().all(|entry| entry.get("aggregate_id") == user));
    assert_eq!(entries[3].get("correlation_id"), "request 9");
    relay.drain().await;
}

/// What is refused, changes nothing or is rolled back is not heard of, nor is the row written.
async fn assert_nothing_is_told(client: &Client, user: &str) {
    for (function, code, says) in [
        ("create_user(' ')", "22023", "has no email"),
        ("update_user('USER', email => '')", "22023", "email is empty"),
        ("update_user('USER', status => 'disabled')", "22023", "does not disable"),
        ("update_user('ID', 'b@example.org')", "P0002", "there is no user"),
        ("disable_user('ID')", "P0002", "there is no user"),
    ] {
        let function = function.replace("USER", user).replace("ID", NAMED);
        let call = format!("SELECT identity.{function}");
        let (found, message) = refusal(client.execute(&call, &[]).await, &call);
        assert!(found == code && message.contains(says), "{call}: {found} {message}");
    }
    let twin = client.execute("SELECT identity.create_user('ADA@example.org')", &[]).await;
    assert_eq!(twin.unwrap_err().code().unwrap().code(), "23505", "an address is one person");
    let version = async || {
        let row = client.query_one("SELECT xmin::text FROM identity.users", &[]).await;
        row.unwrap().get::<_, String>(0)
    };
    let before = version().await;
    for nothing in [
        "SELECT identity.update_user('USER')",
        "SELECT identity.update_user('USER', 'Ada@example.org', 'Ada', 'active')",
        "BEGIN; SELECT identity.update_user('USER', 'gone@example.org'); ROLLBACK",
    ] {
        run(client, &nothing.replace("USER", user)).await;
    }
    assert_eq!(version().await, before);
}

/// Two begins before one, and works on the row after it.
async fn take_turns(one: &Client, two: Client, watch: &Client, user: &str) {
    run(&two, "BEGIN; SELECT now()").await;
    let pid: i32 = two.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let first = format!("BEGIN; SELECT identity.update_user('{user}', 'ada@example.org')");
    run(one, &first).await;
    let second = format!("SELECT identity.update_user('{user}', display_name => ''); COMMIT");
    let second = tokio::spawn(async move { run(&two, &second).await });
    wait::until_equal("two waits for one", Some(true), PATIENCE, async || {
        let query = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1";
        watch.query_one(query, &[&pid]).await.unwrap().get::<_, Option<bool>>(0)
    })
    .await;
    run(one, "COMMIT").await;
    second.await.unwrap();
}

fn assert_told(told: &[(String, Value)]) {
    let updated = |field: &str| format!("Updated [\"{field}\"]");
    let wanted = [
        "Created".to_owned(),
        updated("email"),
        updated("display_name"),
        "Disabled".to_owned(),
        updated("status"),
    ];
    assert_eq!(story(told), wanted);
    let text = |at: usize, field: &str| told[at].1[field].as_str().unwrap_or("null");
    let each = |field: &str| [0, 1, 2].map(|at| text(at, field));
    // The second knows what the first has written.
    assert_eq!(each("email"), ["Ada@example.org", "ada@example.org", "ada@example.org"]);
    assert_eq!(each("display_name"), ["Ada", "Ada", "null"]);
    assert_eq!(text(3, "disabled_at"), text(3, "updated_at"));
    assert_eq!([text(3, "disabled_by"), text(3, "reason")], ["ops", "left"]);
    let moments = [0, 1, 2, 3, 4].map(|at| text(at, "updated_at"));
    assert!(moments.is_sorted_by(|a, b| a < b), "updated_at goes back: {moments:?}");
    assert!(moments.iter().all(|moment| moment.ends_with("+00:00") && moment.len() == 32));
    for (at, more) in
        [(0, &[][..]), (1, &["changed_fields"]), (3, &["disabled_at", "disabled_by", "reason"])]
    {
        let wanted: BTreeSet<&str> = FIELDS.iter().chain(more).copied().collect();
        assert_eq!(keys(&told[at].1), wanted);
    }
}

const LEGACY: &str = "
    CREATE TABLE \"le gacy\" (uid uuid, \"mail %s\" text, active boolean, born timestamp);
    INSERT INTO \"le gacy\" SELECT
        md5(n::text)::uuid, 'User' || n || '@example.org', n <> 2,
        '2020-01-01'::timestamp + n * '1s'::interval
    FROM generate_series(1, 3) AS n ORDER BY n DESC;
    INSERT INTO \"le gacy\" VALUES
        (md5('4')::uuid, 'USER1@example.org', true, '2021-01-01'),
        (md5('5')::uuid, NULL, true, NULL)";

/// The columns of that table.
const COLUMNS: &str = "'\"le gacy\"', email => 'mail %s', status => 'active', created_at => 'born'";

#[tokio::test]
async fn plain_sql_tells_no_event_twice_and_users_move_in_once() {
    let postgres = Postgres::start_with(&[("fsync", "off")]).await;
    let settings = Settings::new(&postgres.url(), "redis://127.0.0.1:1");
    let client = postgres.client().await;
    assert_theirs_is_left_alone(&settings, &client).await;
    assert_plain_sql_is_told(&client).await;
    assert_users_move_in(&client).await;
}

/// A function of that name that is not ours stays, and ours stay away from it, and from a table
/// that is not ours.
async fn assert_theirs_is_left_alone(settings: &Settings, client: &Client) {
    let theirs = "CREATE SCHEMA identity; CREATE FUNCTION identity.create_user(text) RETURNS int
        LANGUAGE sql AS 'SELECT 1'";
    run(client, theirs).await;
    let done = settings.finish("setup").await;
    let says = "left out: not of walrelay: identity.create_user(text)";
    assert!(done.code == Some(0) && done.output.contains(says), "{}", done.output);
    let ours = "pg_proc WHERE pronamespace = 'identity'::regnamespace";
    assert_eq!(count(client, ours).await, 1);
    run(client, "DROP FUNCTION identity.create_user(text)").await;
    settings.setup().await;
    assert!(count(client, ours).await > 5);
    let elsewhere = "CREATE TABLE public.events (id bigserial, event_id uuid, event_type text,
        aggregate_id uuid, payload jsonb)";
    run(client, elsewhere).await;
    let other = settings.clone().with("outbox_table", "public.events");
    let other = other.with("publication_name", "other").with("slot_name", "other");
    let done = other.finish("setup").await;
    assert!(done.code == Some(0) && !done.output.contains("functions"), "{}", done.output);
}

async fn assert_plain_sql_is_told(client: &Client) {
    run(client, "INSERT INTO identity.users (email) VALUES ('a@example.org')").await;
    assert_eq!(count(client, "identity.outbox").await, 0, "nobody asked for events");
    for change in [
        "SELECT identity.enable_user_events()",
        "SELECT identity.enable_user_events()",
        "SELECT identity.create_user('b@example.org', 'B')",
        "INSERT INTO identity.users (email) VALUES ('c@example.org')",
        "UPDATE identity.users SET updated_at = now()",
        "UPDATE identity.users SET display_name = 'b' WHERE email = 'b@example.org'",
        "SELECT identity.update_user(id, 'C@example.org') FROM identity.users
             WHERE email = 'c@example.org'",
        "UPDATE identity.users SET status = 'disabled', display_name = 'c'
             WHERE email = 'C@example.org'",
        "UPDATE identity.users SET status = 'active' WHERE email = 'C@example.org'",
        "SELECT identity.disable_user(id) FROM identity.users WHERE email = 'C@example.org'",
        "BEGIN; SET LOCAL walrelay.user_events = off;
             UPDATE identity.users SET display_name = 'x'; COMMIT",
        "DELETE FROM identity.users WHERE email <> 'a@example.org'",
    ] {
        run(client, change).await;
    }
    let call = "UPDATE identity.users SET id = gen_random_uuid()";
    let (code, message) = refusal(client.execute(call, &[]).await, call);
    assert_eq!(code, "0A000", "{message}");
    for _ in 0..2 {
        run(client, "SELECT identity.disable_user_events()").await;
    }
    run(client, "UPDATE identity.users SET display_name = 'y'").await;
    let told = events(client).await;
    let updated = |field: &str| format!("Updated [\"{field}\"]");
    let wanted = [
        "Created".to_owned(),
        "Created".to_owned(),
        updated("display_name"),
        updated("email"),
        updated("display_name"),
        "Disabled".to_owned(),
        updated("status"),
        "Disabled".to_owned(),
        "Disabled".to_owned(),
        "Disabled".to_owned(),
    ];
    assert_eq!(story(&told), wanted);
    let status = [4, 5].map(|at| told[at].1["status"].as_str().unwrap());
    assert_eq!(status, ["active", "disabled"], "two steps, two events");
    assert!(told[8..].iter().all(|(_, payload)| payload["reason"] == "deleted"));
}

async fn assert_users_move_in(client: &Client) {
    run(client, "TRUNCATE identity.outbox; SELECT identity.enable_user_events()").await;
    run(client, LEGACY).await;
    for wrong in ["'\"le gacy\"', id => 'uid'", COLUMNS] {
        let call = format!("SELECT identity.migrate_users({wrong})");
        let (code, message) = refusal(client.execute(&call, &[]).await, &call);
        assert_eq!(code, "42703", "{call}: {message}");
    }
    let import = async |more: &str| {
        let call = format!("SELECT m::text FROM identity.migrate_users({COLUMNS}, {more}) AS m");
        client.query_one(&call, &[]).await.unwrap().get::<_, String>(0)
    };
    // Rows, imported, there already, addresses taken, without one, events.
    assert_eq!(import("id => 'uid', emit => true").await, "(5,3,0,1,1,3)");
    assert_eq!(import("id => 'uid', emit => true").await, "(5,0,3,1,1,0)");
    assert_eq!(import("id => 'uid'").await, "(5,0,3,1,1,0)");
    let told = events(client).await;
    let said = |field: &str| {
        told.iter().map(|(_, payload)| payload[field].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(story(&told), ["Created"; 3], "one for each, with the trigger at hand");
    assert_eq!(said("email"), ["User1@example.org", "User2@example.org", "User3@example.org"]);
    assert_eq!(said("status"), ["active", "disabled", "active"]);
    // Without an id the address tells who is there; and nobody hears of it unless asked to.
    run(client, "DELETE FROM identity.users; TRUNCATE identity.outbox").await;
    assert_eq!(import("id => ''").await, "(5,3,1,0,1,0)");
    assert_eq!(import("id => ''").await, "(5,0,4,0,1,0)");
    assert_eq!(count(client, "identity.outbox").await, 0);
}
