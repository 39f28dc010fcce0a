//! What consumers read: every field, every format, payloads untouched.

use serde_json::{Value, json};

use crate::harness::consumer::Entry;
use crate::harness::world::{STREAM, World};
use crate::support::{eventually, number};

const NIL: &str = "00000000-0000-0000-0000-000000000000";

async fn published(world: &World, sql: &str, count: usize) -> Vec<Entry> {
    world.postgres.run(sql).await;
    let mut stream = world.consumer_of(STREAM);
    stream.until_len(count).await;
    stream.read_all().await
}

#[tokio::test]
async fn an_entry_has_the_fields_that_consumers_read() {
    let world = World::new().await;
    let _relay = world.settings.start_ready().await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, tenant_id, correlation_id, \
                   traceparent, schema_version, topic) VALUES \
               ('UserCreated', '11111111-1111-1111-1111-111111111111', '{\"tenant_id\": \"acme\"}', NULL, NULL, NULL, NULL, NULL), \
               ('UserUpdated', '22222222-2222-2222-2222-222222222222', '[1]', '33333333-3333-3333-3333-333333333333', \
                'c-1', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '2', 'identity.user.v1')";
    let entries = published(&world, sql, 2).await;
    let id = world.postgres.text("SELECT event_id FROM identity.outbox ORDER BY id LIMIT 1").await;
    let at = "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') || '+00:00' \
              FROM identity.outbox ORDER BY id LIMIT 1";
    let at = world.postgres.text(at).await;
    let (first, second) = (&entries[0], &entries[1]);
    let mut names: Vec<&str> = first.fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let plain = [
        "aggregate_id",
        "aggregate_type",
        "event_id",
        "event_type",
        "occurred_at",
        "payload",
        "schema_version",
        "tenant_id",
        "topic",
    ];
    assert_eq!(names, plain);
    for (name, value) in [
        ("event_id", id.as_str()),
        ("event_type", "UserCreated"),
        ("topic", STREAM),
        ("schema_version", "1"),
        ("tenant_id", "acme"),
        ("aggregate_id", "11111111-1111-1111-1111-111111111111"),
        ("aggregate_type", "user"),
        ("payload", "{\"tenant_id\": \"acme\"}"),
    ] {
        assert_eq!(first.get(name), value, "{name}");
    }
    let trimmed = |text: &str| text.replace("+00:00", "").trim_end_matches('0').to_owned();
    assert_eq!(trimmed(first.get("occurred_at")), trimmed(&at));
    assert!(first.get("occurred_at").ends_with("+00:00"));
    for (name, value) in [
        ("tenant_id", "33333333-3333-3333-3333-333333333333"),
        ("correlation_id", "c-1"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("schema_version", "2"),
        ("payload", "[1]"),
    ] {
        assert_eq!(second.get(name), value, "{name}");
    }
}

#[tokio::test]
async fn payloads_arrive_byte_for_byte() {
    let world = World::new().await;
    let _relay = world.settings.start_ready().await;
    let deep = format!("{}1{}", "{\"a\": [".repeat(10), "]}".repeat(10));
    let payloads = [
        "{\"n\": 123456789012345678901234567890.123456789012345678901234567890}",
        "{\"big\": 18446744073709551617, \"small\": -9223372036854775809, \"e\": 1e300}",
        "{\"emoji\": \"🦀 naïve\", \"escaped\": \"tab\\tnewline\\nquote\\\"back\\\\slash\\u0001\"}",
        "{\"nul as text\": \"\\\\u0000\"}",
        "[]",
        "\"just text\"",
        "null",
        "12.50",
        &deep,
    ];
    let rows: Vec<String> = payloads
        .iter()
        .map(|payload| format!("('E', gen_random_uuid(), '{}')", payload.replace('\'', "''")))
        .collect();
    let insert = "INSERT INTO identity.outbox (event_type, aggregate_id, payload) VALUES";
    let entries = published(&world, &format!("{insert} {}", rows.join(", ")), payloads.len()).await;
    let rows = world.postgres.client().await;
    let rows =
        rows.query("SELECT payload::text FROM identity.outbox ORDER BY id", &[]).await.unwrap();
    for (entry, row) in entries.iter().zip(&rows) {
        assert_eq!(entry.get("payload"), row.get::<_, String>(0));
        assert_eq!(entry.get("tenant_id"), NIL);
    }
}

#[tokio::test]
async fn a_payload_of_five_megabytes_passes() {
    let world = World::new().await;
    let relay = world.settings.start_ready().await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload) \
               SELECT 'E', gen_random_uuid(), jsonb_build_object('pad', repeat('0123456789', 524288), 'n', n) \
               FROM generate_series(1, 3) AS n";
    let entries = published(&world, sql, 3).await;
    assert!(entries.iter().all(|entry| entry.get("payload").len() > 5_242_880));
    let digest = "SELECT md5(string_agg(payload::text, '' ORDER BY id)) FROM identity.outbox";
    let all: String = entries.iter().map(|entry| entry.get("payload")).collect();
    let client = world.postgres.client().await;
    let row = client.query_one(&format!("SELECT ({digest}) = md5($1)"), &[&all]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    assert!(relay.peak_rss_kb() < 96 * 1024, "{} KiB", relay.peak_rss_kb());
}

#[tokio::test]
async fn json_is_one_object_and_the_payload_is_inside_it_unchanged() {
    let world = World::new().await;
    let _relay = world.settings.clone().with("entry_format", "json").start_ready().await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, correlation_id) VALUES \
               ('User\"Created', '11111111-1111-1111-1111-111111111111', '{\"n\": 18446744073709551617}', 'c')";
    let entries = published(&world, sql, 1).await;
    assert_eq!(entries[0].fields.len(), 1);
    let text = entries[0].get("data");
    assert!(text.contains("\"payload\":{\"n\": 18446744073709551617}"), "{text}");
    let envelope: Value = serde_json::from_str(text).unwrap();
    assert_eq!(envelope["event_type"], "User\"Created");
    assert_eq!(envelope["correlation_id"], "c");
    assert_eq!(envelope["tenant_id"], NIL);
    assert_eq!(envelope.get("traceparent"), None);
}

#[tokio::test]
async fn cloudevents_have_what_the_specification_requires() {
    let world = World::new().await;
    let _relay = world.settings.clone().with("entry_format", "cloudevents").start_ready().await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload) VALUES \
               ('UserCreated', '11111111-1111-1111-1111-111111111111', '{\"a\": 1}')";
    let entries = published(&world, sql, 1).await;
    let event: Value = serde_json::from_str(entries[0].get("data")).unwrap();
    let id = world.postgres.text("SELECT event_id FROM identity.outbox").await;
    for (name, value) in [
        ("specversion", json!("1.0")),
        ("id", json!(id)),
        ("source", json!("/identity/outbox")),
        ("type", json!("UserCreated")),
        ("subject", json!("11111111-1111-1111-1111-111111111111")),
        ("datacontenttype", json!("application/json")),
        ("data", json!({"a": 1})),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    // Attribute names are lower-case letters and digits only.
    let names = event.as_object().unwrap().keys();
    assert!(
        names
            .into_iter()
            .all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
    );
}

#[tokio::test]
async fn rows_born_published_or_parked_are_no_news() {
    let world = World::new().await;
    let relay = world.settings.start_ready().await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, published, next_attempt_at) VALUES \
               ('imported', gen_random_uuid(), '1', true, NULL), \
               ('parked', gen_random_uuid(), '2', false, now()), \
               ('news', gen_random_uuid(), '3', false, NULL)";
    let entries = published(&world, sql, 1).await;
    assert_eq!((entries.len(), entries[0].get("payload")), (1, "3"));
    assert_eq!(number(&relay, "/events/ignored").await, 2);
}

#[tokio::test]
async fn a_stream_is_trimmed_about_to_its_limit() {
    let world = World::new().await;
    let _relay = world.settings.clone().with("stream_maxlen", "1000").start_ready().await;
    let client = world.postgres.client().await;
    crate::support::insert(&client, 20_000).await;
    let mut stream = world.consumer_of(STREAM);
    eventually("the last event is there and the first are not", async || {
        let entries = stream.read_all().await;
        let last = entries.last().map(|entry| entry.get("payload").to_owned()).unwrap_or_default();
        // Redis trims by whole nodes of some hundred entries.
        if last.starts_with("{\"n\": 20000,") && (1_000..1_300).contains(&entries.len()) {
            return Ok(());
        }
        Err(format!("{} entries, the last is {last:.20}", entries.len()))
    })
    .await;
}
