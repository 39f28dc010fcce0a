//! The streams of a line: which batch each is filling, and where its chain stands.
//!
//! In: envelopes and their positions, by stream name. Out: batches, first in first out within a
//! stream, streams taking turns. It must stay true that a stream's batches leave in order, each
//! following the last position of the one before; that nothing leaves behind an event that is not
//! parked yet; and that the number of streams remembered is bounded: an idle one is forgotten and
//! taken over again when it is met again. What happens to a stream that refuses is in `refusal`.
//! Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::flight::{Filling, Rows};
use super::line::Limits;
use super::progress::Pending;
use super::refusal::Standing;
use crate::lsn::{Lsn, Position};
use crate::outbox::Envelope;
use crate::sink::{Batch, Hint, Varying, checkpoint_key};
use crate::telemetry::Traced;

/// Streams remembered. One costs some 300 bytes; past this, idle ones are forgotten.
const STREAMS_MAX: usize = 4_096;

/// A stream's number while it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(pub(super) usize);

/// How a stream becomes ours to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The leader's number: whoever has a lower one is fenced off.
    pub epoch: u64,
    /// What its next batch follows.
    pub follows: Position,
    /// Events up to here are in it.
    pub written: Position,
    /// The event that was written last, before this line: it must be sent again. With its id.
    pub unmet: Option<(Position, String)>,
}

#[derive(Debug)]
pub(super) struct Stream {
    name: String,
    checkpoint_key: String,
    pub standing: Standing,
    /// Batches in order; only the last may still be filled.
    pub queue: VecDeque<Filling>,
    pub in_flight: usize,
    /// The last event that was written before this line: it must be sent again, and was not yet.
    pub unmet: Option<(Position, String)>,
    /// Whether it was told that it takes nothing.
    pub is_told: bool,
    /// Events up to here were in it when it was taken over.
    pub written: Position,
    /// Whether its checkpoint was held against PostgreSQL's history in this line.
    pub is_judged: bool,
    /// Events in a batch for now, one batch at a time: an event was refused lately.
    pub caution: Option<usize>,
    /// Events of it that are being parked: nothing behind them may be written before they are.
    pub barred: BTreeSet<Position>,
    /// The fields whose values its events do not share, as far as they have shown.
    varying: Varying,
    /// Size of the batch before: what the next may come to.
    events_hint: usize,
    bytes_hint: usize,
}

impl Stream {
    fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.in_flight == 0
            && self.unmet.is_none()
            && self.barred.is_empty()
            && matches!(self.standing, Standing::Open { .. } | Standing::Refusing { .. })
    }

    fn filling(&mut self, envelope: &Envelope<'_>, limits: &Limits) -> Option<&mut Filling> {
        let has_room = match self.queue.back() {
            Some(last) if !is_full(last, limits) => match last.batch.fits(envelope) {
                Ok(()) => true,
                // What varied once will vary again.
                Err(varying) => {
                    self.varying = self.varying.and(varying);
                    false
                }
            },
            Some(_) | None => false,
        };
        if !has_room {
            let hint = Hint {
                format: limits.format,
                varying: self.varying,
                events: self.events_hint,
                bytes: self.bytes_hint,
            };
            let keys = (self.name.as_str(), self.checkpoint_key.as_str());
            self.queue.push_back(Filling {
                batch: Batch::new(&limits.publish_sha, keys, envelope, hint),
                pending: Pending::default(),
                rows: Rows::default(),
                commit_time: 0,
                oldest_commit: i64::MAX,
                traced: Traced::default(),
            });
        }
        self.queue.back_mut()
    }
}

/// Whether nothing more may be added to a batch.
fn is_full(filling: &Filling, limits: &Limits) -> bool {
    filling.batch.events() >= limits.batch_events || filling.batch.bytes() >= limits.batch_bytes
}

/// A batch whose turn has come, with its chain.
pub struct Ready {
    pub stream: StreamId,
    pub filling: Filling,
    pub epoch: u64,
    pub follows: Position,
    pub written: Position,
}

/// All streams of a line.
#[derive(Debug, Default)]
pub struct Streams {
    pub(super) slots: Vec<Option<Stream>>,
    by_name: HashMap<Vec<u8>, usize>,
    /// The stream met last: most outboxes have one.
    last: usize,
    /// Streams with a batch in their queue, each once, in turn.
    pub(super) waiting: VecDeque<usize>,
    /// Streams nobody has asked to take over.
    pub(super) unopened: VecDeque<usize>,
    pub(super) batches: usize,
    pub(super) bytes: usize,
    /// Streams with an event that must be met.
    pub(super) unmet: usize,
    /// Whether a stream was forgotten: one that is met for the first time may not be new.
    has_forgotten: bool,
}

impl Streams {
    /// The number of the stream with this name, remembered from now on.
    pub fn find(&mut self, name: &[u8], limits: &Limits) -> StreamId {
        let is_last = |stream: &Stream| stream.name.as_bytes() == name;
        if self.slots.get(self.last).is_some_and(|slot| slot.as_ref().is_some_and(is_last)) {
            return StreamId(self.last);
        }
        if let Some(&number) = self.by_name.get(name) {
            self.last = number;
            return StreamId(number);
        }
        if self.by_name.len() >= STREAMS_MAX {
            self.forget_idle();
        }
        let text = String::from_utf8_lossy(name).into_owned();
        let stream = Stream {
            checkpoint_key: checkpoint_key(&text, &limits.source),
            name: text,
            standing: Standing::Unknown,
            queue: VecDeque::new(),
            in_flight: 0,
            unmet: None,
            is_told: false,
            written: Position::START,
            is_judged: false,
            caution: None,
            barred: BTreeSet::new(),
            varying: Varying::default(),
            events_hint: 1,
            bytes_hint: 0,
        };
        let number = match self.slots.iter().position(Option::is_none) {
            Some(free) if self.by_name.len() < self.slots.len() => free,
            _ => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        if let Some(slot) = self.slots.get_mut(number) {
            *slot = Some(stream);
        }
        self.by_name.insert(name.to_vec(), number);
        self.unopened.push_back(number);
        self.last = number;
        StreamId(number)
    }

    /// Idle streams have nothing that refers to their number.
    fn forget_idle(&mut self) {
        let slots = &mut self.slots;
        self.by_name.retain(|_, number| {
            let Some(slot) = slots.get_mut(*number) else { return false };
            if slot.as_ref().is_some_and(Stream::is_idle) {
                *slot = None;
            }
            slot.is_some()
        });
        self.has_forgotten = true;
    }

    /// Adds an event to its stream's last batch, or to a new one behind it. `add` writes it.
    pub fn push<T>(
        &mut self,
        id: StreamId,
        envelope: &Envelope<'_>,
        limits: &Limits,
        add: impl FnOnce(&mut Filling) -> T,
    ) -> Option<T> {
        let stream = self.slots.get_mut(id.0)?.as_mut()?;
        if stream.queue.is_empty() {
            self.waiting.push_back(id.0);
        }
        let batches = stream.queue.len();
        let filling = stream.filling(envelope, limits)?;
        let bytes = filling.batch.bytes();
        let added = add(filling);
        self.bytes += filling.batch.bytes() - bytes;
        self.batches += stream.queue.len() - batches;
        Some(added)
    }

    /// A stream to take over: its name and its checkpoint's key. Each is handed out once.
    pub fn next_unopened(&mut self) -> Option<(StreamId, String, String)> {
        let number = self.unopened.pop_front()?;
        let stream = self.slots.get_mut(number)?.as_mut()?;
        stream.standing = Standing::Opening;
        Some((StreamId(number), stream.name.clone(), stream.checkpoint_key.clone()))
    }

    /// A stream is ours to write.
    pub fn open(&mut self, id: StreamId, opening: Opening) {
        if let Some(Some(stream)) = self.slots.get_mut(id.0) {
            let Opening { epoch, follows, unmet, written } = opening;
            stream.standing = Standing::Open { epoch, follows };
            stream.written = written;
            // One that is opened for the second time in this line has its last event from us, or
            // waits for it already.
            if !std::mem::replace(&mut stream.is_judged, true) {
                self.unmet += usize::from(unmet.is_some());
                stream.unmet = unmet;
            }
        }
    }

    /// Nothing more is written to the stream. Returns the epoch that it was open under, or 0.
    pub fn stop(&mut self, id: StreamId) -> u64 {
        let Some(Some(stream)) = self.slots.get_mut(id.0) else { return 0 };
        match std::mem::replace(&mut stream.standing, Standing::Stopped) {
            Standing::Open { epoch, .. } | Standing::Returning { epoch, .. } => epoch,
            Standing::Unknown
            | Standing::Opening
            | Standing::Refusing { .. }
            | Standing::Stopped => 0,
        }
    }

    /// Where the event stands that the stream waits to meet again.
    pub fn unmet(&self, id: StreamId) -> Option<Position> {
        let stream = self.slots.get(id.0)?.as_ref()?;
        stream.unmet.as_ref().map(|(position, _)| *position)
    }

    /// Whether nothing more is written to the stream.
    pub fn is_stopped(&self, id: StreamId) -> bool {
        let stream = self.slots.get(id.0).and_then(Option::as_ref);
        stream.is_some_and(|stream| matches!(stream.standing, Standing::Stopped))
    }

    /// The next batch that may leave: of an open stream with fewer than `in_flight_max` batches in
    /// flight, full, or not the last of its stream, or any with `flush`.
    pub fn next_ready(&mut self, limits: &Limits, flush: bool) -> Option<Ready> {
        for _ in 0..self.waiting.len() {
            let number = self.waiting.pop_front()?;
            let Some(Some(stream)) = self.slots.get_mut(number) else { continue };
            let may_leave = flush
                || stream.queue.len() > 1
                || stream.queue.front().is_some_and(|first| is_full(first, limits));
            // Until the last event is met a batch may be refused as of another history, and one
            // behind it would be taken for its successor.
            let is_careful = stream.unmet.is_some() || stream.caution.is_some();
            let in_flight_max = if is_careful { 1 } else { limits.batches_in_flight };
            // Should we die now, what is written behind an event would make it a repeat.
            let is_barred = stream.barred.first().is_some_and(|barred| {
                stream.queue.front().is_some_and(|first| first.batch.last_position() > *barred)
            });
            let open = match &mut stream.standing {
                Standing::Open { epoch, follows }
                    if may_leave && !is_barred && stream.in_flight < in_flight_max =>
                {
                    Some((*epoch, follows))
                }
                Standing::Unknown
                | Standing::Opening
                | Standing::Open { .. }
                | Standing::Returning { .. }
                | Standing::Refusing { .. }
                | Standing::Stopped => None,
            };
            let Some(((epoch, follows), filling)) =
                open.and_then(|open| stream.queue.pop_front().map(|filling| (open, filling)))
            else {
                self.waiting.push_back(number);
                continue;
            };
            let before = std::mem::replace(follows, filling.batch.last_position());
            stream.in_flight += 1;
            stream.events_hint = filling.batch.events();
            stream.bytes_hint = filling.batch.bytes();
            self.batches -= 1;
            self.bytes -= filling.batch.bytes();
            if !stream.queue.is_empty() {
                self.waiting.push_back(number);
            }
            let (stream, written) = (StreamId(number), stream.written);
            return Some(Ready { stream, filling, epoch, follows: before, written });
        }
        None
    }

    /// A batch of the stream was answered; with `reached`, all up to there is in it.
    pub fn landed(&mut self, id: StreamId, reached: Option<Position>) {
        let Some(Some(stream)) = self.slots.get_mut(id.0) else { return };
        stream.in_flight -= 1;
        if let Some(reached) = reached {
            self.meet(id, reached);
        }
    }

    /// The event at `position` was met again.
    pub fn meet(&mut self, id: StreamId, position: Position) {
        let Some(Some(stream)) = self.slots.get_mut(id.0) else { return };
        if stream.unmet.as_ref().is_some_and(|(unmet, _)| *unmet <= position) {
            stream.unmet = None;
            self.unmet -= 1;
        }
    }

    /// A stream whose last event should have been met by now, for all before `received` has come:
    /// that event is not in PostgreSQL's history. It is stopped; under which epoch it was open.
    pub fn next_missed(&mut self, received: Lsn) -> Option<(StreamId, u64)> {
        if self.unmet == 0 {
            return None;
        }
        let is_missed = |slot: &Option<Stream>| {
            slot.as_ref().is_some_and(|stream| {
                stream.queue.is_empty()
                    && stream.in_flight == 0
                    && matches!(stream.standing, Standing::Open { .. })
                    && stream.unmet.as_ref().is_some_and(|(at, _)| at.commit_lsn < received)
            })
        };
        let id = StreamId(self.slots.iter().position(is_missed)?);
        Some((id, self.stop(id)))
    }

    /// Whether each event that must be met was met.
    pub fn has_met_all(&self) -> bool {
        self.unmet == 0
    }

    /// Whether a stream was forgotten in this line.
    pub fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    /// The first row that waits for the stream.
    pub fn first_row(&self, id: StreamId) -> Option<i64> {
        let stream = self.slots.get(id.0)?.as_ref()?;
        stream.queue.front()?.rows.ids.first().copied()
    }

    /// Whether a batch could leave now or later without anything new.
    pub fn has_sendable(&self) -> bool {
        let is_sendable = |stream: &Stream| {
            !stream.queue.is_empty() && !matches!(stream.standing, Standing::Stopped)
        };
        !self.unopened.is_empty() || self.slots.iter().flatten().any(is_sendable)
    }

    /// The stream's name.
    pub fn name(&self, id: StreamId) -> &str {
        self.slots.get(id.0).and_then(Option::as_ref).map_or("", |stream| &stream.name)
    }

    /// Batches that wait behind the first of their stream.
    pub fn batches_behind(&self) -> usize {
        self.batches - self.waiting.len()
    }

    /// Bytes that wait to leave.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::config::{EntryFormat, Ordering, TableName};
    use crate::sink::EntryWriter;

    fn limits() -> Limits {
        Limits {
            outbox: TableName { schema: "identity".to_owned(), name: "outbox".to_owned() }.into(),
            stream: "s".to_owned(),
            slot: "walrelay".to_owned(),
            source: "walrelay@7".to_owned(),
            format: EntryFormat::Fields,
            batch_events: 100,
            batch_bytes: 100_000,
            batches_in_flight: 1,
            event_bytes_max: 1_000,
            maxlen: 0,
            publish_sha: "sha".into(),
            ordering: Ordering::PerAggregate,
            heartbeat: None,
            parks: false,
            messages: false,
            traces: false,
            contract: None,
        }
    }

    #[test]
    fn a_field_that_varies_ends_one_batch_and_no_other() {
        let (limits, mut streams) = (limits(), Streams::default());
        let mut writer = EntryWriter::new(EntryFormat::Fields, String::new());
        let id = streams.find(b"s", &limits);
        let mut push = |kind: u8, tenant: u8| {
            let (kind, tenant) = ([kind], [tenant]);
            let tenant_id = Cow::Borrowed(&tenant[..]);
            let event = Envelope { event_type: &kind, tenant_id, ..Envelope::sample() };
            streams.push(id, &event, &limits, |filling| {
                filling.batch.push(&event, Position::START, &mut writer);
            });
            streams.batches
        };
        assert_eq!([push(1, 1), push(1, 1), push(1, 1)], [1, 1, 1]);
        assert_eq!([push(2, 1), push(3, 1), push(1, 1)], [2, 2, 2], "types differ from here on");
        assert_eq!([push(1, 2), push(3, 3), push(2, 1)], [3, 3, 3], "and tenants");
    }
}
