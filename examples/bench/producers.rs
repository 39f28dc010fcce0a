//! What a relay that drains a backlog costs those who write: their commits, beside it and alone,
//! and beside PostgreSQL's own client, which only reads: what logical decoding alone costs them.
//!
//! In: a scene and its backlog. Out: times from the INSERT sent to COMMIT acknowledged. It must
//! stay true that all are taken in turns, at the same steady rate, on the same servers.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::figures::{human, percentile};
use crate::marks::Marks;
use crate::report::Report;
use crate::scene::{Backlog, Scene};
use crate::throughput::{source, until_marked};
use crate::writers::{self, Commit, Schedule};

/// Commits per second.
const RATE: u32 = 200;
const ROUNDS: u32 = 3;
/// `max_rate` of a relay that catches up gently, where nothing else is asked for.
pub const GENTLY: usize = 10_000;
/// How long the servers are left to the writers in each round.
const QUIET: Duration = Duration::from_secs(4);
/// Commits before the measured ones.
const WARM_UP: u32 = 40;
/// No schedule is longer: five minutes.
const TOTAL: u32 = RATE * 300;
const SLOT: &str = "bench_producers";

/// Sorted times of commits.
pub struct Producers {
    quiet: Vec<Duration>,
    floor: Vec<Duration>,
    beside: Vec<Duration>,
    max_rate: usize,
    gently: Vec<Duration>,
}

pub async fn measure(
    scene: &mut Scene,
    backlog: &Backlog,
    max_rate: usize,
) -> Result<Producers, Box<dyn Error>> {
    let (mut quiet, mut floor, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        scene.settle().await?;
        quiet.extend(alone(scene, 3 * round).await?);
        scene.settle().await?;
        floor.extend(read(scene, backlog, 3 * round + 1).await?);
        scene.settle().await?;
        beside.extend(drained(scene, backlog, "off", 3 * round + 2).await?);
    }
    scene.settle().await?;
    // Long enough by itself.
    let mut gently = drained(scene, backlog, &max_rate.to_string(), 3 * ROUNDS).await?;
    for times in [&mut quiet, &mut floor, &mut beside, &mut gently] {
        times.sort_unstable();
    }
    Ok(Producers { quiet, floor, beside, max_rate, gently })
}

async fn alone(scene: &Scene, share: u32) -> Result<Vec<Duration>, Box<dyn Error>> {
    let writing = Writing::start(scene, share);
    tokio::time::sleep(QUIET).await;
    writing.end(None).await
}

/// While `pg_recvlogical` reads the backlog to a file.
async fn read(
    scene: &Scene,
    backlog: &Backlog,
    share: u32,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let writing = Writing::start(scene, share);
    tokio::time::sleep(warm_up_time()).await;
    let began = Instant::now();
    source(scene, backlog).await?;
    writing.end(Some((began, Instant::now()))).await
}

/// While a relay drains the backlog and marks its rows.
async fn drained(
    scene: &Scene,
    backlog: &Backlog,
    max_rate: &str,
    share: u32,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    scene.copy_slot(backlog.slot, SLOT).await?;
    let writing = Writing::start(scene, share);
    tokio::time::sleep(warm_up_time()).await;
    let began = Instant::now();
    let settings = scene.settings.clone().with("slot_name", SLOT).with("max_rate", max_rate);
    let mut relay = settings.start();
    until_marked(&relay, backlog.rows).await?;
    let times = writing.end(Some((began, Instant::now()))).await?;
    relay.drain().await;
    scene.drop_slot(SLOT).await?;
    Ok(times)
}

/// Until the warm-up is over nobody else works.
fn warm_up_time() -> Duration {
    2 * Duration::from_secs(1) * WARM_UP / RATE
}

struct Writing {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<writers::Commits>,
}

impl Writing {
    fn start(scene: &Scene, share: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let schedule = Schedule {
            rate: RATE,
            events: 1,
            first: share * TOTAL,
            total: TOTAL,
            adds_to: None,
            stop: Arc::clone(&stop),
        };
        Self { stop, thread: writers::start(scene.postgres.socket_url(), schedule) }
    }

    /// The times of the commits that were under way between these moments, or of all.
    async fn end(
        self,
        between: Option<(Instant, Instant)>,
    ) -> Result<Vec<Duration>, Box<dyn Error>> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        let commits = joined.map_err(|_| "the writers failed")??;
        let is_within = |commit: &Commit| {
            between.is_none_or(|(from, to)| commit.acknowledged >= from && commit.sent <= to)
        };
        let is_warm = |commit: &Commit| commit.number % TOTAL >= WARM_UP;
        let measured = commits.iter().filter(|commit| is_warm(commit) && is_within(commit));
        Ok(measured.map(|commit| commit.acknowledged - commit.sent).collect())
    }
}

impl Producers {
    pub fn note(&self, marks: &mut Marks) {
        let [quiet, beside, gently] = [&self.quiet, &self.beside, &self.gently]
            .map(|times| percentile(times, 990).as_secs_f64());
        marks.note("producers p99", beside / quiet);
        if self.max_rate == GENTLY {
            marks.note("producers gently p99", gently / quiet);
        }
    }

    pub fn report(&self, report: &Report) {
        report.line("");
        report.line(&format!("Commits of a writer, {RATE}/s, from INSERT sent to COMMIT answered"));
        report.line("");
        report.line(&format!("  {:<34}{:>10}{:>10}{:>10}", "", "commits", "p50", "p99"));
        let gently = format!("the same, max_rate = {}", self.max_rate);
        for (name, times) in [
            ("quiet servers", &self.quiet),
            ("beside pg_recvlogical, to a file", &self.floor),
            ("beside a drain that marks", &self.beside),
            (&gently, &self.gently),
        ] {
            let [p50, p99] = [500, 990].map(|permille| human(percentile(times, permille)));
            report.line(&format!("  {name:<34}{:>10}{p50:>10}{p99:>10}", times.len()));
        }
    }
}
