//! The one place where the running relay's state is kept for people: shared, small, and cheap to
//! write.
//!
//! In: state changes, positions and counts from the line. Out: what `document` and `gauges` show of
//! them. Writing is a few atomic stores; only a state change takes a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::backlog::Backlog;
use super::heartbeat::Heartbeat;
use super::metrics::Metrics;
use super::rates::Rates;
use super::reconnects::Reconnects;
use super::retries::Retries;
use super::shards;
use super::slot::SlotFacts;
use super::spans::Spans;
use super::state::State;
use super::streams::Streams;
use crate::config::Shard;
use crate::contract::Contract;
use crate::lsn::Lsn;

/// From the Unix epoch to PostgreSQL's, 2000-01-01, in microseconds.
pub(super) const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// What runs where; fixed while a line lasts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Endpoints {
    /// Version and address, without credentials.
    pub postgres: String,
    /// Version and address, without credentials.
    pub redis: String,
    /// The slot's name.
    pub slot: String,
    /// The publication's name.
    pub publication: String,
    /// The outbox.
    pub table: String,
    /// The stream of rows without a topic.
    pub stream: String,
    /// What happens to rows after publishing.
    pub after_publish: &'static str,
    /// When an entry counts as safe.
    pub durability: String,
    /// Events a second at most.
    pub max_rate: Option<u64>,
}

/// Where the line stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Where {
    /// Everything before it has arrived.
    pub received: Lsn,
    /// Everything before it is in Redis.
    pub published: Lsn,
    /// Everything before it is durable and marked.
    pub settled: Lsn,
    /// The slot was told.
    pub confirmed: Lsn,
    /// Events received and not settled.
    pub outstanding: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Said {
    pub state: State,
    pub since: Instant,
    pub mode: &'static str,
    pub mode_reason: Option<String>,
    pub endpoints: Endpoints,
    pub backlog: Option<Backlog>,
    /// The slot, as it was looked up last.
    pub slot: Option<SlotFacts>,
    pub last_error: Option<LastError>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct LastError {
    error: String,
    hint: Option<String>,
    pub unix_seconds: u64,
}

impl LastError {
    fn of(error: &crate::error::Error) -> Self {
        Self {
            error: error.to_string(),
            hint: error.next_step().map(str::to_owned),
            unix_seconds: unix_micros() / 1_000_000,
        }
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.error
    }
}

/// The relay's state, shared by the line (which writes) and the pages (which read).
#[derive(Debug)]
pub struct Status {
    /// Of which table, where there are sections for several.
    pub(super) table: Option<String>,
    /// Whose, where it is one of several.
    pub(super) shard: Option<Shard>,
    /// Where there are several lines, what each of them writes; this is then all of them together.
    lines: OnceLock<Vec<Arc<Status>>>,
    pub(super) started: Instant,
    said: Mutex<Said>,
    received: AtomicU64,
    published: AtomicU64,
    settled: AtomicU64,
    confirmed: AtomicU64,
    outstanding: AtomicU64,
    /// Unix microseconds: all committed before is published, as far as is known; 0 when nothing
    /// waits.
    behind_since: AtomicU64,
    /// What is counted.
    pub metrics: Metrics,
    /// What is parked.
    pub retries: Retries,
    /// Whose fault it was that the line had to begin again.
    pub reconnects: Reconnects,
    /// Whether something comes through.
    pub heartbeat: Heartbeat,
    /// Where it goes.
    pub streams: Streams,
    /// For a collector of OpenTelemetry.
    pub spans: Spans,
    /// What counts the events that break it.
    contract: Option<Arc<Contract>>,
    /// How much of it does, of late; kept for all lines together.
    pub(super) rates: Rates,
}

impl Default for Status {
    fn default() -> Self {
        let now = Instant::now();
        let said = Said {
            state: State::Connecting,
            since: now,
            mode: "wal",
            mode_reason: None,
            endpoints: Endpoints::default(),
            backlog: None,
            slot: None,
            last_error: None,
        };
        Self {
            table: None,
            shard: None,
            lines: OnceLock::new(),
            started: now,
            said: Mutex::new(said),
            received: AtomicU64::new(0),
            published: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            outstanding: AtomicU64::new(0),
            behind_since: AtomicU64::new(0),
            metrics: Metrics::default(),
            retries: Retries::default(),
            reconnects: Reconnects::default(),
            heartbeat: Heartbeat::default(),
            streams: Streams::default(),
            spans: Spans::default(),
            contract: None,
            rates: Rates::default(),
        }
    }
}

impl Status {
    /// Nothing has happened yet; what will be is told to these as well.
    #[must_use]
    pub fn new(table: Option<String>, spans: Spans) -> Self {
        Self { table, spans, ..Self::default() }
    }

    /// The same, showing how many events break this.
    #[must_use]
    pub fn counting(self, contract: Option<Arc<Contract>>) -> Self {
        Self { contract, ..self }
    }

    pub(super) fn contract(&self) -> Option<&Contract> {
        self.contract.as_deref()
    }

    /// One for each line of this process; what they count is counted here, and what they say is
    /// shown by this one. Once only.
    #[must_use]
    pub fn split(&self, shards: &[Shard]) -> Vec<Arc<Self>> {
        let line = |shard: &Shard| {
            let (metrics, retries) = (self.metrics.clone(), self.retries.of_line());
            let (shard, reconnects) = (Some(*shard), self.reconnects.of_line());
            let (table, spans) = (self.table.clone(), self.spans.clone());
            Arc::new(Self { table, shard, metrics, retries, reconnects, spans, ..Self::default() })
        };
        self.lines.get_or_init(|| shards.iter().map(line).collect()).clone()
    }

    /// Those; none where there is but one line.
    pub(super) fn lines(&self) -> &[Arc<Self>] {
        self.lines.get().map_or(&[], Vec::as_slice)
    }

    /// What was said last: of several lines, in the words of the worst.
    pub(super) fn says(&self) -> Said {
        let said = self.said().clone();
        let lines: Vec<Said> = self.lines().iter().map(|line| line.said().clone()).collect();
        if lines.is_empty() { said } else { shards::says(said, &lines) }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // A reader that panicked half way changed nothing.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relay does something else from now on. What has stopped is no better for being tried
    /// again: it has stopped until it is up.
    pub fn enter(&self, state: State) {
        let mut said = self.said();
        let is_tried = said.state == State::Stopped && state == State::Connecting;
        if said.state != state && !is_tried {
            said.state = state;
            said.since = Instant::now();
        }
        if state == State::Standby {
            said.slot = None;
        }
        drop(said);
        if state == State::Standby {
            self.heartbeat.rest();
        }
        if !matches!(state, State::Streaming | State::Polling) {
            self.behind(unix_micros());
        }
    }

    /// It has ended for this reason, which was counted where it happened. All its lines with it.
    pub fn stops(&self, error: &crate::error::Error) {
        for line in self.lines() {
            line.stops(error);
        }
        self.enter(State::Stopped);
        self.said().last_error = Some(LastError::of(error));
    }

    /// What it does now.
    #[must_use]
    pub fn state(&self) -> State {
        if self.lines().is_empty() { self.said().state } else { self.says().state }
    }

    /// How events are found, and why so where that was left to us.
    pub fn work_in(&self, mode: &'static str, reason: Option<String>) {
        let mut said = self.said();
        said.mode = mode;
        said.mode_reason = reason;
    }

    /// A line came up between these.
    pub fn connected(&self, endpoints: Endpoints) {
        self.said().endpoints = endpoints;
    }

    /// What PostgreSQL says of the slot.
    pub fn slot_is(&self, facts: Option<SlotFacts>) {
        self.said().slot = facts;
    }

    /// So many rows from before a new slot are to be published first.
    pub fn backlog_begins(&self, total: u64) {
        self.said().backlog = Some(Backlog::new(total));
    }

    /// So many of them are settled.
    pub fn backlog_settled(&self, rows: u64) {
        self.metrics.backlog_rows.inc_by(rows);
        if let Some(backlog) = &mut self.said().backlog {
            backlog.done += rows;
        }
    }

    /// There are none left, or it is begun again.
    pub fn backlog_ends(&self) {
        self.said().backlog = None;
    }

    /// How far they are.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        self.says().backlog
    }

    /// Something went wrong; it is shown until the next thing does.
    pub fn failed(&self, error: &crate::error::Error) {
        self.metrics.errors.inc();
        self.said().last_error = Some(LastError::of(error));
    }

    /// Where the line stands now.
    pub fn stand(&self, now: Where) {
        self.received.store(now.received.as_u64(), Ordering::Relaxed);
        self.published.store(now.published.as_u64(), Ordering::Relaxed);
        self.settled.store(now.settled.as_u64(), Ordering::Relaxed);
        self.confirmed.store(now.confirmed.as_u64(), Ordering::Relaxed);
        self.outstanding.store(now.outstanding, Ordering::Relaxed);
    }

    /// All that was received is published.
    pub fn caught_up(&self) {
        self.behind_since.store(0, Ordering::Relaxed);
    }

    /// Events wait; the newest that went out was committed at `commit_time` (PostgreSQL's
    /// microseconds).
    pub fn published_up_to(&self, commit_time: i64) {
        let unix = commit_time.saturating_add(POSTGRES_EPOCH_MICROS);
        self.behind_since.store(u64::try_from(unix).unwrap_or(1), Ordering::Relaxed);
    }

    /// From now on nothing is published; what was known of earlier waiting stays.
    fn behind(&self, unix_micros: u64) {
        let order = Ordering::Relaxed;
        // Losing this race means that somebody else has just said since when.
        let _already = self.behind_since.compare_exchange(0, unix_micros, order, order);
    }

    /// Seconds for which the oldest event may have waited by now; 0 when nothing waits.
    #[must_use]
    pub fn lag_seconds(&self) -> f64 {
        let of_lines = self.lines().iter().map(|line| line.lag_seconds());
        of_lines.fold(self.own_lag_seconds(), f64::max)
    }

    fn own_lag_seconds(&self) -> f64 {
        match self.behind_since.load(Ordering::Relaxed) {
            0 => 0.0,
            since => {
                let waited = unix_micros().saturating_sub(since);
                std::time::Duration::from_micros(waited).as_secs_f64()
            }
        }
    }

    /// The positions as last stored.
    #[must_use]
    pub fn stands(&self) -> Where {
        let of_lines = self.lines().iter().map(|line| line.stands());
        of_lines.reduce(Where::least).unwrap_or_else(|| self.own_stands())
    }

    pub(super) fn own_stands(&self) -> Where {
        let lsn = |stored: &AtomicU64| Lsn::new(stored.load(Ordering::Relaxed));
        Where {
            received: lsn(&self.received),
            published: lsn(&self.published),
            settled: lsn(&self.settled),
            confirmed: lsn(&self.confirmed),
            outstanding: self.outstanding.load(Ordering::Relaxed),
        }
    }
}

pub(super) fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_from_the_last_commit_that_went_out_and_ends_when_caught_up() {
        let status = Status::default();
        assert_eq!(status.lag_seconds().to_bits(), 0f64.to_bits());
        status.published_up_to(0);
        assert!(status.lag_seconds() > 800_000_000.0);
        status.enter(State::Holding);
        assert!(status.lag_seconds() > 800_000_000.0, "an outage does not hide what waited before");
        status.caught_up();
        assert_eq!(status.lag_seconds().to_bits(), 0f64.to_bits());
    }
}
