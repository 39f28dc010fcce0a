//! What each stream was known to hold, over all lines of this process: a Redis that comes back with
//! less is noticed. And how many events went there. Pure; bounded; lost with the process, because
//! nothing hangs on it but a warning.

use std::collections::{HashMap, HashSet};

use super::alone::Turn;
use super::careful::Watch;
use crate::lsn::{Lsn, Position};
use crate::telemetry::Status;

/// Streams remembered, and refused events; past this all are forgotten.
const STREAMS_MAX: usize = 4_096;

/// What is known of a stream.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The position of the last event that Redis said it had.
    position: Position,
    /// Events that this process has written to it.
    published: u64,
}

/// What is known of all of them.
#[derive(Debug, Default)]
pub(super) struct Memory {
    reached: HashMap<String, Known>,
    /// Whether events were published since that was told.
    is_news: bool,
    wanted: HashSet<Position>,
    /// Whether it dies of an event.
    pub watch: Watch,
    /// Whether it is careful by itself.
    pub turn: Turn,
}

impl Memory {
    /// Nothing is known; `turn` is the line's among those of this process.
    pub fn new(turn: Turn) -> Self {
        Self { turn, ..Self::default() }
    }

    /// Redis has all events of `stream` up to `position`, so many of them written by now.
    pub fn reached(&mut self, stream: &str, position: Position, written: usize) {
        let written = u64::try_from(written).unwrap_or(u64::MAX);
        self.is_news |= written > 0;
        if let Some(known) = self.reached.get_mut(stream) {
            known.position = position;
            known.published = known.published.saturating_add(written);
            return;
        }
        if self.reached.len() >= STREAMS_MAX {
            self.reached.clear();
        }
        self.reached.insert(stream.to_owned(), Known { position, published: written });
    }

    /// Tells people which streams are busy.
    pub fn tell_streams(&mut self, status: &Status) {
        if std::mem::take(&mut self.is_news) {
            let all = self.reached.iter().map(|(name, known)| (name.as_str(), known.published));
            status.streams.tell(all);
        }
    }

    /// The rows at these positions are to be kept when the slot sends them again: their events were
    /// refused, and the table has them no more.
    pub fn want(&mut self, positions: Vec<Position>) {
        if self.wanted.len() >= STREAMS_MAX {
            self.wanted.clear();
        }
        self.wanted.extend(positions);
    }

    /// Those of them that a slot still sends that stands at `confirmed`.
    pub fn wanted(&mut self, confirmed: Lsn) -> HashSet<Position> {
        self.wanted.retain(|position| position.commit_lsn >= confirmed);
        self.wanted.clone()
    }

    /// What Redis had of `stream`, if that was more than it has now.
    pub fn lost(&self, stream: &str, now: Position) -> Option<Position> {
        self.reached.get(stream).map(|known| known.position).filter(|known| *known > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64) -> Position {
        Position { commit_lsn: Lsn::new(lsn), ordinal: 1 }
    }

    #[test]
    fn less_than_was_there_is_noticed_once() {
        let mut memory = Memory::default();
        assert_eq!(memory.lost("s", Position::START), None);
        memory.reached("s", at(7), 3);
        assert_eq!(memory.lost("s", at(7)), None);
        assert_eq!(memory.lost("s", at(3)), Some(at(7)));
        assert_eq!(memory.lost("other", at(3)), None);
        memory.reached("s", at(3), 0);
        assert_eq!(memory.lost("s", at(3)), None);
    }

    #[test]
    fn streams_without_end_do_not_fill_the_memory() {
        let mut memory = Memory::default();
        for number in 0..10_000 {
            memory.reached(&number.to_string(), at(1), 1);
        }
        assert!(memory.reached.len() <= STREAMS_MAX);
    }
}
