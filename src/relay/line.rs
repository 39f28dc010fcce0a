//! The deciding half of the line: messages in, batches out. Pure: no I/O, no clock.
//!
//! In: the bytes of pgoutput messages, keepalives, and what became of batches. Out: [`Action`]s:
//! take a stream over, publish a batch. It must stay true that the events of a stream leave in the
//! order of their positions, that each batch names the position it follows, and that everything
//! queued here is bounded by [`Limits`]. A transaction is never gathered: its events go as they
//! come.

use std::sync::Arc;

use super::flight::{Action, Flight, Settling};
use super::history::{History, Judgement};
use super::progress::{Positions, Progress, Published};
use super::streams::{Opening, StreamId, Streams};
use crate::config::{EntryFormat, TableName};
use crate::error::{Error, Result};
use crate::lsn::{Lsn, Position};
use crate::outbox::{Defaults, Envelope, Plan, Row, Unfit};
use crate::pgoutput::{self, Insert, Message, Relation, RelationCache};
use crate::sink::{Checkpoint, EntryWriter, Failure, Written, checkpoint_key};

/// Batches in flight over all streams: below the Redis client's own queue of 50, so that sending
/// one never waits.
const IN_FLIGHT_MAX: usize = 32;
/// Events received and not settled. They cost about 40 bytes each, so this bounds some ten
/// megabytes; at 80,000 events/s it is three seconds of waiting for the disk of Redis.
pub(super) const OUTSTANDING_EVENTS_MAX: u64 = 262_144;
/// Full batches that wait for their turn; a read of the socket may fill a few beyond.
const WAITING_BATCHES_MAX: usize = 4;

/// The line's settings.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The outbox.
    pub outbox: TableName,
    /// The stream of a row without a topic.
    pub stream: String,
    /// The slot.
    pub slot: String,
    /// Names slot and system in checkpoint keys.
    pub source: String,
    /// How entries are written.
    pub format: EntryFormat,
    /// Events in a batch.
    pub batch_events: usize,
    /// Bytes of a batch; one event may be larger.
    pub batch_bytes: usize,
    /// Batches in flight to one stream.
    pub batches_in_flight: usize,
    /// Bytes of an event.
    pub event_bytes_max: usize,
    /// Entries a stream is trimmed to, about; 0 for none.
    pub maxlen: u64,
    /// The hash of the publish script.
    pub publish_sha: Arc<str>,
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    commit_lsn: Lsn,
    commit_time: i64,
    xid: u32,
    ordinal: u32,
}

/// The deciding half of one line, from START_REPLICATION to its end.
pub struct Line {
    limits: Limits,
    history: History,
    progress: Progress,
    /// The outbox as PostgreSQL numbers it, once it was described.
    outbox_oid: Option<u32>,
    relations: RelationCache<Option<Plan>>,
    transaction: Option<Transaction>,
    streams: Streams,
    writer: EntryWriter,
    in_flight: usize,
    in_flight_bytes: usize,
    ignored: u64,
}

impl Line {
    /// A line that starts where the slot stands.
    #[must_use]
    pub fn new(limits: Limits, history: History) -> Self {
        let source = format!("/{}/{}", limits.outbox.schema, limits.outbox.name);
        let mut streams = Streams::default();
        streams.find(limits.stream.as_bytes(), &limits);
        Self {
            progress: Progress::new(history.confirmed),
            history,
            outbox_oid: None,
            relations: RelationCache::default(),
            transaction: None,
            streams,
            writer: EntryWriter::new(limits.format, source),
            in_flight: 0,
            in_flight_bytes: 0,
            ignored: 0,
            limits,
        }
    }

    /// Takes in one message of pgoutput. A definite error names the row or the object and leaves
    /// everything before it to be published.
    pub fn receive(&mut self, data: &[u8]) -> Result<()> {
        let message = pgoutput::decode(data)
            .map_err(|e| Error::definite("cannot decode the replication stream").because(e))?;
        match message {
            Message::Begin(begin) => {
                self.transaction = Some(Transaction {
                    commit_lsn: begin.commit_lsn,
                    commit_time: begin.commit_time.micros(),
                    xid: begin.xid,
                    ordinal: 0,
                });
                self.progress.begin()
            }
            Message::Insert(insert) => self.insert(&insert),
            Message::Commit(commit) => {
                self.transaction = None;
                self.progress.commit(commit.end_lsn)
            }
            Message::Relation(relation) => self.describe(&relation),
            // Rows are events when they are born; what becomes of them later is ours or the
            // application's housekeeping. Messages without a row are no events of this version.
            Message::Update(_)
            | Message::Delete(_)
            | Message::Truncate(_)
            | Message::Origin(_)
            | Message::Type(_)
            | Message::Logical(_) => Ok(()),
        }
    }

    fn describe(&mut self, relation: &Relation) -> Result<()> {
        let plan = Plan::new(relation, &self.limits.outbox)?;
        if plan.is_some() {
            self.outbox_oid = Some(relation.oid);
        } else if self.outbox_oid == Some(relation.oid) {
            let TableName { schema, name } = &self.limits.outbox;
            return Err(Error::definite(format!(
                "table {schema}.{name} was renamed to {}.{}",
                relation.schema, relation.name
            ))
            .hint(
                "set outbox_table to the new name, and its events since then are published; with \
                 the old setting they are those of another table, and skipped",
            ));
        }
        self.relations
            .insert(relation.oid, plan)
            .map_err(|e| Error::definite("cannot remember the publication's tables").because(e))
    }

    fn insert(&mut self, insert: &Insert<'_>) -> Result<()> {
        let plan = self.relations.get(insert.relation_oid).map_err(|e| {
            Error::transient("cannot read a row of the replication stream").because(e)
        })?;
        let Some(plan) = plan else { return Ok(()) };
        let Some(transaction) = &mut self.transaction else {
            return Err(Error::transient("PostgreSQL sent an INSERT outside a transaction"));
        };
        transaction.ordinal = transaction
            .ordinal
            .checked_add(1)
            .ok_or_else(|| Error::definite("a transaction has more than 4,294,967,295 events"))?;
        let transaction = *transaction;
        let row = plan.read(&insert.tuple).map_err(|unfit| self.unfit(None, transaction, unfit))?;
        if row.is_born_settled_or_parked() {
            self.ignored += 1;
            return Ok(());
        }
        let id = row.id();
        self.add(&row, transaction).map_err(|unfit| match unfit {
            Refused::Unfit(unfit) => self.unfit(id, transaction, unfit),
            Refused::Progress(error) => error,
        })
    }

    fn unfit(&self, id: Option<i64>, transaction: Transaction, unfit: Unfit) -> Error {
        let TableName { schema, name } = &self.limits.outbox;
        let row = id.map_or_else(|| "a row".to_owned(), |id| format!("row id={id}"));
        Error::definite(format!(
            "{row} of {schema}.{name} (commit at {}) cannot become an event: {unfit}",
            transaction.commit_lsn
        ))
        .hint(format!(
            "everything before it is published. Correct what writes such rows. To step over the \
             rest of this transaction (insert its good rows again, they are skipped too): SELECT \
             pg_replication_slot_advance('{}', '{}'::pg_lsn + 1)",
            self.limits.slot, transaction.commit_lsn
        ))
    }

    fn add(&mut self, row: &Row<'_>, transaction: Transaction) -> Result<(), Refused> {
        let id = row.id().ok_or(Refused::Unfit(Unfit::Id))?;
        let Limits { stream, event_bytes_max, .. } = &self.limits;
        let defaults = Defaults {
            stream: stream.as_bytes(),
            commit_time: transaction.commit_time,
            event_bytes_max: *event_bytes_max,
        };
        let envelope = Envelope::new(row, &defaults).map_err(Refused::Unfit)?;
        let stream = self.streams.find(envelope.stream, &self.limits);
        let position =
            Position { commit_lsn: transaction.commit_lsn, ordinal: transaction.ordinal };
        let (writer, progress) = (&mut self.writer, &mut self.progress);
        let added = self.streams.push(stream, &envelope, &self.limits, |filling| {
            filling.batch.push(&envelope, position, writer);
            filling.rows.add(id, transaction.xid);
            filling.commit_time = transaction.commit_time;
            progress.event(&mut filling.pending)
        });
        match added {
            Some(added) => added.map_err(Refused::Progress),
            None => unreachable!("a stream was forgotten between being found and being used"),
        }
    }

    /// The server has sent everything before `wal_end`.
    pub fn keepalive(&mut self, wal_end: Lsn) {
        self.progress.keepalive(wal_end);
    }

    /// What to do now, one thing at a time. Batches that are not full only leave when `flush` is
    /// set: when nothing more is at hand to fill them.
    pub fn next_action(&mut self, flush: bool) -> Option<Action> {
        if let Some((stream, name, checkpoint_key)) = self.streams.next_unopened() {
            return Some(Action::Open { stream, name, checkpoint_key });
        }
        let received = self.progress.positions().received;
        if let Some((stream, epoch)) = self.streams.next_missed(received) {
            return Some(Action::Rewind { stream, epoch });
        }
        let bytes_max = self.limits.batches_in_flight * self.limits.batch_bytes;
        if self.in_flight >= IN_FLIGHT_MAX || self.in_flight_bytes >= bytes_max {
            return None;
        }
        let ready = self.streams.next_ready(&self.limits, flush)?;
        let filling = ready.filling;
        let flight = Flight {
            stream: ready.stream,
            events: filling.batch.events(),
            bytes: filling.batch.bytes(),
            pending: filling.pending,
            rows: filling.rows,
            last_position: filling.batch.last_position(),
            commit_time: filling.commit_time,
        };
        self.in_flight += 1;
        self.in_flight_bytes += flight.bytes;
        let batch = filling.batch.seal(ready.epoch, ready.follows, self.limits.maxlen);
        Some(Action::Publish { flight, batch })
    }

    /// Whether more messages may be taken in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.progress.outstanding() < OUTSTANDING_EVENTS_MAX
            && self.streams.batches_behind() < WAITING_BATCHES_MAX
            && self.streams.waiting_bytes()
                < self.limits.batches_in_flight * self.limits.batch_bytes
    }

    /// The server's timeline, for the checkpoints.
    #[must_use]
    pub fn timeline(&self) -> u32 {
        self.history.timeline
    }

    /// What the checkpoint of a stream that was taken over is worth.
    #[must_use]
    pub fn judge(&self, checkpoint: &Checkpoint) -> Judgement {
        // What a stream that was forgotten got in this very line proves nothing about history.
        // It is on this line's timeline, whatever else it is.
        let timeline = self.history.timeline;
        let may_be_ours = checkpoint.timeline.is_none_or(|written| written == timeline);
        if self.streams.has_forgotten() && may_be_ours {
            Judgement::Keep
        } else {
            self.history.judge(checkpoint)
        }
    }

    /// How a stream is to be opened by that judgement.
    #[must_use]
    pub fn opening(&self, checkpoint: &Checkpoint, judgement: &Judgement) -> Opening {
        let Checkpoint { epoch, position, .. } = *checkpoint;
        let (follows, unmet) = match judgement {
            Judgement::Keep => (position, None),
            Judgement::Meet => {
                (Position { commit_lsn: self.history.confirmed, ordinal: 0 }, Some(position))
            }
            Judgement::Lower { to, .. } => (*to, None),
        };
        Opening { epoch, follows, unmet }
    }

    /// A stream is ours to write.
    pub fn open(&mut self, stream: StreamId, opening: Opening) {
        self.streams.open(stream, opening);
    }

    /// A stream could not be taken over, for good. The error names it and the row that wanted it.
    pub fn not_opened(&mut self, stream: StreamId, refusal: Failure) -> Error {
        let row = self.streams.first_row(stream);
        let row = row.map_or_else(String::new, |id| format!(" for row id={id}"));
        let doing = format!("cannot take over stream {:?}{row}", self.streams.name(stream));
        self.streams.stop(stream);
        refusal.into_error(&doing)
    }

    /// A batch was answered: the receipt of what is in Redis, and where the rest was refused a
    /// definite error that names the row. Nothing behind that is written to its stream any more.
    pub fn published(
        &mut self,
        mut flight: Flight,
        written: &Written,
    ) -> Result<(Settling, Option<Error>)> {
        let there = written.added + written.present;
        if written.refusal.is_none() && there != flight.events {
            return Err(Error::transient("the publish script counted other events than were sent"));
        }
        self.in_flight -= 1;
        self.in_flight_bytes -= flight.bytes;
        // A refusal says as much: the script adds only behind the event that had to be met.
        self.streams.landed(flight.stream, Some(flight.last_position));
        let refused = written.refusal.as_ref().map(|refusal| {
            let id = flight.rows.ids.get(there).map_or_else(String::new, i64::to_string);
            let stream = self.streams.name(flight.stream);
            let doing = format!("Redis refused the event of row id={id} for stream {stream:?}");
            refusal.clone().into_error(&doing)
        });
        if refused.is_some() {
            self.streams.stop(flight.stream);
            // What was refused stays pending for ever, and so is never confirmed.
            flight.pending.keep(there);
            flight.rows.keep(there);
        }
        let published = self.progress.published(flight.pending);
        Ok((Settling { published, rows: flight.rows }, refused))
    }

    /// A batch was answered by an error. True when that is only because its stream is stopped.
    pub fn unpublished(&mut self, flight: &Flight) -> bool {
        self.in_flight -= 1;
        self.in_flight_bytes -= flight.bytes;
        self.streams.landed(flight.stream, None);
        self.streams.is_stopped(flight.stream)
    }

    /// Nothing more is written to the stream of a batch; under which epoch it was.
    pub fn stop(&mut self, flight: &Flight) -> u64 {
        self.streams.stop(flight.stream)
    }

    /// The name of a stream.
    #[must_use]
    pub fn name(&self, stream: StreamId) -> &str {
        self.streams.name(stream)
    }

    /// Where the checkpoint of a stream is kept.
    #[must_use]
    pub fn checkpoint_key(&self, stream: &str) -> String {
        checkpoint_key(stream, &self.limits.source)
    }

    /// A published batch is durable and marked.
    pub fn settled(&mut self, published: Published) {
        self.progress.settled(published);
    }

    /// What the slot may be told now; counts as told. Nothing new before each stream has met the
    /// event written last: until then its repeats are not proven to be repeats.
    pub fn confirm(&mut self) -> Lsn {
        if self.streams.has_met_all() {
            self.progress.confirm()
        } else {
            self.progress.positions().confirmed
        }
    }

    /// The four positions.
    #[must_use]
    pub fn positions(&self) -> Positions {
        self.progress.positions()
    }

    /// Events received and not settled.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.progress.outstanding()
    }

    /// Batches in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether batches are in flight, or could still leave without anything new coming in.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.in_flight > 0 || self.streams.has_sendable()
    }

    /// Whether events wait for their batch to leave.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.streams.waiting_bytes() > 0
    }

    /// Rows that were born settled or parked, and so are no news.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }
}

enum Refused {
    Unfit(Unfit),
    Progress(Error),
}
