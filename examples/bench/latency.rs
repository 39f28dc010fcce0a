//! How long a committed event takes to a consumer that blocks in XREAD, at a steady rate of
//! commits.
//!
//! In: a rate and a time. Out: latencies from COMMIT acknowledged, and from the statement sent,
//! both to XREAD returned. It must stay true that the schedule does not wait for the relay or for a
//! slow commit: rows are due at fixed moments, and how far the writers fell behind is part of the
//! result. One clock, one process, a thread each.

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use redis::{RedisResult, Value};
use tokio_postgres::Client;

use crate::figures::percentile;
use crate::harness::world::STREAM;
use crate::scene::Scene;

/// Connections that share the schedule: a commit that waits for the disk holds up one of them.
const WRITERS: u32 = 8;
/// Rows before the measured ones: caches, plans and connections are cold only once in production,
/// too.
const WARM_UP: u32 = 100;
/// For the last entries after the last commit.
const TAIL: Duration = Duration::from_secs(10);

/// The event's number stands in its id, so that no map has to be shared while the clock runs.
const INSERT: &str = "
    INSERT INTO identity.outbox (event_id, event_type, aggregate_id, payload)
    VALUES (('00000000-0000-4000-8000-' || lpad(to_hex($1::int8), 12, '0'))::uuid, 'UserCreated',
            '6f1c2d3e-0000-4000-8000-000000000001', $2::text::jsonb)";

/// One commit.
struct Commit {
    number: u32,
    due: Instant,
    sent: Instant,
    acknowledged: Instant,
}

/// What one rate showed; all times sorted.
pub struct Measured {
    pub rate: u32,
    pub durability: &'static str,
    pub achieved: f64,
    pub from_ack: Vec<Duration>,
    pub from_send: Vec<Duration>,
    /// Entries that a consumer had before the writer had its answer.
    pub before_ack: usize,
    /// By how much the schedule was missed: the 99th percentile.
    pub slip: Duration,
}

pub async fn measure(
    scene: &mut Scene,
    (rate, durability): (u32, &'static str),
    time: Duration,
) -> Result<Measured, Box<dyn Error>> {
    let slot = "bench_latency";
    scene.settle().await?;
    scene.sql.batch_execute("TRUNCATE identity.outbox").await?;
    scene.create_slot(slot).await?;
    let settings = scene.settings.clone().with("slot_name", slot).with("durability", durability);
    let mut relay = settings.start_ready().await;
    let seconds = u32::try_from(time.as_secs())?;
    let total = WARM_UP + rate * seconds;
    let url = scene.redis.url();
    let reader = std::thread::spawn(move || read(&url, total));
    let mut clients = Vec::new();
    for _ in 0..WRITERS {
        clients.push(scene.postgres.socket_url());
    }
    let writer = std::thread::spawn(move || write(&clients, rate, total));
    // This thread only waits: both threads have what they need.
    let joined = tokio::task::spawn_blocking(move || (writer.join(), reader.join())).await?;
    let (Ok(commits), Ok(seen)) = joined else { return Err("a thread of the bench failed".into()) };
    let commits = commits.map_err(|error| format!("writer: {error}"))?;
    let seen = seen.map_err(|error| format!("reader: {error}"))?;
    relay.drain().await;
    scene.drop_slot(slot).await?;
    evaluate((rate, durability), &commits, &seen)
}

fn evaluate(
    (rate, durability): (u32, &'static str),
    commits: &[Commit],
    seen: &HashMap<u32, Instant>,
) -> Result<Measured, Box<dyn Error>> {
    let mut from_ack = Vec::new();
    let mut from_send = Vec::new();
    let mut slips = Vec::new();
    let mut before_ack = 0;
    let measured: Vec<&Commit> = commits.iter().filter(|commit| commit.number >= WARM_UP).collect();
    for commit in &measured {
        let seen = seen.get(&commit.number).ok_or("an event was committed and never seen")?;
        before_ack += usize::from(*seen < commit.acknowledged);
        from_ack.push(seen.saturating_duration_since(commit.acknowledged));
        from_send.push(seen.saturating_duration_since(commit.sent));
        slips.push(commit.sent.saturating_duration_since(commit.due));
    }
    for times in [&mut from_ack, &mut from_send, &mut slips] {
        times.sort_unstable();
    }
    let first = measured.iter().map(|commit| commit.due).min();
    let last = measured.iter().map(|commit| commit.acknowledged).max();
    let span = last.zip(first).map_or(f64::NAN, |(last, first)| (last - first).as_secs_f64());
    let achieved = f64::from(u32::try_from(measured.len())?) / span;
    let slip = percentile(&slips, 990);
    Ok(Measured { rate, durability, achieved, from_ack, from_send, before_ack, slip })
}

/// Entry ids with names and values in turns.
type Entries = Vec<(String, Vec<Value>)>;
type Commits = Result<Vec<Commit>, String>;

/// All writers on one thread of their own: tasks that mostly wait.
fn write(urls: &[String], rate: u32, total: u32) -> Commits {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for url in urls {
            let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
            let (client, connection) = connected.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            clients.push(client);
        }
        let began = Instant::now() + Duration::from_millis(50);
        let writers = clients.into_iter().zip(0..).map(|(client, first)| {
            tokio::spawn(async move {
                let done = write_share(&client, began, rate, (first..total).step_by(8)).await;
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

async fn write_share(
    client: &Client,
    began: Instant,
    rate: u32,
    numbers: impl Iterator<Item = u32>,
) -> Result<Vec<Commit>, tokio_postgres::Error> {
    let insert = client.prepare(INSERT).await?;
    let payload = format!(r#"{{"pad": "{}"}}"#, "x".repeat(crate::scene::PAYLOAD_BYTES - 11));
    let mut commits = Vec::new();
    for number in numbers {
        let due = began + Duration::from_secs(1) * number / rate;
        tokio::time::sleep_until(due.into()).await;
        let sent = Instant::now();
        client.execute(&insert, &[&i64::from(number), &payload]).await?;
        commits.push(Commit { number, due, sent, acknowledged: Instant::now() });
    }
    Ok(commits)
}

/// A consumer that does nothing but look at the clock.
fn read(url: &str, total: u32) -> Result<HashMap<u32, Instant>, String> {
    let mut seen = HashMap::new();
    let mut connection = redis::Client::open(url)
        .and_then(|client| client.get_connection())
        .map_err(|error| error.to_string())?;
    let mut last_id = "0".to_owned();
    let mut patience = Instant::now() + TAIL;
    while u32::try_from(seen.len()).is_ok_and(|count| count < total) && Instant::now() < patience {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1_000).arg("BLOCK").arg(1_000);
        command.arg("STREAMS").arg(STREAM).arg(&last_id);
        let streams: RedisResult<Option<Vec<(String, Entries)>>> = command.query(&mut connection);
        let at = Instant::now();
        let streams = streams.map_err(|error| error.to_string())?.unwrap_or_default();
        for (id, fields) in streams.into_iter().flat_map(|(_, entries)| entries) {
            let number = number_of(&fields).ok_or_else(|| format!("no event_id in entry {id}"))?;
            // A second entry of the same event would be a broken promise, not a latency.
            if seen.insert(number, at).is_some() {
                return Err(format!("event {number} came twice, the second time in entry {id}"));
            }
            last_id = id;
            patience = at + TAIL;
        }
    }
    Ok(seen)
}

fn number_of(fields: &[Value]) -> Option<u32> {
    let is_name = |value: &Value| *value == Value::BulkString(b"event_id".to_vec());
    let pair = fields.chunks_exact(2).find(|pair| pair.first().is_some_and(is_name))?;
    let Value::BulkString(id) = pair.get(1)? else { return None };
    let digits = std::str::from_utf8(id.last_chunk::<12>()?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}
