//! Entries stand in the order of commit, whoever writes and however.

use tokio_postgres::Client;

use crate::harness::ledger::{Ledger, assert_rising_by};
use crate::harness::postgres;
use crate::harness::world::{World, count, insert, insert_many};

const WRITERS: i64 = 8;
const TRANSACTIONS: i64 = 200;

/// One writer: commits, rolls back, and rolls back to savepoints; `n` rises with each row it
/// writes.
async fn write(url: String, writer: i64) {
    let mut client = postgres::client(&url).await;
    let aggregate = format!("00000000-0000-0000-0000-{writer:012}");
    let insert = client
        .prepare(
            "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
             VALUES ('Wrote', $1::text::uuid, jsonb_build_object('n', $2::int8))",
        )
        .await
        .unwrap();
    let mut n = 0_i64;
    for round in 0..TRANSACTIONS {
        let mut transaction = client.transaction().await.unwrap();
        for _ in 0..=fastrand::u8(0..4) {
            n += 1;
            transaction.execute(&insert, &[&aggregate, &n]).await.unwrap();
        }
        let savepoint = transaction.transaction().await.unwrap();
        n += 1;
        savepoint.execute(&insert, &[&aggregate, &n]).await.unwrap();
        if round % 3 == 0 {
            savepoint.rollback().await.unwrap();
        } else {
            savepoint.commit().await.unwrap();
        }
        n += 1;
        transaction.execute(&insert, &[&aggregate, &n]).await.unwrap();
        if round % 5 == 0 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
        }
    }
}

async fn second_slot(client: &Client) {
    let query = "SELECT pg_create_logical_replication_slot('truth', 'test_decoding')";
    client.execute(query, &[]).await.unwrap();
}

#[tokio::test]
async fn eight_concurrent_writers_with_rollbacks_and_savepoints_are_published_in_order_of_commit() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    second_slot(&client).await;
    let mut relay = world.settings.start_ready().await;
    let url = world.postgres.socket_url();
    let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(url.clone(), n))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let rows = count(&client, "identity.outbox").await;
    let ledger = Ledger::of_slot(&client, "truth").await;
    assert_eq!(i64::try_from(ledger.len()).unwrap(), rows, "the second slot saw every row");
    let entries = world.consumer().read(ledger.len()).await;
    ledger.assert_exactly_once(&entries);
    assert_rising_by(&entries, "aggregate_id");
    relay.drain().await;
}

#[tokio::test]
async fn a_transaction_that_began_first_and_committed_last_comes_last() {
    let world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    let mut early = world.postgres.client().await;
    let late = world.postgres.client().await;
    let transaction = early.transaction().await.unwrap();
    let statement = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                     VALUES ('Early', gen_random_uuid(), '{}')";
    transaction.execute(statement, &[]).await.unwrap();
    insert(&late, 1).await.unwrap();
    world.consumer().until_len(1).await;
    transaction.commit().await.unwrap();
    let entries = world.consumer().read(2).await;
    let types: Vec<&str> = entries.iter().map(|entry| entry.get("event_type")).collect();
    assert_eq!(types, ["UserCreated", "Early"]);
    relay.drain().await;
}

#[tokio::test]
async fn a_clean_restart_publishes_nothing_twice_and_misses_nothing() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    for round in 0..3 {
        insert_many(&client, round * 500 + 1, round * 500 + 300).await.unwrap();
        let mut relay = world.settings.start_ready().await;
        insert_many(&client, round * 500 + 301, round * 500 + 500).await.unwrap();
        world.assert_all_published().await;
        world.until_marked().await;
        relay.drain().await;
        if round > 0 {
            let line = relay.output();
            assert!(!line.contains("WARN"), "a clean restart has nothing to complain of:\n{line}");
        }
    }
    let mut relay = world.settings.start_ready().await;
    insert(&client, 1_501).await.unwrap();
    world.assert_all_published().await;
    let events = &relay.status().await["events"];
    assert_eq!(events["duplicates"], 0, "what was drained is not sent again: {events}");
    relay.drain().await;
}
