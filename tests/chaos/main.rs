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

use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use history::History;
use plan::{KINDS, Plan};
use stage::Stage;

/// A run that is not told how long it shall be.
const MINUTES: u64 = 1;
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

    let client = stage.world.postgres.client().await;
    let committed = verdict::committed(&client, &ledger).await;
    let quiet = stage.until_confirmed().await;
    judge(&stage, &committed, &ledger).await;
    assert!(quiet, "all is in its stream, and the slot does not confirm it");
    stage.world.until_marked().await;
    // What is confirmed is nobody's to send again: Redis alone must have it, on its disk.
    stage.lose_all_but_the_disk().await;
    judge(&stage, &committed, &ledger).await;
    // And whoever starts now finds nothing left to do.
    stage.start_relays().await;
    assert!(stage.until_confirmed().await, "the slot does not confirm after all was judged");
    let seen = judge(&stage, &committed, &ledger).await;
    stage.drain().await;

    let unknown = ledger.iter().filter(|known| known.outcome == writers::Outcome::Unknown).count();
    eprintln!("{run}\n{} faults:\n{}", stage.history.faults(), stage.history.counts());
    eprintln!(
        "{} writers, {} transactions ({unknown} of unknown outcome), {} committed events, {seen}",
        run.writers(),
        ledger.len(),
        committed.len(),
    );
}

/// Panics unless the streams hold what was committed; else how it stands.
async fn judge(
    stage: &Stage,
    committed: &std::collections::HashSet<writers::Event>,
    ledger: &[writers::Transaction],
) -> String {
    let seen = verdict::read(&stage.world.redis.url()).await;
    let wrong = verdict::judge(committed, &seen);
    wrong.assert_nothing(&seen, ledger, &stage.history);
    wrong.summary()
}
