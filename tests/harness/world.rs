//! The usual scene: one PostgreSQL, one Redis, the tables of `walrelay setup`, and a writer.
//!
//! In: what differs from the usual. Out: servers, settings for the relay, and rows by plain SQL.

use tokio_postgres::Client;

use super::consumer::Consumer;
use super::ledger::Ledger;
use super::postgres::{self, Postgres};
use super::redis::Redis;
use super::relay::Settings;
use super::wait::{self, PATIENCE};

/// The stream of a row that says nothing else.
pub const STREAM: &str = "identity.user.v1";
/// The slot of the defaults.
pub const SLOT: &str = "walrelay";

/// The servers of one test, and how its relay is run.
pub struct World {
    pub postgres: Postgres,
    pub redis: Redis,
    pub settings: Settings,
}

impl World {
    /// Both servers, set up. Without fsync: only a machine that loses power would notice.
    pub async fn new() -> Self {
        Self::with(&[], &[]).await
    }

    /// The same with settings of PostgreSQL and of Redis.
    pub async fn with(postgres: &[(&str, &str)], redis: &[(&str, &str)]) -> Self {
        let world = Self::bare(postgres, redis).await;
        world.settings.setup().await;
        world
    }

    /// The same before `setup`: nothing in the database.
    pub async fn bare(postgres: &[(&str, &str)], redis: &[(&str, &str)]) -> Self {
        let mut all = vec![("fsync", "off")];
        all.extend_from_slice(postgres);
        let postgres = Postgres::start_with(&all).await;
        let redis = Redis::start_with(redis).await;
        let settings = Settings::new(&postgres.url(), &redis.url());
        Self { postgres, redis, settings }
    }

    /// A reader of the usual stream.
    pub fn consumer(&self) -> Consumer {
        self.consumer_of(STREAM)
    }

    /// A reader of another stream.
    pub fn consumer_of(&self, stream: &str) -> Consumer {
        Consumer::new(&self.redis.url(), stream)
    }

    /// Awaits everything in the outbox in the stream: each once, in order. For a single writer.
    pub async fn assert_all_published(&self) {
        let ledger = Ledger::of_one_writer(&self.postgres.client().await).await;
        let entries = self.consumer().read(ledger.len()).await;
        ledger.assert_exactly_once(&entries);
    }

    /// A relay with these settings starts, publishes a row, and drains.
    pub async fn assert_relays(&self, settings: &Settings) {
        let mut relay = settings.start_ready().await;
        insert(&self.postgres.client().await, 1).await.expect("an INSERT");
        self.assert_all_published().await;
        relay.drain().await;
    }

    /// Awaits that no row is left to mark.
    pub async fn until_marked(&self) {
        let client = self.postgres.client().await;
        wait::until_equal("rows left to mark", 0, PATIENCE, async || {
            count(&client, "identity.outbox WHERE NOT published").await
        })
        .await;
    }

    /// Awaits that PostgreSQL has no session of a relay.
    pub async fn until_no_session(&self) {
        let client = self.postgres.client().await;
        let sessions = "pg_stat_activity WHERE application_name LIKE 'walrelay%'";
        let ask = async || count(&client, sessions).await;
        wait::until_equal("sessions of a relay", 0, PATIENCE, ask).await;
    }

    /// Awaits a slot that has confirmed all WAL written until now.
    pub async fn until_confirmed(&self) {
        let client = self.postgres.client().await;
        let query = "SELECT pg_current_wal_insert_lsn()::text";
        let now: String = client.query_one(query, &[]).await.expect("an LSN").get(0);
        let query = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots
                     WHERE slot_name = 'walrelay'";
        wait::until_equal("the slot confirms what was written", true, PATIENCE, async || {
            client.query_one(query, &[&now]).await.expect("the slot").get::<_, bool>(0)
        })
        .await;
    }
}

/// `SELECT count(*) FROM` whatever follows.
pub async fn count(client: &Client, from: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {from}");
    client.query_one(&query, &[]).await.expect("a count").get(0)
}

/// One row in a transaction of its own; `n` stands in the payload.
pub async fn insert(client: &Client, n: i64) -> Result<(), tokio_postgres::Error> {
    insert_many(client, n, n).await
}

/// The rows `from..=to` in one transaction; each `n` stands in its payload.
pub async fn insert_many(client: &Client, from: i64, to: i64) -> Result<(), tokio_postgres::Error> {
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 SELECT 'UserCreated', gen_random_uuid(), jsonb_build_object('n', n)
                 FROM generate_series($1::int8, $2) AS n ORDER BY n";
    client.execute(query, &[&from, &to]).await.map(drop)
}

/// Writes the rows `1..=total`, so many in each transaction, by one writer that outlives the
/// server: a transaction that failed is written again, with other event ids.
pub async fn write_through(url: String, total: i64, each: i64) {
    let mut client = postgres::client(&url).await;
    let mut from = 1;
    while from <= total {
        match insert_many(&client, from, total.min(from + each - 1)).await {
            Ok(()) => from += each,
            Err(error) if error.is_closed() || error.code().is_some() => {
                client = postgres::client(&url).await;
            }
            Err(error) => panic!("the writer fails: {error}"),
        }
    }
}
