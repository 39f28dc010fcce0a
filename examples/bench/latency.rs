//! How long a committed event takes to a consumer that blocks in XREAD, at a steady rate of
//! commits.
//!
//! In: a rate and a time. Out: latencies from COMMIT acknowledged, and from the statement sent,
//! both to XREAD returned. It must stay true that the schedule does not wait for the relay or for a
//! slow commit: rows are due at fixed moments, and how far the writers fell behind is part of the
//! result. One clock, one process, a thread each.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{RedisResult, Value};

use crate::figures::{float, percentile};
use crate::harness::world::STREAM;
use crate::marks::Marks;
use crate::scene::Scene;
use crate::writers::{self, Commit, Schedule};

/// Commits before the measured ones: caches, plans and connections are cold only once in
/// production, too.
const WARM_UP: u32 = 100;
/// For the last entries after the last commit.
const TAIL: Duration = Duration::from_secs(10);

/// What is committed how often, and who adds the entries.
#[derive(Clone, Copy)]
pub struct Load {
    /// Commits per second.
    pub rate: u32,
    /// Events of a commit.
    pub events: u32,
    pub by: By,
}

/// Who adds an event's entry.
#[derive(Clone, Copy)]
pub enum By {
    /// The relay, with this `durability`.
    Relay(&'static str),
    /// The writer itself, once its commit is acknowledged: what Redis, the consumer and the machine
    /// take without any relay.
    Writer,
}

/// What one load showed; all times sorted, one for each event.
pub struct Measured {
    pub load: Load,
    /// Commits per second.
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
    load: Load,
    time: Duration,
) -> Result<Measured, Box<dyn Error>> {
    let slot = "bench_latency";
    scene.settle().await?;
    scene.sql.batch_execute("TRUNCATE identity.outbox").await?;
    scene.create_slot(slot).await?;
    let relay = match load.by {
        By::Relay(durability) => {
            let settings = scene.settings.clone().with("slot_name", slot);
            Some(settings.with("durability", durability).start_ready().await)
        }
        By::Writer => None,
    };
    let total = WARM_UP + load.rate * u32::try_from(time.as_secs())?;
    let (url, events) = (scene.redis.url(), total * load.events);
    let reader = std::thread::spawn(move || read(&url, events));
    let Load { rate, events, .. } = load;
    let adds_to = relay.is_none().then(|| scene.redis.url());
    let schedule = Schedule { rate, events, first: 0, total, adds_to, stop: Arc::default() };
    let writer = writers::start(scene.postgres.socket_url(), schedule);
    // This thread only waits: both threads have what they need.
    let joined = tokio::task::spawn_blocking(move || (writer.join(), reader.join())).await?;
    let (Ok(commits), Ok(seen)) = joined else { return Err("a thread of the bench failed".into()) };
    let commits = commits.map_err(|error| format!("writer: {error}"))?;
    let seen = seen.map_err(|error| format!("reader: {error}"))?;
    if let Some(mut relay) = relay {
        relay.drain().await;
    }
    scene.drop_slot(slot).await?;
    evaluate(load, &commits, &seen)
}

fn evaluate(
    load: Load,
    commits: &[Commit],
    seen: &HashMap<u32, Instant>,
) -> Result<Measured, Box<dyn Error>> {
    let mut from_ack = Vec::new();
    let mut from_send = Vec::new();
    let mut slips = Vec::new();
    let mut before_ack = 0;
    let measured: Vec<&Commit> = commits.iter().filter(|commit| commit.number >= WARM_UP).collect();
    for commit in &measured {
        for event in 0..load.events {
            let seen = seen.get(&(commit.number * load.events + event));
            let seen = seen.ok_or("an event was committed and never seen")?;
            before_ack += usize::from(*seen < commit.acknowledged);
            from_ack.push(seen.saturating_duration_since(commit.acknowledged));
            from_send.push(seen.saturating_duration_since(commit.sent));
        }
        slips.push(commit.sent.saturating_duration_since(commit.due));
    }
    for times in [&mut from_ack, &mut from_send, &mut slips] {
        times.sort_unstable();
    }
    let first = measured.iter().map(|commit| commit.due).min();
    let last = measured.iter().map(|commit| commit.acknowledged).max();
    let span = last.zip(first).map_or(f64::NAN, |(last, first)| (last - first).as_secs_f64());
    let achieved = float(measured.len()) / span;
    let slip = percentile(&slips, 990);
    Ok(Measured { load, achieved, from_ack, from_send, before_ack, slip })
}

impl Measured {
    pub fn note(&self, marks: &mut Marks) {
        if matches!(self.load.by, By::Writer) {
            return;
        }
        let wanted: &[(&'static str, usize)] = match (self.load.rate, self.load.events) {
            (100, 1) => &[("100 p50", 500)],
            (1_000, 1) => &[("1000 p50", 500), ("1000 p99", 990), ("1000 p99.9", 999)],
            (1_000, 10) => &[("10000 p99", 990)],
            _ => &[],
        };
        for (name, permille) in wanted {
            let time = percentile(&self.from_ack, *permille);
            marks.note(name, time.as_secs_f64() * 1e3);
        }
    }
}

/// Entry ids with names and values in turns.
type Entries = Vec<(String, Vec<Value>)>;

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
