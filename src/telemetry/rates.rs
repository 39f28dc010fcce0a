//! How many events go out, of late; and the last minutes, for a page to draw.
//!
//! In: the count of published events and the lag, looked at once a second by a task of its own.
//! Out: events per second over three windows, and the points of a curve. It must stay true that an
//! event costs nothing here, and that what is kept is bounded: five minutes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::backlog::count;
use super::status::{Status, unix_micros};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How far back is known.
const MEMORY: Duration = Duration::from_secs(300);
/// Counts that are kept: one a look, and one from before them all.
const COUNTS_MAX: usize = 301;
/// Between two points of the curve: sixty of them make some 12 kB of /status.
const POINT: Duration = Duration::from_secs(5);
const POINTS_MAX: usize = 60;

/// The windows of /status.
const WINDOWS: [(&str, Duration); 3] = [
    ("per_second_10s", Duration::from_secs(10)),
    ("per_second_1m", Duration::from_secs(60)),
    ("per_second_5m", MEMORY),
];

/// Counts of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    counts: VecDeque<(Instant, u64)>,
    points: VecDeque<Point>,
    next_point: Option<Instant>,
}

/// One point of the curve.
#[derive(Clone, Copy, Debug)]
struct Point {
    unix_seconds: u64,
    published: u64,
    lag_events: u64,
    lag_bytes: u64,
    lag_seconds: f64,
}

impl Kept {
    fn add(&mut self, now: Instant, published: u64) {
        if self.counts.len() >= COUNTS_MAX {
            self.counts.pop_front();
        }
        self.counts.push_back((now, published));
    }

    /// Whether it is time for another point.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next_point.is_none_or(|due| due <= now);
        if is_due {
            // From the one before, so that points do not drift; after a pause, from now.
            let next = self.next_point.unwrap_or(now) + POINT;
            self.next_point = Some(if next > now { next } else { now + POINT });
        }
        is_due
    }

    fn point(&mut self, point: Point) {
        if self.points.len() >= POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// Events per second within `window`, of which `published` are out by `now`.
    fn rate(&self, now: Instant, published: u64, window: Duration) -> f64 {
        let age = |at: Instant| now.saturating_duration_since(at);
        // The youngest that is old enough; while there is none, the oldest.
        let from = self.counts.iter().rev().find(|(at, _)| age(*at) >= window);
        let Some((at, before)) = from.or_else(|| self.counts.front()) else { return 0.0 };
        count(published.saturating_sub(*before)) / age(*at).max(LOOK).as_secs_f64()
    }
}

impl Rates {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A reader that panicked half way changed nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members `rates` and `history` of /status.
    pub(super) fn document(&self, published: u64) -> (Value, Value) {
        let (kept, now) = (self.kept(), Instant::now());
        let rate = |window| (kept.rate(now, published, window) * 10.0).round() / 10.0;
        let rates = WINDOWS.map(|(name, window)| (name.to_owned(), json!(rate(window))));
        let points = kept.points.iter().map(|point| {
            json!({
                "at": point.unix_seconds,
                "published": point.published,
                "lag_events": point.lag_events,
                "lag_bytes": point.lag_bytes,
                "lag_seconds": (point.lag_seconds * 1_000.0).round() / 1_000.0,
            })
        });
        (rates.into_iter().collect(), points.collect())
    }
}

impl Status {
    /// Events per second, over the last ten.
    pub(super) fn recent_rate(&self) -> f64 {
        let (published, [(_, window), ..]) = (self.metrics.published.get(), WINDOWS);
        self.rates.kept().rate(Instant::now(), published, window)
    }

    pub(super) fn look(&self, now: Instant) {
        let published = self.metrics.published.get();
        self.rates.kept().add(now, published);
        if self.rates.kept().is_due(now) {
            let point = Point {
                unix_seconds: unix_micros() / 1_000_000,
                published,
                lag_events: self.stands().outstanding,
                lag_bytes: self.unconfirmed_bytes(),
                lag_seconds: self.lag_seconds(),
            };
            self.rates.kept().point(point);
        }
    }
}

/// Looks once a second, for ever.
pub(super) async fn watch(status: Arc<Status>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        status.look(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_its_window_and_a_young_process_knows_less() {
        let (mut kept, start) = (Kept::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let near = |rate: f64, wanted: f64| assert!((rate - wanted).abs() < 0.001, "{rate}");
        near(kept.rate(at(0), 7, MEMORY), 0.0);
        // A hundred a second for a minute, then nothing.
        for second in 0..120 {
            kept.add(at(second), second.min(60) * 100);
        }
        near(kept.rate(at(60), 6_000, Duration::from_secs(10)), 100.0);
        near(kept.rate(at(120), 6_000, Duration::from_secs(10)), 0.0);
        near(kept.rate(at(120), 6_000, Duration::from_secs(60)), 0.0);
        near(kept.rate(at(90), 6_000, Duration::from_secs(60)), 50.0);
        near(kept.rate(at(120), 6_000, MEMORY), 50.0);
    }

    #[test]
    fn five_minutes_are_kept_and_no_more() {
        let (status, start) = (Status::default(), Instant::now());
        for second in 0..1_000 {
            status.look(start + Duration::from_secs(second));
        }
        let kept = status.rates.kept();
        assert_eq!((kept.counts.len(), kept.points.len()), (COUNTS_MAX, POINTS_MAX));
    }
}
