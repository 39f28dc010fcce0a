//! What the relay takes when it has nothing to do, how soon it is there, and how large it is.
//!
//! In: a scene. Out: processor time of a settled relay, times from its start to the first entry,
//! bytes of its binary. It must stay true that the servers are warm and quiet: nothing but the
//! relay is measured.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use redis::Value;

use crate::cpu;
use crate::figures::{float, human};
use crate::harness::world::{STREAM, insert};
use crate::marks::Marks;
use crate::report::Report;
use crate::scene::Scene;
use crate::stage::binary;

const SLOT: &str = "bench_footprint";
/// Starts, of which the median counts.
const STARTS: u8 = 5;
/// Longest wait for the first entry.
const PATIENCE_MS: u64 = 60_000;

pub struct Footprint {
    /// Of one core.
    idle_percent: f64,
    first_entry: Vec<Duration>,
    binary_mb: f64,
    is_stripped: bool,
}

pub async fn measure(scene: &mut Scene, time: Duration) -> Result<Footprint, Box<dyn Error>> {
    let mut first_entry = Vec::new();
    for _ in 0..STARTS {
        first_entry.push(start_to_entry(scene).await?);
    }
    first_entry.sort_unstable();
    let (bytes, is_stripped) = binary_bytes()?;
    let idle_percent = idle_percent(scene, time).await?;
    Ok(Footprint { idle_percent, first_entry, binary_mb: float(bytes) / 1e6, is_stripped })
}

/// A settled relay between two quiet servers, over that time.
async fn idle_percent(scene: &mut Scene, time: Duration) -> Result<f64, Box<dyn Error>> {
    scene.settle().await?;
    scene.create_slot(SLOT).await?;
    let mut relay = scene.settings.clone().with("slot_name", SLOT).start_ready().await;
    insert(&scene.sql, 1).await?;
    scene.until_published(&[STREAM.to_owned()], 1, time).await?;
    // What it still does for that row is no idleness yet; a tenth of the time is for that.
    tokio::time::sleep(time / 10).await;
    let (began, before) = (Instant::now(), cpu::used(relay.pid())?);
    tokio::time::sleep(time).await;
    let used = cpu::used(relay.pid())?.saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64();
    relay.drain().await;
    scene.drop_slot(SLOT).await?;
    Ok(percent)
}

/// From the start of the process to the entry of a row that waits for it.
async fn start_to_entry(scene: &mut Scene) -> Result<Duration, Box<dyn Error>> {
    scene.settle().await?;
    scene.create_slot(SLOT).await?;
    insert(&scene.sql, 1).await?;
    let url = scene.redis.url();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let reader = tokio::task::spawn_blocking(move || await_entry(&url, ready));
    is_ready.await?;
    let began = Instant::now();
    let mut relay = scene.settings.clone().with("slot_name", SLOT).start();
    let seen = reader.await??;
    relay.drain().await;
    scene.drop_slot(SLOT).await?;
    Ok(seen - began)
}

/// When the first entry came; `ready` is told once nothing but XREAD is left to do.
fn await_entry(url: &str, ready: tokio::sync::oneshot::Sender<()>) -> redis::RedisResult<Instant> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    ready.send(()).ok();
    let mut read = redis::cmd("XREAD");
    read.arg("BLOCK").arg(PATIENCE_MS).arg("STREAMS").arg(STREAM).arg("0");
    let answer = read.query::<Value>(&mut connection)?;
    let at = Instant::now();
    if answer == Value::Nil { Err((redis::ErrorKind::Io, "no entry came").into()) } else { Ok(at) }
}

/// The size without symbols; as it is where there is no `strip`.
fn binary_bytes() -> Result<(usize, bool), Box<dyn Error>> {
    let (home, from) = (tempfile::tempdir()?, binary()?);
    let to = home.path().join("walrelay");
    let done = Command::new("strip").arg("-o").arg(&to).arg(&from).status();
    let is_stripped = done.is_ok_and(|done| done.success());
    let bytes = std::fs::metadata(if is_stripped { to } else { from })?.len();
    Ok((usize::try_from(bytes)?, is_stripped))
}

impl Footprint {
    pub fn note(&self, marks: &mut Marks) {
        marks.note("idle", self.idle_percent);
        for time in &self.first_entry {
            marks.note("first entry", time.as_secs_f64() * 1e3);
        }
        marks.note("binary", self.binary_mb);
    }

    pub fn report(&self, report: &Report) {
        let all: Vec<String> = self.first_entry.iter().copied().map(human).collect();
        let stripped = if self.is_stripped { "stripped" } else { "with symbols: no strip here" };
        report.line("");
        for text in [
            format!("Idle                  {:.2} % of a core", self.idle_percent),
            format!("Start to first entry  {}", all.join(", ")),
            format!("Binary                {:.2} MB, {stripped}", self.binary_mb),
        ] {
            report.line(&text);
        }
    }
}
