//! When to look again: woken by the trigger of `setup --notify`, else at growing intervals.
//!
//! In: whether the last look found something. Out: the end of the pause. It must stay true that a
//! look is never further off than `poll_interval`, and that an idle poller costs next to nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// The first pause: short against a commit.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// While rows are there that may not be claimed yet, they are what is waited for.
const PAUSE_HELD_MAX: Duration = Duration::from_millis(100);

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing new.
    Nothing,
    /// Rows that others have, or that a transaction in flight holds back.
    Held,
}

/// The pauses of one poller.
#[derive(Debug)]
pub struct Wake {
    bell: Arc<Notify>,
    is_notified: bool,
    interval: Duration,
    next: Duration,
}

impl Wake {
    /// `bell` is rung by notifications; without `is_notified` by the end of its session only.
    #[must_use]
    pub fn new(bell: Arc<Notify>, is_notified: bool, interval: Duration) -> Self {
        Self { bell, is_notified, interval, next: PAUSE_MIN.min(interval) }
    }

    /// There was something to do: the next pause is a short one.
    pub fn active(&mut self) {
        self.next = PAUSE_MIN.min(self.interval);
    }

    /// Returns when it is time for a look.
    pub async fn pause(&mut self, found: Found) {
        let pause = self.next_pause(found);
        tokio::select! {
            biased;
            () = self.bell.notified() => self.active(),
            () = tokio::time::sleep(pause) => {}
        }
    }

    fn next_pause(&mut self, found: Found) -> Duration {
        if found == Found::Nothing && self.is_notified {
            return self.interval;
        }
        let longest = match found {
            Found::Nothing => self.interval,
            Found::Held => PAUSE_HELD_MAX.min(self.interval),
        };
        let pause = self.next.min(longest);
        self.next = (pause * 2).min(longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(wake: &mut Wake, found: Found, count: usize) -> Vec<u128> {
        (0..count).map(|_| wake.next_pause(found).as_millis()).collect()
    }

    #[test]
    fn pauses_double_from_ten_milliseconds_to_the_interval() {
        let mut wake = Wake::new(Arc::default(), false, Duration::from_millis(70));
        assert_eq!(pauses(&mut wake, Found::Nothing, 5), [10, 20, 40, 70, 70]);
        wake.active();
        assert_eq!(pauses(&mut wake, Found::Nothing, 2), [10, 20]);
    }

    #[test]
    fn a_poller_that_is_woken_sleeps_for_the_interval_unless_rows_are_held() {
        let hour = Duration::from_secs(3_600);
        let mut wake = Wake::new(Arc::default(), true, hour);
        assert_eq!(pauses(&mut wake, Found::Nothing, 2), [3_600_000, 3_600_000]);
        assert_eq!(pauses(&mut wake, Found::Held, 6), [10, 20, 40, 80, 100, 100]);
    }
}
