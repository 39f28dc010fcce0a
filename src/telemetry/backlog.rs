//! How far the rows from before a new slot are.
//!
//! In: how many there are, and how many are done. Out: rate and time left, as far as can be told.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The rows from before a new slot.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// Rows that its snapshot sees unpublished.
    pub total: u64,
    /// Rows of those that are settled.
    pub done: u64,
    began: Instant,
}

impl Backlog {
    pub(super) fn new(total: u64) -> Self {
        Self { total, done: 0, began: Instant::now() }
    }

    /// Both together, since the first of them began.
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            total: self.total.saturating_add(other.total),
            done: self.done.saturating_add(other.done),
            began: self.began.min(other.began),
        }
    }

    /// Rows settled per second, since the beginning.
    #[must_use]
    pub fn rate(&self) -> f64 {
        per_second(self.done, self.began.elapsed())
    }

    /// Seconds that the rest takes at that rate; `None` while there is none.
    #[must_use]
    pub fn seconds_left(&self) -> Option<u64> {
        let rate = self.rate();
        let left = self.total.saturating_sub(self.done);
        let seconds = Duration::try_from_secs_f64(count(left) / rate).ok()?.as_secs();
        (rate > 0.0).then_some(seconds)
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "rows": self.total,
            "done": self.done,
            "rows_per_second": self.rate().round(),
            "seconds_left": self.seconds_left(),
        })
    }
}

fn per_second(rows: u64, elapsed: Duration) -> f64 {
    count(rows) / elapsed.as_secs_f64().max(0.001)
}

/// Exact up to four billion, which is near enough for a rate.
pub(super) fn count(rows: u64) -> f64 {
    f64::from(u32::try_from(rows).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_known_once_something_is_done() {
        let mut backlog = Backlog::new(1_000);
        assert_eq!(backlog.seconds_left(), None);
        backlog.began = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        backlog.done = 500;
        assert!((9..=11).contains(&backlog.seconds_left().unwrap()));
        assert_eq!(backlog.document()["rows"], 1_000);
        backlog.done = 1_001;
        assert_eq!(backlog.seconds_left(), Some(0));
    }
}
