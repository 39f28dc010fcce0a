//! The bench's servers and its backlogs: rows written once, read by every contender from the same
//! position.
//!
//! In: how many rows of which kind. Out: servers, slots that stand before the rows, and the
//! position behind them.
//! It must stay true that no contender's work changes what the next one reads.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;

use crate::disk;
use crate::harness::postgres::Postgres;
use crate::harness::redis::Redis;
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::STREAM;
use crate::stage::binary;

/// Bytes of each payload as PostgreSQL prints it.
pub const PAYLOAD_BYTES: usize = 360;
/// Rows per transaction of the backlog.
pub const TRANSACTION_ROWS: usize = 100;
/// Stands before the backlog for as long as the bench runs; contenders read copies of it.
pub const BACKLOG_SLOT: &str = "backlog";
/// WAL that is written before anything is measured; `min_wal_size` keeps its files.
const SPARE_WAL_MB: usize = 6_000;
/// `{"pad": "..."}` around the padding.
const PAYLOAD_FRAME_BYTES: usize = 11;

/// No two paddings begin alike, and none can be compressed: what PostgreSQL sends is what it wrote.
const FILL: &str = "
    DO $$
    DECLARE
        pad text := (SELECT string_agg(md5(piece::text), '') FROM generate_series(0, {pad} / 32)
                     AS piece);
    BEGIN
        FOR t IN 0 .. {transactions} - 1 LOOP
            INSERT INTO identity.outbox (event_type, aggregate_id, topic, payload)
            SELECT 'UserCreated', gen_random_uuid(), {topic},
                jsonb_build_object('pad',
                    left(md5((t * {per_transaction} + n)::text) || pad, {pad}))
            FROM generate_series(1, {per_transaction}) AS n;
            COMMIT;
        END LOOP;
    END $$";

/// Rows that wait to be drained, and how they were written.
#[derive(Clone)]
pub struct Backlog {
    /// A slot that stands before them; contenders read copies of it.
    pub slot: &'static str,
    pub rows: usize,
    /// Rows of a transaction; `rows` is a multiple of it.
    pub per_transaction: usize,
    pub payload_bytes: usize,
    /// Streams that take turns, row by row.
    pub streams: usize,
    /// The WAL position behind them.
    pub end_lsn: String,
}

impl Backlog {
    pub fn of_rows(rows: usize) -> Self {
        Self {
            slot: BACKLOG_SLOT,
            rows: rows.next_multiple_of(TRANSACTION_ROWS),
            per_transaction: TRANSACTION_ROWS,
            payload_bytes: PAYLOAD_BYTES,
            streams: 1,
            end_lsn: String::new(),
        }
    }

    pub fn streams(&self) -> Vec<String> {
        if self.streams == 1 {
            return vec![STREAM.to_owned()];
        }
        (0..self.streams).map(|number| format!("bench.{number}")).collect()
    }

    /// What it comes to on disk: WAL, table and append-only file, with room for what is spilled.
    pub fn bytes_on_disk(&self) -> usize {
        self.rows * (4 * self.payload_bytes + 2_000)
    }

    fn statement(&self) -> String {
        let topic = if self.streams == 1 {
            format!("'{STREAM}'")
        } else {
            format!("'bench.' || (t * {} + n) % {}", self.per_transaction, self.streams)
        };
        FILL.replace("{transactions}", &(self.rows / self.per_transaction).to_string())
            .replace("{per_transaction}", &self.per_transaction.to_string())
            .replace("{topic}", &topic)
            .replace("{pad}", &(self.payload_bytes - PAYLOAD_FRAME_BYTES).to_string())
    }
}

pub struct Scene {
    pub redis: Redis,
    pub postgres: Postgres,
    pub sql: Client,
    pub cache: MultiplexedConnection,
    pub settings: Settings,
    /// Where PostgreSQL's own programs are.
    pub programs: PathBuf,
}

type Done = Result<(), Box<dyn Error>>;

impl Scene {
    pub async fn start() -> Result<Self, Box<dyn Error>> {
        // A checkpoint or a rewrite of the AOF that falls on one contender and not on the others
        // would measure luck: neither happens but when asked for. Both servers write to disk as
        // they always do.
        let postgres = Postgres::start_with(&[
            ("shared_buffers", "256MB"),
            ("max_wal_size", "12GB"),
            ("min_wal_size", "6GB"),
            ("checkpoint_timeout", "1h"),
            ("autovacuum", "off"),
        ])
        .await;
        let redis = Redis::start_with(&[("auto-aof-rewrite-percentage", "0")]).await;
        let settings = Settings::with_binary(&binary()?, &postgres.url(), &redis.url());
        let done = settings.finish("setup").await;
        if done.code != Some(0) {
            return Err(format!("walrelay setup failed:\n{}", done.output).into());
        }
        let sql = postgres.client().await;
        let row = sql.query_one("SELECT setting FROM pg_config WHERE name = 'BINDIR'", &[]).await?;
        let programs = PathBuf::from(row.get::<_, String>(0));
        let cache = redis.connection().await;
        let scene = Self { redis, postgres, sql, cache, settings, programs };
        // The slot that setup made would hold WAL, and nobody reads it.
        scene.drop_slot("walrelay").await?;
        scene.write_spare_wal().await?;
        Ok(scene)
    }

    /// A server that has been up for a while writes its WAL into files it has used before. A new
    /// one fills each with zeros first, 16 MB under the lock that every commit waits for.
    async fn write_spare_wal(&self) -> Done {
        disk::need(SPARE_WAL_MB * 1_000_000)?;
        let write = "SELECT pg_logical_emit_message(false, 'bench', repeat('x', 1000000))
                     FROM generate_series(1, $1::int4)";
        self.sql.execute(write, &[&i32::try_from(SPARE_WAL_MB)?]).await?;
        self.sql.batch_execute("SELECT pg_switch_wal(); CHECKPOINT").await?;
        Ok(())
    }

    /// Writes a backlog into an empty outbox. Its slot is older than its rows, so that it holds
    /// them all; drop it when the backlog is no longer needed.
    pub async fn fill(&mut self, mut backlog: Backlog) -> Result<Backlog, Box<dyn Error>> {
        disk::need(backlog.bytes_on_disk())?;
        self.sql.batch_execute("TRUNCATE identity.outbox").await?;
        self.create_slot(backlog.slot).await?;
        self.sql.batch_execute("SET synchronous_commit = off").await?;
        self.sql.batch_execute(&backlog.statement()).await?;
        self.sql.batch_execute("RESET synchronous_commit; CHECKPOINT").await?;
        let query = "SELECT pg_current_wal_flush_lsn()::text, count(*),
                     min(octet_length(payload::text)), max(octet_length(payload::text))
                     FROM identity.outbox";
        let row = self.sql.query_one(query, &[]).await?;
        backlog.end_lsn = row.get(0);
        let (rows, sizes) = (row.get::<_, i64>(1), [row.get::<_, i32>(2), row.get::<_, i32>(3)]);
        let wanted = (i64::try_from(backlog.rows)?, [i32::try_from(backlog.payload_bytes)?; 2]);
        if (rows, sizes) != wanted {
            return Err(format!("the backlog is {rows} rows of {sizes:?} bytes").into());
        }
        Ok(backlog)
    }

    /// A slot that stands at this moment.
    pub async fn create_slot(&self, name: &str) -> Done {
        let query = "SELECT pg_create_logical_replication_slot($1::text::name, 'pgoutput')";
        self.sql.execute(query, &[&name]).await?;
        Ok(())
    }

    /// A slot that stands where that one does.
    pub async fn copy_slot(&self, from: &str, name: &str) -> Done {
        let query = "SELECT pg_copy_logical_replication_slot($1::text::name, $2::text::name)";
        self.sql.execute(query, &[&from, &name]).await?;
        Ok(())
    }

    /// Drops a slot as soon as the walsender of the process that just ended has let go of it.
    pub async fn drop_slot(&self, name: &str) -> Done {
        let query = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                     WHERE slot_name = $1::text::name AND NOT active";
        wait::until("a slot to be let go of", PATIENCE, async || {
            (self.sql.execute(query, &[&name]).await.ok()? == 1).then_some(())
        })
        .await;
        Ok(())
    }

    /// An empty Redis with an empty AOF, and a PostgreSQL with nothing left to write: the same
    /// start for all.
    pub async fn settle(&mut self) -> Done {
        redis::cmd("FLUSHALL").query_async::<()>(&mut self.cache).await?;
        redis::cmd("BGREWRITEAOF").query_async::<redis::Value>(&mut self.cache).await?;
        let mut cache = self.cache.clone();
        wait::until("the AOF to be rewritten", PATIENCE, async || {
            let mut info = redis::cmd("INFO");
            info.arg("persistence");
            let text: String = info.query_async(&mut cache).await.ok()?;
            let idle = text.contains("aof_rewrite_in_progress:0")
                && text.contains("aof_rewrite_scheduled:0");
            idle.then_some(())
        })
        .await;
        self.sql.batch_execute("CHECKPOINT").await?;
        Ok(())
    }

    /// The walsender that streams from that slot, once there is one.
    pub async fn walsender(&self, slot: &str) -> Result<u32, Box<dyn Error>> {
        let query = "SELECT active_pid FROM pg_replication_slots
                     WHERE slot_name = $1::text::name AND active_pid IS NOT NULL";
        let pid = wait::until("a walsender on the slot", PATIENCE, async || {
            Some(self.sql.query_opt(query, &[&slot]).await.ok()??.get::<_, i32>(0))
        });
        Ok(u32::try_from(pid.await)?)
    }

    /// Entries in these streams together.
    pub async fn entries(&mut self, streams: &[String]) -> redis::RedisResult<usize> {
        let mut ask = redis::pipe();
        for stream in streams {
            ask.cmd("XLEN").arg(stream);
        }
        let lengths: Vec<usize> = ask.query_async(&mut self.cache).await?;
        Ok(lengths.iter().sum())
    }

    /// Awaits that many entries in these streams. It asks seldom while much is missing, for that
    /// takes Redis's time, and often at the end: a late look would count against the relay.
    pub async fn until_published(
        &mut self,
        streams: &[String],
        wanted: usize,
        within: Duration,
    ) -> Done {
        let deadline = Instant::now() + within;
        loop {
            let entries = self.entries(streams).await?;
            if entries >= wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the streams stay at {entries} of {wanted} entries").into());
            }
            let is_near = wanted - entries < 2_000;
            tokio::time::sleep(Duration::from_millis(if is_near { 1 } else { 10 })).await;
        }
    }
}
