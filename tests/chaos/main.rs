//! Random faults under load, and a judge: every committed event once, none of anybody's else, and
//! those of an aggregate in order.
//!
//! In: `CHAOS_SEED` and `CHAOS_MINUTES`, else a new seed and one minute; `CHAOS_SET`, settings of
//! the relays as `name=value name=value` (with `durability=memory` the judge finds losses). Out: a
//! verdict, and the faults by their kinds. The plan of faults and what the writers write come from
//! the seed; which instruction a fault meets does not, so that a seed that fails once fails often,
//! not always.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod history;
mod plan;
mod stage;
mod verdict;
mod writers;

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use history::History;
use plan::{KINDS, Plan};
use stage::Stage;
use writers::{Event, Outcome, Transaction};

/// A run that is not told how long it shall be.
const MINUTES: u64 = 1;
/// After the faults, so often: a little is written, confirmed, and the power fails at once.
const POSTSCRIPTS: u32 = 4;
/// No plan is longer than this, however fast its faults pass.
const FAULTS_PER_MINUTE_MAX: usize = 60;

/// What can be told to a run.
#[derive(Clone, Debug)]
pub struct Run {
    seed: u64,
    minutes: u64,
    settings: Vec<(String, String)>,
}

impl Run {
    fn from_environment() -> Self {
        let number = |name: &str| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
            Some(value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}")))
        };
        let seed = number("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000_000));
        let minutes = number("CHAOS_MINUTES").unwrap_or(MINUTES);
        let settings = std::env::var("CHAOS_SET").unwrap_or_default();
        let setting = |word: &str| {
            let (name, value) = word.split_once('=').expect("name=value in CHAOS_SET");
            (name.to_owned(), value.to_owned())
        };
        Self { seed, minutes, settings: settings.split_whitespace().map(setting).collect() }
    }

    fn writers(&self) -> u32 {
        if self.minutes > MINUTES { 8 } else { 4 }
    }
}

impl Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make chaos SEED={} MINUTES={}", self.seed, self.minutes)?;
        let set: Vec<String> =
            self.settings.iter().map(|(name, to)| format!("{name}={to}")).collect();
        if set.is_empty() { Ok(()) } else { write!(f, " SET=\"{}\"", set.join(" ")) }
    }
}

#[tokio::test]
async fn a_minute_of_faults_loses_doubles_and_reorders_nothing() {
    let run = Run::from_environment();
    eprintln!("{run}");
    let mut stage = Stage::new(History::new(run.clone()), &run.settings).await;
    let client = stage.world.postgres.client().await;
    writers::prepare(&client).await;
    let (stop, stopped) = watch::channel(false);
    let url = stage.world.postgres.url_at(stage.writers.port());
    let write = |writer| writers::write(url.clone(), run.seed, writer, stopped.clone());
    let writers: Vec<_> = (0..run.writers()).map(|writer| tokio::spawn(write(writer))).collect();

    let minutes = usize::try_from(run.minutes).unwrap();
    let end = Instant::now() + Duration::from_secs(60 * run.minutes);
    for step in Plan::new(run.seed).take(minutes * FAULTS_PER_MINUTE_MAX) {
        if Instant::now() > end && stage.history.faults() >= KINDS.len() {
            break;
        }
        stage.play(step).await;
    }
    stage.heal().await;
    stop.send(true).unwrap();
    let mut ledger = Vec::new();
    for writer in writers {
        ledger.extend(writer.await.unwrap());
    }

    let mut committed = assert_all_there(&stage, &ledger).await;
    judge(&stage, &committed, &ledger).await;
    for round in 0..POSTSCRIPTS {
        ledger.extend(postscript(&stage, run.seed, run.writers() + round).await);
        committed = assert_all_there(&stage, &ledger).await;
        // What is confirmed is nobody's to send again: Redis alone must have it, on its disk.
        stage.lose_all_but_the_disk().await;
        judge(&stage, &committed, &ledger).await;
        stage.start_relays().await;
    }
    // Whoever starts now finds nothing left to do.
    assert_all_there(&stage, &ledger).await;
    judge(&stage, &committed, &ledger).await;
    stage.world.until_marked().await;
    stage.drain().await;

    let unknown = ledger.iter().filter(|known| known.outcome == Outcome::Unknown).count();
    eprintln!("{run}\n{} faults:\n{}", stage.history.faults(), stage.history.counts());
    eprintln!(
        "{} writers, {} transactions ({unknown} of unknown outcome), {} committed events: 0 lost, \
         0 doubled, 0 never committed, 0 out of order",
        run.writers(),
        ledger.len(),
        committed.len(),
    );
}

/// One more writer for a moment.
async fn postscript(stage: &Stage, seed: u64, writer: u32) -> Vec<Transaction> {
    let (stop, stopped) = watch::channel(false);
    let url = stage.world.postgres.socket_url();
    let task = tokio::spawn(writers::write(url, seed, writer, stopped));
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send(true).unwrap();
    task.await.unwrap()
}

/// Awaits that the relays have nothing left to do, and judges.
async fn assert_all_there(stage: &Stage, ledger: &[Transaction]) -> HashSet<Event> {
    let client = stage.world.postgres.client().await;
    let committed = verdict::committed(&client, ledger).await;
    let is_quiet = stage.until_confirmed().await && stage.until_nothing_parked().await;
    if !is_quiet {
        judge(stage, &committed, ledger).await;
    }
    assert!(is_quiet, "all is in its stream, and it is not confirmed, or stays parked");
    committed
}

/// Panics unless the streams hold what was committed.
async fn judge(stage: &Stage, committed: &HashSet<Event>, ledger: &[Transaction]) {
    let seen = verdict::read(&stage.world.redis.url()).await;
    verdict::judge(committed, &seen).assert_nothing(&seen, ledger, &stage.history);
}
