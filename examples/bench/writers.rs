//! Writers that commit at a steady rate, whatever happens elsewhere.
//!
//! In: a schedule. Out: when each commit was due, sent and acknowledged. It must stay true that the
//! schedule waits for nobody: commits are due at fixed moments, a late one does not move the next.
//! A writer that adds its entry itself, once it is committed, is the floor of every relay; not what
//! an application may do, for it loses the entry when it dies in between.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tokio_postgres::{Client, NoTls};

use crate::harness::world::STREAM;
use crate::scene::PAYLOAD_BYTES;

/// Connections that share the schedule: a commit that waits for the disk holds up one of them.
const WRITERS: usize = 8;

const ID_PREFIX: &str = "00000000-0000-4000-8000-";
/// The event's number stands in its id, so that no map has to be shared while the clock runs.
const INSERT: &str = "
    INSERT INTO identity.outbox (event_id, event_type, aggregate_id, payload)
    VALUES (('{prefix}' || lpad(to_hex($1::int8), 12, '0'))::uuid, 'UserCreated',
            '6f1c2d3e-0000-4000-8000-000000000001', $2::text::jsonb)";
const INSERT_MANY: &str = "
    INSERT INTO identity.outbox (event_id, event_type, aggregate_id, payload)
    SELECT ('{prefix}' || lpad(to_hex($1::int8 + n), 12, '0'))::uuid,
           'UserCreated', '6f1c2d3e-0000-4000-8000-000000000001', $2::text::jsonb
    FROM generate_series(0, $3::int8 - 1) AS n";

/// When which events are committed.
#[derive(Clone)]
pub struct Schedule {
    /// Commits per second.
    pub rate: u32,
    /// Events of a commit.
    pub events: u32,
    /// Commits, numbered from `first`: no two schedules on one table may share a number.
    pub first: u32,
    pub total: u32,
    /// The Redis to which the writers add entries of single events themselves.
    pub adds_to: Option<String>,
    /// Ends it early.
    pub stop: Arc<AtomicBool>,
}

/// One commit.
pub struct Commit {
    pub number: u32,
    pub due: Instant,
    pub sent: Instant,
    pub acknowledged: Instant,
}

pub type Commits = Result<Vec<Commit>, String>;

/// All writers on one thread of their own: tasks that mostly wait.
pub fn start(url: String, schedule: Schedule) -> std::thread::JoinHandle<Commits> {
    std::thread::spawn(move || write(&url, &schedule))
}

fn write(url: &str, schedule: &Schedule) -> Commits {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            writers.push(Writer::new(url, schedule).await.map_err(|error| error.to_string())?);
        }
        let began = Instant::now() + Duration::from_millis(50);
        let writers = writers.into_iter().zip(0..).map(|(writer, share)| {
            let schedule = schedule.clone();
            tokio::spawn(async move {
                let done = writer.write(began, &schedule, share).await;
                done.map_err(|error| error.to_string())
            })
        });
        let mut commits = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            commits.extend(writer.await.map_err(|error| error.to_string())??);
        }
        Ok(commits)
    })
}

type Failed = Box<dyn Error + Send + Sync>;

struct Writer {
    client: Client,
    cache: Option<MultiplexedConnection>,
}

impl Writer {
    async fn new(url: &str, schedule: &Schedule) -> Result<Self, Failed> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let cache = match &schedule.adds_to {
            Some(url) => {
                Some(redis::Client::open(&**url)?.get_multiplexed_async_connection().await?)
            }
            None => None,
        };
        Ok(Self { client, cache })
    }

    /// Its share of the schedule.
    async fn write(
        mut self,
        began: Instant,
        schedule: &Schedule,
        share: u32,
    ) -> Result<Vec<Commit>, Failed> {
        let insert = if schedule.events == 1 { INSERT } else { INSERT_MANY };
        let insert = self.client.prepare(&insert.replace("{prefix}", ID_PREFIX)).await?;
        let payload = format!(r#"{{"pad": "{}"}}"#, "x".repeat(PAYLOAD_BYTES - 11));
        let events = i64::from(schedule.events);
        let mut commits = Vec::new();
        for place in (share..schedule.total).step_by(WRITERS) {
            let due = began + Duration::from_secs(1) * place / schedule.rate;
            tokio::time::sleep_until(due.into()).await;
            if schedule.stop.load(Ordering::Relaxed) {
                break;
            }
            let number = schedule.first + place;
            let event = i64::from(number) * events;
            let sent = Instant::now();
            if events == 1 {
                self.client.execute(&insert, &[&event, &payload]).await?;
            } else {
                self.client.execute(&insert, &[&event, &payload, &events]).await?;
            }
            commits.push(Commit { number, due, sent, acknowledged: Instant::now() });
            self.add(number, &payload).await?;
        }
        Ok(commits)
    }

    async fn add(&mut self, number: u32, payload: &str) -> Result<(), redis::RedisError> {
        let Some(cache) = &mut self.cache else { return Ok(()) };
        let mut add = redis::cmd("XADD");
        add.arg(STREAM).arg("*").arg("event_id").arg(format!("{ID_PREFIX}{number:012x}"));
        add.arg("payload").arg(payload).query_async::<()>(cache).await
    }
}
