//! What was committed, and what may never happen: every step of a run is held to it.
//!
//! In: commits, entries added, power losses, confirmations. Out: [`Broken`], the sentence that was
//! broken. An event is a number here; its position is known from its commit.

use std::collections::HashMap;
use std::fmt;

use super::parking::AGGREGATES;
use crate::lsn::{Lsn, Position};

/// A promise that was broken, in words.
#[derive(Debug)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of a committed event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its stream.
    pub stream: usize,
    /// Its position in the history that committed it.
    pub position: Position,
    /// How often its history was cut when it was committed: histories count up.
    pub history: u32,
    /// Whether a rewind or a promotion forgot its commit.
    pub is_forgotten: bool,
    /// Entries that bear it.
    pub copies: u32,
    /// Whether a poller wrote the last of them.
    pub by_poller: bool,
}

/// Who adds an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A line, behind this entry of its stream.
    Line(Option<usize>),
    /// A poller.
    Poller,
}

/// Everything that was ever committed.
#[derive(Debug, Default)]
pub struct Ledger {
    events: Vec<Event>,
    /// The event written last, by stream and aggregate.
    last: HashMap<(usize, usize), usize>,
    /// Whether an event may be in its stream more than once: after a rewind of PostgreSQL that
    /// Redis cannot know of.
    pub may_repeat: bool,
    /// Events before this are lost with a Redis that came back empty.
    pub lost_before: Lsn,
}

impl Ledger {
    /// An event was committed; its number.
    pub fn committed(&mut self, event: Event) -> usize {
        self.events.push(event);
        self.events.len() - 1
    }

    /// The event with this number.
    pub fn event(&self, number: usize) -> &Event {
        &self.events[number]
    }

    /// PostgreSQL forgets the commits of these events.
    pub fn forget(&mut self, numbers: impl Iterator<Item = usize>) {
        for number in numbers {
            self.events[number].is_forgotten = true;
        }
    }

    /// An entry was added.
    pub fn added(
        &mut self,
        stream: usize,
        position: Position,
        number: Option<usize>,
        writer: Writer,
    ) -> Result<usize, Broken> {
        let Some((number, event)) =
            number.and_then(|number| Some((number, self.events.get(number).copied()?)))
        else {
            return Err(Broken(format!("stream {stream}: an entry that was never committed")));
        };
        if event.stream != stream || event.position != position {
            return Err(Broken(format!(
                "event {number} of stream {} at {} was written to stream {stream} at {position}",
                event.stream, event.position
            )));
        }
        if event.copies > 0 && !self.may_repeat {
            return Err(Broken(format!("stream {stream}: event {number} is there twice")));
        }
        let is_before = |before: &Event| {
            before.history == event.history && before.position >= position && !self.may_repeat
        };
        // What the line writes is in order; what a poller wrote is among its aggregate.
        let by_line = match writer {
            Writer::Line(last) => last.filter(|last| !self.events[*last].by_poller),
            Writer::Poller => None,
        };
        let of_aggregate = self.last.get(&(stream, number % AGGREGATES)).copied();
        for last in by_line.into_iter().chain(of_aggregate) {
            let before = self.events[last];
            if before.copies > 0 && is_before(&before) {
                return Err(Broken(format!(
                    "stream {stream}: event {number} at {position} comes behind event {last} at {}",
                    before.position
                )));
            }
        }
        self.last.insert((stream, number % AGGREGATES), number);
        self.events[number].by_poller = writer == Writer::Poller;
        self.events[number].copies += 1;
        Ok(number)
    }

    /// An entry is gone with the memory of Redis.
    pub fn removed(&mut self, number: usize) {
        self.events[number].copies -= 1;
    }

    /// Behind the last event that has an entry.
    pub fn end_of_entries(&self) -> Lsn {
        let there = self.events.iter().filter(|event| event.copies > 0);
        let last = there.map(|event| event.position.commit_lsn.as_u64()).max();
        last.map_or(Lsn::NONE, |last| Lsn::new(last + 1))
    }

    /// At the end: every event that PostgreSQL remembers is in its stream.
    pub fn check_all_published(&self) -> Result<(), Broken> {
        for (number, event) in self.events.iter().enumerate() {
            let may_be_lost = event.is_forgotten || event.position.commit_lsn < self.lost_before;
            if event.copies == 0 && !may_be_lost {
                return Err(Broken(format!(
                    "event {number} at {} was committed and is not in stream {}",
                    event.position, event.stream
                )));
            }
        }
        Ok(())
    }
}
