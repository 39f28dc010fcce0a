//! The ways of docs/moving-in.md, as they are written there: nothing lost, nothing doubled.

use tokio_postgres::Client;

use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count};

/// The table as the Python relay has it, with a hundred rows.
const PYTHON: &str = "CREATE SCHEMA identity;
    CREATE TABLE identity.outbox (
        id bigserial PRIMARY KEY, event_id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
        event_type text NOT NULL, aggregate_type text NOT NULL DEFAULT 'user',
        aggregate_id uuid NOT NULL, payload jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), published boolean NOT NULL DEFAULT false,
        attempts integer NOT NULL DEFAULT 0, next_attempt_at timestamptz, published_at timestamptz,
        error_message text, topic text NOT NULL DEFAULT 'identity.user.v1');
    CREATE INDEX ON identity.outbox (published, next_attempt_at) WHERE NOT published;
    INSERT INTO identity.outbox (event_type, aggregate_id, payload)
    SELECT 'UserCreated', gen_random_uuid(), jsonb_build_object('n', n)
    FROM generate_series(1, 100) AS n ORDER BY n;";

const ROWS: &str = "SELECT id, event_id::text, event_type, topic, aggregate_id::text,
        aggregate_type, payload::text, created_at::text
    FROM identity.outbox WHERE NOT published ORDER BY id LIMIT 40";

/// What the Python relay does in a turn: one entry for each row, then a mark.
async fn turn_of_the_old_relay(world: &World, client: &Client) {
    let mut redis = world.redis.connection().await;
    for row in client.query(ROWS, &[]).await.unwrap() {
        let mut command = redis::cmd("XADD");
        let topic: &str = row.get("topic");
        command.arg(topic).arg("*").arg("schema_version").arg("1");
        for name in ["event_id", "event_type", "topic", "aggregate_id", "aggregate_type", "payload"]
        {
            command.arg(name).arg(row.get::<_, &str>(name));
        }
        command.query_async::<String>(&mut redis).await.unwrap();
        let mark =
            "UPDATE identity.outbox SET published = true, published_at = now() WHERE id = $1";
        client.execute(mark, &[&row.get::<_, i64>("id")]).await.unwrap();
    }
}

async fn event_ids(client: &Client) -> Vec<String> {
    let query = "SELECT event_id::text FROM identity.outbox ORDER BY id";
    client.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_python_relay_stops_walrelay_starts_and_each_event_is_there_once() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    client.batch_execute(PYTHON).await.unwrap();
    turn_of_the_old_relay(&world, &client).await;
    let settings = world
        .settings
        .clone()
        .with_variable("RELAY_STREAM_NAME", STREAM)
        .with_variable("RELAY_BATCH_SIZE", "100")
        .with_variable("RELAY_POLL_INTERVAL", "5.0");
    settings.setup().await;
    turn_of_the_old_relay(&world, &client).await;
    let mut relay = settings.start_ready().await;
    let more = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
        SELECT 'UserUpdated', gen_random_uuid(), '{}' FROM generate_series(1, 10)";
    client.execute(more, &[]).await.unwrap();
    let entries = world.consumer().read(110).await;
    let told: Vec<String> = entries.iter().map(|entry| entry.event_id().to_owned()).collect();
    assert_eq!(told, event_ids(&client).await, "each once, in order");
    let names = |n: usize| -> Vec<String> {
        let mut names: Vec<String> =
            entries[n].fields.iter().map(|(name, _)| name.clone()).collect();
        names.retain(|name| !["occurred_at", "tenant_id"].contains(&name.as_str()));
        names.sort();
        names
    };
    assert_eq!(names(109), names(0), "consumers read the same fields");
    world.until_marked().await;
    relay.drain().await;
}

const DEBEZIUM: &str = "CREATE TABLE public.outbox (id uuid NOT NULL PRIMARY KEY,
        aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL,
        type varchar(255) NOT NULL, payload jsonb);
    CREATE PUBLICATION dbz FOR TABLE public.outbox";

/// Inserts and deletes in one transaction, as its applications do.
async fn write_and_delete(client: &Client, from: i64, to: i64) {
    for n in from..=to {
        let sql = format!(
            "BEGIN; INSERT INTO public.outbox VALUES (gen_random_uuid(), 'order', 'a', 'Placed',
             '{{\"n\": {n}}}'); DELETE FROM public.outbox; COMMIT"
        );
        client.batch_execute(&sql).await.unwrap();
    }
}

#[tokio::test]
async fn a_debezium_slot_is_taken_over_where_it_ends() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    client.batch_execute(DEBEZIUM).await.unwrap();
    let create = "SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')";
    client.execute(create, &[]).await.unwrap();
    write_and_delete(&client, 1, 5).await;
    let settings: Settings = world
        .settings
        .clone()
        .with_variable("RELAY_OUTBOX_TABLE", "public.outbox")
        .with_variable("RELAY_OUTBOX_PRESET", "debezium")
        .with_variable("RELAY_AFTER_PUBLISH", "keep");
    settings.setup().await;
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    // Debezium's last turn.
    let read = "SELECT count(*) FROM pg_logical_slot_get_binary_changes('debezium', NULL, NULL,
        'proto_version', '1', 'publication_names', 'dbz')";
    client.execute(read, &[]).await.unwrap();
    write_and_delete(&client, 6, 8).await;
    world.postgres.run("SELECT pg_copy_logical_replication_slot('debezium', 'walrelay')").await;
    let mut relay = settings.start_ready().await;
    write_and_delete(&client, 9, 9).await;
    let entries = world.consumer_of("outbox.event.order").read(4).await;
    let told: Vec<&str> = entries.iter().map(|entry| entry.get("payload")).collect();
    assert_eq!(told, [6, 7, 8, 9].map(|n| format!("{{\"n\": {n}}}")));
    wait::until_equal("rows in the table", 0, PATIENCE, async || {
        count(&client, "public.outbox").await
    })
    .await;
    world.postgres.run("SELECT pg_drop_replication_slot('debezium')").await;
    relay.drain().await;
}
