//! Outboxes that people have already: each preset's table, as it is published, is streamed, polled,
//! parked, buried and revived, and what the table has for that is used.

use tokio_postgres::Client;

use crate::harness::checked::Checked;
use crate::harness::consumer::Entry;
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count};

/// A table, and what its columns are called.
struct Shape {
    preset: &'static str,
    table: &'static str,
    ddl: &'static str,
    /// $1: what decides the stream, $2: a number for the payload.
    insert: &'static str,
    /// The stream, without what decides.
    stream: fn(&str) -> String,
    settings: &'static [(&'static str, &'static str)],
    /// The condition for a published row.
    published: &'static str,
    attempts: &'static str,
    error: &'static str,
}

const DEBEZIUM: Shape = Shape {
    preset: "debezium",
    table: "app.outbox",
    ddl: "CREATE TABLE app.outbox (id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
        aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL,
        type varchar(255) NOT NULL, payload jsonb)",
    insert: "INSERT INTO app.outbox (aggregatetype, aggregateid, type, payload)
        VALUES ($1::text, $1 || '-1', 'Created', jsonb_build_object('n', $2::int8))",
    stream: |key| format!("outbox.event.{key}"),
    settings: &[],
    published: "published AND published_at IS NOT NULL",
    attempts: "attempts",
    error: "error_message",
};

const EVENT_OUTBOX: Shape = Shape {
    preset: "event-outbox",
    table: "app.event_outbox",
    ddl: "CREATE TABLE app.event_outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        aggregate_id varchar(255) NOT NULL, aggregate_type varchar(100) NOT NULL,
        event_type varchar(100) NOT NULL, event_data json NOT NULL, event_key varchar(255),
        topic varchar(255) NOT NULL, created_at timestamp NOT NULL DEFAULT now(),
        published_at timestamp, retry_count integer NOT NULL DEFAULT 0, last_error text)",
    insert: "INSERT INTO app.event_outbox
            (aggregate_id, aggregate_type, event_type, event_data, event_key, topic)
        VALUES ($1 || '-1', 'user', 'Created', json_build_object('n', $2::int8), 'k', $1::text)",
    stream: str::to_owned,
    settings: &[],
    published: "published_at IS NOT NULL",
    attempts: "retry_count",
    error: "last_error",
};

const OUTBOX_EVENTS: Shape = Shape {
    preset: "outbox-events",
    table: "app.outbox_events",
    ddl: "CREATE TABLE app.outbox_events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        aggregate_id varchar(255) NOT NULL, event_type varchar(255) NOT NULL,
        event_data jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        processed_at timestamptz, retry_count integer DEFAULT 0,
        max_retries integer DEFAULT 3, error_message text)",
    insert: "INSERT INTO app.outbox_events (aggregate_id, event_type, event_data, retry_count)
        VALUES ($1 || '-1', $1::text, jsonb_build_object('n', $2::int8), NULL)",
    stream: |key| format!("{key}.v1"),
    settings: &[("stream_template", "{event_type}.v1")],
    published: "processed_at IS NOT NULL",
    attempts: "retry_count",
    error: "error_message",
};

impl Shape {
    async fn insert(&self, client: &Client, key: &str, numbers: std::ops::RangeInclusive<i64>) {
        for n in numbers {
            client.execute(self.insert, &[&key, &n]).await.expect("an INSERT of an application");
        }
    }

    fn settings(&self, world: &World) -> Settings {
        let mut settings = world
            .settings
            .clone()
            .with("outbox_table", self.table)
            .with("outbox_preset", self.preset)
            .with("durability", "memory")
            .with("poll_interval", "100ms")
            .with("retry_base_delay", "50ms")
            .with("max_retry_attempts", "2");
        for (name, value) in self.settings {
            settings = settings.with(name, value);
        }
        settings
    }

    async fn until_published(&self, client: &Client, rows: i64) {
        wait::until_equal("published rows", rows, PATIENCE, async || {
            count(client, &format!("{} WHERE {}", self.table, self.published)).await
        })
        .await;
    }

    async fn text(&self, client: &Client, what: &str, key: &str) -> Option<String> {
        let query = format!(
            "SELECT ({what})::text FROM {} AS o WHERE o::text LIKE '%{key}-1%' LIMIT 1",
            self.table
        );
        client.query_one(&query, &[]).await.expect("a row").get(0)
    }
}

fn numbers(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.get("payload").replace(' ', "")).collect()
}

fn expected(numbers: &[i64]) -> Vec<String> {
    numbers.iter().map(|n| format!("{{\"n\":{n}}}")).collect()
}

/// From the application's table to its last event, by both modes.
async fn lives(shape: &Shape) {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    client.batch_execute("CREATE SCHEMA app").await.unwrap();
    client.batch_execute(shape.ddl).await.unwrap();
    shape.insert(&client, "good", 1..=2).await;
    let settings = shape.settings(&world);
    settings.setup().await;
    settings.setup().await;
    let broken = (shape.stream)("broken");
    world.redis.run(&format!("SET {broken} x")).await;

    let mut relay = settings.start_ready().await;
    shape.insert(&client, "good", 3..=4).await;
    shape.insert(&client, "broken", 5..=5).await;
    let entries = world.consumer_of(&(shape.stream)("good")).read(4).await;
    assert_eq!(numbers(&entries), expected(&[1, 2, 3, 4]));
    let first = &entries[0];
    assert_eq!(first.get("aggregate_id"), "good-1");
    assert_eq!(first.get("topic"), (shape.stream)("good"));
    let query = format!("SELECT id::text FROM {} ORDER BY walrelay_id LIMIT 1", shape.table);
    assert_eq!(first.event_id(), client.query_one(&query, &[]).await.unwrap().get::<_, &str>(0));
    shape.until_published(&client, 4).await;

    let letters = world.consumer_of(&format!("{broken}.dlq")).read(1).await;
    let dead = shape.text(&client, "id", "broken").await.unwrap();
    assert_eq!(letters[0].get("original_event_id"), dead);
    assert_eq!(letters[0].get("attempts"), "2");
    wait::until_equal("dead rows", 1, PATIENCE, async || {
        count(&client, &format!("{} WHERE dead_lettered_at IS NOT NULL", shape.table)).await
    })
    .await;
    assert_eq!(shape.text(&client, shape.attempts, "broken").await.as_deref(), Some("2"));
    let error = shape.text(&client, shape.error, "broken").await.unwrap();
    assert!(error.starts_with("WRONGTYPE"), "{error}");
    by_command(shape, &settings, &dead).await;

    world.redis.run(&format!("DEL {broken}")).await;
    let retried = settings.clone().with_arguments(&["retry", &dead]).finish("dlq").await;
    assert_eq!(retried.code, Some(0), "{}", retried.output);
    let entries = world.consumer_of(&broken).read(1).await;
    assert_eq!(numbers(&entries), expected(&[5]));
    shape.until_published(&client, 5).await;
    assert_eq!(shape.text(&client, shape.error, "broken").await, None);
    let verified = settings.finish("verify").await;
    assert_eq!(verified.code, Some(0), "{}", verified.output);
    relay.drain().await;

    let mut relay = settings.clone().with("mode", "poll").start_ready().await;
    shape.insert(&client, "good", 6..=7).await;
    let entries = world.consumer_of(&(shape.stream)("good")).read(6).await;
    assert_eq!(numbers(&entries), expected(&[1, 2, 3, 4, 6, 7]));
    shape.until_published(&client, 7).await;
    relay.drain().await;
}

/// What an operator types finds the same table, while a row of it is dead.
async fn by_command(shape: &Shape, settings: &Settings, dead: &str) {
    let listed = settings.clone().with_arguments(&["list", "--json"]).finish("dlq").await;
    assert!(listed.code == Some(0) && listed.output.contains(dead), "{}", listed.output);
    let stream = format!("\"stream\":\"{}\"", (shape.stream)("broken"));
    assert!(listed.output.replace(' ', "").contains(&stream), "{}", listed.output);
    for (command, arguments) in [
        ("dlq", &["show", dead][..]),
        ("status", &["--json"]),
        ("replay", &["--aggregate", "good-1", "--dry-run", "--stream", "copy"]),
    ] {
        let done = settings.clone().with_arguments(arguments).finish(command).await;
        assert_eq!(done.code, Some(0), "{command} {arguments:?}:\n{}", done.output);
    }
    let checked = Checked::of(settings).await;
    checked.assert(&format!("columns of {}", shape.table), "OK");
    checked.assert(&format!("columns to park rows of {}", shape.table), "OK");
    checked.assert(&format!("index on walrelay_id of {}", shape.table), "OK");
}

#[tokio::test]
async fn a_table_for_debezium_is_relayed_to_the_streams_that_its_router_would_name() {
    lives(&DEBEZIUM).await;
}

#[tokio::test]
async fn an_event_outbox_is_relayed_and_keeps_its_own_books() {
    lives(&EVENT_OUTBOX).await;
}

#[tokio::test]
async fn outbox_events_are_relayed_by_type_and_keep_their_own_books() {
    lives(&OUTBOX_EVENTS).await;
}

#[tokio::test]
async fn what_another_relay_has_published_is_not_published_again() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    client.batch_execute("CREATE SCHEMA app").await.unwrap();
    client.batch_execute(EVENT_OUTBOX.ddl).await.unwrap();
    EVENT_OUTBOX.insert(&client, "good", 1..=6).await;
    let half = "UPDATE app.event_outbox SET published_at = now()
        WHERE (event_data ->> 'n')::int8 % 2 = 0";
    client.execute(half, &[]).await.unwrap();
    let settings = EVENT_OUTBOX.settings(&world);
    settings.setup().await;
    let mut relay = settings.start_ready().await;
    EVENT_OUTBOX.insert(&client, "good", 7..=7).await;
    let entries = world.consumer_of("good").read(4).await;
    assert_eq!(numbers(&entries), expected(&[1, 3, 5, 7]));
    EVENT_OUTBOX.until_published(&client, 7).await;
    relay.drain().await;
}

/// Names that need quotes, numbers for ids, bytes for JSON, and parts that the payload tells.
const ODD: &str = "CREATE TABLE app.\"Odd o.id\" (
    \"no.\" smallserial PRIMARY KEY, \"Key\" bytea, \"o.payload\" bytea, ref integer,
    sent boolean, sent_at timestamp, \"when\" timestamp DEFAULT now())";
const ODD_COLUMNS: &str = "
    outbox_table = 'app.\"Odd o.id\"'
    stream_template = '{aggregate_type}.{event_type}'
    [columns]
    id = '\"no.\"'
    event_id = 'ref'
    event_type = \"'It''s'\"
    aggregate_type = \"'odd'\"
    aggregate_id = 'ref'
    payload = '\"o.payload\"'
    created_at = '\"when\"'
    topic = 'none'
    tenant_id = '$.who.tenant'
    correlation_id = '$.request'
    published = 'sent'
    published_at = 'sent_at'
    error_message = '\"Last \"\"o.id\"\" {table}\"'
";

#[tokio::test]
async fn a_table_of_any_shape_is_told_by_a_mapping() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    client.batch_execute("CREATE SCHEMA app").await.unwrap();
    client.batch_execute(ODD).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("walrelay.toml");
    std::fs::write(&file, ODD_COLUMNS).unwrap();
    crate::harness::postgres::give_away(folder.path());
    let settings = world
        .settings
        .clone()
        .with_variable("RELAY_CONFIG", file.to_str().unwrap())
        .with("durability", "memory")
        .with("poll_interval", "100ms")
        .with("retry_base_delay", "50ms")
        .with("max_retry_attempts", "2");
    settings.setup().await;
    let payload = r#"{"request": "r-9", "who": {"tenant": 17}, "big": 1e400, "é": "\u0000"}"#;
    let insert = async |reference: i32, payload: &[u8]| {
        let query = "INSERT INTO app.\"Odd o.id\" (\"o.payload\", ref) VALUES ($1, $2)";
        client.execute(query, &[&payload, &reference]).await.unwrap();
    };
    insert(1, payload.as_bytes()).await;
    let mut relay = settings.start_ready().await;
    insert(2, payload.as_bytes()).await;
    insert(3, b"{\"a\"").await;
    let entries = world.consumer_of("odd.It's").read(2).await;
    for (entry, id) in entries.iter().zip(["1", "2"]) {
        assert_eq!(entry.event_id(), id);
        assert_eq!(entry.get("event_type"), "It's");
        assert_eq!(entry.get("aggregate_type"), "odd");
        assert_eq!(entry.get("tenant_id"), "17");
        assert_eq!(entry.get("correlation_id"), "r-9");
        assert_eq!(entry.get("payload"), payload, "byte for byte");
    }
    let letters = world.consumer_of("odd.It's.dlq").read(1).await;
    assert_eq!(letters[0].get("original_event_id"), "3");
    assert_eq!(letters[0].get("error_message"), "payload is not JSON");
    wait::until_equal("marked rows", 2, PATIENCE, async || {
        count(&client, "app.\"Odd o.id\" WHERE sent AND sent_at IS NOT NULL").await
    })
    .await;
    let told = "app.\"Odd o.id\" WHERE \"Last \"\"o.id\"\" {table}\" = 'payload is not JSON'";
    wait::until_equal("rows that know why", 1, PATIENCE, async || count(&client, told).await).await;
    for command in ["verify", "status"] {
        let done = settings.finish(command).await;
        assert_eq!(done.code, Some(0), "{command}:\n{}", done.output);
    }
    relay.drain().await;
    let mut relay = settings.clone().with("mode", "poll").start_ready().await;
    insert(4, payload.as_bytes()).await;
    world.consumer_of("odd.It's").read(3).await;
    relay.drain().await;
}

/// One event whose row says neither that it is published nor that it is not.
async fn insert_null(world: &World, topic: &str) {
    let row = format!(
        "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic, published)
         VALUES ('Any', gen_random_uuid(), '{{}}', '{topic}', NULL)"
    );
    world.postgres.run(&row).await;
}

#[tokio::test]
async fn a_flag_that_is_null_is_one_that_is_not_set() {
    let world = World::new().await;
    world.postgres.run("ALTER TABLE identity.outbox ALTER published DROP NOT NULL").await;
    world.redis.run("SET taken x").await;
    let settings = world.settings.clone().with("durability", "memory");
    let settings = settings.with("poll_interval", "100ms");
    let mut relay = settings.start_ready().await;
    insert_null(&world, "taken").await;
    let client = world.postgres.client().await;
    let parked = "identity.outbox WHERE next_attempt_at IS NOT NULL AND published IS NULL";
    wait::until_equal("it is parked", 1, PATIENCE, async || count(&client, parked).await).await;
    world.until_confirmed().await;
    world.redis.run("DEL taken").await;
    world.postgres.run("UPDATE identity.outbox SET next_attempt_at = now()").await;
    world.consumer_of("taken").until_len(1).await;
    relay.drain().await;
    // From before the slot.
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    insert_null(&world, "no\nname").await;
    let mut relay = settings.start_ready().await;
    world.consumer_of("identity.user.v1.dlq").until_len(1).await;
    relay.drain().await;
    let mut relay = settings.with("mode", "poll").start_ready().await;
    insert_null(&world, "polled").await;
    world.consumer_of("polled").until_len(1).await;
    let unset = "identity.outbox WHERE published IS NULL AND dead_lettered_at IS NULL";
    wait::until_equal("all are settled", 0, PATIENCE, async || count(&client, unset).await).await;
    relay.drain().await;
}
