//! What the line wants sent, and a batch between being sent and being settled: what must be
//! remembered of it.
//!
//! In: events as they are added to a batch. Out: [`Flight`] while Redis has not answered, then
//! [`Settling`] until it is safe and its rows are marked. No payload is kept: an answered batch
//! costs some 30 bytes an event.

use super::progress::{Pending, Published};
use super::streams::StreamId;
use crate::lsn::Position;
use crate::sink::{Batch, Sealed};
use crate::telemetry::Traced;

/// What the line wants done.
pub enum Action {
    /// Take a stream over and tell its checkpoint with `Line::open`.
    Open {
        /// Which.
        stream: StreamId,
        /// Its name.
        name: String,
        /// Its checkpoint's key.
        checkpoint_key: String,
    },
    /// The last event of a stream is not in PostgreSQL's history: lower its checkpoint to the
    /// start, then restart.
    Rewind {
        /// Which; nothing more is written to it.
        stream: StreamId,
        /// The epoch it was open under.
        epoch: u64,
    },
    /// Settle events that an earlier line has published.
    Settle(Settling),
    /// Publish a batch and tell the outcome with `Line::published`.
    Publish {
        /// What to remember of it.
        flight: Box<Flight>,
        /// The call.
        batch: Sealed,
    },
}

/// A batch in flight: what is needed once it is answered.
#[derive(Debug)]
pub struct Flight {
    /// Its stream.
    pub(super) stream: StreamId,
    /// Events in it.
    pub(super) events: usize,
    /// Bytes in it.
    pub(super) bytes: usize,
    /// What its receipt is made of.
    pub(super) pending: Pending,
    /// Its rows.
    pub(super) rows: Rows,
    /// The position it follows.
    pub(super) follows: Position,
    /// The position of its last event.
    pub last_position: Position,
    /// Commit time of its last event, microseconds since 2000-01-01.
    pub commit_time: i64,
    /// The earliest of its events.
    pub oldest_commit: i64,
    /// Those that a trace is recorded of.
    pub(super) traced: Traced,
}

/// In the place of a row's id: the event is a message, and there is no row to mark.
pub(super) const NO_ROW: i64 = i64::MIN;

/// The row with this id; none of a message.
pub(super) fn row_of(id: i64) -> Option<i64> {
    (id != NO_ROW).then_some(id)
}

/// The rows of a batch, for marking: their ids, and the transactions they came from.
#[derive(Debug, Default)]
pub struct Rows {
    /// `id` of each row, in order.
    pub ids: Vec<i64>,
    /// The hash of the aggregate of each, in the same order.
    pub aggregates: Vec<u64>,
    /// The low 32 bits of their transactions' ids, each once.
    pub transactions: Vec<u32>,
}

impl Rows {
    pub(super) fn add(&mut self, id: i64, transaction: u32, aggregate: u64) {
        self.ids.push(id);
        self.aggregates.push(aggregate);
        if self.transactions.last() != Some(&transaction) {
            self.transactions.push(transaction);
        }
    }

    /// Those of which `is_taken` says so, by their places. Of which transactions they are is not
    /// known any more: both name all.
    pub(super) fn take(&mut self, mut is_taken: impl FnMut(usize) -> bool) -> Self {
        let mut taken = Self { transactions: self.transactions.clone(), ..Self::default() };
        let (ids, aggregates) =
            (std::mem::take(&mut self.ids), std::mem::take(&mut self.aggregates));
        for (place, (id, aggregate)) in ids.into_iter().zip(aggregates).enumerate() {
            let into = if is_taken(place) { &mut taken } else { &mut *self };
            into.ids.push(id);
            into.aggregates.push(aggregate);
        }
        taken
    }

    /// The same for settling: what is not in a table is not marked.
    pub(super) fn without_messages(mut self) -> Self {
        self.ids.retain(|id| *id != NO_ROW);
        self
    }

    /// Takes over the rows of `other`.
    pub fn append(&mut self, mut other: Self) {
        self.ids.append(&mut other.ids);
        self.aggregates.append(&mut other.aggregates);
        self.transactions.append(&mut other.transactions);
    }
}

/// A batch that is being filled, with what must be remembered of its events.
#[derive(Debug)]
pub struct Filling {
    pub batch: Batch,
    pub pending: Pending,
    pub rows: Rows,
    pub commit_time: i64,
    pub oldest_commit: i64,
    pub traced: Traced,
}

impl Filling {
    /// Takes those events out of which `is_taken` says so, by their places.
    pub fn take(&mut self, is_taken: impl Fn(usize) -> bool) -> Self {
        let taken = Self {
            batch: self.batch.filtered(&is_taken),
            pending: self.pending.take(&is_taken),
            rows: self.rows.take(&is_taken),
            commit_time: self.commit_time,
            oldest_commit: self.oldest_commit,
            traced: self.traced.take(&is_taken),
        };
        self.batch = self.batch.filtered(|place| !is_taken(place));
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.batch.events() == 0
    }
}

/// A batch in Redis: its receipt and its rows, to be settled.
#[derive(Debug)]
pub struct Settling {
    /// The receipt.
    pub published: Published,
    /// The rows.
    pub rows: Rows,
}

impl Settling {
    /// Takes over what `later` stands for.
    pub fn append(&mut self, later: Self) {
        self.published.append(later.published);
        self.rows.append(later.rows);
    }
}
