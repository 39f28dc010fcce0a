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

    /// Keeps the first `count` events; the others are never published, and pin the slot.
    pub fn keep(&mut self, count: usize) {
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        for share in &mut self.shares {
            share.events = share.events.min(left);
            left -= share.events;
        }
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

/// A transaction with events that are not all settled.
#[derive(Debug)]
struct Transaction {
    /// Its end, and that of event-less ones right behind it; none while it is being received.
    end_lsn: Option<Lsn>,
    unpublished: u64,
    unsettled: u64,
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
            transaction.unpublished -= u64::from(share.events);
        }
        self.advance();
        Published { shares: pending.shares }
    }

    /// A published batch is durable and its rows are marked.
    pub fn settled(&mut self, published: Published) {
        for share in published.shares {
            let transaction = self.transaction(&share);
            transaction.unsettled -= u64::from(share.events);
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lsn(bytes: u64) -> Lsn {
        Lsn::new(bytes)
    }

    #[test]
    fn only_a_contiguous_prefix_of_settled_transactions_is_confirmed() {
        let mut progress = Progress::new(lsn(10));
        let (mut first, mut second) = (Pending::default(), Pending::default());
        progress.begin().unwrap();
        progress.event(&mut first).unwrap();
        progress.commit(lsn(20)).unwrap();
        progress.begin().unwrap();
        progress.event(&mut second).unwrap();
        progress.commit(lsn(30)).unwrap();
        let second = progress.published(second);
        progress.settled(second);
        assert_eq!(progress.confirm(), lsn(10));
        let first = progress.published(first);
        assert_eq!(progress.confirm(), lsn(10), "published is not settled");
        progress.settled(first);
        assert_eq!(progress.confirm(), lsn(30));
    }

    #[test]
    fn a_transaction_is_not_confirmed_before_its_commit_arrived() {
        let mut progress = Progress::new(lsn(10));
        let mut pending = Pending::default();
        progress.begin().unwrap();
        progress.event(&mut pending).unwrap();
        let published = progress.published(pending);
        progress.settled(published);
        progress.keepalive(lsn(15));
        assert_eq!(progress.confirm(), lsn(10));
        progress.commit(lsn(20)).unwrap();
        assert_eq!(progress.confirm(), lsn(20));
    }

    #[test]
    fn a_keepalive_never_moves_past_anything_outstanding() {
        let mut progress = Progress::new(lsn(10));
        progress.keepalive(lsn(15));
        assert_eq!(progress.confirm(), lsn(15));
        let mut pending = Pending::default();
        progress.begin().unwrap();
        progress.event(&mut pending).unwrap();
        progress.commit(lsn(20)).unwrap();
        progress.keepalive(lsn(50));
        assert_eq!(progress.confirm(), lsn(15));
        let published = progress.published(pending);
        assert_eq!(progress.confirm(), lsn(15));
        progress.settled(published);
        assert_eq!(progress.confirm(), lsn(50));
    }

    #[test]
    fn an_event_less_transaction_waits_for_the_one_before_it() {
        let mut progress = Progress::new(lsn(10));
        let mut pending = Pending::default();
        progress.begin().unwrap();
        progress.event(&mut pending).unwrap();
        progress.commit(lsn(20)).unwrap();
        let published = progress.published(pending);
        progress.begin().unwrap();
        progress.commit(lsn(30)).unwrap();
        assert_eq!(progress.confirm(), lsn(10));
        progress.settled(published);
        assert_eq!(progress.confirm(), lsn(30));
    }

    #[test]
    fn messages_out_of_order_are_errors() {
        let mut progress = Progress::new(lsn(10));
        assert!(progress.commit(lsn(20)).is_err());
        assert!(progress.event(&mut Pending::default()).is_err());
        progress.begin().unwrap();
        assert!(progress.begin().is_err());
    }

    /// What may happen to a line, and a model of what may be confirmed then.
    #[derive(Clone, Debug)]
    enum Step {
        Transaction { events: u8, batches: u8 },
        Keepalive,
        Publish(usize),
        Settle(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..5, 1u8..4).prop_map(|(events, batches)| Step::Transaction { events, batches }),
            Just(Step::Keepalive),
            any::<usize>().prop_map(Step::Publish),
            any::<usize>().prop_map(Step::Settle),
        ]
    }

    proptest! {
        /// Batches span transactions and are answered in any order; the model keeps each event
        /// apart.
        #[test]
        fn nothing_is_confirmed_that_is_not_settled(
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut progress = Progress::new(lsn(1));
            let mut clock = 1;
            let mut open: Vec<(Pending, Vec<Lsn>)> = Vec::new();
            let mut published: Vec<(Published, Vec<Lsn>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Transaction { events, batches } => {
                        clock += 10;
                        progress.begin().unwrap();
                        for event in 0..events {
                            let batch = usize::from(event % batches);
                            while open.len() <= batch {
                                open.push((Pending::default(), Vec::new()));
                            }
                            progress.event(&mut open[batch].0).unwrap();
                            open[batch].1.push(lsn(clock));
                        }
                        progress.commit(lsn(clock)).unwrap();
                    }
                    Step::Keepalive => {
                        clock += 10;
                        progress.keepalive(lsn(clock));
                    }
                    Step::Publish(which) if !open.is_empty() => {
                        let (pending, ends) = open.remove(which % open.len());
                        published.push((progress.published(pending), ends));
                    }
                    Step::Settle(which) if !published.is_empty() => {
                        let (receipt, _) = published.remove(which % published.len());
                        progress.settled(receipt);
                    }
                    Step::Publish(_) | Step::Settle(_) => {}
                }
                let confirmed = progress.confirm();
                let oldest = |left: &mut dyn Iterator<Item = &Lsn>| left.min().copied();
                let waiting = published.iter().flat_map(|(_, ends)| ends);
                let unsettled =
                    oldest(&mut open.iter().flat_map(|(_, ends)| ends).chain(waiting));
                if let Some(oldest) = unsettled {
                    prop_assert!(confirmed < oldest);
                } else {
                    prop_assert_eq!(confirmed, lsn(clock));
                }
                if let Some(oldest) = oldest(&mut open.iter().flat_map(|(_, e)| e)) {
                    prop_assert!(progress.positions().published < oldest);
                }
            }
        }
    }
}
