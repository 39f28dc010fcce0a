//! A model of what is parked, and of the pollers that get it out.
//!
//! In: jobs of lines, steps of a poller. Out: rows, entries. It must stay true that the rules are
//! those of `park_events.sql` and of a poller: only the holder of the slot parks, an event is
//! parked once, and of an aggregate the earliest event goes out first, once the slot is confirmed
//! past it, durably, before its row says so.

use std::collections::BTreeMap;

use super::ledger::{Broken, Writer};
use super::redis::{Safeguard, Undo};
use super::relay::{Ended, State};
use super::world::World;
use crate::error::Error;
use crate::lsn::{Lsn, Position};
use crate::relay::held::{self, Found};
use crate::relay::parking::Job;

/// Aggregates of all events together.
pub const AGGREGATES: usize = 3;

/// The aggregate of an event, as its row has it.
pub fn aggregate(number: usize) -> String {
    format!("a{}", number % AGGREGATES)
}

/// Rows that a relay has parked.
#[derive(Clone, Debug, Default)]
pub struct Rows(BTreeMap<usize, Row>);

#[derive(Clone, Copy, Debug)]
struct Row {
    position: Position,
    /// A poller has published it.
    is_out: bool,
}

impl Rows {
    fn park(&mut self, job: &Job) {
        for event in job.events() {
            let number = usize::try_from(event.id).unwrap();
            let row = Row { position: event.position, is_out: false };
            self.0.entry(number).or_insert(row);
        }
    }

    /// What a line is told that starts at `confirmed`.
    pub fn found(&self, confirmed: Lsn) -> Found {
        let known = self
            .0
            .iter()
            .filter(|(_, row)| row.position.commit_lsn >= confirmed)
            .map(|(number, row)| (i64::try_from(*number).unwrap(), row.position));
        Found { known: known.collect(), held: Some(self.held()), is_any: !self.0.is_empty() }
    }

    /// Aggregates with a row that is not out.
    pub fn held(&self) -> Vec<u64> {
        let parked = self.0.iter().filter(|(_, row)| !row.is_out);
        parked.map(|(number, _)| held::aggregate(aggregate(*number).as_bytes())).collect()
    }

    /// Whether any is not out.
    pub fn is_any(&self) -> bool {
        self.0.values().any(|row| !row.is_out)
    }

    /// Whether the event is in a row, and not in its stream.
    pub fn has(&self, number: usize) -> bool {
        self.0.get(&number).is_some_and(|row| !row.is_out)
    }

    /// The first events of their aggregates.
    fn due(&self) -> Vec<(usize, Position)> {
        let mut first: BTreeMap<usize, (usize, Position)> = BTreeMap::new();
        for (number, row) in self.0.iter().filter(|(_, row)| !row.is_out) {
            let due = first.entry(number % AGGREGATES).or_insert((*number, row.position));
            if row.position < due.1 {
                *due = (*number, row.position);
            }
        }
        first.into_values().collect()
    }

    /// What is out and before `lsn` is not remembered.
    fn release(&mut self, lsn: Lsn) {
        self.0.retain(|_, row| !row.is_out || row.position.commit_lsn >= lsn);
    }
}

impl World {
    /// What a line wants parked is committed; with `dies` its process never hears of it.
    pub fn park(&mut self, relay: usize, dies: bool) {
        let State::Streaming(session) = &mut self.relays[relay] else { return };
        let Some(job) = session.job.take() else { return };
        if !self.postgres.knows(session.on.postgres) {
            let lost = Ended::Again(Error::transient("the slot is another's"));
            self.end(relay, Some(lost));
            return;
        }
        self.postgres.rows.park(&job);
        self.history.note(|| format!("relay {relay}: {job:?} is parked"));
        if dies {
            self.end(relay, None);
        } else {
            session.line.parked(job.committed());
        }
    }

    /// A line asks what is parked still, or hears of it.
    pub fn refresh(&mut self, relay: usize) {
        let State::Streaming(session) = &mut self.relays[relay] else { return };
        if let Some((refresh, held)) = session.refresh.take() {
            session.line.end_refresh(refresh, Some(held));
        } else if session.job.is_none()
            && !session.line.has_leaving()
            && session.line.is_holding_back()
        {
            session.refresh = Some((session.line.begin_refresh(), self.postgres.rows.held()));
            self.postgres.rows.release(self.postgres.confirmed_on_disk());
        }
    }

    /// A poller gets one event out: its entry is on disk before its row says so.
    pub fn poll(&mut self) -> Result<(), Broken> {
        // What is before it may be forgotten by Redis until then, and be written again behind it.
        let confirmed = self.postgres.confirmed;
        let mut due = self.postgres.rows.due();
        due.retain(|(_, position)| position.commit_lsn < confirmed);
        if due.is_empty() || !self.redis.is_up || self.redis.is_full {
            return Ok(());
        }
        let (number, position) = due[self.rng.usize(..due.len())];
        let of = self.ledger.event(number).stream;
        if self.redis.streams[of].is_wrong {
            return Ok(());
        }
        self.history.note(|| format!("poller: event {number} of stream {of}"));
        self.ledger.added(of, position, Some(number), Writer::Poller)?;
        let stream = &mut self.redis.streams[of];
        let (entries, checkpoint) = (stream.entries.len(), stream.checkpoint.clone());
        stream.entries.push(number);
        let entries_after = entries + 1;
        let undo = Undo { at: 0, stream: of, entries, entries_after, checkpoint };
        self.redis.journal.push_back(undo);
        self.redis.sync(usize::MAX);
        if let Some(row) = self.postgres.rows.0.get_mut(&number) {
            row.is_out = true;
        }
        Ok(())
    }

    /// Takes away what a test wants to be gone.
    pub fn weaken(&mut self, relay: usize) {
        let State::Streaming(session) = &mut self.relays[relay] else { return };
        if !self.redis.has_safeguard(Safeguard::ParkFirst) {
            session.line.unbar();
        }
        if !self.redis.has_safeguard(Safeguard::Queue) {
            session.line.let_go();
        }
    }
}
