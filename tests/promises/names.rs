//! Names mean what they say, whatever is in them: publications, tables and streams.

use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count};

const PUBLICATION: &str = "Odd \"Name\", it's; --";

#[tokio::test]
async fn a_publication_and_a_table_whose_names_need_quotes_are_set_up_and_served() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    let create = "CREATE SCHEMA \"My App\";
        CREATE TABLE \"My App\".\"Out.Box\" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            event_id uuid NOT NULL DEFAULT gen_random_uuid(), event_type text NOT NULL,
            aggregate_id uuid NOT NULL, payload jsonb NOT NULL)";
    client.batch_execute(create).await.unwrap();
    let settings = world.settings.clone().with("publication_name", PUBLICATION);
    let settings = settings.with("outbox_table", "\"My App\".\"Out.Box\"");
    settings.setup().await;
    let found = count(&client, "pg_publication WHERE pubname = 'Odd \"Name\", it''s; --'").await;
    assert_eq!(found, 1, "the publication has the very name that was asked for");
    let mut relay = settings.start_ready().await;
    let insert = "INSERT INTO \"My App\".\"Out.Box\" (event_type, aggregate_id, payload)
                  SELECT 'Quoted', gen_random_uuid(), '{}' FROM generate_series(1, 10)";
    client.batch_execute(insert).await.unwrap();
    world.consumer().until_len(10).await;
    wait::until_equal("rows left to mark", 0, PATIENCE, async || {
        count(&client, "\"My App\".\"Out.Box\" WHERE NOT published").await
    })
    .await;
    let again = settings.finish("setup").await;
    assert_eq!(again.code, Some(0), "{}", again.output);
    assert!(!again.output.contains("created"), "{}", again.output);
    relay.drain().await;
}

#[tokio::test]
async fn a_stream_name_that_is_empty_too_long_or_has_control_characters_is_a_dead_letter() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let allow = "ALTER TABLE identity.outbox DROP CONSTRAINT outbox_topic_is_not_empty";
    client.batch_execute(allow).await.unwrap();
    let mut relay = world.settings.clone().with("poll_interval", "200ms").start_ready().await;
    for topic in ["", "two\nlines", &"x".repeat(513)] {
        let insert = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
                      VALUES ('Nowhere', gen_random_uuid(), '{}', $1)";
        client.execute(insert, &[&topic]).await.unwrap();
    }
    let dead = "identity.outbox WHERE dead_lettered_at IS NOT NULL AND NOT published
                AND error_message LIKE '%stream name%'";
    wait::until_equal("dead rows", 3, PATIENCE, async || count(&client, dead).await).await;
    let letters = world.consumer_of(&format!("{STREAM}.dlq")).len().await;
    assert_eq!(letters.unwrap(), 3, "in that of the default stream");
    relay.drain().await;
}
