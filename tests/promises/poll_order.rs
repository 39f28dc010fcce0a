//! Mode poll and transactions in flight: neither skipped nor, where order is kept, overtaken.

use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count, insert, insert_many};
use crate::poll::{another, assert_each_once, polled, write_aggregates};

/// The numbers `n` in the stream, in its order.
async fn numbers(world: &World) -> Vec<i64> {
    let entries = world.consumer().read_all().await;
    let number = |payload: &str| {
        let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
        payload["n"].as_i64().unwrap()
    };
    entries.iter().map(|entry| number(entry.get("payload"))).collect()
}

const INSERT: &str = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
     VALUES ('Wrote', '00000000-0000-0000-0000-000000000001', jsonb_build_object('n', $1::int8))";

#[tokio::test]
async fn rows_wait_for_a_transaction_with_lower_ids_and_it_is_named() {
    let world = polled(&[]).await;
    let mut relay = world.settings.start_ready().await;
    let client = world.postgres.client().await;
    insert(&client, 0).await.unwrap();
    world.consumer().until_len(1).await;
    let mut early = world.postgres.client().await;
    let transaction = early.transaction().await.unwrap();
    transaction.execute(INSERT, &[&1_i64]).await.unwrap();
    for n in 2..=5_i64 {
        client.execute(INSERT, &[&n]).await.unwrap();
    }
    relay.until_output("rows wait for a transaction").await;
    assert_eq!(numbers(&world).await, [0], "overtaken");
    transaction.commit().await.unwrap();
    world.consumer().until_len(6).await;
    assert_eq!(numbers(&world).await, [0, 1, 2, 3, 4, 5]);
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_prepared_transaction_is_waited_for_under_its_new_name() {
    let mut world = polled(&[]).await;
    world.postgres.stop(crate::harness::postgres::Stop::Fast).await;
    world.postgres.set("max_prepared_transactions", "5");
    world.postgres.restart().await;
    let mut relay = world.settings.start_ready().await;
    let client = world.postgres.client().await;
    let early = world.postgres.client().await;
    let first = "BEGIN; INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 VALUES ('Wrote', gen_random_uuid(), '{\"n\": 1}')";
    early.batch_execute(first).await.unwrap();
    insert(&client, 2).await.unwrap();
    early.batch_execute("PREPARE TRANSACTION 'early'").await.unwrap();
    insert(&client, 3).await.unwrap();
    relay.until_output("rows wait for a transaction").await;
    assert_eq!(world.consumer().len().await, Some(0), "overtaken");
    client.batch_execute("COMMIT PREPARED 'early'").await.unwrap();
    world.consumer().until_len(3).await;
    assert_eq!(numbers(&world).await, [1, 2, 3]);
    relay.drain().await;
}

#[tokio::test]
async fn without_order_later_rows_overtake_and_the_early_one_is_not_skipped() {
    let world = polled(&[]).await;
    let settings = world.settings.clone().with("ordering", "none");
    let mut relay = settings.start_ready().await;
    let client = world.postgres.client().await;
    let mut early = world.postgres.client().await;
    let transaction = early.transaction().await.unwrap();
    transaction.execute(INSERT, &[&1_i64]).await.unwrap();
    for n in 2..=5_i64 {
        client.execute(INSERT, &[&n]).await.unwrap();
    }
    world.consumer().until_len(4).await;
    wait::until_equal("rows left to mark", 0, PATIENCE, async || {
        count(&client, "identity.outbox WHERE NOT published").await
    })
    .await;
    insert_many(&client, 6, 500).await.unwrap();
    world.consumer().until_len(499).await;
    transaction.commit().await.unwrap();
    world.consumer().until_len(500).await;
    assert_eq!(numbers(&world).await.last(), Some(&1));
    relay.drain().await;
}

/// One writer that holds a transaction open across commits of others, again and again.
#[tokio::test]
async fn many_writers_that_commit_out_of_order_lose_nothing() {
    let world = polled(&[]).await;
    let mut relays = [world.settings.start_ready().await, another(&world).start_ready().await];
    let steady = tokio::spawn(write_aggregates(world.postgres.socket_url(), 5_000));
    let mut writers = Vec::new();
    for writer in 1..=6_i64 {
        let url = world.postgres.socket_url();
        writers.push(tokio::spawn(async move {
            let mut client = crate::harness::postgres::client(&url).await;
            let aggregate = format!("00000000-0000-0000-0001-{writer:012}");
            let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                         VALUES ('Wrote', $1::text::uuid, jsonb_build_object('n', $2::int8))";
            for n in 0..80_i64 {
                let transaction = client.transaction().await.unwrap();
                transaction.execute(query, &[&aggregate, &(2 * n)]).await.unwrap();
                let pause = std::time::Duration::from_millis(fastrand::u64(0..30));
                tokio::time::sleep(pause).await;
                transaction.execute(query, &[&aggregate, &(2 * n + 1)]).await.unwrap();
                transaction.commit().await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    steady.await.unwrap();
    assert_each_once(&world).await;
    for relay in &mut relays {
        relay.drain().await;
    }
}
