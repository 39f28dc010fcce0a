//! What several promises share: who writes, the truth about what was committed, and how to wait for a fact.

use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::consumer::Consumer;
use crate::harness::ledger::Ledger;
use crate::harness::postgres::Postgres;
use crate::harness::relay::{Finished, Relay, Settings};
use crate::harness::wait::{self, PATIENCE};

/// A second slot, of another plugin: PostgreSQL's own word on what was committed, in order.
const TRUTH: &str = "truth";

/// Begins to record the truth.
pub async fn record(postgres: &Postgres) {
    postgres
        .run(&format!("SELECT pg_create_logical_replication_slot('{TRUTH}', 'test_decoding')"))
        .await;
}

/// Everything committed since [`record`], in commit order.
pub async fn truth(postgres: &Postgres) -> Ledger {
    Ledger::of_slot(&postgres.client().await, TRUTH).await
}

/// Waits for as many entries as were committed, then judges them.
pub async fn holds_exactly(consumer: &mut Consumer, expected: &Ledger) {
    let entries = consumer.read(expected.len()).await;
    expected.assert_exactly_once(&entries);
}

/// Waits until `fact` is `Ok`; a failure shows what was seen last.
pub async fn eventually(what: &str, mut fact: impl AsyncFnMut() -> Result<(), String>) {
    wait::until_equal(what, Ok(()), PATIENCE, async || fact().await).await;
}

/// A number out of /status, by its path: `/events/published`.
pub async fn number(relay: &Relay, path: &str) -> u64 {
    let status = relay.status().await;
    status.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path}: {status:#}"))
}

/// Runs a subcommand with its arguments to its end.
pub async fn command(settings: &Settings, line: &str) -> Finished {
    let words: Vec<&str> = line.split(' ').collect();
    settings.clone().with_arguments(&words[1..]).finish(words[0]).await
}

/// The same, for a command that must succeed: what it printed.
pub async fn success(settings: &Settings, line: &str) -> String {
    let finished = command(settings, line).await;
    assert_eq!(finished.code, Some(0), "{line}: {}", finished.output);
    finished.output
}

/// Inserts `count` events in one transaction.
pub async fn insert(client: &Client, count: u32) {
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload) \
               SELECT 'UserCreated', gen_random_uuid(), jsonb_build_object('n', n, 'pad', repeat('x', 200)) \
               FROM generate_series(1, $1::int8) AS n";
    client.execute(sql, &[&i64::from(count)]).await.unwrap();
}
