//! What the line wants sent, and a batch between being sent and being settled: what must be
//! remembered of it.
//!
//! In: events as they are added to a batch. Out: [`Flight`] while Redis has not answered, then
//! [`Settling`] until it is safe and its rows are marked. No payload is kept: an answered batch
//! costs some 20 bytes an event.

use super::progress::{Pending, Published};
use super::streams::StreamId;
use crate::lsn::Position;
use crate::sink::Sealed;

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
    /// Publish a batch and tell the outcome with `Line::published`.
    Publish {
        /// What to remember of it.
        flight: Flight,
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
    /// The position of its last event.
    pub last_position: Position,
    /// Commit time of its last event, microseconds since 2000-01-01.
    pub commit_time: i64,
}

/// The rows of a batch, for marking: their ids, and the transactions they came from.
#[derive(Debug, Default)]
pub struct Rows {
    /// `id` of each row, in order.
    pub ids: Vec<i64>,
    /// The low 32 bits of their transactions' ids, each once.
    pub transactions: Vec<u32>,
}

impl Rows {
    pub(super) fn add(&mut self, id: i64, transaction: u32) {
        self.ids.push(id);
        if self.transactions.last() != Some(&transaction) {
            self.transactions.push(transaction);
        }
    }

    /// The first `count` of them. Of which transactions they are is not known any more: all are
    /// named.
    pub(super) fn keep(&mut self, count: usize) {
        self.ids.truncate(count);
    }

    /// Takes over the rows of `other`.
    pub fn append(&mut self, mut other: Self) {
        self.ids.append(&mut other.ids);
        self.transactions.append(&mut other.transactions);
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
