//! Who writes events in the tests, and the truth about what was committed in which order.

use tokio_postgres::Client;

use crate::harness::Postgres;

/// A second slot, of another plugin: PostgreSQL's own word on what was committed, in order.
const TRUTH: &str = "truth";

/// Begins to record the truth.
pub async fn record(postgres: &Postgres) {
    postgres
        .run(&format!("SELECT pg_create_logical_replication_slot('{TRUTH}', 'test_decoding')"))
        .await;
}

/// The event ids of all committed INSERTs on the outbox since [`record`], in commit order.
pub async fn truth(postgres: &Postgres) -> Vec<String> {
    let sql = format!("SELECT data FROM pg_logical_slot_peek_changes('{TRUTH}', NULL, NULL)");
    let rows = postgres.client().await.query(&sql, &[]).await.unwrap();
    let insert = "table identity.outbox: INSERT:";
    rows.iter()
        .map(|row| row.get::<_, String>("data"))
        .filter(|line| line.starts_with(insert))
        .map(|line| {
            let (_, rest) = line.split_once("event_id[uuid]:'").unwrap();
            rest[..36].to_owned()
        })
        .collect()
}

/// Inserts `count` events in one transaction.
pub async fn insert(client: &Client, count: u32) {
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload) \
               SELECT 'UserCreated', gen_random_uuid(), jsonb_build_object('n', n, 'pad', repeat('x', 200)) \
               FROM generate_series(1, $1::int8) AS n";
    client.execute(sql, &[&i64::from(count)]).await.unwrap();
}

/// Inserts `transactions` transactions of `events` events each, reconnecting whenever the server goes away. A
/// transaction that was cut off counts as not written: the truth decides.
pub async fn insert_stubbornly(postgres_url: String, transactions: u32, events: u32) {
    let mut done = 0;
    while done < transactions {
        let Ok((client, connection)) =
            tokio_postgres::connect(&postgres_url, tokio_postgres::NoTls).await
        else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        tokio::spawn(connection);
        let sql = format!(
            "INSERT INTO identity.outbox (event_type, aggregate_id, payload) \
             SELECT 'UserUpdated', gen_random_uuid(), jsonb_build_object('n', n) FROM generate_series(1, {events}) AS n"
        );
        while done < transactions && client.batch_execute(&sql).await.is_ok() {
            done += 1;
        }
    }
}
