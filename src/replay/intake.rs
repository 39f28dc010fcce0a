//! What the source found, on its way: filtered, counted, put into batches by stream.
//!
//! In: events in the order of the source, each with its position. Out: batches in that order, and
//! a [`Tally`]. It must stay true that a stream's events stay in order, that what is held is
//! bounded, and that an event that cannot be made is counted and told, not passed over in silence.

use std::collections::{BTreeMap, VecDeque};

use super::order::Filter;
use crate::config::{EntryFormat, Settings};
use crate::lsn::Position;
use crate::outbox::{Envelope, Unfit};
use crate::sink::{Batch, EntryWriter, Hint, Varying, checkpoint_key};

/// Streams that are counted one by one; the rest are counted together.
const STREAMS_MAX: usize = 1_000;
/// Events that are told of because they cannot be made.
const UNFIT_TOLD_MAX: u64 = 10;
/// What an entry may have besides the values of its event.
pub(super) const ENTRY_SLACK_BYTES: usize = 16 * 1024;

/// Where an event was found, for people.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Wal(Position),
    Row(i64),
    Letter(u64, u64),
}

impl Place {
    fn text(self) -> String {
        match self {
            Self::Wal(Position { commit_lsn, ordinal }) => format!("{commit_lsn} no. {ordinal}"),
            Self::Row(id) => format!("row {id}"),
            Self::Letter(millis, number) => format!("entry {millis}-{number}"),
        }
    }
}

/// An event that was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where.
    pub place: String,
    /// Its id.
    pub event_id: String,
    /// What happened.
    pub event_type: String,
    /// To which aggregate.
    pub aggregate: String,
    /// When.
    pub occurred_at: String,
}

impl Seen {
    fn new(place: Place, envelope: &Envelope<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            place: place.text(),
            event_id: text(envelope.event_id),
            event_type: text(envelope.event_type),
            aggregate: text(envelope.aggregate_id),
            occurred_at: text(envelope.occurred_at.as_bytes()),
        }
    }
}

/// What a source holds.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Events that are meant.
    pub events: u64,
    /// By stream; those beyond a thousand streams under `…`.
    pub streams: BTreeMap<String, u64>,
    /// The first, and the last.
    pub first: Option<Seen>,
    /// The last.
    pub last: Option<Seen>,
    /// Rows that cannot become events.
    pub unfit: u64,
}

/// A batch and its stream.
pub(super) struct Load {
    pub stream: String,
    pub batch: Batch,
}

/// What becomes of events that are met.
enum Mode {
    Publish { sha: String, journal: String },
    Count,
}

/// The bounds and the meaning of events.
pub(super) struct Intake {
    mode: Mode,
    filter: Filter,
    target: Option<String>,
    format: EntryFormat,
    writer: EntryWriter,
    varying: Varying,
    events_max: usize,
    bytes_max: usize,
    batch_bytes: usize,
    /// Nothing up to here is taken in: it is in its streams.
    done: Position,
    last: Position,
    queue: VecDeque<Load>,
    events: usize,
    bytes: usize,
    pub tally: Tally,
}

impl Intake {
    /// Takes in batches for the script `sha`, whose journals are named by `journal`.
    pub fn new(
        settings: &Settings,
        (filter, target): (&Filter, Option<&str>),
        (sha, journal): (&str, &str),
        done: Position,
    ) -> Self {
        let table = &settings.outbox_table;
        let source = format!("/{}/{}", table.schema, table.name);
        Self {
            mode: Mode::Publish { sha: sha.to_owned(), journal: journal.to_owned() },
            filter: filter.clone(),
            target: target.map(str::to_owned),
            format: settings.entry_format,
            writer: EntryWriter::replaying(settings.entry_format, source),
            varying: Varying::REPLAYED,
            events_max: usize::MAX,
            // A batch is as large as in the line; a few streams share this.
            bytes_max: settings.batch_bytes.saturating_mul(2),
            batch_bytes: settings.batch_bytes,
            done,
            last: done,
            queue: VecDeque::new(),
            events: 0,
            bytes: 0,
            tally: Tally::default(),
        }
    }

    /// Only counts what it takes in.
    pub fn counting(settings: &Settings, filter: &Filter, target: Option<&str>) -> Self {
        let names = ("", "");
        let mut this = Self::new(settings, (filter, target), names, Position::START);
        this.mode = Mode::Count;
        this
    }

    /// At most so many events are on their way at once.
    pub fn bound(&mut self, events_max: usize) {
        self.events_max = events_max;
    }

    /// Whether no more may be taken in before something has left.
    pub fn is_full(&self) -> bool {
        self.events >= self.events_max || self.bytes >= self.bytes_max
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Everything up to here has been taken in.
    pub fn last(&self) -> Position {
        self.last
    }

    /// Whether an event of this type and aggregate at this position is still to be made.
    pub fn wants(&self, position: Position, event_type: &[u8], aggregate: &[u8]) -> bool {
        position > self.done && self.filter.lets(event_type, aggregate)
    }

    /// Takes in an event that is wanted, or the reason why there is none.
    pub fn take(
        &mut self,
        (position, place): (Position, Place),
        envelope: Result<Envelope<'_>, Unfit>,
    ) {
        if position <= self.done {
            return;
        }
        self.last = position;
        let envelope = match envelope {
            Ok(envelope) => envelope,
            Err(unfit) => {
                self.tally.unfit += 1;
                if self.tally.unfit <= UNFIT_TOLD_MAX {
                    tracing::warn!(at = place.text(), "this row cannot become an event: {unfit}");
                }
                return;
            }
        };
        self.tally.events += 1;
        let stream = match &self.target {
            Some(target) => target.clone(),
            None => String::from_utf8_lossy(&envelope.stream).into_owned(),
        };
        if matches!(self.mode, Mode::Count) {
            self.count(stream, Seen::new(place, &envelope));
        } else {
            self.push(stream, position, &envelope);
        }
    }

    fn count(&mut self, stream: String, seen: Seen) {
        let streams = &mut self.tally.streams;
        let is_known = streams.len() < STREAMS_MAX || streams.contains_key(&stream);
        *streams.entry(if is_known { stream } else { "…".to_owned() }).or_default() += 1;
        if self.tally.first.is_none() {
            self.tally.first = Some(seen.clone());
        }
        self.tally.last = Some(seen);
    }

    fn push(&mut self, stream: String, position: Position, envelope: &Envelope<'_>) {
        let Mode::Publish { sha, journal } = &self.mode else { return };
        // Streams are few; behind a batch that is full comes another of the same stream.
        let open = self.queue.iter_mut().rev().find(|load| load.stream == stream);
        let open = open.filter(|load| load.batch.bytes() < self.batch_bytes);
        let open = match open.map(|load| load.batch.fits(envelope)) {
            Some(Ok(())) => self.queue.iter_mut().rev().find(|load| load.stream == stream),
            Some(Err(varying)) => {
                self.varying = self.varying.and(varying);
                None
            }
            None => None,
        };
        let load = if let Some(load) = open {
            load
        } else {
            let hint =
                Hint { format: self.format, varying: self.varying, events: 16, bytes: 4_096 };
            let keys = (stream.as_str(), &*checkpoint_key(&stream, journal));
            let batch = Batch::new(sha, keys, envelope, hint);
            self.queue.push_back(Load { stream, batch });
            match self.queue.back_mut() {
                Some(load) => load,
                None => return,
            }
        };
        let before = load.batch.bytes();
        load.batch.push(envelope, position, &mut self.writer);
        self.events += 1;
        self.bytes += load.batch.bytes() - before;
    }

    /// The batch that is to leave next.
    pub fn next(&mut self) -> Option<Load> {
        let load = self.queue.pop_front()?;
        self.events -= load.batch.events();
        self.bytes -= load.batch.bytes();
        Some(load)
    }
}
