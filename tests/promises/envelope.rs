//! What consumers read: the three formats, and payload bytes as PostgreSQL prints them.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::harness::consumer::Entry;
use crate::harness::world::{STREAM, World, insert};

const NIL: &str = "00000000-0000-0000-0000-000000000000";
const TENANT: &str = "7f3c0f4e-5a57-4b1e-9f0a-3c1f6f1d2a10";

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// As `occurred_at` is written when it is the commit's.
const UTC_NOW: &str = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC',
    'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')";

/// One row with everything there is, and what PostgreSQL says of it.
async fn full_row(client: &Client) -> tokio_postgres::Row {
    let query = "INSERT INTO identity.outbox (event_type, aggregate_type, aggregate_id, payload,
                    tenant_id, correlation_id, traceparent, schema_version)
                 VALUES ('UserCreated', 'account', gen_random_uuid(), '{\"b\": 1, \"a\": [1.50]}',
                    $1::text::uuid, 'request-7',
                    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '3')
                 RETURNING event_id::text, aggregate_id::text, payload::text,
                    to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') AS at";
    client.query_one(query, &[&TENANT]).await.unwrap()
}

/// The same moment; PostgreSQL leaves trailing zeros of the fraction out.
fn assert_same_moment(rfc3339: &str, wanted: &str) {
    let (moment, offset) = rfc3339.split_at(rfc3339.len() - 6);
    assert_eq!(offset, "+00:00");
    assert!(wanted.starts_with(moment.trim_end_matches('0')), "{rfc3339} is not {wanted}");
}

async fn first_entry(world: &World) -> Entry {
    world.consumer().read(1).await.swap_remove(0)
}

#[tokio::test]
async fn fields_holds_every_value_under_its_own_name() {
    let world = World::new().await;
    let row = full_row(&world.postgres.client().await).await;
    let mut relay = world.settings.start_ready().await;
    let entry = first_entry(&world).await;
    let names: Vec<&str> = entry.fields.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = [
        "event_id",
        "event_type",
        "topic",
        "schema_version",
        "occurred_at",
        "tenant_id",
        "aggregate_id",
        "aggregate_type",
        "payload",
        "correlation_id",
        "traceparent",
    ];
    assert_eq!(names, wanted);
    assert_eq!(entry.get("event_id"), row.get::<_, &str>("event_id"));
    assert_eq!(entry.get("event_type"), "UserCreated");
    assert_eq!(entry.get("topic"), STREAM);
    assert_eq!(entry.get("schema_version"), "3");
    assert_same_moment(entry.get("occurred_at"), row.get("at"));
    assert_eq!(entry.get("tenant_id"), TENANT);
    assert_eq!(entry.get("aggregate_id"), row.get::<_, &str>("aggregate_id"));
    assert_eq!(entry.get("aggregate_type"), "account");
    assert_eq!(entry.get("payload"), row.get::<_, &str>("payload"));
    assert_eq!(entry.get("correlation_id"), "request-7");
    assert_eq!(entry.get("traceparent"), TRACEPARENT);
    relay.drain().await;
}

#[tokio::test]
async fn json_holds_the_same_in_one_object() {
    let world = World::new().await;
    let row = full_row(&world.postgres.client().await).await;
    let mut relay = world.settings.clone().with("entry_format", "json").start_ready().await;
    let entry = first_entry(&world).await;
    assert_eq!(entry.fields.len(), 1);
    let data: Value = serde_json::from_str(entry.get("data")).unwrap();
    assert_same_moment(data["occurred_at"].as_str().unwrap(), row.get("at"));
    let wanted = json!({
        "event_id": row.get::<_, &str>("event_id"),
        "event_type": "UserCreated",
        "topic": STREAM,
        "schema_version": "3",
        "occurred_at": data["occurred_at"],
        "tenant_id": TENANT,
        "aggregate_id": row.get::<_, &str>("aggregate_id"),
        "aggregate_type": "account",
        "correlation_id": "request-7",
        "traceparent": TRACEPARENT,
        "payload": {"a": [1.5], "b": 1},
    });
    assert_eq!(data, wanted);
    let payload: &str = row.get("payload");
    assert!(entry.get("data").contains(payload), "the payload's own bytes are in there");
    relay.drain().await;
}

#[tokio::test]
async fn cloudevents_is_structured_json_of_version_1() {
    let world = World::new().await;
    let row = full_row(&world.postgres.client().await).await;
    let mut relay = world.settings.clone().with("entry_format", "cloudevents").start_ready().await;
    let entry = first_entry(&world).await;
    let data: Value = serde_json::from_str(entry.get("data")).unwrap();
    assert_same_moment(data["time"].as_str().unwrap(), row.get("at"));
    let wanted = json!({
        "specversion": "1.0",
        "id": row.get::<_, &str>("event_id"),
        "source": "/identity/outbox",
        "type": "UserCreated",
        "subject": row.get::<_, &str>("aggregate_id"),
        "time": data["time"],
        "datacontenttype": "application/json",
        "topic": STREAM,
        "schemaversion": "3",
        "tenantid": TENANT,
        "aggregatetype": "account",
        "correlationid": "request-7",
        "traceparent": TRACEPARENT,
        "data": {"a": [1.5], "b": 1},
    });
    assert_eq!(data, wanted);
    let payload: &str = row.get("payload");
    assert!(entry.get("data").contains(payload), "the payload's own bytes are in there");
    let names = data.as_object().unwrap().keys();
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    for name in names {
        assert!(name.chars().all(is_name), "CloudEvents allows no attribute {name}");
    }
    relay.drain().await;
}

#[tokio::test]
async fn the_request_and_the_trace_are_there_where_their_row_has_them() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    // Of one statement, so that rows with and without travel together.
    let query = "INSERT INTO identity.outbox
            (event_type, aggregate_id, payload, correlation_id, traceparent)
        SELECT 'Traced', gen_random_uuid(), '{}', c, t
        FROM (VALUES (NULL, NULL), ('c1', NULL), (NULL, 't2'), ('c3', 't3'), ('', ''), ('c5', ''),
            (NULL, NULL), ('c7', 't7')) AS rows (c, t)";
    client.batch_execute(query).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    let entries = world.consumer().read(8).await;
    let found = |name: &str| -> Vec<String> {
        let values = entries.iter().map(|entry| entry.find(name).unwrap_or("-").to_owned());
        values.collect()
    };
    assert_eq!(found("correlation_id"), ["-", "c1", "-", "c3", "-", "c5", "-", "c7"]);
    assert_eq!(found("traceparent"), ["-", "-", "t2", "t3", "-", "-", "-", "t7"]);
    relay.drain().await;
}

/// Rows whose values are now those of the row before, now others: which values travel once for a
/// batch, and which with each event, must not show.
const MIXED: &str = "INSERT INTO identity.outbox (event_type, aggregate_type, aggregate_id,
        payload, tenant_id, correlation_id, traceparent, schema_version)
    SELECT 'Type' || n / 60, CASE n / 11 % 3 WHEN 0 THEN 'user' WHEN 1 THEN '' ELSE 'role' END,
        gen_random_uuid(), '{}', CASE WHEN n / 17 % 2 = 1 THEN gen_random_uuid() END,
        CASE n / 23 % 3 WHEN 1 THEN 'request-' || n WHEN 2 THEN '' END,
        CASE WHEN n / 31 % 2 = 1 THEN 'trace-' || n END, (n / 41)::text
    FROM generate_series(0, 299) AS n";

/// What their entries hold, by their ids.
const MIXED_ENTRIES: &str = "SELECT event_id::text, array_remove(ARRAY[
        'event_type=' || event_type, 'schema_version=' || schema_version,
        'tenant_id=' || coalesce(tenant_id::text, '00000000-0000-0000-0000-000000000000'),
        'aggregate_id=' || aggregate_id, 'aggregate_type=' || aggregate_type,
        'payload={}', 'correlation_id=' || nullif(correlation_id, ''),
        'traceparent=' || nullif(traceparent, '')], NULL) AS fields
    FROM identity.outbox";

#[tokio::test]
async fn each_value_is_in_its_own_entry_however_they_vary() {
    for mode in ["wal", "poll"] {
        let world = World::new().await;
        let client = world.postgres.client().await;
        let mut relay = world.settings.clone().with("mode", mode).start_ready().await;
        client.batch_execute(MIXED).await.unwrap();
        let entries = world.consumer().read(300).await;
        let rows = client.query(MIXED_ENTRIES, &[]).await.unwrap();
        let wanted: HashMap<String, Vec<String>> =
            rows.iter().map(|row| (row.get("event_id"), row.get("fields"))).collect();
        for entry in &entries {
            let shown = entry.fields.iter();
            let shown = shown
                .filter(|(name, _)| !matches!(name.as_str(), "event_id" | "topic" | "occurred_at"));
            let shown: Vec<String> = shown.map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(shown, wanted[entry.get("event_id")], "{mode}");
            assert_eq!(entry.get("topic"), STREAM);
        }
        relay.drain().await;
    }
}

#[tokio::test]
async fn what_a_row_leaves_out_has_its_default() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    let create = "CREATE SCHEMA app; CREATE TABLE app.events (id serial PRIMARY KEY,
        event_id uuid NOT NULL DEFAULT gen_random_uuid(), event_type text NOT NULL,
        aggregate_id uuid NOT NULL, payload jsonb)";
    client.batch_execute(create).await.unwrap();
    let settings = world.settings.clone().with("outbox_table", "app.events");
    let settings = settings.with("after_publish", "keep").with("stream_name", "app.events.v1");
    settings.setup().await;
    let mut relay = settings.start_ready().await;
    let insert = "INSERT INTO app.events (event_type, aggregate_id)
                  VALUES ('Bare', gen_random_uuid())";
    let before: String = world.postgres.text(UTC_NOW).await;
    client.batch_execute(insert).await.unwrap();
    let after: String = world.postgres.text(UTC_NOW).await;
    let entry = world.consumer_of("app.events.v1").read(1).await.swap_remove(0);
    assert_eq!(entry.get("payload"), "null");
    assert_eq!(entry.get("topic"), "app.events.v1");
    assert_eq!(entry.get("schema_version"), "1");
    assert_eq!(entry.get("tenant_id"), NIL);
    let at = entry.get("occurred_at");
    assert!(*before <= *at && *at <= *after, "the commit's time: {before} <= {at} <= {after}");
    relay.drain().await;
}

#[tokio::test]
async fn the_tenant_is_the_columns_else_the_payloads_else_nil() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, tenant_id, payload) VALUES
        ('A', gen_random_uuid(), '7f3c0f4e-5a57-4b1e-9f0a-3c1f6f1d2a10',
            '{\"tenant_id\": \"other\"}'),
        ('B', gen_random_uuid(), NULL,
            '{\"x\": {\"tenant_id\": \"inner\"}, \"tenant_id\": \"outer\"}'),
        ('C', gen_random_uuid(), NULL, '{\"x\": {\"tenant_id\": \"inner\"}}'),
        ('D', gen_random_uuid(), NULL, '{\"tenant_id\": null}')";
    client.batch_execute(query).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    let entries = world.consumer().read(4).await;
    let tenants: Vec<&str> = entries.iter().map(|entry| entry.get("tenant_id")).collect();
    assert_eq!(tenants, [TENANT, "outer", NIL, NIL]);
    relay.drain().await;
}

#[tokio::test]
async fn the_topic_names_the_stream_and_null_means_the_default() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.clone().with("stream_name", "fallback.v1").start_ready().await;
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic) VALUES
        ('A', gen_random_uuid(), '{}', DEFAULT), ('B', gen_random_uuid(), '{}', NULL),
        ('C', gen_random_uuid(), '{}', 'billing.v1'), ('D', gen_random_uuid(), '{}', 'with:{tag}'),
        ('E', gen_random_uuid(), '{}', 'billing.v1')";
    client.batch_execute(query).await.unwrap();
    let streams = [(STREAM, "A"), ("fallback.v1", "B"), ("billing.v1", "CE"), ("with:{tag}", "D")];
    for (stream, wanted) in streams {
        let entries = world.consumer_of(stream).read(wanted.len()).await;
        let types: String = entries.iter().map(|entry| entry.get("event_type")).collect();
        assert_eq!(types, wanted, "in {stream}");
        assert!(entries.iter().all(|entry| entry.get("topic") == stream));
    }
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn payload_bytes_are_what_postgres_prints() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let nested = format!("{}1{}", r#"{"a":"#.repeat(10), "}".repeat(10));
    let large = format!(r#"{{"blob": "{}"}}"#, "x".repeat(5 * 1024 * 1024));
    let payloads = [
        r#"{"emoji": "🦀 né à Zürich — 東京", "flag": "🏳️‍🌈"}"#,
        r#"{"escaped": "tab\t newline\n quote\" backslash\\ bell\u0007 delete\u007f"}"#,
        r#"{"big": 123456789012345678901234567890, "exact": 0.1000}"#,
        r#"{"tiny": 1e-400, "max": 18446744073709551616}"#,
        r#"{"z": 1, "a": 2, "key with \"quotes\"": [null, true, false, {}, []]}"#,
        "[1, 2, 3]",
        "\"a string\"",
        "42",
        "null",
        "{}",
        &nested,
        &large,
    ];
    let mut relay = world.settings.start_ready().await;
    let mut printed: Vec<String> = Vec::new();
    for payload in payloads {
        let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                     VALUES ('Odd', gen_random_uuid(), $1::text::jsonb) RETURNING payload::text";
        printed.push(client.query_one(query, &[&payload]).await.unwrap().get(0));
    }
    let entries = world.consumer().read(payloads.len()).await;
    for (entry, printed) in entries.iter().zip(&printed) {
        assert!(entry.get("payload") == printed, "not as printed: {printed:.200}");
    }
    world.until_marked().await;
    let output = relay.output();
    assert!(!output.contains("Zürich"), "no payload in the log");
    relay.drain().await;
}

#[tokio::test]
async fn nul_cannot_be_written_and_so_cannot_arrive() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let query = r#"INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                   VALUES ('Nul', gen_random_uuid(), '{"nul": "\u0000"}')"#;
    assert!(client.batch_execute(query).await.is_err(), "jsonb refuses it");
    let mut relay = world.settings.start_ready().await;
    insert(&client, 1).await.unwrap();
    world.assert_all_published().await;
    relay.drain().await;
}
