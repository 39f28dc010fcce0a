//! The WAL as a source: a temporary copy of a slot, made in the session that streams from it.
//!
//! In: a slot to copy, a range. Out: events in the order of commit. It must stay true that the slot
//! that was copied is not moved (only our copy is read, and it goes with the session, however that
//! ends), that the server is answered while nothing is read, and that a row becomes an event as it
//! does in the line.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::intake::{Intake, Place};
use super::journal::GO_ON;
use crate::config::Outbox;
use crate::contract::Contract;
use crate::error::{Class, Error, Result};
use crate::lsn::{Lsn, Position};
use crate::outbox::{Defaults, Envelope, Fault, Plan, Row, Told, Unfit, message_prefix};
use crate::pgoutput::{self, Insert, LogicalMessage, Message, Relation, RelationCache};
use crate::postgres::{Frame, Replication};

/// How often the server is told that we are there, and asked how far it has got: that also ends a
/// replay behind which nothing more is written.
const TICK: Duration = Duration::from_millis(200);
/// Frames that are looked at before others have their turn.
const FRAMES_MAX: usize = 8_192;

/// What rows become events by.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    pub outbox: Outbox,
    /// The stream of a row without a topic.
    pub stream: String,
    pub event_bytes_max: usize,
    /// What payloads are held against.
    pub contract: Option<Arc<Contract>>,
    /// Whether messages are events, too.
    pub messages: bool,
}

impl Meaning {
    /// What a row itself does not say; `commit_time` is 0 where nothing tells when it was written.
    pub fn defaults(&self, commit_time: i64) -> Defaults<'_> {
        Defaults {
            stream: self.stream.as_bytes(),
            outbox: &self.outbox,
            commit_time,
            event_bytes_max: self.event_bytes_max,
            contract: self.contract.as_deref(),
        }
    }
}

/// Where a replay out of the WAL begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Transactions whose commit record is before this are left out.
    pub from: Lsn,
    /// So are those whose commit record is here or behind.
    pub until: Lsn,
}

/// A stream of the WAL.
pub(super) struct Wal {
    replication: Replication,
    decoder: Decoder,
    tick: Instant,
}

impl Wal {
    /// Streams from the slot `copy` of this session on.
    pub async fn start(
        (mut replication, has_messages): (Replication, bool),
        (copy, publications): (&str, &[String]),
        meaning: Meaning,
        (span, from): (Span, Lsn),
    ) -> Result<Self> {
        replication.want_messages(has_messages.then(|| message_prefix(&meaning.outbox)));
        replication.start_at(copy, from, publications).await?;
        let tick = Instant::now() + TICK;
        Ok(Self { replication, decoder: Decoder::new(meaning, span), tick })
    }

    /// Takes in what is at hand and waits for the first of it; false once there is no more.
    /// Cancel-safe.
    pub async fn fill(&mut self, intake: &mut Intake) -> Result<bool> {
        for _ in 0..FRAMES_MAX {
            if self.decoder.is_over || intake.is_full() {
                return Ok(!self.decoder.is_over);
            }
            let frame = self.replication.next_frame().map_err(in_replay)?;
            let (wal_end, must_answer) = match frame {
                Some(Frame::XLogData { data }) => {
                    self.decoder.receive(data, intake)?;
                    (Lsn::NONE, false)
                }
                Some(Frame::Oversized) => {
                    self.decoder.message(None, intake)?;
                    (Lsn::NONE, false)
                }
                Some(Frame::Keepalive { wal_end, reply_requested }) => (wal_end, reply_requested),
                None if !intake.is_empty() => return Ok(true),
                None => {
                    self.wait().await?;
                    continue;
                }
            };
            self.decoder.keepalive(wal_end);
            if must_answer {
                self.answer(false);
            }
        }
        Ok(true)
    }

    async fn wait(&mut self) -> Result<()> {
        tokio::select! {
            biased;
            pumped = self.replication.pump(true) => pumped.map_err(in_replay),
            () = sleep_until(self.tick) => {
                self.answer(true);
                Ok(())
            }
        }
    }

    /// Nothing is ever confirmed: the copy is gone when the replay is.
    fn answer(&mut self, want_reply: bool) {
        self.tick = Instant::now() + TICK;
        self.replication.queue_status(self.decoder.received, Lsn::NONE, want_reply);
    }

    /// Waits for something else and answers the server meanwhile.
    pub async fn during<T>(&mut self, other: impl Future<Output = T>) -> Result<T> {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                biased;
                done = &mut other => return Ok(done),
                pumped = self.replication.pump(false) => pumped.map_err(in_replay)?,
                () = sleep_until(self.tick) => self.answer(false),
            }
        }
    }

    /// Bytes of WAL that are behind us, and all that there are.
    pub fn reached(&self) -> (u64, u64) {
        let Span { from, until } = self.decoder.span;
        let total = until.bytes_since(from);
        (self.decoder.received.bytes_since(from).min(total), total)
    }
}

/// What helps a replay: the hints of the wire speak of the slot of a line.
fn in_replay(error: Error) -> Error {
    let text = error.to_string();
    if text.contains("publication") {
        return error.hint(
            "the publication is younger than the slot that was copied: set publication_name and \
             shards as they were when that was made, or use --since",
        );
    }
    if error.class() == Class::Transient { error.hint(GO_ON) } else { error }
}

struct Transaction {
    commit_lsn: Lsn,
    commit_time: i64,
    ordinal: u32,
}

/// Messages to events. Pure.
struct Decoder {
    /// That of messages that are events.
    prefix: String,
    meaning: Meaning,
    span: Span,
    outbox_oid: Option<u32>,
    relations: RelationCache<Option<Plan>>,
    transaction: Option<Transaction>,
    received: Lsn,
    /// Whether what comes is behind the range.
    is_over: bool,
}

impl Decoder {
    fn new(meaning: Meaning, span: Span) -> Self {
        Self {
            prefix: message_prefix(&meaning.outbox),
            meaning,
            span,
            outbox_oid: None,
            relations: RelationCache::default(),
            transaction: None,
            received: Lsn::NONE,
            is_over: span.until <= span.from,
        }
    }

    /// Everything that was committed before `wal_end` has been sent, unless it is being sent.
    fn keepalive(&mut self, wal_end: Lsn) {
        if self.transaction.is_none() && wal_end > self.received {
            self.received = wal_end;
        }
        self.is_over |= self.transaction.is_none() && self.received >= self.span.until;
    }

    fn receive(&mut self, data: &[u8], intake: &mut Intake) -> Result<()> {
        let message = pgoutput::decode(data)
            .map_err(|e| Error::definite("cannot decode the replication stream").because(e))?;
        match message {
            Message::Begin(begin) => {
                self.is_over |= begin.commit_lsn >= self.span.until;
                self.transaction = Some(Transaction {
                    commit_lsn: begin.commit_lsn,
                    commit_time: begin.commit_time.micros(),
                    ordinal: 0,
                });
                Ok(())
            }
            Message::Insert(insert) if !self.is_over => self.insert(&insert, intake),
            Message::Commit(commit) => {
                self.transaction = None;
                self.received = self.received.max(commit.end_lsn);
                Ok(())
            }
            Message::Relation(relation) => self.describe(&relation),
            Message::Logical(message) if self.is_ours(&message) => {
                self.message(Some(message.content), intake)
            }
            Message::Insert(_)
            | Message::Update(_)
            | Message::Delete(_)
            | Message::Truncate(_)
            | Message::Origin(_)
            | Message::Type(_)
            | Message::Logical(_) => Ok(()),
        }
    }

    fn describe(&mut self, relation: &Relation) -> Result<()> {
        let plan = Plan::new(relation, &self.meaning.outbox)?;
        if plan.is_some() {
            self.outbox_oid = Some(relation.oid);
        } else if self.outbox_oid == Some(relation.oid) {
            return Err(Error::definite(format!(
                "table {} was renamed to {}.{} in the middle of this range",
                self.meaning.outbox, relation.schema, relation.name
            ))
            .hint("replay up to there with --until, and the rest with outbox_table set anew"));
        }
        self.relations
            .insert(relation.oid, plan)
            .map_err(|e| Error::definite("cannot remember the publication's tables").because(e))
    }

    fn insert(&mut self, insert: &Insert<'_>, intake: &mut Intake) -> Result<()> {
        let plan = self.relations.get(insert.relation_oid).map_err(|e| {
            Error::transient("cannot read a row of the replication stream").because(e)
        })?;
        let Some(plan) = plan else { return Ok(()) };
        let (position, commit_time) = count(&mut self.transaction)?;
        if position.commit_lsn >= self.span.from {
            let row = plan.read(&insert.tuple);
            self.take(position, commit_time, row.as_ref().map_err(Clone::clone), intake);
        }
        Ok(())
    }

    /// Whether it is an event, or would be one if messages were events.
    fn is_ours(&self, message: &LogicalMessage<'_>) -> bool {
        !self.is_over && message.is_transactional && message.prefix == self.prefix
    }

    /// One of ours; without its content where that is too large to be read. It counts whether it is
    /// an event or not, as in the line.
    fn message(&mut self, content: Option<&[u8]>, intake: &mut Intake) -> Result<()> {
        if self.is_over {
            return Ok(());
        }
        let (position, commit_time) = count(&mut self.transaction)?;
        if self.meaning.messages && position.commit_lsn >= self.span.from {
            let told = content.ok_or(Fault::TooLarge).and_then(Told::read);
            let row = told.as_ref().map(Told::row);
            let row = row.as_ref().map_err(|fault| Unfit::Message(**fault));
            self.take(position, commit_time, row, intake);
        }
        Ok(())
    }

    fn take(
        &self,
        position: Position,
        commit_time: i64,
        row: std::result::Result<&Row<'_>, Unfit>,
        intake: &mut Intake,
    ) {
        let at = (position, Place::Wal(position));
        let row = match row {
            Ok(row) => row,
            Err(unfit) => return intake.take(at, Err(unfit)),
        };
        // Imported history, and what a relay put back to be parked: no news then, none now.
        let is_wanted = !row.is_born_settled_or_parked()
            && intake.wants(
                position,
                row.event_type().unwrap_or_default(),
                row.aggregate_id().unwrap_or_default(),
            );
        if is_wanted {
            let defaults = self.meaning.defaults(commit_time);
            intake.take(at, Envelope::new(row, &defaults));
        }
    }
}

/// The next event of the open transaction: its position, and when it was committed.
fn count(transaction: &mut Option<Transaction>) -> Result<(Position, i64)> {
    let Some(Transaction { commit_lsn, commit_time, ordinal }) = transaction else {
        return Err(Error::transient("PostgreSQL sent an event outside a transaction"));
    };
    *ordinal = ordinal
        .checked_add(1)
        .ok_or_else(|| Error::definite("a transaction has more than 4,294,967,295 events"))?;
    Ok((Position { commit_lsn: *commit_lsn, ordinal: *ordinal }, *commit_time))
}
