//! A model of a walsender: transactions to the bytes of pgoutput, one frame at a time.
//!
//! It must stay true that a relation is described once per connection, before its first row, and
//! that a keepalive in the midst of a transaction names no position behind its commit.

use super::parking::aggregate;
use super::postgres::{Row, Transaction};
use crate::lsn::Lsn;
use crate::pgoutput::encode::{encode, insert};
use crate::pgoutput::{Begin, Column, ColumnInfo, Commit, Message, Relation, Timestamp};

const OUTBOX: u32 = 16_384;
const OTHER: u32 = 16_385;
const JSONB: u32 = 3_802;
const BIGINT: u32 = 20;
const TEXT: u32 = 25;
/// The streams' names, by number; the first is the default one.
pub const STREAMS: [&str; 4] = ["users.v1", "orders.v1", "{shop}.bills", "audit"];

/// What arrives at the relay.
#[derive(Clone, Debug)]
pub enum Frame {
    Data(Vec<u8>),
    Keepalive { wal_end: Lsn, wants_reply: bool },
}

/// One connection that streams the slot.
#[derive(Debug)]
pub struct Walsender {
    pub connection: u64,
    /// The transaction that is being sent, or is next.
    transaction: usize,
    /// How much of it is sent: its Begin, its rows.
    sent: usize,
    described: [bool; 2],
    /// Everything before it was read from the WAL.
    read: Lsn,
}

impl Walsender {
    pub fn new(connection: u64, transaction: usize, read: Lsn) -> Self {
        Self { connection, transaction, sent: 0, described: [false; 2], read }
    }

    /// The next frame of a transaction, if there is one. Transactions without a row are sent only
    /// by a server that `sends_empty`.
    pub fn next_frame(&mut self, transactions: &[Transaction], sends_empty: bool) -> Option<Frame> {
        let mut open = transactions.get(self.transaction)?;
        while open.rows.is_empty() && !sends_empty {
            self.read = self.read.max(open.end_lsn);
            self.transaction += 1;
            open = transactions.get(self.transaction)?;
        }
        if self.sent == 0 {
            self.sent = 1;
            return Some(Frame::Data(begin(open)));
        }
        let Some(row) = open.rows.get(self.sent - 1) else {
            self.transaction += 1;
            self.sent = 0;
            self.read = self.read.max(open.end_lsn);
            return Some(Frame::Data(commit(open)));
        };
        let table = usize::from(matches!(row, Row::Other));
        if !self.described[table] {
            self.described[table] = true;
            return Some(Frame::Data(describe(table)));
        }
        self.sent += 1;
        Some(Frame::Data(tuple(row)))
    }

    /// A keepalive as it may be sent now; `part` of 255 says how much of the WAL between two
    /// commits was read.
    pub fn keepalive(&mut self, transactions: &[Transaction], end: Lsn, part: u8) -> Frame {
        let limit = transactions.get(self.transaction).map_or(end, |next| next.commit_lsn);
        let room = limit.bytes_since(self.read);
        let more = room * u64::from(part) / 255;
        self.read = Lsn::new(self.read.as_u64() + more);
        Frame::Keepalive { wal_end: self.read, wants_reply: part.is_multiple_of(3) }
    }
}

fn begin(transaction: &Transaction) -> Vec<u8> {
    encode(&Message::Begin(Begin {
        commit_lsn: transaction.commit_lsn,
        commit_time: Timestamp::from_micros(0),
        xid: transaction.xid,
    }))
}

fn commit(transaction: &Transaction) -> Vec<u8> {
    encode(&Message::Commit(Commit {
        commit_lsn: transaction.commit_lsn,
        end_lsn: transaction.end_lsn,
        commit_time: Timestamp::from_micros(0),
    }))
}

fn describe(table: usize) -> Vec<u8> {
    let columns: &[(&str, u32)] = match table {
        0 => &[
            ("id", BIGINT),
            ("event_id", TEXT),
            ("event_type", TEXT),
            ("aggregate_id", TEXT),
            ("payload", JSONB),
            ("topic", TEXT),
            ("published", 16),
        ],
        _ => &[("id", BIGINT)],
    };
    let column = |(name, type_oid): &(&str, u32)| ColumnInfo {
        name: (*name).to_owned(),
        type_oid: *type_oid,
        type_modifier: -1,
        is_key: false,
    };
    encode(&Message::Relation(Relation {
        oid: if table == 0 { OUTBOX } else { OTHER },
        schema: "identity".to_owned(),
        name: if table == 0 { "outbox" } else { "users" }.to_owned(),
        replica_identity: b'd',
        columns: columns.iter().map(column).collect(),
    }))
}

fn tuple(row: &Row) -> Vec<u8> {
    let text = Column::Text;
    match *row {
        Row::Event { number, stream, bytes } => {
            let aggregate = aggregate(number);
            let number = number.to_string();
            let payload = format!("\"{:bytes$}\"", "");
            // The default stream's rows name no topic.
            let topic = if stream == 0 { Column::Null } else { text(STREAMS[stream].as_bytes()) };
            insert(
                OUTBOX,
                &[
                    text(number.as_bytes()),
                    text(number.as_bytes()),
                    text(b"t"),
                    text(aggregate.as_bytes()),
                    text(payload.as_bytes()),
                    topic,
                    text(b"f"),
                ],
            )
        }
        Row::BornSettled => insert(
            OUTBOX,
            &[text(b"0"), text(b"x"), text(b"t"), text(b"a"), text(b"1"), Column::Null, text(b"t")],
        ),
        Row::Other => insert(OTHER, &[text(b"1")]),
    }
}
