//! How many events a second: one limit for all that share it.
//!
//! In: a rate, and how many events have gone. Out: when more may go. It must stay true that time in
//! which nothing went is made up for by no more than a moment's worth of events, that those who
//! share a limit keep it together, and that no limit costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What may go at once: this much time's worth. Traffic that comes in little bursts and is below
/// the rate does not feel it.
const MOMENT: Duration = Duration::from_millis(20);
/// Nobody waits for less, nor for twice as long once there is room: ten calls of one event cost
/// both servers, and us, thrice what one call of ten does.
const PAUSE: Duration = Duration::from_millis(5);
const NANOS: u64 = 1_000_000_000;

/// A rate, or none; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Limit(Option<Arc<Bucket>>);

#[derive(Debug)]
struct Bucket {
    per_second: u64,
    began: Instant,
    /// When all that has gone would be through at an even rate: nanoseconds since `began`.
    through: AtomicU64,
}

impl Limit {
    /// So many events a second, or as fast as it goes.
    #[must_use]
    pub fn new(per_second: Option<u32>) -> Self {
        let bucket = |per_second: u32| Bucket {
            per_second: u64::from(per_second.max(1)),
            began: Instant::now(),
            through: AtomicU64::new(0),
        };
        Self(per_second.map(|per_second| Arc::new(bucket(per_second))))
    }

    /// Events a second; none is as fast as it goes.
    #[must_use]
    pub fn per_second(&self) -> Option<u64> {
        self.0.as_ref().map(|bucket| bucket.per_second)
    }

    /// Events that go together so that all go evenly: a moment's worth, of `otherwise` at most.
    #[must_use]
    pub fn together(&self, otherwise: usize) -> usize {
        self.within(MOMENT, otherwise)
    }

    /// Events that go in that time: one at least, `otherwise` at most.
    #[must_use]
    pub fn within(&self, time: Duration, otherwise: usize) -> usize {
        let Some(bucket) = &self.0 else { return otherwise };
        let events = bucket.per_second.saturating_mul(nanos(time)) / NANOS;
        usize::try_from(events).unwrap_or(otherwise).clamp(1, otherwise.max(1))
    }

    /// So many events have gone.
    pub fn spend(&self, events: usize) {
        if let Some(bucket) = &self.0 {
            bucket.spend(u64::try_from(events).unwrap_or(u64::MAX), Instant::now());
        }
    }

    /// The same; returns when more may go.
    pub async fn after(&self, events: usize) {
        self.spend(events);
        self.pass().await;
    }

    /// When more may go, if not now. Who waits until then need not ask again.
    #[must_use]
    pub fn closed_until(&self) -> Option<Instant> {
        self.0.as_ref().and_then(|bucket| bucket.closed_until(Instant::now()))
    }

    /// Returns when more may go.
    pub async fn pass(&self) {
        if let Some(opens) = self.closed_until() {
            tokio::time::sleep_until(opens).await;
        }
    }
}

impl Bucket {
    fn spend(&self, events: u64, now: Instant) {
        let takes = events.saturating_mul(NANOS) / self.per_second;
        let now = nanos(now - self.began);
        let add = |through: u64| Some(through.max(now).saturating_add(takes));
        let _always = self.through.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn closed_until(&self, now: Instant) -> Option<Instant> {
        let ahead = self.through.load(Ordering::Relaxed).saturating_sub(nanos(MOMENT));
        let is_closed = ahead > nanos(now - self.began);
        // Not all at the same instant: else the same one of them would have it all, each time.
        let pause = || PAUSE.mul_f64(1.0 + fastrand::f64());
        is_closed.then(|| self.began + Duration::from_nanos(ahead) + pause())
    }
}

/// A limit for an event loop, which may change its mind only where it looks.
#[derive(Debug)]
pub struct Valve {
    limit: Limit,
    opens: Option<Instant>,
}

impl Valve {
    /// Open.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        Self { limit, opens: None }
    }

    /// Looks at the clock.
    pub fn look(&mut self) {
        self.opens = self.opens.filter(|opens| *opens > Instant::now());
    }

    /// So many events have gone; it may be closed now.
    pub fn spend(&mut self, events: u64) {
        if let Some(bucket) = &self.limit.0 {
            let now = Instant::now();
            bucket.spend(events, now);
            self.opens = bucket.closed_until(now);
        }
    }

    /// Whether more may go.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opens.is_none()
    }

    /// When it is to be looked at.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.opens
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32) -> Limit {
        Limit::new(Some(per_second))
    }

    #[test]
    fn the_rate_is_kept_whatever_goes_at_once() {
        for events in [1, 50, 5_000] {
            let bucket = limit(10_000).0.unwrap();
            let mut now = bucket.began;
            for _ in 0..50_000 / events {
                now = bucket.closed_until(now).unwrap_or(now);
                bucket.spend(events, now);
            }
            let now = bucket.closed_until(now).unwrap_or(now);
            let seconds = (now - bucket.began).as_secs_f64();
            assert!((4.95..5.05).contains(&seconds), "50,000 by {events} in {seconds} s");
        }
    }

    #[test]
    fn lost_time_is_made_up_for_by_a_moment_only() {
        let bucket = limit(1_000).0.unwrap();
        let now = bucket.began + Duration::from_mins(1);
        bucket.spend(20, now);
        assert_eq!(bucket.closed_until(now), None, "a moment's worth");
        bucket.spend(1, now);
        let opens = bucket.closed_until(now).unwrap();
        assert!(opens >= now + PAUSE && bucket.closed_until(opens).is_none());
    }

    #[test]
    fn clones_share_what_there_is() {
        let (one, other) = (limit(1), limit(1));
        one.clone().spend(10);
        assert!(one.closed_until().is_some() && other.closed_until().is_none());
    }

    #[test]
    fn a_slow_rate_sends_single_events_and_none_is_as_fast_as_it_goes() {
        assert_eq!(limit(1_000).together(256), 20);
        assert_eq!(limit(3).together(256), 1);
        assert_eq!(limit(1_000_000).together(256), 256);
        let none = Limit::new(None);
        none.spend(usize::MAX);
        assert_eq!((none.together(256), none.closed_until()), (256, None));
    }

    #[test]
    fn a_valve_changes_only_where_it_looks() {
        let mut valve = Valve::new(limit(1_000_000));
        assert!(valve.is_open() && valve.due().is_none());
        valve.spend(120_000);
        let due = valve.due().unwrap();
        while Instant::now() < due {
            assert!(!valve.is_open());
        }
        assert!(!valve.is_open());
        valve.look();
        assert!(valve.is_open());
    }
}
