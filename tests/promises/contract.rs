//! The events contract: what we write keeps to the schemas that we ship, and what breaks a schema
//! is refused or told by path and rule, never by value.

use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::harness::relay::{Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert, insert_many};

const DLQ: &str = "identity.user.v1.dlq";
const DEAD: &str = "identity.outbox WHERE dead_lettered_at IS NOT NULL";
/// A value that nobody may repeat.
const SECRET: &str = "hunter2";
/// What `insert` writes keeps to it.
const SCHEMA: &str = r#"{"required": ["n"], "properties": {"n": {"type": "integer"}}}"#;

fn shipped(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn schemas(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn held_against(settings: &Settings, dir: &Path, validation: &str) -> Settings {
    settings
        .clone()
        .with("durability", "memory")
        .with("poll_interval", "100ms")
        .with("schema_dir", dir.to_str().unwrap())
        .with("schema_validation", validation)
}

/// A row whose `n` is a text.
async fn plant(client: &Client, event_type: &str) {
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 VALUES ($1, gen_random_uuid(), jsonb_build_object('n', $2::text))";
    client.execute(query, &[&event_type, &SECRET]).await.unwrap();
}

/// `walrelay schema check --json` and these arguments.
fn check(settings: &Settings, arguments: &[&str], code: i32) -> Value {
    let arguments = [&["check", "--json"], arguments].concat();
    let done = settings.clone().with_arguments(&arguments).say("schema");
    assert_eq!(done.code, Some(code), "{arguments:?}:\n{}{}", done.stdout, done.stderr);
    assert!(!(done.stdout.clone() + &done.stderr).contains(SECRET), "{}", done.stdout);
    serde_json::from_str(&done.stdout).unwrap()
}

async fn until_dead(client: &Client, wanted: i64) {
    wait::until_equal("dead rows", wanted, PATIENCE, async || count(client, DEAD).await).await;
}

async fn until_counted(relay: &Relay, line: &str) {
    wait::until(&format!("{line} on /metrics"), PATIENCE, async || {
        let (_, page) = relay.get("/metrics").await?;
        page.lines().any(|found| found == line).then_some(())
    })
    .await;
}

/// Every way in which users become events.
const USERS: &str = "
    SELECT identity.create_user('Ada@example.org', 'Ada', gen_random_uuid());
    SELECT identity.create_user('bob@example.org', correlation_id => 'request 7',
        traceparent => '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01');
    SELECT identity.update_user(u.id, email => 'ada@example.org', display_name => '')
        FROM identity.users AS u WHERE u.email = 'Ada@example.org';
    SELECT identity.disable_user(u.id, 'root', 'left') FROM identity.users AS u
        WHERE u.email = 'ada@example.org';
    SELECT identity.update_user(u.id, status => 'active') FROM identity.users AS u
        WHERE u.email = 'ada@example.org';
    SELECT identity.disable_user(u.id) FROM identity.users AS u WHERE u.email = 'ada@example.org';
    SELECT identity.enable_user_events();
    INSERT INTO identity.users (email) VALUES ('');
    UPDATE identity.users SET display_name = 'Bob', status = 'disabled'
        WHERE email = 'bob@example.org';
    DELETE FROM identity.users WHERE email = ''";
const USER_EVENTS: usize = 10;

#[tokio::test]
async fn what_we_write_keeps_to_the_schemas_that_we_ship() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let settings = held_against(&world.settings, &dir, "reject").with("entry_format", "json");
    let mut relay = settings.start_ready().await;
    client.batch_execute(USERS).await.unwrap();
    insert_for(&client, "Other").await;
    world.consumer().until_len(USER_EVENTS + 1).await;
    let again = settings.clone().with_arguments(&["--id", "1"]).finish("replay").await;
    assert_eq!(again.code, Some(0), "{}", again.output);
    let entries = world.consumer().read(USER_EVENTS + 2).await;
    let envelope = shipped("_envelope.json");
    let (required, known) = (&envelope["required"], keys(&envelope["properties"]));
    assert_eq!(required.as_array().unwrap().len(), 8);
    let (of_envelope, mut seen) = (validator(&envelope), BTreeSet::new());
    for entry in &entries {
        let event: Value = serde_json::from_str(entry.get("data")).unwrap();
        let faults: Vec<String> = of_envelope.iter_errors(&event).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?} in {event}");
        assert!(keys(&event).is_subset(&known), "{event}");
        let event_type = event["event_type"].as_str().unwrap().to_owned();
        if event_type == "Other" {
            continue;
        }
        let schema = shipped(&format!("{STREAM}/{event_type}.json"));
        let payload = &event["payload"];
        let faults: Vec<String> =
            validator(&schema).iter_errors(payload).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?} in {event}");
        assert_eq!(keys(payload), keys(&schema["properties"]), "{event_type}");
        let required = schema["required"].as_array().unwrap().iter();
        assert_eq!(keys(payload), required.map(|name| name.as_str().unwrap()).collect());
        seen.insert(event_type);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(count(&client, DEAD).await, 0);
    let found = check(&settings.without("schema_validation"), &[], 0);
    let created = &found["types"][1];
    let file = format!("{STREAM}/UserCreated.json");
    assert_eq!((&created["schema"], &created["rows"]), (&file.into(), &3.into()), "{found}");
    assert_eq!(created["entries"], 4, "one of them replayed: {found}");
    assert_eq!(
        (&found["types"][0]["type"], &found["types"][0]["schema"]),
        (&"Other".into(), &Value::Null)
    );
    relay.drain().await;
}

#[test]
fn the_schemas_that_we_ship_refuse_what_we_never_write() {
    let user = serde_json::json!({
        "user_id": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "email": "a", "display_name": null,
        "tenant_id": "00000000-0000-0000-0000-000000000000", "status": "active",
        "created_at": "2026-11-21T21:15:59.123456+00:00",
        "updated_at": "2026-11-21T21:15:59.123456+00:00", "changed_fields": ["email"],
    });
    let schema = validator(&shipped(&format!("{STREAM}/UserUpdated.json")));
    assert!(schema.is_valid(&user));
    for (name, value) in [
        ("user_id", "7".into()),
        ("tenant_id", Value::Null),
        ("email", Value::Null),
        ("display_name", 7.into()),
        ("status", "gone".into()),
        ("created_at", "2026-11-21 21:15:59+00".into()),
        ("changed_fields", Value::Array(Vec::new())),
        ("changed_fields", vec!["email", "email"].into()),
        ("changed_fields", vec!["password"].into()),
    ] {
        let mut wrong = user.clone();
        wrong[name] = value;
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

async fn insert_for(client: &Client, event_type: &str) {
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 VALUES ($1, gen_random_uuid(), '{}')";
    client.execute(query, &[&event_type]).await.unwrap();
}

/// The letters name path and rule, and carry what died.
async fn assert_letters(world: &World, wanted: usize) {
    for letter in world.consumer_of(DLQ).read(wanted).await {
        let error = letter.get("error_message");
        assert_eq!(error, "payload breaks schema UserCreated.json: /n against type integer");
        assert_eq!(letter.get("payload"), format!(r#"{{"n": "{SECRET}"}}"#));
        assert_eq!(letter.get("attempts"), "0");
    }
}

#[tokio::test]
async fn with_reject_a_violation_is_a_dead_letter_wherever_the_event_comes_from() {
    let world = World::bare(&[], &[]).await;
    let dir = schemas(&[("UserCreated.json", SCHEMA)]);
    let settings = held_against(&world.settings, dir.path(), "reject");
    let before = settings.clone().with("schema_validation", "off");
    before.clone().with("mode", "poll").setup().await;
    let client = world.postgres.client().await;
    // Rows from before the slot, and the question whether they would pass.
    insert_many(&client, 1, 2).await.unwrap();
    plant(&client, "UserCreated").await;
    let found = check(&before, &["--only", "rows"], 1);
    let first = &found["first"][0];
    assert_eq!(
        (&first["row"], &first["path"], &first["rule"]),
        (&3.into(), &"/n".into(), &"type integer".into())
    );
    assert_eq!((&found["violations"], &found["types"][0]["rows"]), (&1.into(), &3.into()));

    let mut relay = settings.start_ready().await;
    until_dead(&client, 1).await;
    // From the WAL; one of a type without a schema passes.
    insert(&client, 4).await.unwrap();
    plant(&client, "UserCreated").await;
    plant(&client, "Other").await;
    until_dead(&client, 2).await;
    world.consumer().until_len(4).await;
    assert_letters(&world, 2).await;
    until_counted(&relay, "walrelay_events_rejected_total{reason=\"schema\"} 1").await;
    relay.drain().await;
    assert!(!relay.output().contains(SECRET), "{}", relay.output());

    // Sent once more, what breaks its schema is left out and said.
    let replay = ["--since", "1h", "--stream", "rebuild"];
    let again = settings.clone().with_arguments(&replay).finish("replay").await;
    assert_eq!(again.code, Some(1), "{}", again.output);
    assert!(again.output.contains("/n against type integer"), "{}", again.output);
    assert!(!again.output.contains(SECRET), "{}", again.output);
    assert_eq!(world.consumer_of("rebuild").len().await, Some(4));

    // The same by polling, and strict.
    let polling = settings.clone().with("mode", "poll").with("schema_strict", "true");
    let mut relay = polling.start_ready().await;
    plant(&client, "UserCreated").await;
    until_dead(&client, 3).await;
    assert_letters(&world, 3).await;
    insert(&client, 5).await.unwrap();
    insert_for(&client, "Other").await;
    until_dead(&client, 4).await;
    let letters = world.consumer_of(DLQ).read(4).await;
    assert!(letters[3].get("error_message").contains("schema_strict"), "{letters:?}");
    world.consumer().until_len(5).await;
    relay.drain().await;
    assert!(!relay.output().contains(SECRET), "{}", relay.output());
}

#[tokio::test]
async fn with_warn_it_is_published_counted_and_told_now_and_then() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let dir = schemas(&[("UserCreated.json", SCHEMA), ("Other.json", "true")]);
    let settings = held_against(&world.settings, dir.path(), "warn");
    let mut relay = settings.start_ready().await;
    for _ in 0..3 {
        plant(&client, "UserCreated").await;
    }
    insert(&client, 1).await.unwrap();
    world.consumer().until_len(4).await;
    until_counted(&relay, "walrelay_schema_violations_total{schema=\"UserCreated.json\"} 3").await;
    until_counted(&relay, "walrelay_schema_violations_total{schema=\"Other.json\"} 0").await;
    let told = relay.output().matches("/n against type integer").count();
    assert_eq!(told, 1, "a warning a minute:\n{}", relay.output());
    assert!(!relay.output().contains(SECRET), "{}", relay.output());
    assert_eq!(count(&client, DEAD).await, 0);
    relay.drain().await;

    // An entry that no row wrote.
    let bad = "XADD identity.user.v1 * event_id e-1 event_type UserCreated payload {}";
    world.redis.run(bad).await;
    let found = check(&settings, &[], 1);
    assert_eq!(found["violations"], 7, "{found}");
    let count = &found["types"][0];
    assert_eq!((&count["rows"], &count["entries"]), (&4.into(), &5.into()), "{found}");
    let last = &found["first"][6];
    assert_eq!((&last["event_id"], &last["rule"]), (&"e-1".into(), &"required \"n\"".into()));
    assert!(last["entry"].as_str().is_some_and(|id| id.contains('-')), "{found}");
    let found = check(&settings, &["--only", "entries", "--limit", "1", "--since", "1h"], 1);
    assert_eq!((&found["violations"], found["first"].as_array().unwrap().len()), (&4.into(), 1));
    assert_eq!(check(&settings, &["--type", "Other"], 0)["types"], Value::Array(Vec::new()));
    assert_eq!(check(&settings, &["--to-id", "0", "--stream", "none"], 0)["violations"], 0);
    let text = settings.clone().with_arguments(&["check"]).say("schema");
    assert!(text.stdout.contains("7 violations") && text.stdout.contains("/n"), "{}", text.stdout);
    assert!(!text.stdout.contains(SECRET), "{}", text.stdout);
}

#[tokio::test]
async fn a_schema_that_is_none_is_refused_at_the_start_and_told_by_check() {
    let settings = Settings::new("postgresql://nobody@127.0.0.1:1/x", "redis://127.0.0.1:1");
    let settings = settings.with("connect_timeout", "1s");
    for (files, says) in [
        (&[("s/A.json", "{")][..], "A.json is not JSON"),
        (&[("s/A.json", r#"{"type": "strnig"}"#)], "schema s/A.json is none at /type"),
        (&[("s/A.json", r#"{"$ref": "file:///etc/hosts"}"#)], "nothing is fetched"),
        (&[("README.md", "")], "holds no schema"),
    ] {
        let dir = schemas(files);
        let settings = held_against(&settings, dir.path(), "warn");
        let run = settings.finish("run").await;
        assert_eq!(run.code, Some(2), "{}", run.output);
        assert!(run.output.contains(says), "{}", run.output);
        let done = settings.clone().with_arguments(&["check"]).finish("schema").await;
        assert_eq!(done.code, Some(2), "{}", done.output);
        let check = settings.finish("check").await;
        let row = check.output.lines().find(|line| line.contains("schema_dir")).unwrap();
        assert!(row.contains("FAILURE") && row.contains(says), "{}", check.output);
    }
    let missing = settings.clone().with("schema_validation", "reject").finish("run").await;
    assert_eq!(missing.code, Some(2), "{}", missing.output);
    assert!(missing.output.contains("needs schema_dir"), "{}", missing.output);
    let gone = held_against(&settings, Path::new("/nowhere/at/all"), "reject").finish("run").await;
    assert_eq!(gone.code, Some(2), "{}", gone.output);
    assert!(gone.output.contains("cannot read /nowhere/at/all"), "{}", gone.output);
}
