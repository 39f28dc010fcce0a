//! A model of PostgreSQL: a WAL of transactions, and a slot that remembers what was confirmed.
//!
//! In: commits, status updates, crashes, rewinds, promotions. Out: transactions for a walsender. It
//! must stay true that the slot only ever rises while the server runs, that a crash may bring its
//! older value back, and that a transaction is sent when its commit record is not before the slot.

use std::collections::VecDeque;

use super::ledger::{Event, Ledger};
use super::parking::Rows;
use super::walsender::Walsender;
use crate::lsn::{Lsn, Position};

/// A row of a transaction.
#[derive(Clone, Copy, Debug)]
pub enum Row {
    /// An event of the outbox, by its number.
    Event { number: usize, stream: usize, bytes: usize },
    /// A row of the outbox that is no news.
    BornSettled,
    /// A row of another table of the publication.
    Other,
}

/// A committed transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub commit_lsn: Lsn,
    pub end_lsn: Lsn,
    pub xid: u32,
    pub rows: Vec<Row>,
}

/// What a new transaction writes.
#[derive(Clone, Copy, Debug)]
pub enum Write {
    /// An event for this stream, with a payload of this size.
    Event {
        stream: usize,
        bytes: usize,
    },
    BornSettled,
    Other,
}

/// A copy of the server, made while it ran: where its WAL and its slot were.
#[derive(Clone, Copy, Debug)]
struct Backup {
    transactions: usize,
    end: Lsn,
    confirmed: Lsn,
}

/// The server.
#[derive(Debug)]
pub struct Postgres {
    pub transactions: Vec<Transaction>,
    /// The end of its WAL.
    pub end: Lsn,
    pub timeline: u32,
    /// Where each earlier timeline was left.
    pub forks: Vec<(u32, Lsn)>,
    /// What the slot was told.
    pub confirmed: Lsn,
    /// What of it survives a crash.
    confirmed_on_disk: Lsn,
    /// Whoever holds the slot.
    pub walsender: Option<Walsender>,
    /// Status updates on their way: of which connection, and what they confirm.
    updates: VecDeque<(u64, Lsn)>,
    /// Events that are parked.
    pub rows: Rows,
    backup: Option<Backup>,
    connections: u64,
    histories: u32,
    xid: u32,
}

impl Postgres {
    /// An empty database with a new slot.
    pub fn new() -> Self {
        let start = Lsn::new(0x1000);
        Self {
            transactions: Vec::new(),
            end: start,
            timeline: 1,
            forks: Vec::new(),
            confirmed: start,
            confirmed_on_disk: start,
            walsender: None,
            updates: VecDeque::new(),
            rows: Rows::default(),
            backup: None,
            connections: 0,
            histories: 0,
            xid: 700,
        }
    }

    /// A transaction commits; `record` is the size of its commit record.
    pub fn commit(&mut self, writes: &[Write], record: u64, ledger: &mut Ledger) -> &Transaction {
        self.move_wal(8 * (1 + u64::try_from(writes.len()).unwrap()));
        let commit_lsn = self.end;
        self.move_wal(record);
        self.xid += 1;
        let mut ordinal = 0;
        let mut rows = Vec::with_capacity(writes.len());
        for write in writes {
            rows.push(match *write {
                Write::Event { stream, bytes } => {
                    ordinal += 1;
                    let position = Position { commit_lsn, ordinal };
                    let history = self.histories;
                    let number = ledger.committed(Event {
                        stream,
                        position,
                        history,
                        is_forgotten: false,
                        copies: 0,
                        by_poller: false,
                    });
                    Row::Event { number, stream, bytes }
                }
                Write::BornSettled => {
                    ordinal += 1;
                    Row::BornSettled
                }
                Write::Other => Row::Other,
            });
        }
        self.transactions.push(Transaction { commit_lsn, end_lsn: self.end, xid: self.xid, rows });
        self.transactions.last().unwrap()
    }

    /// WAL that concerns nobody here.
    pub fn move_wal(&mut self, bytes: u64) {
        self.end = Lsn::new(self.end.as_u64() + bytes);
    }

    /// START_REPLICATION: the number of the connection, if the slot is free.
    pub fn start_replication(&mut self) -> Option<u64> {
        if self.walsender.is_some() {
            return None;
        }
        self.connections += 1;
        let confirmed = self.confirmed;
        let next = self.transactions.partition_point(|sent| sent.commit_lsn < confirmed);
        self.walsender = Some(Walsender::new(self.connections, next, confirmed));
        Some(self.connections)
    }

    /// Whether the server knows this connection.
    pub fn knows(&self, connection: u64) -> bool {
        self.walsender.as_ref().is_some_and(|walsender| walsender.connection == connection)
    }

    /// The connection of whoever holds the slot ends; the slot is free.
    pub fn terminate(&mut self) {
        self.walsender = None;
        self.updates.clear();
    }

    /// A status update is sent on `connection`.
    pub fn tell(&mut self, connection: u64, confirmed: Lsn) {
        if self.knows(connection) {
            self.updates.push_back((connection, confirmed));
        }
    }

    /// The next status update arrives: how far the slot was, and how far it is, if it moved.
    pub fn hear(&mut self) -> Option<(Lsn, Lsn)> {
        let (connection, told) = self.updates.pop_front()?;
        if !self.knows(connection) || told <= self.confirmed {
            return None;
        }
        Some((std::mem::replace(&mut self.confirmed, told), told))
    }

    /// Where the slot would be after a crash.
    pub fn confirmed_on_disk(&self) -> Lsn {
        self.confirmed_on_disk
    }

    /// A checkpoint writes the slot to disk.
    pub fn checkpoint(&mut self) {
        self.confirmed_on_disk = self.confirmed;
    }

    /// Crash and recovery: commits are on disk, the slot may be older.
    pub fn restart(&mut self) {
        self.terminate();
        self.confirmed = self.confirmed_on_disk;
    }

    /// A copy is made that a rewind or a promotion may bring back.
    pub fn back_up(&mut self) {
        self.backup = Some(Backup {
            transactions: self.transactions.len(),
            end: self.end,
            confirmed: self.confirmed,
        });
    }

    /// The copy takes over, on the same timeline; false when there is none.
    pub fn rewind(&mut self, ledger: &mut Ledger) -> bool {
        let Some(backup) = self.backup else { return false };
        self.terminate();
        let cut = self.transactions.split_off(backup.transactions);
        let events = cut.iter().flat_map(|transaction| &transaction.rows);
        ledger.forget(events.filter_map(|row| match row {
            Row::Event { number, .. } => Some(*number),
            Row::BornSettled | Row::Other => None,
        }));
        self.end = backup.end;
        self.confirmed = self.confirmed.min(backup.confirmed);
        self.confirmed_on_disk = self.confirmed;
        self.histories += 1;
        true
    }

    /// A standby that has what the copy has is promoted: a new timeline forks off there.
    pub fn promote(&mut self, ledger: &mut Ledger) -> bool {
        let is_promoted = self.rewind(ledger);
        if is_promoted {
            self.forks.push((self.timeline, self.end));
            self.timeline += 1;
            // What it does as its first act is in the WAL.
            self.move_wal(8);
            // Of the new timeline is also what a later promotion goes back to.
            self.back_up();
        }
        is_promoted
    }

    /// The transactions whose commits the slot steps over when it goes from `before` to `after`.
    pub fn between(&self, before: Lsn, after: Lsn) -> &[Transaction] {
        let place = |lsn| self.transactions.partition_point(|known| known.commit_lsn < lsn);
        &self.transactions[place(before)..place(after)]
    }
}
