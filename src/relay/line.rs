//! The deciding half of the line: messages in, batches out. Pure: no I/O, no clock.
//!
//! In: the bytes of pgoutput messages, keepalives, and what became of batches. Out: [`Action`]s:
//! take a stream over, publish a batch. It must stay true that the events of a stream leave in the
//! order of their positions, that each batch names the position it follows, and that everything
//! queued here is bounded by [`Limits`]. A transaction is never gathered: its events go as they
//! come.

use std::sync::Arc;

use super::progress::{Pending, Positions, Progress, Published};
use super::streams::{StreamId, Streams};
use crate::config::{EntryFormat, TableName};
use crate::error::{Error, Result};
use crate::lsn::{Lsn, Position};
use crate::outbox::{Defaults, Envelope, Plan, Row, Unfit};
use crate::pgoutput::{self, Insert, Message, RelationCache};
use crate::sink::{Checkpoint, EntryWriter, Sealed, Written};

/// Batches in flight over all streams: below the Redis client's own queue of 50, so that sending
/// one never waits.
const IN_FLIGHT_MAX: usize = 32;
/// Events received and not settled. They cost about 40 bytes each, so this bounds some ten
/// megabytes; at 80,000 events/s it is three seconds of waiting for the disk of Redis.
const OUTSTANDING_EVENTS_MAX: u64 = 262_144;
/// Full batches that wait for their turn; a read of the socket may fill a few beyond.
const WAITING_BATCHES_MAX: usize = 4;

/// The line's settings.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The outbox.
    pub outbox: TableName,
    /// The stream of a row without a topic.
    pub stream: String,
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

/// What the line wants done.
pub enum Action {
    /// Take a stream over and tell its checkpoint with [`Line::opened`].
    Open {
        /// Which.
        stream: StreamId,
        /// Its name.
        name: String,
        /// Its checkpoint's key.
        checkpoint_key: String,
    },
    /// Publish a batch and tell the outcome with [`Line::published`].
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
    stream: StreamId,
    events: usize,
    bytes: usize,
    pending: Pending,
    rows: Rows,
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
    fn add(&mut self, id: i64, transaction: u32) {
        self.ids.push(id);
        if self.transactions.last() != Some(&transaction) {
            self.transactions.push(transaction);
        }
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
    progress: Progress,
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
    pub fn new(limits: Limits, confirmed: Lsn) -> Self {
        let source = format!("/{}/{}", limits.outbox.schema, limits.outbox.name);
        let mut streams = Streams::default();
        streams.find(limits.stream.as_bytes(), &limits);
        Self {
            progress: Progress::new(confirmed),
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
            Message::Relation(relation) => {
                let plan = Plan::new(&relation, &self.limits.outbox)?;
                self.relations.insert(relation.oid, plan).map_err(|e| {
                    Error::definite("cannot remember the publication's tables").because(e)
                })
            }
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
        .hint(
            "everything before it is published. Correct what writes such rows; to step over \
             this one, \
             advance the slot behind its commit with pg_replication_slot_advance",
        )
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

    /// A stream was taken over.
    pub fn opened(&mut self, stream: StreamId, checkpoint: &Checkpoint) {
        self.streams.opened(stream, checkpoint);
    }

    /// A batch was answered: its receipt. A refusal is a definite error that names the row.
    pub fn published(&mut self, flight: Flight, written: &Written) -> Result<Settling> {
        self.in_flight -= 1;
        self.in_flight_bytes -= flight.bytes;
        self.streams.landed(flight.stream);
        if let Some(refusal) = &written.refusal {
            let id = flight.rows.ids.get(written.added + written.present);
            let id = id.map_or_else(String::new, i64::to_string);
            let stream = self.streams.name(flight.stream);
            let doing = format!("Redis refused the event of row id={id} for stream {stream:?}");
            return Err(refusal.clone().into_error(&doing));
        }
        if written.added + written.present != flight.events {
            return Err(Error::transient("the publish script counted other events than were sent"));
        }
        Ok(Settling { published: self.progress.published(flight.pending), rows: flight.rows })
    }

    /// A published batch is durable and marked.
    pub fn settled(&mut self, published: Published) {
        self.progress.settled(published);
    }

    /// What the slot may be told now; counts as told.
    pub fn confirm(&mut self) -> Lsn {
        self.progress.confirm()
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
