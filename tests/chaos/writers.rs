//! The application: transactions on an outbox, and a ledger of what became of each.
//!
//! In: a URL, a seed, and a flag that says stop. Out: every transaction that was tried, with what
//! the client knows of its end. It must stay true that the numbers of an aggregate are given in the
//! order of commit: each is taken under a lock that is held until the end. Not here: the truth
//! about a COMMIT whose connection died; the table tells (`verdict`).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use crate::harness::postgres;
use crate::harness::world::STREAM;
use crate::history::now;

/// How many aggregates there are: few enough that writers meet on one.
pub const AGGREGATES: u32 = 50;
/// Events of an aggregate go to one of these; the first is the default of rows without a topic.
pub const STREAMS: [&str; 3] = [STREAM, "chaos.b", "chaos.c"];

const TABLE: &str = "CREATE SCHEMA chaos;
     CREATE TABLE chaos.aggregates (id int4 PRIMARY KEY, counter int8 NOT NULL)
        WITH (fillfactor = 50);
     INSERT INTO chaos.aggregates SELECT generate_series(0, 49), 0";
const LOCK: &str =
    "SELECT id, counter FROM chaos.aggregates WHERE id = ANY($1) ORDER BY id FOR UPDATE";
const COUNT: &str = "UPDATE chaos.aggregates AS a SET counter = new.counter
     FROM unnest($1::int4[], $2::int8[]) AS new (id, counter) WHERE a.id = new.id";
const INSERT: &str = "INSERT INTO identity.outbox
        (event_id, event_type, aggregate_id, topic, payload)
     SELECT event_id::uuid, 'Happened', aggregate_id::uuid, topic, payload::jsonb
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
        AS event (event_id, aggregate_id, topic, payload, ordinal)
     ORDER BY ordinal";

/// One event, as its writer meant it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    pub id: u128,
    pub aggregate: u32,
    /// Its place among the committed events of the aggregate, from 1.
    pub n: i64,
}

/// What the client knows of a transaction's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// By ROLLBACK, or by a failure before COMMIT was sent.
    RolledBack,
    /// COMMIT was sent and not answered.
    Unknown,
}

/// A transaction that was tried.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub writer: u32,
    pub outcome: Outcome,
    /// When the client knew the outcome, in ms since 1970.
    pub at: u64,
    pub events: Vec<Event>,
    /// Events that a savepoint took back: they must never be seen.
    pub taken_back: Vec<Event>,
}

/// Makes what the writers share.
pub async fn prepare(client: &Client) {
    client.batch_execute(TABLE).await.expect("a table of counters");
}

/// Writes until told to stop.
pub async fn write(
    url: String,
    seed: u64,
    writer: u32,
    stop: watch::Receiver<bool>,
) -> Vec<Transaction> {
    let mut random = fastrand::Rng::with_seed(seed ^ u64::from(writer + 1).rotate_left(48));
    let mut ledger = Vec::new();
    let mut session = Session::new(&url).await;
    while !*stop.borrow() {
        let mut attempt = Attempt { writer, ..Attempt::default() };
        let end = attempt.run(&session, &mut random).await;
        if end.is_err() {
            session = Session::new(&url).await;
        }
        let Attempt { events, mut taken_back, is_committing, .. } = attempt;
        let outcome = match end {
            Ok(outcome) => outcome,
            Err(_) if is_committing => Outcome::Unknown,
            Err(_) => Outcome::RolledBack,
        };
        taken_back.retain(|event| !events.contains(event));
        ledger.push(Transaction { writer, outcome, at: now(), events, taken_back });
        tokio::time::sleep(Duration::from_millis(random.u64(0..30))).await;
    }
    ledger
}

/// A connection and its statements.
struct Session {
    client: Client,
    lock: Statement,
    count: Statement,
    insert: Statement,
}

impl Session {
    /// As soon as the server lives long enough for it.
    async fn new(url: &str) -> Self {
        loop {
            let client = postgres::client(url).await;
            let prepare = async |sql| client.prepare(sql).await;
            let statements = (prepare(LOCK).await, prepare(COUNT).await, prepare(INSERT).await);
            if let (Ok(lock), Ok(count), Ok(insert)) = statements {
                return Self { client, lock, count, insert };
            }
        }
    }
}

/// A transaction on its way.
#[derive(Default)]
struct Attempt {
    writer: u32,
    counters: BTreeMap<u32, i64>,
    events: Vec<Event>,
    taken_back: Vec<Event>,
    is_committing: bool,
}

impl Attempt {
    async fn run(
        &mut self,
        session: &Session,
        random: &mut fastrand::Rng,
    ) -> Result<Outcome, Error> {
        let client = &session.client;
        client.batch_execute("BEGIN").await?;
        let aggregates = (0..random.usize(1..6)).map(|_| random.u32(0..AGGREGATES));
        let ids: Vec<i32> = aggregates.map(u32::cast_signed).collect();
        for row in client.query(&session.lock, &[&ids]).await? {
            self.counters.insert(row.get::<_, i32>(0).cast_unsigned(), row.get(1));
        }
        // Mostly a few rows; one in four is as large as they come.
        let rows = if random.u8(0..4) == 0 { random.usize(1..=50) } else { random.usize(1..=6) };
        let parts = random.usize(1..=3).min(rows);
        for part in 0..parts {
            let rows = rows / parts + usize::from(part < rows % parts);
            if random.u8(0..4) > 0 {
                self.insert(session, random, rows).await?;
            } else {
                self.insert_in_savepoint(session, random, rows).await?;
            }
        }
        let ids: Vec<i32> = self.counters.keys().map(|id| id.cast_signed()).collect();
        let counters: Vec<i64> = self.counters.values().copied().collect();
        client.execute(&session.count, &[&ids, &counters]).await?;
        if random.u8(0..8) == 0 {
            client.batch_execute("ROLLBACK").await?;
            return Ok(Outcome::RolledBack);
        }
        self.is_committing = true;
        client.batch_execute("COMMIT").await?;
        Ok(Outcome::Committed)
    }

    /// Kept or taken back, half and half.
    async fn insert_in_savepoint(
        &mut self,
        session: &Session,
        random: &mut fastrand::Rng,
        rows: usize,
    ) -> Result<(), Error> {
        let client = &session.client;
        let (counters, kept) = (self.counters.clone(), self.events.len());
        client.batch_execute("SAVEPOINT part").await?;
        self.insert(session, random, rows).await?;
        if random.bool() {
            return client.batch_execute("RELEASE part").await;
        }
        client.batch_execute("ROLLBACK TO part").await?;
        self.counters = counters;
        self.taken_back.extend(self.events.drain(kept..));
        Ok(())
    }

    async fn insert(
        &mut self,
        session: &Session,
        random: &mut fastrand::Rng,
        rows: usize,
    ) -> Result<(), Error> {
        let known: Vec<u32> = self.counters.keys().copied().collect();
        let from = self.events.len();
        for _ in 0..rows {
            let aggregate = known[random.usize(0..known.len())];
            let counter = self.counters.get_mut(&aggregate).expect("a locked aggregate");
            *counter += 1;
            self.events.push(Event { id: random.u128(..), aggregate, n: *counter });
        }
        let new = &self.events[from..];
        let ids: Vec<String> = new.iter().map(|event| uuid(event.id)).collect();
        let aggregates: Vec<String> =
            new.iter().map(|event| uuid(u128::from(event.aggregate))).collect();
        let topics: Vec<&str> = new.iter().map(|event| stream_of(event.aggregate)).collect();
        let payloads: Vec<String> =
            new.iter().map(|event| payload(self.writer, event, random)).collect();
        let values: [&(dyn ToSql + Sync); 4] = [&ids, &aggregates, &topics, &payloads];
        session.client.execute(&session.insert, &values).await.map(drop)
    }
}

/// The stream an aggregate's events go to.
pub fn stream_of(aggregate: u32) -> &'static str {
    STREAMS[usize::try_from(aggregate).expect("a small number") % STREAMS.len()]
}

/// Sixteen bytes in PostgreSQL's spelling.
pub fn uuid(id: u128) -> String {
    let hex = format!("{id:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

/// Mostly some 200 bytes; now and then enough that PostgreSQL stores it out of line.
fn payload(writer: u32, event: &Event, random: &mut fastrand::Rng) -> String {
    let length = if random.u8(..) == 0 { random.usize(0..20_000) } else { random.usize(0..300) };
    let padding: String = (0..length).map(|_| random.alphanumeric()).collect();
    let Event { aggregate, n, .. } = event;
    format!(r#"{{"writer": {writer}, "aggregate": {aggregate}, "n": {n}, "padding": "{padding}"}}"#)
}
