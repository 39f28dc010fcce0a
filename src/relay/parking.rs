//! Events that leave the line for their rows, until PostgreSQL has committed that.
//!
//! In: events that cannot be published now, with what their receipts are made of. Out: [`Job`]s for
//! the one statement that parks many, and [`Parked`] once it is committed. It must stay true that
//! `Parked` is made of a job that was committed and of nothing else, and that what waits here is
//! bounded: the line takes nothing in while [`Parking::is_full`]. Pure.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use super::progress::Pending;
use super::streams::StreamId;
use crate::lsn::Position;
use crate::outbox::{Copied, Kept, Unfit};
use crate::poller::WAITS_BEHIND;
use crate::telemetry::Refusal;

/// Rows parked by one statement, about: a few milliseconds of row locks.
const JOB_ROWS: usize = 500;
/// Rows that wait to be parked.
const ROWS_MAX: usize = 8 * JOB_ROWS;
/// Bytes of copied rows that wait.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why an event leaves the line.
#[derive(Clone, Debug)]
pub enum Reason {
    /// Redis refused it, or its stream as a whole: that was its first attempt.
    Refused(Arc<str>),
    /// It can never become an entry: the dead letters are for it.
    Unfit(Arc<str>),
    /// An earlier event of its aggregate is parked.
    WaitsBehind,
}

impl Reason {
    /// For people, in the row.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Refused(text) | Self::Unfit(text) => text,
            Self::WaitsBehind => WAITS_BEHIND,
        }
    }

    /// For the numbers: why, where it is for the event itself.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(text) => Some(Refusal::of(text)),
            Self::Unfit(text) => Some(Refusal::of_unfit(text)),
            Self::WaitsBehind => None,
        }
    }

    /// Attempts that ended with a refusal.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        match self {
            Self::Refused(_) => 1,
            Self::Unfit(_) | Self::WaitsBehind => 0,
        }
    }
}

/// What the event of a lost row can be written from.
#[derive(Debug)]
pub enum Original {
    /// Its whole row.
    Row(Copied),
    /// It was a message from the first.
    Message(Kept),
}

impl Original {
    fn bytes(&self) -> usize {
        match self {
            Self::Row(row) => row.bytes(),
            Self::Message(kept) => kept.bytes(),
        }
    }
}

/// One event that is to be parked.
#[derive(Debug)]
pub struct Leaving {
    /// Of its row; of a message there is none.
    pub id: i64,
    /// In the order of commits.
    pub position: Position,
    /// The hash of its aggregate.
    pub aggregate: u64,
    /// Why.
    pub reason: Reason,
    /// What it came from, where that was at hand.
    pub original: Option<Original>,
}

/// Events of one batch that leave together.
#[derive(Debug)]
pub struct Parcel {
    /// The stream that nothing behind them may be written to; none if no name was to be had.
    pub stream: Option<StreamId>,
    /// What their receipt is made of.
    pub pending: Pending,
    /// The events, by position.
    pub events: Vec<Leaving>,
    /// The low 32 bits of their transactions' ids.
    pub transactions: Vec<u32>,
}

/// Parcels that are being parked by one statement.
#[derive(Debug)]
#[must_use = "what is not parked pins the slot for ever"]
pub struct Job {
    parcels: Vec<Parcel>,
}

impl Job {
    /// The events.
    pub fn events(&self) -> impl Iterator<Item = &Leaving> {
        self.parcels.iter().flat_map(|parcel| &parcel.events)
    }

    /// The transactions they came from.
    #[must_use]
    pub fn transactions(&self) -> Vec<u32> {
        self.parcels.iter().flat_map(|parcel| parcel.transactions.iter().copied()).collect()
    }

    /// PostgreSQL has committed that its rows are parked. Called by whoever saw that.
    pub fn committed(self) -> Parked {
        let mut parked = Parked { pending: Vec::new(), events: Vec::new() };
        for parcel in self.parcels {
            parked.pending.push(parcel.pending);
            let stream = parcel.stream;
            let events = parcel.events.into_iter();
            parked.events.extend(events.map(|event| (stream, event.position, event.aggregate)));
        }
        parked
    }
}

/// Events that are parked for sure.
#[must_use = "what is parked and not counted pins the slot for ever"]
pub struct Parked {
    /// What their receipts are made of.
    pub(super) pending: Vec<Pending>,
    /// Stream, position and aggregate of each.
    pub(super) events: Vec<(Option<StreamId>, Position, u64)>,
}

/// Events on their way out of the line.
#[derive(Debug, Default)]
pub struct Parking {
    waiting: VecDeque<Parcel>,
    rows: usize,
    bytes: usize,
    /// Rows, and all messages, that may be needed should their events be parked, by position.
    copies: BTreeMap<Position, (StreamId, Original)>,
    copied_bytes: usize,
    /// Events that were refused before and whose rows were gone then.
    wanted: HashSet<Position>,
    /// The event that is not to be published, and why.
    condemned: Option<(Position, Unfit)>,
}

impl Parking {
    /// The rows at these positions are to be copied as they come.
    #[must_use]
    pub fn new(wanted: HashSet<Position>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Whether the row at `position` was asked for.
    #[must_use]
    pub fn wants(&self, position: Position) -> bool {
        !self.wanted.is_empty() && self.wanted.contains(&position)
    }

    /// The event at `position` is set aside when it comes.
    pub(super) fn condemn(&mut self, position: Position, why: Unfit) {
        self.condemned = Some((position, why));
    }

    /// Why the event at `position` is set aside, if it is.
    pub(super) fn sentence(&self, position: Position) -> Option<Unfit> {
        let condemned = self.condemned.as_ref().filter(|(condemned, _)| *condemned == position);
        condemned.map(|(_, why)| why.clone())
    }

    /// Keeps a row in case that its event is parked.
    pub fn keep(&mut self, position: Position, stream: StreamId, row: Original) {
        self.copied_bytes += row.bytes();
        self.copies.insert(position, (stream, row));
    }

    /// All events of a stream up to `position` have left it: their rows are not needed.
    pub fn forget(&mut self, stream: StreamId, position: Position) {
        if !self.copies.is_empty() {
            self.copies.retain(|at, (of, _)| *at > position || *of != stream);
            self.copied_bytes = self.copies.values().map(|(_, row)| row.bytes()).sum();
        }
    }

    /// The row at `position`, if it was kept.
    pub fn copy_of(&mut self, position: Position) -> Option<Original> {
        let (_, row) = self.copies.remove(&position)?;
        self.copied_bytes -= row.bytes();
        Some(row)
    }

    /// Adds what is to be parked.
    pub fn add(&mut self, parcel: Parcel) {
        self.rows += parcel.events.len();
        self.bytes += bytes(&parcel);
        self.waiting.push_back(parcel);
    }

    /// What the next statement parks.
    pub fn take(&mut self) -> Option<Job> {
        let mut job = Job { parcels: Vec::new() };
        let mut rows = 0;
        while rows < JOB_ROWS
            && let Some(parcel) = self.waiting.pop_front()
        {
            rows += parcel.events.len();
            self.rows -= parcel.events.len();
            self.bytes -= bytes(&parcel);
            job.parcels.push(parcel);
        }
        (rows > 0).then_some(job)
    }

    /// Whether nothing waits to be parked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether so much waits that nothing may be added by taking messages in.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX || self.bytes + self.copied_bytes >= BYTES_MAX
    }
}

fn bytes(parcel: &Parcel) -> usize {
    let rows = parcel.events.iter().filter_map(|event| event.original.as_ref());
    rows.map(Original::bytes).sum()
}
