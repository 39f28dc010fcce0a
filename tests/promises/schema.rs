//! The table changes while it is tailed, and what is no INSERT is no event.

use crate::harness::wait::PATIENCE;
use crate::harness::world::{STREAM, World};
use crate::support::{eventually, holds_exactly, insert, number, record, success, truth};

#[tokio::test]
async fn columns_may_be_added_dropped_reordered_and_renamed_mid_stream() {
    let world = World::new().await;
    record(&world.postgres).await;
    let _relay = world.settings.start_ready().await;
    let client = world.postgres.client().await;
    for change in [
        "ALTER TABLE identity.outbox ADD COLUMN shard int DEFAULT 7",
        "ALTER TABLE identity.outbox RENAME COLUMN shard TO region",
        "ALTER TABLE identity.outbox DROP COLUMN region, DROP COLUMN correlation_id",
        "ALTER TABLE identity.outbox ADD COLUMN correlation_id text DEFAULT 'c-1'",
        // The payload moves behind all others.
        "ALTER TABLE identity.outbox RENAME COLUMN payload TO old_payload; \
         ALTER TABLE identity.outbox ALTER COLUMN old_payload DROP NOT NULL, ADD COLUMN payload jsonb",
        "ALTER TABLE identity.outbox ALTER COLUMN aggregate_id TYPE text",
    ] {
        insert(&client, 20).await;
        client.batch_execute(change).await.unwrap();
        insert(&client, 20).await;
    }
    let expected = truth(&world.postgres).await;
    let mut stream = world.consumer_of(STREAM);
    holds_exactly(&mut stream, &expected).await;
    let entries = stream.read_all().await;
    let last = entries.last().unwrap();
    assert_eq!(last.get("correlation_id"), "c-1");
    assert!(last.get("payload").starts_with("{\"n\": 20,"), "{}", last.get("payload"));
    assert!(entries.iter().all(|entry| entry.get("payload").starts_with("{\"n\": ")));
}

#[tokio::test]
async fn a_column_that_is_needed_and_gone_stops_the_relay_behind_all_that_came_before() {
    let world = World::new().await;
    record(&world.postgres).await;
    let plan = world.settings.clone().with("durability", "memory");
    let mut relay = plan.start_ready().await;
    let client = world.postgres.client().await;
    insert(&client, 50).await;
    let expected = truth(&world.postgres).await;
    client.batch_execute("ALTER TABLE identity.outbox DROP COLUMN event_type").await.unwrap();
    let sql = "INSERT INTO identity.outbox (aggregate_id, payload) VALUES (gen_random_uuid(), '1')";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1));
    assert!(
        relay.output().contains("identity.outbox lacks the column event_type"),
        "{}",
        relay.output()
    );
    let mut stream = world.consumer_of(STREAM);
    holds_exactly(&mut stream, &expected).await;
}

#[tokio::test]
async fn update_delete_and_truncate_are_no_events() {
    let world = World::new().await;
    // A publication of somebody else's may publish everything.
    world
        .postgres
        .run("ALTER PUBLICATION walrelay SET (publish = 'insert, update, delete, truncate')")
        .await;
    let _relay = world.settings.start_ready().await;
    let client = world.postgres.client().await;
    insert(&client, 10).await;
    client.batch_execute("UPDATE identity.outbox SET attempts = attempts + 1").await.unwrap();
    client.batch_execute("DELETE FROM identity.outbox WHERE id % 2 = 0").await.unwrap();
    client.batch_execute("TRUNCATE identity.outbox").await.unwrap();
    insert(&client, 10).await;
    let mut stream = world.consumer_of(STREAM);
    stream.until_len(20).await;
    assert_eq!(stream.len().await, Some(20));
}

#[tokio::test]
async fn an_event_inserted_and_deleted_in_one_transaction_is_published() {
    let world = World::new().await;
    record(&world.postgres).await;
    let relay = world.settings.clone().with("durability", "memory").start_ready().await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload) \
               SELECT 'E', gen_random_uuid(), '{}' FROM generate_series(1, 5); \
               DELETE FROM identity.outbox";
    world.postgres.run(sql).await;
    let expected = truth(&world.postgres).await;
    holds_exactly(&mut world.consumer_of(STREAM), &expected).await;
    eventually("the rows are known to be gone", async || {
        match number(&relay, "/events/gone").await {
            5 => Ok(()),
            gone => Err(gone.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_partitioned_outbox_is_published_by_its_root() {
    let world = World::bare(&[], &[]).await;
    let sql = "CREATE SCHEMA app; \
        CREATE TABLE app.events (id bigserial, event_id uuid NOT NULL DEFAULT gen_random_uuid(), event_type text, \
            aggregate_type text, aggregate_id uuid, payload jsonb, topic text, created_at timestamptz DEFAULT now(), \
            PRIMARY KEY (id)) PARTITION BY RANGE (id); \
        CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (1) TO (100); \
        CREATE TABLE app.events_2 (payload jsonb, id bigint NOT NULL, event_type text, event_id uuid NOT NULL, \
            aggregate_type text, aggregate_id uuid, topic text, created_at timestamptz); \
        ALTER TABLE app.events ATTACH PARTITION app.events_2 FOR VALUES FROM (100) TO (1000)";
    world.postgres.run(sql).await;
    let plan =
        world.settings.clone().with("outbox_table", "app.events").with("stream_name", "events");
    success(&plan, "setup").await;
    let _relay = plan.start_ready().await;
    let sql = "INSERT INTO app.events (event_type, aggregate_id, payload) \
               SELECT 'E', gen_random_uuid(), to_jsonb(n) FROM generate_series(1, 200) AS n";
    world.postgres.run(sql).await;
    let mut stream = world.consumer_of("events");
    stream.until_len(200).await;
    let payloads: Vec<u32> =
        stream.read_all().await.iter().map(|entry| entry.get("payload").parse().unwrap()).collect();
    assert_eq!(payloads, (1..=200).collect::<Vec<u32>>());
    eventually("rows of both partitions are marked", async || {
        let marked = world.postgres.text("SELECT count(*) FROM app.events WHERE published").await;
        if marked == "200" { Ok(()) } else { Err(marked) }
    })
    .await;
}
