//! What each stream was known to hold, over all lines of this process: a Redis that comes back with
//! less is noticed. Pure; bounded; lost with the process, because nothing hangs on it but a
//! warning.

use std::collections::{HashMap, HashSet};

use super::alone::Turn;
use super::careful::Watch;
use crate::lsn::{Lsn, Position};

/// Streams remembered, and refused events; past this all are forgotten.
const STREAMS_MAX: usize = 4_096;

/// The position of the last event that Redis said it had, by stream.
#[derive(Debug, Default)]
pub(super) struct Memory {
    reached: HashMap<String, Position>,
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

    /// Redis has all events of `stream` up to `position`.
    pub fn reached(&mut self, stream: &str, position: Position) {
        if let Some(known) = self.reached.get_mut(stream) {
            *known = position;
            return;
        }
        if self.reached.len() >= STREAMS_MAX {
            self.reached.clear();
        }
        self.reached.insert(stream.to_owned(), position);
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
        self.reached.get(stream).copied().filter(|known| *known > now)
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
        memory.reached("s", at(7));
        assert_eq!(memory.lost("s", at(7)), None);
        assert_eq!(memory.lost("s", at(3)), Some(at(7)));
        assert_eq!(memory.lost("other", at(3)), None);
        memory.reached("s", at(3));
        assert_eq!(memory.lost("s", at(3)), None);
    }

    #[test]
    fn streams_without_end_do_not_fill_the_memory() {
        let mut memory = Memory::default();
        for number in 0..10_000 {
            memory.reached(&number.to_string(), at(1));
        }
        assert!(memory.reached.len() <= STREAMS_MAX);
    }
}
