//! How long things take and how large they are, as distributions.
//!
//! In: an observation for each batch, and for each heartbeat. Out: histograms. It must stay true
//! that an event costs nothing here: a batch does.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::backlog::count;
use super::status::{POSTGRES_EPOCH_MICROS, unix_micros};

/// From a quiet loopback to a drain of hours.
const SECONDS: [f64; 18] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 60.0, 600.0,
];
/// Up to the largest `batch_size`.
const EVENTS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// All of them.
#[derive(Clone, Debug)]
pub struct Histograms {
    commit_to_entry: Histogram,
    batch: Histogram,
    script: Histogram,
    heartbeat: Histogram,
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            commit_to_entry: Histogram::new(SECONDS),
            batch: Histogram::new(EVENTS),
            script: Histogram::new(SECONDS),
            heartbeat: Histogram::new(SECONDS),
        }
    }
}

impl Histograms {
    /// A script call with so many events was answered after so long.
    pub fn called(&self, events: usize, took: Duration) {
        self.batch.observe(count(u64::try_from(events).unwrap_or(u64::MAX)));
        self.script.observe(took.as_secs_f64());
    }

    /// Events are in their stream; the oldest of them was committed at `commit_time` (PostgreSQL's
    /// microseconds). By two clocks: where PostgreSQL's is ahead, it took no time.
    pub fn entered(&self, commit_time: i64) {
        let unix = commit_time.saturating_add(POSTGRES_EPOCH_MICROS);
        let took = unix_micros().saturating_sub(u64::try_from(unix).unwrap_or(0));
        self.commit_to_entry.observe(Duration::from_micros(took).as_secs_f64());
    }

    /// A heartbeat came back.
    pub fn heartbeat(&self, round_trip: Duration) {
        self.heartbeat.observe(round_trip.as_secs_f64());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let events = Unit::Other("events".to_owned());
        for (name, help, unit, histogram) in [
            (
                "commit_to_entry",
                "From the commit, by PostgreSQL's clock, to Redis's answer, by this machine's: of \
                 the oldest event of each batch that the line published",
                Unit::Seconds,
                &self.commit_to_entry,
            ),
            ("batch", "Events in a script call of the line", events, &self.batch),
            (
                "script",
                "From a script call of the line to its answer, those before it in Redis included",
                Unit::Seconds,
                &self.script,
            ),
            (
                "heartbeat_round_trip",
                "From the write of a heartbeat to PostgreSQL until it has come through the WAL and \
                 past Redis; with mode = poll a look at both servers",
                Unit::Seconds,
                &self.heartbeat,
            ),
        ] {
            registry.register_with_unit(name, help, unit, histogram.clone());
        }
    }
}
