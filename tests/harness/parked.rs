//! Rows that are parked, as a relay or an application would have parked them, by plain SQL.
//!
//! In: what differs from the usual. Out: rows, and their columns as they are now.

use tokio_postgres::Client;

use super::wait::{self, PATIENCE};
use super::world::{World, count};

/// What "parked" means.
pub const PARKED: &str = "identity.outbox \
    WHERE next_attempt_at IS NOT NULL AND NOT published AND dead_lettered_at IS NULL";

/// Parks rows `from..=to` that are due, each `n` in its payload, in the order of their numbers;
/// row `n` belongs to the aggregate `n % aggregates`.
pub async fn park(client: &Client, (from, to): (i64, i64), aggregates: i64, topic: &str) {
    let query = "INSERT INTO identity.outbox
            (event_type, aggregate_id, payload, topic, next_attempt_at, wal_position)
        SELECT 'Parked', lpad(to_hex(n % $3), 32, '0')::uuid, jsonb_build_object('n', n), $4,
            now(), lpad(to_hex(n), 16, '0') || '-00000001'
        FROM generate_series($1::int8, $2) AS n ORDER BY n";
    client.execute(query, &[&from, &to, &aggregates, &topic]).await.expect("parked rows");
}

/// One column of the only row, as text.
pub async fn column(client: &Client, name: &str) -> Option<String> {
    let query = format!("SELECT ({name})::text FROM identity.outbox");
    client.query_one(&query, &[]).await.expect("one row").get(0)
}

impl World {
    /// Awaits that nothing is parked.
    pub async fn until_unparked(&self) {
        let client = self.postgres.client().await;
        wait::until_equal("parked rows", 0, PATIENCE, async || count(&client, PARKED).await).await;
    }
}
