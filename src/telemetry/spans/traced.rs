//! What is remembered of the events of a batch that belong to a trace somebody records, until the
//! batch is answered.
//!
//! In: events as they are added to a batch, by their places in it. Out: those that were written. It
//! must stay true that places are those of the batch, whatever is taken out of it, and that what is
//! remembered of an event is bounded. Pure.

use std::ops::Range;

use super::parent::Parent;

/// Of an id or a type, so many bytes: both are short, unless somebody means harm.
const NAME_BYTES_MAX: usize = 256;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in its batch.
    place: usize,
    /// Whose child its span is.
    pub parent: Parent,
    /// When it was committed, or taken in hand where that is not known: microseconds since
    /// 2000-01-01.
    pub since: i64,
    /// Its `event_id`.
    pub id: Box<str>,
    /// Its `event_type`.
    pub kind: Box<str>,
}

/// The traced events of a batch, in the order of their places. Empty, it costs nothing.
#[derive(Debug, Default)]
pub struct Traced(Vec<Event>);

impl Traced {
    /// Remembers the event at `place`, behind those that were noted before, if its parent is one
    /// that is recorded.
    pub fn note(
        &mut self,
        place: usize,
        traceparent: Option<&[u8]>,
        since: i64,
        (id, kind): (&[u8], &[u8]),
    ) {
        let parent = traceparent.and_then(Parent::parse).filter(|parent| parent.is_sampled());
        if let Some(parent) = parent {
            self.0.push(Event { place, parent, since, id: name(id), kind: name(kind) });
        }
    }

    /// Takes those events out of which `is_taken` says so, by their places; both parts then have
    /// the places of batches that were parted in the same way.
    #[must_use]
    pub fn take(&mut self, is_taken: impl Fn(usize) -> bool) -> Self {
        let (mut taken, mut left) = (Self::default(), Self::default());
        let (mut taken_before, mut left_before) = (0, 0);
        let mut next = 0;
        for mut event in std::mem::take(&mut self.0) {
            for place in next..event.place {
                if is_taken(place) { taken_before += 1 } else { left_before += 1 }
            }
            next = event.place + 1;
            let (into, before) = if is_taken(event.place) {
                (&mut taken, &mut taken_before)
            } else {
                (&mut left, &mut left_before)
            };
            event.place = *before;
            *before += 1;
            into.0.push(event);
        }
        *self = left;
        taken
    }

    /// The events of a batch that were written: those at these places. Those before are forgotten,
    /// those behind stay, with their places.
    #[must_use]
    pub fn written(&mut self, places: Range<usize>) -> Self {
        let behind = self.0.partition_point(|event| event.place < places.end);
        let rest = self.0.split_off(behind);
        let mut written = std::mem::replace(&mut self.0, rest);
        written.retain(|event| event.place >= places.start);
        Self(written)
    }

    /// The events.
    #[cfg(any(feature = "otel", test))]
    pub(super) fn into_events(self) -> Vec<Event> {
        self.0
    }
}

fn name(bytes: &[u8]) -> Box<str> {
    let cut = bytes.get(..NAME_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(cut).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    /// A batch of eight; traced are 1, 3, 4 and 7, named after their places.
    fn batch() -> Traced {
        let mut traced = Traced::default();
        for place in 0..8 {
            let parent = match place {
                1 | 3 | 4 | 7 => Some(SAMPLED),
                2 => Some(UNSAMPLED),
                5 => Some(&b"nonsense"[..]),
                _ => None,
            };
            traced.note(place, parent, 0, (place.to_string().as_bytes(), b"t"));
        }
        traced
    }

    fn places(traced: &Traced) -> Vec<(usize, &str)> {
        traced.0.iter().map(|event| (event.place, &*event.id)).collect()
    }

    #[test]
    fn what_is_taken_out_of_a_batch_keeps_its_events_and_changes_its_places() {
        let mut left = batch();
        assert_eq!(places(&left), [(1, "1"), (3, "3"), (4, "4"), (7, "7")]);
        let taken = left.take(|place| place == 0 || place == 3 || place > 5);
        assert_eq!(places(&taken), [(1, "3"), (3, "7")]);
        assert_eq!(places(&left), [(0, "1"), (2, "4")]);
        assert!(places(&left.take(|_| false)).is_empty());
        assert_eq!(places(&left), [(0, "1"), (2, "4")]);
    }

    #[test]
    fn what_was_there_before_and_what_was_refused_is_not_written() {
        let mut traced = batch();
        let written = traced.written(2..4);
        assert_eq!(places(&written), [(3, "3")]);
        assert_eq!(places(&traced), [(4, "4"), (7, "7")]);
        assert_eq!(places(&traced.take(|place| place >= 4)), [(0, "4"), (3, "7")]);
    }

    #[test]
    fn a_name_without_end_is_cut() {
        let mut traced = Traced::default();
        traced.note(0, Some(SAMPLED), 0, (&[0xff; 10_000], "\u{e9}".repeat(500).as_bytes()));
        let event = traced.into_events().remove(0);
        assert!(event.id.len() <= 3 * NAME_BYTES_MAX && event.kind.len() == NAME_BYTES_MAX);
    }
}
