//! The table may change under the relay, and only INSERTs are events.

use tokio_postgres::Client;

use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count, insert, insert_many};

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

fn insert_sql(columns: &str, values: &str) -> String {
    format!(
        "INSERT INTO identity.outbox (event_type, aggregate_id, payload{columns})
         VALUES ('Changed', gen_random_uuid(), '{{}}'{values})"
    )
}

#[tokio::test]
async fn columns_added_dropped_reordered_and_renamed_mid_stream_do_no_harm() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert(&client, 1).await.unwrap();
    run(&client, "ALTER TABLE identity.outbox ADD COLUMN noise text DEFAULT 'x'").await;
    run(&client, &insert_sql(", noise", ", 'y'")).await;
    run(&client, "ALTER TABLE identity.outbox RENAME COLUMN noise TO din").await;
    run(&client, &insert_sql(", din", ", 'z'")).await;
    // From the middle to the end, and with another type.
    run(&client, "ALTER TABLE identity.outbox DROP COLUMN correlation_id").await;
    run(&client, &insert_sql("", "")).await;
    run(&client, "ALTER TABLE identity.outbox ADD COLUMN correlation_id uuid").await;
    let correlated = ", '11111111-2222-3333-4444-555555555555'";
    run(&client, &insert_sql(", correlation_id", correlated)).await;
    // Both shapes in one transaction.
    let both = format!(
        "BEGIN; {}; ALTER TABLE identity.outbox DROP COLUMN din; {}; COMMIT",
        insert_sql(", din", ", 'w'"),
        insert_sql("", "")
    );
    run(&client, &both).await;
    world.assert_all_published().await;
    let entries = world.consumer().read(7).await;
    assert_eq!(entries[4].get("correlation_id"), "11111111-2222-3333-4444-555555555555");
    assert_eq!(entries[3].find("correlation_id"), None);
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn updates_deletes_and_truncates_are_no_events() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    world.consumer().until_len(10).await;
    run(&client, "UPDATE identity.outbox SET event_type = 'Other', attempts = 3").await;
    run(&client, "DELETE FROM identity.outbox WHERE id % 2 = 0").await;
    run(&client, "TRUNCATE identity.outbox").await;
    insert(&client, 11).await.unwrap();
    let entries = world.consumer().read(11).await;
    assert_eq!(entries.len(), 11);
    assert_eq!(entries[10].get("payload"), r#"{"n": 11}"#);
    world.until_marked().await;
    world.until_confirmed().await;
    assert_eq!(world.consumer().len().await, Some(11));
    relay.drain().await;
}

#[tokio::test]
async fn a_publication_of_every_operation_changes_nothing() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    run(&client, "ALTER PUBLICATION walrelay SET (publish = 'insert, update, delete, truncate')")
        .await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    run(&client, "UPDATE identity.outbox SET attempts = 3; DELETE FROM identity.outbox").await;
    run(&client, "TRUNCATE identity.outbox").await;
    insert(&client, 11).await.unwrap();
    let entries = world.consumer().read(11).await;
    assert_eq!(entries.len(), 11);
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn copy_and_multi_row_inserts_keep_the_order_of_their_rows() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    let copy = "COPY identity.outbox (event_type, aggregate_id, payload) FROM PROGRAM
        'seq 1 5000 | sed ''s/.*/Copied\t00000000-0000-0000-0000-000000000001\t{\"n\": &}/'''";
    run(&client, copy).await;
    insert_many(&client, 5_001, 6_000).await.unwrap();
    world.assert_all_published().await;
    let entries = world.consumer().read(6_000).await;
    crate::harness::ledger::assert_rising_by(&entries, "topic");
    relay.drain().await;
}

#[tokio::test]
async fn rows_born_published_or_parked_are_no_news() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    run(&client, &insert_sql(", published", ", true")).await;
    run(&client, &insert_sql(", next_attempt_at", ", now()")).await;
    insert(&client, 3).await.unwrap();
    let entries = world.consumer().read(1).await;
    assert_eq!(entries[0].get("payload"), r#"{"n": 3}"#);
    wait::until_equal("both are counted", 2, PATIENCE, async || {
        relay.status().await["events"]["ignored"].as_i64().unwrap()
    })
    .await;
    world.until_confirmed().await;
    relay.drain().await;
}

#[tokio::test]
async fn other_tables_of_the_publication_are_no_events() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    run(&client, "CREATE TABLE other (id bigserial, payload jsonb)").await;
    run(&client, "ALTER PUBLICATION walrelay ADD TABLE other").await;
    let mut relay = world.settings.start_ready().await;
    run(&client, "INSERT INTO other (payload) SELECT '{}' FROM generate_series(1, 100)").await;
    let mixed = format!("BEGIN; INSERT INTO other DEFAULT VALUES; {}; COMMIT", insert_sql("", ""));
    run(&client, &mixed).await;
    world.assert_all_published().await;
    world.until_confirmed().await;
    assert_eq!(world.consumer().len().await, Some(1));
    relay.drain().await;
}

#[tokio::test]
async fn a_partitioned_outbox_is_published_through_its_root() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    run(
        &client,
        "CREATE SCHEMA app;
         CREATE TABLE app.events (id bigint GENERATED ALWAYS AS IDENTITY,
             event_id uuid NOT NULL DEFAULT gen_random_uuid(), event_type text NOT NULL,
             aggregate_id uuid NOT NULL, payload jsonb NOT NULL,
             created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, created_at))
             PARTITION BY RANGE (created_at);
         CREATE TABLE app.events_old PARTITION OF app.events
             FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
         CREATE TABLE app.events_new PARTITION OF app.events
             FOR VALUES FROM ('2020-01-01') TO (MAXVALUE)",
    )
    .await;
    let settings = world.settings.clone().with("outbox_table", "app.events");
    settings.setup().await;
    let mut relay = settings.start_ready().await;
    run(
        &client,
        "INSERT INTO app.events (event_type, aggregate_id, payload, created_at)
         SELECT 'Partitioned', gen_random_uuid(), jsonb_build_object('n', n),
             CASE n % 2 WHEN 0 THEN '2019-06-01'::timestamptz ELSE now() END
         FROM generate_series(1, 100) AS n",
    )
    .await;
    let entries = world.consumer().read(100).await;
    crate::harness::ledger::assert_rising_by(&entries, "topic");
    wait::until_equal("rows left to mark", 0, PATIENCE, async || {
        count(&client, "app.events WHERE NOT published").await
    })
    .await;
    relay.drain().await;
}

#[tokio::test]
async fn a_required_column_that_is_dropped_stops_the_relay_with_its_name() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    run(&client, "ALTER TABLE identity.outbox RENAME COLUMN payload TO body").await;
    run(
        &client,
        "INSERT INTO identity.outbox (event_type, aggregate_id, body)
         VALUES ('Broken', gen_random_uuid(), '{}')",
    )
    .await;
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1));
    assert!(relay.output().contains("lacks the column payload"), "{}", relay.output());
    assert_eq!(world.consumer().len().await, Some(10), "what came before is published");
    run(&client, "ALTER TABLE identity.outbox RENAME COLUMN body TO payload").await;
    let done = world.settings.start();
    drop(done);
}

#[tokio::test]
async fn an_outbox_that_is_renamed_stops_the_relay_and_loses_nothing() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    // With rows to mark it would stop at the first mark: the table is gone.
    let keep = world.settings.clone().with("after_publish", "keep");
    let mut relay = keep.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    world.assert_all_published().await;
    run(
        &client,
        "ALTER TABLE identity.outbox RENAME TO outbox_old;
         INSERT INTO identity.outbox_old (event_type, aggregate_id, payload)
         VALUES ('Late', gen_random_uuid(), '{}')",
    )
    .await;
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1), "{}", relay.output());
    assert!(relay.output().contains("renamed to identity.outbox_old"), "{}", relay.output());
    let renamed = keep.with("outbox_table", "identity.outbox_old");
    let mut relay = renamed.start_ready().await;
    world.consumer().until_len(11).await;
    relay.drain().await;
}

/// The usual way to partition one. What goes into the new table is in no WAL that the slot sends.
#[tokio::test]
async fn an_outbox_that_another_table_takes_the_place_of_stops_the_relay_and_loses_nothing() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    world.until_marked().await;
    run(
        &client,
        "ALTER TABLE identity.outbox RENAME TO outbox_old;
         CREATE TABLE identity.outbox (LIKE identity.outbox_old INCLUDING ALL)",
    )
    .await;
    insert(&client, 11).await.unwrap();
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1), "{}", relay.output());
    for words in ["\"walrelay\\\" does not cover table identity.outbox", "identity.outbox_old"] {
        assert!(relay.output().contains(words), "{words}: {}", relay.output());
    }
    let done = world.settings.finish("run").await;
    assert_eq!(done.code, Some(1), "{}", done.output);
    // As both say.
    for hint in [relay.output(), done.output] {
        assert!(hint.contains("ADD TABLE") && hint.contains("pg_drop_replication_slot"), "{hint}");
    }
    run(&client, "ALTER PUBLICATION walrelay ADD TABLE identity.outbox").await;
    run(&client, "SELECT pg_drop_replication_slot('walrelay')").await;
    let mut relay = world.settings.start_ready().await;
    insert(&client, 12).await.unwrap();
    world.until_marked().await;
    let entries = world.consumer().read_all().await;
    let last: Vec<&str> = entries.iter().skip(10).map(|entry| entry.get("payload")).collect();
    assert_eq!(last, [r#"{"n": 11}"#, r#"{"n": 12}"#]);
    relay.drain().await;
}

#[tokio::test]
async fn a_table_that_is_taken_out_of_the_publication_stops_the_relay() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    world.until_marked().await;
    run(&client, "CREATE TABLE other (id int); ALTER PUBLICATION walrelay SET TABLE other").await;
    insert(&client, 11).await.unwrap();
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1), "{}", relay.output());
    assert!(relay.output().contains("does not cover table identity.outbox any more"));
    run(&client, "ALTER PUBLICATION walrelay ADD TABLE identity.outbox").await;
    run(&client, "SELECT pg_drop_replication_slot('walrelay')").await;
    let mut relay = world.settings.start_ready().await;
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

/// A publication of all tables misses nothing.
#[tokio::test]
async fn a_table_that_takes_the_place_of_another_one_under_a_wide_publication_is_followed() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    run(&client, "CREATE PUBLICATION walrelay FOR ALL TABLES WITH (publish = 'insert')").await;
    world.settings.setup().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    world.until_marked().await;
    run(
        &client,
        "BEGIN; ALTER TABLE identity.outbox RENAME TO outbox_old;
         CREATE TABLE identity.outbox (LIKE identity.outbox_old INCLUDING ALL); COMMIT",
    )
    .await;
    insert(&client, 11).await.unwrap();
    world.consumer().until_len(11).await;
    let look = async || relay.status().await["slot"]["retained_bytes"].take();
    let before = look().await;
    wait::until("another look", PATIENCE, async || (look().await != before).then_some(())).await;
    insert(&client, 12).await.unwrap();
    world.consumer().until_len(12).await;
    relay.drain().await;
}
