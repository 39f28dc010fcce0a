//! Which transactions are old enough: pure.
//!
//! In: now and then, where the server stands. Out: two transaction ids. All before the first had
//! ended, and stood in the WAL, before a position that the slot has confirmed by now; all before
//! the second had so already as long ago as the retention.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Samples that the slot has not confirmed yet. A slot that stands still for longer is waited for
/// with those there are.
const PENDING_MAX: usize = 64;
/// Confirmed samples within one retention: rows without a date go at most so much later than they
/// could.
const PER_RETENTION: u32 = 64;

/// Where the server stood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub at: Instant,
    /// Every transaction before it had ended.
    pub xmin: i64,
    /// Their commits are in the WAL before this.
    pub lsn: i64,
}

/// The samples that still tell something.
pub(super) struct Samples {
    retention: Duration,
    pending: VecDeque<Sample>,
    /// Confirmed, the oldest first: one that is as old as the retention, and younger ones.
    confirmed: VecDeque<Sample>,
    newest: Option<i64>,
}

impl Samples {
    pub fn new(retention: Duration) -> Self {
        Self { retention, pending: VecDeque::new(), confirmed: VecDeque::new(), newest: None }
    }

    /// One more sample, and the position that is confirmed now.
    pub fn add(&mut self, sample: Sample, confirmed: i64) {
        if self.pending.len() < PENDING_MAX {
            self.pending.push_back(sample);
        }
        while let Some(next) = self.pending.front().filter(|next| next.lsn <= confirmed).copied() {
            self.pending.pop_front();
            self.newest = Some(next.xmin);
            let spacing = self.retention / PER_RETENTION;
            if self.confirmed.back().is_none_or(|last| next.at >= last.at + spacing) {
                self.confirmed.push_back(next);
            }
        }
        // Of those that are old enough, the youngest is enough.
        while self.confirmed.get(1).is_some_and(|second| self.is_aged(second, sample.at)) {
            self.confirmed.pop_front();
        }
    }

    /// Every transaction before it is confirmed.
    pub fn confirmed(&self) -> Option<i64> {
        self.newest
    }

    /// Every transaction before it was confirmed, and had ended the retention ago.
    pub fn aged(&self, now: Instant) -> Option<i64> {
        self.confirmed.front().filter(|first| self.is_aged(first, now)).map(|first| first.xmin)
    }

    fn is_aged(&self, sample: &Sample, now: Instant) -> bool {
        now.saturating_duration_since(sample.at) >= self.retention
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(start: Instant, minutes: u32, xmin: i64, lsn: i64) -> Sample {
        Sample { at: start + HOUR / 60 * minutes, xmin, lsn }
    }

    #[test]
    fn nothing_is_old_enough_before_the_slot_has_confirmed_it() {
        let (start, mut samples) = (Instant::now(), Samples::new(HOUR));
        samples.add(at(start, 0, 700, 1_000), 999);
        assert_eq!(samples.confirmed(), None);
        samples.add(at(start, 1, 710, 1_100), 1_000);
        assert_eq!(samples.confirmed(), Some(700));
        samples.add(at(start, 2, 720, 1_200), 1_200);
        assert_eq!(samples.confirmed(), Some(720));
    }

    #[test]
    fn what_has_no_date_is_as_old_as_the_sample_before_which_it_was_written() {
        let (start, mut samples) = (Instant::now(), Samples::new(HOUR));
        for minute in 0..=59 {
            samples.add(at(start, minute, 700 + i64::from(minute), 0), 0);
        }
        assert_eq!(samples.aged(start + HOUR / 60 * 59), None);
        assert_eq!(samples.aged(start + HOUR), Some(700));
        samples.add(at(start, 90, 800, 0), 0);
        assert_eq!(samples.aged(start + HOUR / 60 * 90), Some(730));
    }

    #[test]
    fn a_slot_that_stands_still_and_a_long_retention_fill_no_memory() {
        let (start, mut samples) = (Instant::now(), Samples::new(HOUR));
        for minute in 0..100_000 {
            samples.add(at(start, minute, 700, 1), i64::from(minute >= 50_000));
            assert!(samples.pending.len() <= PENDING_MAX);
            assert!(samples.confirmed.len() <= 66, "{}", samples.confirmed.len());
        }
    }
}
