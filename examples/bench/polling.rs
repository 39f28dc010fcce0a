//! How fast mode poll drains a backlog, beside a relay that takes one row at a time.
//!
//! In: the rows of the scene, copied into a table with our indexes, or with those of the outbox as
//! it was before walrelay (our reading of it: `id`, `event_id`, `(published, next_attempt_at)` and
//! `(created_at)`, and none of our columns). Out: rows per second. It must stay true that both
//! contenders see the same rows in the same table.

use std::error::Error;
use std::time::Instant;

use crate::figures::float;
use crate::harness::world::STREAM;
use crate::scene::Scene;
use crate::throughput::until_marked;

/// The one-row relay's rate is the same from the first batch to the last: a part will do.
const ONE_BY_ONE_ROWS: usize = 5_000;
/// Rows that it claims at once.
const ONE_BY_ONE_BATCH: i64 = 100;

const OURS: &str = "CREATE TABLE polled.outbox (LIKE identity.outbox INCLUDING ALL)
     WITH (fillfactor = 50)";
const ORIGINAL: &str = "CREATE TABLE polled.outbox (
         id bigserial PRIMARY KEY, event_id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
         event_type text NOT NULL, aggregate_type text NOT NULL DEFAULT 'user',
         aggregate_id uuid NOT NULL, payload jsonb NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now(), published boolean NOT NULL DEFAULT false,
         attempts integer NOT NULL DEFAULT 0, next_attempt_at timestamptz,
         published_at timestamptz, error_message text, topic text DEFAULT 'identity.user.v1');
     CREATE INDEX ON polled.outbox (published, next_attempt_at);
     CREATE INDEX ON polled.outbox (created_at)";
const COPY: &str = "INSERT INTO polled.outbox
         (id, event_id, event_type, aggregate_type, aggregate_id, payload, created_at, topic)
     SELECT id, event_id, event_type, aggregate_type, aggregate_id, payload, created_at, topic
     FROM identity.outbox ORDER BY id";
const CLAIM: &str = "SELECT id, event_id::text, event_type, aggregate_type, aggregate_id::text,
         payload::text, created_at::text, topic
     FROM polled.outbox
     WHERE published = false AND (next_attempt_at IS NULL OR next_attempt_at <= now())
     ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED";
const MARK: &str = "UPDATE polled.outbox SET published = true, published_at = now() WHERE id = $1";

/// Whose indexes the table has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Indexes {
    Ours,
    Original,
}

/// Rows per second.
pub struct Polled {
    pub name: &'static str,
    /// By what name its ratio is judged.
    pub mark: &'static str,
    pub memory: f64,
    pub fsync: f64,
    pub one_by_one: f64,
}

/// All contenders on one kind of table.
pub async fn measure(
    scene: &mut Scene,
    rows: usize,
    indexes: Indexes,
) -> Result<Polled, Box<dyn Error>> {
    let (name, mark) = match indexes {
        Indexes::Ours => ("our indexes", "poll ours/one by one"),
        Indexes::Original => ("original indexes", "poll/one by one"),
    };
    prepare(scene, indexes).await?;
    let one_by_one = one_by_one(scene, rows).await?;
    prepare(scene, indexes).await?;
    let memory = relay(scene, rows, "memory").await?;
    prepare(scene, indexes).await?;
    let fsync = relay(scene, rows, "fsync").await?;
    scene.sql.batch_execute("DROP SCHEMA polled CASCADE").await?;
    Ok(Polled { name, mark, memory, fsync, one_by_one })
}

async fn prepare(scene: &mut Scene, indexes: Indexes) -> Result<(), Box<dyn Error>> {
    let table = if indexes == Indexes::Ours { OURS } else { ORIGINAL };
    scene.sql.batch_execute("DROP SCHEMA IF EXISTS polled CASCADE; CREATE SCHEMA polled").await?;
    scene.sql.batch_execute(table).await?;
    scene.sql.batch_execute(COPY).await?;
    scene.sql.batch_execute("VACUUM ANALYZE polled.outbox").await?;
    scene.settle().await
}

/// From the start of its process to the last marked row.
async fn relay(scene: &mut Scene, rows: usize, durability: &str) -> Result<f64, Box<dyn Error>> {
    let settings = scene.settings.clone().with("mode", "poll").with("durability", durability);
    let began = Instant::now();
    let mut relay = settings.with("outbox_table", "polled.outbox").start();
    until_marked(&relay, rows).await?;
    let seconds = began.elapsed().as_secs_f64();
    relay.drain().await;
    Ok(float(rows) / seconds)
}

/// What a small worker does in any language: claims a hundred rows, and for each waits for XADD and
/// for its UPDATE, then commits. Written in Rust, so its own part of the time is next to nothing.
async fn one_by_one(scene: &mut Scene, rows: usize) -> Result<f64, Box<dyn Error>> {
    let client = scene.postgres.client().await;
    let (claim, mark) = (client.prepare(CLAIM).await?, client.prepare(MARK).await?);
    let mut redis = scene.redis.connection().await;
    let (began, mut done) = (Instant::now(), 0_usize);
    while done < ONE_BY_ONE_ROWS.min(rows) {
        client.batch_execute("BEGIN").await?;
        let claimed = client.query(&claim, &[&ONE_BY_ONE_BATCH]).await?;
        for row in &claimed {
            let mut add = redis::cmd("XADD");
            add.arg(STREAM).arg("*");
            for (place, field) in [
                (1, "event_id"),
                (2, "event_type"),
                (3, "aggregate_type"),
                (4, "aggregate_id"),
                (5, "payload"),
                (6, "occurred_at"),
                (7, "topic"),
            ] {
                add.arg(field).arg(row.get::<_, &str>(place));
            }
            add.query_async::<String>(&mut redis).await?;
            client.execute(&mark, &[&row.get::<_, i64>(0)]).await?;
        }
        client.batch_execute("COMMIT").await?;
        done += claimed.len();
    }
    Ok(float(done) / began.elapsed().as_secs_f64())
}
