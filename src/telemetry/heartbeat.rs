//! The heartbeat: a message that the leader writes to PostgreSQL and that comes back through the
//! WAL, by the line, past Redis. How long that takes, and how long ago it last worked.
//!
//! In: the steps of a heartbeat, as they are done. Out: its round trip, its age, and where one that
//! is missed has got to. Its age is a promise: what was committed longer ago is in Redis. It must
//! stay true that a heartbeat is told from another process's, and that all of this is a few words
//! of memory, however many are under way. Where the relay polls, a heartbeat is a good look at both
//! servers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// So many intervals without one that came back are too many: one may be late, and one more is on
/// its way.
const INTERVALS_MAX: u32 = 3;
/// And so much longer: a busy machine, a checkpoint, a batch that Redis takes its time for.
const SLACK: Duration = Duration::from_secs(5);

/// The heartbeats of one line.
#[derive(Debug)]
pub struct Heartbeat {
    /// Heartbeats are numbered by the microsecond since then.
    epoch: Instant,
    /// Tells this process's from others'.
    process: String,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// None where there are no heartbeats.
    interval: Option<Duration>,
    /// When the first line came up: from then on they are waited for.
    since: Option<Instant>,
    /// The newest that got so far; 0 for none.
    asked: u64,
    committed: u64,
    came: u64,
    returned: u64,
    round_trip: Duration,
    /// Why the newest could not be written.
    failure: Option<String>,
    /// Why none can be.
    obstacle: Option<String>,
}

/// A heartbeat that should have come back.
#[derive(Debug, PartialEq)]
pub(super) struct Missed {
    /// For how long none has.
    pub age: Duration,
    /// What it waits for.
    pub waits_for: String,
    /// Whether PostgreSQL has taken it, so that it is somewhere in the WAL.
    pub is_on_its_way: bool,
}

impl Default for Heartbeat {
    fn default() -> Self {
        let process = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
        Self { epoch: Instant::now(), process, seen: Mutex::default() }
    }
}

impl Heartbeat {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A reader that panicked half way changed nothing.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What tells this process's heartbeats from others'.
    #[must_use]
    pub fn process(&self) -> &str {
        &self.process
    }

    /// A line came up that writes one every `interval`.
    pub fn begin(&self, interval: Duration) {
        let mut seen = self.seen();
        seen.interval = Some(interval);
        seen.since.get_or_insert_with(Instant::now);
        seen.failure = None;
        seen.obstacle = None;
    }

    /// This one leads no more: what came back before says nothing of when it does again.
    pub fn rest(&self) {
        *self.seen() = Seen::default();
    }

    /// No heartbeat can be written, for this reason.
    pub fn impossible(&self, why: &str) {
        let mut seen = self.seen();
        seen.interval = None;
        seen.obstacle = Some(why.to_owned());
    }

    /// One is about to be written; its number.
    #[must_use]
    pub fn ask(&self) -> u64 {
        let number = self.micros(Instant::now());
        self.seen().asked = number;
        number
    }

    /// PostgreSQL has committed it.
    pub fn committed(&self, number: u64) {
        let mut seen = self.seen();
        seen.committed = seen.committed.max(number);
        seen.failure = None;
    }

    /// PostgreSQL refused it.
    pub fn failed(&self, why: String) {
        self.seen().failure = Some(why);
    }

    /// The line was sent it.
    pub fn came(&self, number: u64) {
        let mut seen = self.seen();
        seen.came = seen.came.max(number);
    }

    /// All that was sent before it is in Redis, which has answered behind that. The round trip, if
    /// it is the newest to come back.
    pub fn returned(&self, number: u64) -> Option<Duration> {
        let now = self.micros(Instant::now());
        let mut seen = self.seen();
        if number <= seen.returned || number > now {
            return None;
        }
        let took = Duration::from_micros(now - number);
        (seen.returned, seen.round_trip) = (number, took);
        Some(took)
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }

    /// How long the newest took that came back, and for how long none was written that has.
    #[must_use]
    pub fn times(&self) -> Option<(Duration, Duration)> {
        let now = self.micros(Instant::now());
        let seen = self.seen();
        let age = Duration::from_micros(now.saturating_sub(seen.returned));
        (seen.returned > 0).then_some((seen.round_trip, age))
    }

    /// Why there are none, where that is so against the settings.
    pub(super) fn obstacle(&self) -> Option<String> {
        self.seen().obstacle.clone()
    }

    /// What is wrong, if by `now` one should have come back and did not.
    pub(super) fn missed(&self, now: Instant) -> Option<Missed> {
        let micros = self.micros(now);
        let seen = self.seen();
        let since = self.micros(seen.since?);
        let from = if seen.returned > 0 { seen.returned } else { since };
        let age = Duration::from_micros(micros.saturating_sub(from));
        if age <= seen.interval?.saturating_mul(INTERVALS_MAX).saturating_add(SLACK) {
            return None;
        }
        let is_on_its_way = seen.committed > seen.returned.max(seen.came);
        let waits_for = match &seen.failure {
            Some(failure) => format!("PostgreSQL refuses it: {failure}"),
            None if seen.came > seen.returned => {
                "it came through the WAL, and what was committed before it is not in Redis yet"
                    .to_owned()
            }
            None if is_on_its_way => {
                "PostgreSQL has written it, and it has not come through the WAL".to_owned()
            }
            None => "PostgreSQL has not answered on the relay's SQL session".to_owned(),
        };
        Some(Missed { age, waits_for, is_on_its_way })
    }
}

/// The member `heartbeat` of /status: of several lines, the slowest and the oldest.
pub(super) fn document<'a>(all: impl Iterator<Item = &'a Heartbeat>) -> Value {
    let worst = worst(all);
    json!({
        "round_trip_seconds": worst.map(|(round_trip, _)| round_trip.as_secs_f64()),
        "age_seconds": worst.map(|(_, age)| age.as_secs_f64()),
    })
}

/// The longest round trip and the highest age of those that have one.
pub(super) fn worst<'a>(all: impl Iterator<Item = &'a Heartbeat>) -> Option<(Duration, Duration)> {
    let longer = |one: (Duration, Duration), other: (Duration, Duration)| {
        (one.0.max(other.0), one.1.max(other.1))
    };
    all.filter_map(Heartbeat::times).reduce(longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);
    const PATIENCE: Duration = Duration::from_secs(3 * 2 + 5);

    fn later(heartbeat: &Heartbeat) -> Instant {
        heartbeat.epoch + PATIENCE + Duration::from_millis(100)
    }

    #[test]
    fn one_that_comes_back_is_fresh_for_three_intervals_and_the_slack() {
        let heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.missed(later(&heartbeat)), None, "nobody waits for one");
        heartbeat.begin(INTERVAL);
        assert_eq!(heartbeat.missed(Instant::now()), None, "a line that has just come up");
        assert_eq!(heartbeat.times(), None);
        let number = heartbeat.ask();
        heartbeat.committed(number);
        heartbeat.came(number);
        std::thread::yield_now();
        let took = heartbeat.returned(number).unwrap();
        assert_eq!(heartbeat.times().unwrap().0, took);
        assert_eq!(heartbeat.returned(number), None, "sent again by the slot");
        let at = heartbeat.epoch + Duration::from_micros(number) + PATIENCE;
        assert_eq!(heartbeat.missed(at), None);
        let missed = heartbeat.missed(at + Duration::from_micros(1)).unwrap();
        assert!(missed.age > PATIENCE, "{missed:?}");
    }

    #[test]
    fn one_that_is_missed_says_how_far_it_has_got() {
        let heartbeat = Heartbeat::default();
        heartbeat.begin(INTERVAL);
        let waits_for = || heartbeat.missed(later(&heartbeat)).unwrap().waits_for;
        let number = heartbeat.ask();
        assert!(waits_for().contains("SQL session"), "{}", waits_for());
        heartbeat.failed("no".to_owned());
        assert!(waits_for().contains("refuses it: no"), "{}", waits_for());
        heartbeat.committed(number);
        assert!(waits_for().contains("not come through the WAL"), "{}", waits_for());
        heartbeat.came(number);
        assert!(waits_for().contains("not in Redis"), "{}", waits_for());
        heartbeat.rest();
        assert_eq!(heartbeat.missed(later(&heartbeat)), None, "a standby has none");
    }

    #[test]
    fn where_none_can_be_written_none_is_missed() {
        let heartbeat = Heartbeat::default();
        heartbeat.begin(INTERVAL);
        heartbeat.impossible("not allowed");
        assert_eq!(heartbeat.missed(later(&heartbeat)), None);
        assert_eq!(heartbeat.obstacle().as_deref(), Some("not allowed"));
        assert_eq!(document(std::iter::once(&heartbeat))["age_seconds"], Value::Null);
    }
}
