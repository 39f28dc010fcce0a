//! `entry_format = cloudevents` by the official schema of CloudEvents 1.0, of which a copy stands
//! in `tests/golden/cloudevents`.

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::harness::world::World;

/// Everything a row may have or lack, and a payload of each kind.
const ROWS: &str = r#"INSERT INTO identity.outbox (event_type, aggregate_type, aggregate_id,
        payload, tenant_id, correlation_id, traceparent, schema_version, created_at)
    SELECT 'User "Created" – né', t, gen_random_uuid(), p::jsonb, CASE n % 2 WHEN 0 THEN
        gen_random_uuid() END, c, CASE n % 3 WHEN 0 THEN '00-4bf92f35-00f067aa-01' END, v, at
    FROM (VALUES
        (1, 'user', '{"a": [1.50, {"b": null}]}', 'request-7', '3', now()),
        (2, '', '"a text"', '', '1', '2026-02-28 23:59:59.999999+05:45'),
        (3, 'role', '[1, 2]', NULL, NULL, '0001-01-01 00:00:00+00'),
        (4, 'a b', '42', 'ü', '2.0-beta', '9999-12-31 23:59:59+00'),
        (5, 'user', 'true', NULL, '1', '1996-12-19 16:39:57-08'),
        (6, 'user', 'null', NULL, '1', now())) AS rows (n, t, p, c, v, at)"#;
const KINDS: usize = 6;

fn official() -> Validator {
    let path = "tests/golden/cloudevents/cloudevents-1.0.schema.json";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let schema = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

/// What the specification asks of attributes and the schema cannot say:
/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#context-attributes>.
fn assert_attributes(event: &Value) {
    assert_eq!(event["specversion"], "1.0", "{event}");
    for (name, value) in event.as_object().unwrap().iter().filter(|(name, _)| *name != "data") {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        assert!(name.chars().all(is_name), "no attribute is called {name}: {event}");
        let is_value = value.is_boolean() || value.as_str().is_some_and(|text| !text.is_empty());
        assert!(is_value, "{name} is neither a truth nor a text of something: {event}");
    }
}

#[tokio::test]
async fn every_entry_is_valid_by_the_official_schema_also_when_it_is_replayed() {
    let schema = official();
    let world = World::new().await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("entry_format", "cloudevents");
    let settings = settings.with("durability", "memory");
    let mut relay = settings.start_ready().await;
    client.batch_execute(ROWS).await.unwrap();
    world.consumer().until_len(KINDS).await;
    let ids = ["--id", "1", "2", "3", "4", "5", "6"];
    let again = settings.with_arguments(&ids).finish("replay").await;
    assert_eq!(again.code, Some(0), "{}", again.output);
    let entries = world.consumer().read(2 * KINDS).await;
    let mut replayed = 0;
    for entry in &entries {
        let event: Value = serde_json::from_str(entry.get("data")).unwrap();
        let faults: Vec<String> = schema.iter_errors(&event).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?} in {event}");
        assert_attributes(&event);
        replayed += usize::from(event["replayed"] == true);
    }
    assert_eq!(replayed, KINDS, "those that were sent again say so");
    relay.drain().await;
}

#[test]
fn the_schema_refuses_what_is_no_cloudevent() {
    let schema = official();
    let event = json!({"specversion": "1.0", "id": "1", "source": "/identity/outbox", "type": "t",
        "time": "2026-11-21T04:38:15.123456+00:00", "subject": "a", "data": {}});
    assert!(schema.is_valid(&event));
    let wrong = [
        ("id", Value::Null),
        ("type", json!("")),
        ("source", json!("a b")),
        ("subject", json!("")),
        ("time", json!("2026-11-21 04:38:15+00")),
        ("datacontenttype", json!(1)),
    ];
    for (name, value) in wrong {
        let mut event = event.clone();
        event[name] = value;
        assert!(!schema.is_valid(&event), "{event}");
    }
}
