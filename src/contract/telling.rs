//! What is said of events that are published although they break their schema: a count for each
//! file, and a warning once a minute.
//!
//! In: violations. Out: lines of the log, and counts for /metrics. It must stay true that a stream
//! of bad events fills no disk, and that the clock decides about nothing but how often it is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::shelf::Subject;
use super::violation::Violation;

/// Between two warnings about one schema.
const PAUSE: Duration = Duration::from_secs(60);

/// What was said, schema by schema; at the end of events without one.
#[derive(Debug)]
pub(super) struct Telling {
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    count: AtomicU64,
    /// When a warning was written last, and how many events there had been by then.
    said: Mutex<Option<(Instant, u64)>>,
}

impl Slot {
    /// Counts one more. Says how many were not told of since the last warning, where it is time for
    /// another.
    fn add(&self, now: Instant) -> Option<u64> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match *said {
            Some((when, _)) if now.saturating_duration_since(when) < PAUSE => return None,
            Some((_, before)) => before,
            None => 0,
        };
        *said = Some((now, count));
        Some(count.saturating_sub(before).saturating_sub(1))
    }
}

impl Telling {
    pub fn new(schemas: usize) -> Self {
        Self { slots: (0..=schemas).map(|_| Slot::default()).collect() }
    }

    /// An event broke the schema at `place`, or has none, and is published all the same.
    pub fn tell(&self, place: Option<usize>, subject: &Subject<'_>, violation: &Violation) {
        let slot = match place {
            Some(place) => self.slots.get(place),
            None => self.slots.last(),
        };
        let Some(untold) = slot.and_then(|slot| slot.add(Instant::now())) else { return };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        tracing::warn!(
            event_id = text(subject.event_id),
            event_type = text(subject.event_type),
            stream = text(subject.topic),
            untold,
            "published all the same (schema_validation = warn): {violation}"
        );
    }

    /// How many there were, schema by schema.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().map(|slot| slot.count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_a_minute_says_how_many_there_were_in_between() {
        let (slot, start) = (Slot::default(), Instant::now());
        let at = |seconds| slot.add(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(30), at(59)], [Some(0), None, None, None]);
        assert_eq!([at(60), at(61)], [Some(3), None]);
        assert_eq!(at(500), Some(1));
        assert_eq!(slot.count.load(Ordering::Relaxed), 7);
    }
}
