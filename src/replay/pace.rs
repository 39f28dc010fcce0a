//! How fast: an even stream of small batches, never a burst to make up for lost time.
//!
//! In: a rate, and the clock as an argument. Out: when the next batch may leave. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A batch holds what may leave in this time, so that events leave evenly.
const SLICE: Duration = Duration::from_millis(20);

/// When batches may leave.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: Option<u32>,
    next: Option<Instant>,
}

impl Pace {
    /// So many events a second, or as fast as it goes.
    pub fn new(per_second: Option<u32>) -> Self {
        Self { per_second, next: None }
    }

    /// Events in a batch.
    pub fn events_max(&self, otherwise: usize) -> usize {
        let Some(rate) = self.per_second else { return otherwise };
        let slice = u128::from(rate) * SLICE.as_millis() / 1_000;
        usize::try_from(slice).unwrap_or(otherwise).clamp(1, otherwise)
    }

    /// When `events` that are ready now may leave. What was slow before is not made up for.
    pub fn departure(&mut self, events: usize, now: Instant) -> Instant {
        let Some(rate) = self.per_second else { return now };
        let at = self.next.map_or(now, |next| next.max(now));
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        self.next = Some(at + Duration::from_secs(1) * events / rate.max(1));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_leave_evenly_and_lost_time_is_lost() {
        let mut pace = Pace::new(Some(1_000));
        assert_eq!(pace.events_max(256), 20);
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(pace.departure(20, start), start);
        assert_eq!(pace.departure(20, after(1)), after(20));
        assert_eq!(pace.departure(10, after(2)), after(40));
        assert_eq!(pace.departure(20, after(500)), after(500), "no burst");
        assert_eq!(pace.departure(20, after(500)), after(520));
    }

    #[test]
    fn a_slow_rate_sends_single_events_and_none_is_as_fast_as_it_goes() {
        assert_eq!(Pace::new(Some(3)).events_max(256), 1);
        assert_eq!(Pace::new(Some(10_000_000)).events_max(256), 256);
        let (mut pace, start) = (Pace::new(None), Instant::now());
        assert_eq!(pace.events_max(256), 256);
        pace.departure(256, start);
        assert_eq!(pace.departure(256, start), start);
    }
}
