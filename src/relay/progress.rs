//! Where the line stands: received >= published >= settled >= confirmed, always. The one place a
//! position moves.
//!
//! In: begin, event, commit, keepalive; and the receipts of batches. Out: the position that the
//! slot may be told. A transaction counts as published (settled) when all its events are, and a
//! position rises only over a contiguous prefix of such transactions. The types make the wrong
//! order impossible to write:
//! [`Pending`] becomes [`Published`] becomes nothing, neither can be copied, and only their
//! consumption moves a position. No I/O, no clock.

use std::collections::VecDeque;

use super::parking::Parked;
use crate::error::{Error, Result};
use crate::lsn::Lsn;

/// Events that were received and are not yet in Redis: how many of which transaction.
#[must_use = "events that are neither published nor dropped with their line pin the slot for ever"]
#[derive(Debug, Default)]
pub struct Pending {
    shares: Vec<Share>,
}

impl Pending {
    fn add(&mut self, transaction: u64) {
        match self.shares.last_mut() {
            Some(share) if share.transaction == transaction => share.events += 1,
            _ => self.shares.push(Share { transaction, events: 1 }),
        }
    }

    /// Takes those out of which `is_taken` says so, by their places.
    pub fn take(&mut self, mut is_taken: impl FnMut(usize) -> bool) -> Self {
        let (mut taken, mut place) = (Self::default(), 0);
        for share in &mut self.shares {
            let events = share.events;
            for _ in 0..events {
                if is_taken(place) {
                    share.events -= 1;
                    taken.add(share.transaction);
                }
                place += 1;
            }
        }
        // A transaction without an event of ours may be over before we are.
        self.shares.retain(|share| share.events > 0);
        taken
    }
}

/// Events that are in Redis and not yet settled.
#[must_use = "events that are never settled pin the slot for ever"]
#[derive(Debug)]
pub struct Published {
    shares: Vec<Share>,
}

#[derive(Debug)]
struct Share {
    transaction: u64,
    events: u32,
}

impl Published {
    /// Takes over what `later` stands for.
    pub fn append(&mut self, later: Self) {
        for share in later.shares {
            match self.shares.last_mut() {
                Some(last) if last.transaction == share.transaction => last.events += share.events,
                _ => self.shares.push(share),
            }
        }
    }
}

/// A transaction with events that are not all settled. Hundreds of thousands of small ones may wait
/// for Redis to be safe; of no one more events wait than [`super::line`] has room for.
#[derive(Debug)]
struct Transaction {
    /// Its end, and that of event-less ones right behind it; none while it is being received.
    end_lsn: Option<Lsn>,
    unpublished: u32,
    unsettled: u32,
}

/// The four positions, as shown to people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// Everything before it has arrived.
    pub received: Lsn,
    /// Everything before it is in Redis.
    pub published: Lsn,
    /// Everything before it is durable and marked.
    pub settled: Lsn,
    /// The slot was told.
    pub confirmed: Lsn,
}

/// The positions of one line, from START_REPLICATION to its end.
#[derive(Debug)]
pub struct Progress {
    positions: Positions,
    transactions: VecDeque<Transaction>,
    /// Number of the transaction at the front of the queue; they count up from 0.
    front: u64,
    /// Number of the next transaction that will have an event.
    next: u64,
    /// Number of the first transaction that is not wholly published.
    next_published: u64,
    /// Events received and not settled.
    outstanding: u64,
    state: Receiving,
    /// The newest keepalive: once nothing is outstanding, all before it is settled.
    keepalive: Lsn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Between,
    /// A transaction without an event so far.
    Empty,
    /// The transaction at the back of the queue.
    Queued,
}

impl Progress {
    /// A line that starts where the slot stands.
    #[must_use]
    pub fn new(confirmed: Lsn) -> Self {
        let start = confirmed;
        Self {
            positions: Positions { received: start, published: start, settled: start, confirmed },
            transactions: VecDeque::new(),
            front: 0,
            next: 0,
            next_published: 0,
            outstanding: 0,
            state: Receiving::Between,
            keepalive: start,
        }
    }

    /// A transaction begins.
    pub fn begin(&mut self) -> Result<()> {
        if self.state != Receiving::Between {
            return Err(out_of_order("BEGIN inside a transaction"));
        }
        self.state = Receiving::Empty;
        Ok(())
    }

    /// An event of the open transaction goes into `pending`.
    pub fn event(&mut self, pending: &mut Pending) -> Result<()> {
        match self.state {
            Receiving::Between => return Err(out_of_order("INSERT outside a transaction")),
            Receiving::Empty => {
                let open = Transaction { end_lsn: None, unpublished: 0, unsettled: 0 };
                self.transactions.push_back(open);
                self.next += 1;
                self.state = Receiving::Queued;
            }
            Receiving::Queued => {}
        }
        let Some(open) = self.transactions.back_mut() else {
            return Err(out_of_order("INSERT outside a transaction"));
        };
        open.unpublished += 1;
        open.unsettled += 1;
        self.outstanding += 1;
        pending.add(self.next - 1);
        Ok(())
    }

    /// The open transaction ends at `end_lsn`.
    pub fn commit(&mut self, end_lsn: Lsn) -> Result<()> {
        if self.state == Receiving::Between {
            return Err(out_of_order("COMMIT outside a transaction"));
        }
        self.state = Receiving::Between;
        self.positions.received = self.positions.received.max(end_lsn);
        // One without events adds nothing to wait for: it ends with the transaction before it.
        match self.transactions.back_mut() {
            Some(back) => back.end_lsn = Some(end_lsn),
            None => self.keepalive = self.keepalive.max(end_lsn),
        }
        self.advance();
        Ok(())
    }

    /// The server has sent everything before `wal_end`.
    pub fn keepalive(&mut self, wal_end: Lsn) {
        self.keepalive = self.keepalive.max(wal_end);
        self.positions.received = self.positions.received.max(wal_end);
        self.advance();
    }

    /// A batch is in Redis.
    pub fn published(&mut self, pending: Pending) -> Published {
        for share in &pending.shares {
            let transaction = self.transaction(share);
            transaction.unpublished -= share.events;
        }
        self.advance();
        Published { shares: pending.shares }
    }

    /// Events are parked: PostgreSQL has committed it. What is not in Redis is in their rows, and
    /// there is nothing else to wait for.
    pub fn parked(&mut self, parked: Parked) {
        for pending in parked.pending {
            let published = self.published(pending);
            self.settled(published);
        }
    }

    /// A published batch is durable and its rows are marked.
    pub fn settled(&mut self, published: Published) {
        for share in published.shares {
            let transaction = self.transaction(&share);
            transaction.unsettled -= share.events;
            self.outstanding -= u64::from(share.events);
        }
        self.advance();
    }

    /// What the slot may be told now. Telling it is recorded as done.
    pub fn confirm(&mut self) -> Lsn {
        self.positions.confirmed = self.positions.settled;
        self.positions.confirmed
    }

    /// The positions as they are.
    #[must_use]
    pub fn positions(&self) -> Positions {
        self.positions
    }

    /// Transactions with events that have begun, in this line.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.next
    }

    /// Of those the first ones that are wholly published.
    #[must_use]
    pub fn wholly_published(&self) -> u64 {
        self.next_published
    }

    /// Events received and not settled.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    fn transaction(&mut self, share: &Share) -> &mut Transaction {
        let index = usize::try_from(share.transaction - self.front).unwrap_or(usize::MAX);
        match self.transactions.get_mut(index) {
            Some(transaction) => transaction,
            // A receipt outlived its line: confirming by it could lose events, so nothing goes on.
            None => unreachable!("a receipt of a transaction that was settled before"),
        }
    }

    fn advance(&mut self) {
        let mut index =
            usize::try_from(self.next_published.saturating_sub(self.front)).unwrap_or(0);
        while let Some(end_lsn) = self
            .transactions
            .get(index)
            .filter(|transaction| transaction.unpublished == 0)
            .and_then(|transaction| transaction.end_lsn)
        {
            self.positions.published = self.positions.published.max(end_lsn);
            self.next_published += 1;
            index += 1;
        }
        while let Some(end_lsn) = self
            .transactions
            .front()
            .filter(|transaction| transaction.unsettled == 0)
            .and_then(|transaction| transaction.end_lsn)
        {
            // What is settled is published, also where an event-less transaction has moved the end.
            self.positions.published = self.positions.published.max(end_lsn);
            self.positions.settled = self.positions.settled.max(end_lsn);
            self.transactions.pop_front();
            self.front += 1;
        }
        self.next_published = self.next_published.max(self.front);
        if self.next_published == self.next && self.state != Receiving::Queued {
            self.positions.published = self.positions.received;
        }
        if self.transactions.is_empty() && self.state != Receiving::Queued {
            let idle = self.keepalive;
            self.positions.received = self.positions.received.max(idle);
            self.positions.published = self.positions.published.max(idle);
            self.positions.settled = self.positions.settled.max(idle);
        }
        self.check();
    }

    fn check(&self) {
        let Positions { received, published, settled, confirmed } = self.positions;
        assert!(
            received >= published && published >= settled && settled >= confirmed,
            "positions out of order: {:?}",
            self.positions
        );
    }
}

fn out_of_order(what: &str) -> Error {
    Error::transient(format!("PostgreSQL sent messages out of order: {what}"))
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
