//! The deciding half of the line: messages in, batches out. Pure: no I/O, no clock.
//!
//! In: the bytes of pgoutput messages, keepalives, and what became of batches. Out: [`Action`]s:
//! take a stream over, publish a batch. What cannot be published leaves by `leaving`. It must stay
//! true that the events of a stream leave in the order of their positions, that each batch names
//! the position it follows, and that everything queued here is bounded by [`Limits`]: a transaction
//! is gathered up to a full batch and no further.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::flight::{Action, Flight};
use super::held::{self, Found, Held};
use super::history::History;
use super::leaving::Undecided;
use super::messages::Messages;
use super::parking::{Original, Parking};
use super::progress::{Positions, Progress, Published};
use super::pulse::Pulse;
use super::streams::{StreamId, Streams};
use crate::config::{EntryFormat, Ordering, Outbox, TableName};
use crate::contract::Contract;
use crate::error::{Error, Result};
use crate::lsn::{Lsn, Position};
use crate::outbox::{Defaults, Envelope, Plan, Row, Unfit};
use crate::pgoutput::{self, Insert, Message, Relation, RelationCache};
use crate::sink::EntryWriter;

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
    pub outbox: Outbox,
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
    /// What later events of an aggregate do while one is parked.
    pub ordering: Ordering,
    /// What the messages begin with that are this line's heartbeats; none without any.
    pub heartbeat: Option<Arc<str>>,
    /// Whether the table has what parking takes. Without it what cannot be published ends the line.
    pub parks: bool,
    /// Whether messages are events, too. They need what parking takes.
    pub messages: bool,
    /// Whether events are noted that a trace is recorded of.
    pub traces: bool,
    /// What payloads are held against.
    pub contract: Option<Arc<Contract>>,
}

impl Limits {
    pub(super) fn defaults(&self, transaction: Transaction) -> Defaults<'_> {
        Defaults {
            stream: self.stream.as_bytes(),
            outbox: &self.outbox,
            commit_time: transaction.commit_time,
            event_bytes_max: self.event_bytes_max,
            contract: self.contract.as_deref(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Transaction {
    pub commit_lsn: Lsn,
    pub commit_time: i64,
    pub xid: u32,
    ordinal: u32,
}

impl Transaction {
    pub fn position(&self) -> Position {
        Position { commit_lsn: self.commit_lsn, ordinal: self.ordinal }
    }
}

/// The deciding half of one line, from START_REPLICATION to its end.
pub struct Line {
    pub(super) limits: Limits,
    pub(super) history: History,
    pub(super) progress: Progress,
    /// The outbox as PostgreSQL numbers it, once it was described.
    outbox_oid: Option<u32>,
    relations: RelationCache<Option<Plan>>,
    pub(super) transaction: Option<Transaction>,
    pub(super) streams: Streams,
    pub(super) held: Held,
    pub(super) parking: Parking,
    /// Rows that are parked and that the slot may send again.
    known: HashMap<i64, Position>,
    /// An unfit event whose stream was not asked yet whether it has it.
    pub(super) undecided: Option<Undecided>,
    pub(super) messages: Messages,
    pulse: Pulse,
    /// The newest heartbeat that came by, until somebody asks.
    heard: Option<u64>,
    writer: EntryWriter,
    pub(super) in_flight: usize,
    pub(super) in_flight_bytes: usize,
    pub(super) ignored: u64,
}

impl Line {
    /// A line that starts where the slot stands, with what the table says is parked. `wanted` are
    /// events that were refused before, and whose rows were gone.
    #[must_use]
    pub fn new(limits: Limits, history: History, found: Found, wanted: HashSet<Position>) -> Self {
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
            held: match limits.ordering {
                Ordering::PerAggregate => Held::new(found.held),
                Ordering::None => Held::default(),
            },
            messages: Messages::new(&limits, &found.known),
            known: found.known,
            parking: Parking::new(wanted),
            undecided: None,
            pulse: Pulse::new(limits.heartbeat.clone()),
            heard: None,
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
            Message::Logical(message) => {
                let heard = self.pulse.hear(&message, self.progress.begun());
                self.heard = heard.or(self.heard);
                self.message(&message)
            }
            // Rows are events when they are born; what becomes of them later is ours or the
            // application's housekeeping.
            Message::Update(_)
            | Message::Delete(_)
            | Message::Truncate(_)
            | Message::Origin(_)
            | Message::Type(_) => Ok(()),
        }
    }

    fn describe(&mut self, relation: &Relation) -> Result<()> {
        let plan = Plan::new(relation, &self.limits.outbox)?;
        if plan.is_some() {
            self.outbox_oid = Some(relation.oid);
        } else if self.outbox_oid == Some(relation.oid) {
            let TableName { schema, name } = &self.limits.outbox.table;
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
        let transaction = count(&mut self.transaction)?;
        let row =
            plan.read(&insert.tuple).map_err(|unfit| self.unfit(None, transaction, &unfit))?;
        let id = row.id();
        let position = transaction.position();
        let is_known = id.is_some_and(|id| self.known.get(&id) == Some(&position));
        if is_known || row.is_born_settled_or_parked() {
            self.ignored += 1;
            return Ok(());
        }
        let Some(id) = id else { return Err(self.unfit(None, transaction, &Unfit::Id)) };
        let added = match self.parking.sentence(position) {
            Some(unfit) => Err(Refused::Unfit(unfit)),
            None => self.add(id, &row, transaction),
        };
        match added {
            Ok((stream, aggregate)) => {
                let may_leave = self.held.has(aggregate)
                    || self.streams.is_refusing(stream)
                    || self.parking.wants(position);
                if may_leave && let Ok(Some(plan)) = self.relations.get(insert.relation_oid) {
                    let original = Original::Row(plan.copy(&insert.tuple));
                    self.parking.keep(position, stream, original);
                }
                Ok(())
            }
            Err(Refused::Unfit(unfit)) if self.limits.parks => {
                // What kills is copied only once its row was found gone.
                let may_copy = !matches!(unfit, Unfit::Deadly(_)) || self.parking.wants(position);
                let plan = self.relations.get(insert.relation_oid).ok().and_then(Option::as_ref);
                let copied = plan.filter(|_| may_copy).map(|plan| plan.copy(&insert.tuple));
                let original = copied.map(Original::Row);
                self.set_aside((id, Some(&row)), original, (transaction, unfit))
            }
            Err(Refused::Unfit(unfit)) => Err(self.unfit(Some(id), transaction, &unfit)),
            Err(Refused::Progress(error)) => Err(error),
        }
    }

    /// The aggregate of an event, by which it waits for others.
    pub(super) fn aggregate_of(&self, id: &[u8]) -> u64 {
        match self.limits.ordering {
            Ordering::PerAggregate => held::aggregate(id),
            Ordering::None => held::NOBODY,
        }
    }

    /// Queues the event of a row; its stream and its aggregate.
    pub(super) fn add(
        &mut self,
        id: i64,
        row: &Row<'_>,
        transaction: Transaction,
    ) -> Result<(StreamId, u64), Refused> {
        let defaults = self.limits.defaults(transaction);
        let envelope = Envelope::new(row, &defaults).map_err(Refused::Unfit)?;
        let stream = self.streams.find(&envelope.stream, &self.limits);
        let aggregate = self.aggregate_of(envelope.aggregate_id);
        let position = transaction.position();
        let (writer, progress, traces) = (&mut self.writer, &mut self.progress, self.limits.traces);
        let added = self.streams.push(stream, &envelope, &self.limits, |filling| {
            if traces {
                let (place, commit_time) = (filling.batch.events(), transaction.commit_time);
                let names = (envelope.event_id, envelope.event_type);
                filling.traced.note(place, envelope.traceparent.as_deref(), commit_time, names);
            }
            filling.batch.push(&envelope, position, writer);
            filling.rows.add(id, transaction.xid, aggregate);
            filling.commit_time = transaction.commit_time;
            filling.oldest_commit = filling.oldest_commit.min(transaction.commit_time);
            progress.event(&mut filling.pending)
        });
        match added {
            Some(added) => added.map(|()| (stream, aggregate)).map_err(Refused::Progress),
            None => unreachable!("a stream was forgotten between being found and being used"),
        }
    }

    /// The server has sent everything before `wal_end`.
    pub fn keepalive(&mut self, wal_end: Lsn) {
        self.progress.keepalive(wal_end);
    }

    /// The newest heartbeat that came by since this was asked last.
    pub fn heard_heartbeat(&mut self) -> Option<u64> {
        self.heard.take()
    }

    /// The newest heartbeat before which everything is published, or parked.
    pub fn passed_heartbeat(&mut self) -> Option<u64> {
        self.pulse.passed(self.progress.wholly_published())
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
        if let Some(settling) = self.next_unsendable() {
            return Some(Action::Settle(settling));
        }
        let bytes_max = self.limits.batches_in_flight * self.limits.batch_bytes;
        if self.in_flight >= IN_FLIGHT_MAX || self.in_flight_bytes >= bytes_max {
            return None;
        }
        let ready = loop {
            let ready = self.streams.next_ready(&self.limits, flush)?;
            if let Some(ready) = self.sift(ready) {
                break ready;
            }
        };
        let filling = ready.filling;
        let flight = Flight {
            stream: ready.stream,
            events: filling.batch.events(),
            bytes: filling.batch.bytes(),
            pending: filling.pending,
            rows: filling.rows,
            follows: ready.follows,
            last_position: filling.batch.last_position(),
            commit_time: filling.commit_time,
            oldest_commit: filling.oldest_commit,
            traced: filling.traced,
        };
        self.in_flight += 1;
        self.in_flight_bytes += flight.bytes;
        let batch = filling.batch.seal(ready.epoch, ready.follows, self.limits.maxlen);
        Some(Action::Publish { flight: Box::new(flight), batch })
    }

    /// Whether more messages may be taken in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.progress.outstanding() < OUTSTANDING_EVENTS_MAX
            && self.undecided.is_none()
            && !self.parking.is_full()
            && self.streams.batches_behind() < WAITING_BATCHES_MAX
            && self.streams.waiting_bytes()
                < self.limits.batches_in_flight * self.limits.batch_bytes
    }

    /// A published batch is durable and marked.
    pub fn settled(&mut self, published: Published) {
        self.progress.settled(published);
    }

    /// What the slot may be told now; counts as told. Nothing new before each stream has met the
    /// event written last: until then its repeats are not proven to be repeats.
    pub fn confirm(&mut self) -> Lsn {
        if self.streams.has_met_all() {
            let confirmed = self.progress.confirm();
            if !self.known.is_empty() {
                self.known.retain(|_, position| position.commit_lsn >= confirmed);
            }
            self.messages.confirmed(confirmed);
            confirmed
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

/// The next event of the open transaction; each has a place in it, published or not.
#[inline]
pub(super) fn count(transaction: &mut Option<Transaction>) -> Result<Transaction> {
    let Some(transaction) = transaction else {
        return Err(Error::transient("PostgreSQL sent an event outside a transaction"));
    };
    transaction.ordinal = transaction
        .ordinal
        .checked_add(1)
        .ok_or_else(|| Error::definite("a transaction has more than 4,294,967,295 events"))?;
    Ok(*transaction)
}

pub(super) enum Refused {
    Unfit(Unfit),
    Progress(Error),
}
