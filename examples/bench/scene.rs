//! The bench's servers and its backlog: rows written once, read by every contender from the same
//! position.
//!
//! In: how many rows. Out: servers, slots that stand before the rows, and the position behind them.
//! It must stay true that no contender's work changes what the next one reads.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;

use crate::harness::postgres::Postgres;
use crate::harness::redis::Redis;
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::stage::binary;

/// Bytes of each payload as PostgreSQL prints it.
pub const PAYLOAD_BYTES: usize = 360;
/// Rows per transaction of the backlog.
pub const TRANSACTION_ROWS: usize = 100;
/// Stands before the backlog for as long as the bench runs; contenders read copies of it.
const BACKLOG_SLOT: &str = "backlog";

/// `{"pad": "..."}` takes eleven bytes around the padding.
const FILL: &str = "
    DO $$ BEGIN
        FOR t IN 0 .. {transactions} - 1 LOOP
            INSERT INTO identity.outbox (event_type, aggregate_id, payload)
            SELECT 'UserCreated', gen_random_uuid(),
                jsonb_build_object('pad', substr(repeat(md5((t * 100 + n)::text), 11), 1, {pad}))
            FROM generate_series(1, {per_transaction}) AS n;
            COMMIT;
        END LOOP;
    END $$";

pub struct Scene {
    pub redis: Redis,
    pub postgres: Postgres,
    pub sql: Client,
    pub cache: MultiplexedConnection,
    pub settings: Settings,
    /// Where PostgreSQL's own programs are.
    pub programs: PathBuf,
    /// Rows of the backlog.
    pub rows: usize,
    /// The WAL position behind the backlog.
    pub end_lsn: String,
}

type Done = Result<(), Box<dyn Error>>;

impl Scene {
    pub async fn start(rows: usize) -> Result<Self, Box<dyn Error>> {
        // A checkpoint or a rewrite of the AOF that falls on one contender and not on the others
        // would measure luck: neither happens but when asked for. Both servers write to disk as
        // they always do.
        let postgres = Postgres::start_with(&[
            ("shared_buffers", "256MB"),
            ("max_wal_size", "8GB"),
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
        let end_lsn = String::new();
        Ok(Self { redis, postgres, sql, cache, settings, programs, rows, end_lsn })
    }

    /// Writes the backlog. The slot is older than the rows, so that it holds them all.
    pub async fn fill(&mut self) -> Done {
        self.create_slot(BACKLOG_SLOT).await?;
        // The slot that setup made would hold WAL too, and nobody reads it.
        self.drop_slot("walrelay").await?;
        let fill = FILL
            .replace("{transactions}", &self.rows.div_ceil(TRANSACTION_ROWS).to_string())
            .replace("{per_transaction}", &TRANSACTION_ROWS.to_string())
            .replace("{pad}", &(PAYLOAD_BYTES - 11).to_string());
        self.sql.batch_execute("SET synchronous_commit = off").await?;
        self.sql.batch_execute(&fill).await?;
        self.sql.batch_execute("RESET synchronous_commit; CHECKPOINT").await?;
        let query = "SELECT pg_current_wal_flush_lsn()::text, count(*),
                     min(octet_length(payload::text)), max(octet_length(payload::text))
                     FROM identity.outbox";
        let row = self.sql.query_one(query, &[]).await?;
        self.end_lsn = row.get(0);
        let (rows, sizes) = (row.get::<_, i64>(1), [row.get::<_, i32>(2), row.get::<_, i32>(3)]);
        let wanted = (i64::try_from(self.rows)?, [i32::try_from(PAYLOAD_BYTES)?; 2]);
        if (rows, sizes) != wanted {
            return Err(format!("the backlog is {rows} rows of {sizes:?} bytes").into());
        }
        Ok(())
    }

    /// A slot that stands at this moment.
    pub async fn create_slot(&self, name: &str) -> Done {
        let query = "SELECT pg_create_logical_replication_slot($1::text::name, 'pgoutput')";
        self.sql.execute(query, &[&name]).await?;
        Ok(())
    }

    /// A slot that stands before the backlog.
    pub async fn copy_slot(&self, name: &str) -> Done {
        let query = "SELECT pg_copy_logical_replication_slot($1::text::name, $2::text::name)";
        self.sql.execute(query, &[&BACKLOG_SLOT, &name]).await?;
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

    /// Awaits that many entries in the stream, asking often: a late look would count against the
    /// relay.
    pub async fn until_published(&mut self, wanted: usize, within: Duration) -> Done {
        let deadline = std::time::Instant::now() + within;
        loop {
            let mut command = redis::cmd("XLEN");
            command.arg(crate::harness::world::STREAM);
            let len: usize = command.query_async(&mut self.cache).await?;
            if len >= wanted {
                return Ok(());
            }
            if std::time::Instant::now() > deadline {
                return Err(format!("the stream stays at {len} of {wanted} entries").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
