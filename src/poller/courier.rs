//! Rows to Redis: brings rows that were claimed into their streams, and says what became of each.
//!
//! In: rows that were selected by a [`Selection`], in order, and the end of their claim. Out: for
//! each an [`Outcome`]. It must stay true that the rows of a stream are written in the order given,
//! one call after the other, and that with `ordering = per-aggregate` nothing is written behind a
//! refused event of its aggregate.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_postgres::Row as SqlRow;

use crate::config::{EntryFormat, Ordering, Outbox, Settings};
use crate::contract::Contract;
use crate::lsn::Position;
use crate::outbox::{Defaults, Envelope, Row, Selection, Unfit};
use crate::rate::Limit;
use crate::sink::{
    Batch, Delivery, EntryWriter, Failure, Hint, Sealed, Varying, Verdict, Written, begun_key,
    delivered_key,
};
use crate::telemetry::{Status, Traced};

/// From the Unix epoch to PostgreSQL's, in seconds.
const POSTGRES_EPOCH_SECONDS: u64 = 946_684_800;

/// What became of a row.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is in its stream; by this call, or from before.
    Delivered,
    /// Redis refused it: park it.
    Refused(Failure),
    /// It can never be an event: to the dead letters.
    Unfit(Unfit),
    /// It was not tried, because an event of its aggregate before it was refused.
    Behind,
}

/// What a courier must know of settings and servers.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How entries are written.
    pub format: EntryFormat,
    /// Whether order within an aggregate is kept.
    pub ordering: Ordering,
    /// The stream of a row without a topic.
    pub stream: String,
    /// What is the same for every row, or told by its payload.
    pub outbox: Outbox,
    /// Events in a call.
    pub batch_events: usize,
    /// Bytes of a call; one event may be larger.
    pub batch_bytes: usize,
    /// Bytes of an event.
    pub event_bytes_max: usize,
    /// Entries a stream is trimmed to, about; 0 for none.
    pub maxlen: u64,
    /// Names table and system in the keys of what was delivered.
    pub source: String,
    /// CloudEvents `source`.
    pub origin: String,
    /// What payloads are held against.
    pub contract: Option<Arc<Contract>>,
    /// How many events a second; who delivers waits for it.
    pub rate: Limit,
}

impl Terms {
    /// From the settings; `bulk_bytes_max` is what Redis takes, `system_id` PostgreSQL's.
    #[must_use]
    pub fn new(settings: &Settings, bulk_bytes_max: Option<usize>, system_id: &str) -> Self {
        let table = &settings.outbox_table;
        Self {
            format: settings.entry_format,
            ordering: settings.ordering,
            stream: settings.stream_name.clone(),
            outbox: settings.outbox_table.clone(),
            batch_events: settings.batch_size.get(),
            batch_bytes: settings.batch_bytes,
            event_bytes_max: bulk_bytes_max
                .map_or(settings.max_event_bytes, |max| max.min(settings.max_event_bytes)),
            maxlen: settings.stream_maxlen.map_or(0, std::num::NonZeroU64::get),
            source: format!("{}.{}@{system_id}", table.schema, table.name),
            origin: format!("/{}/{}", table.schema, table.name),
            contract: settings.contract.clone(),
            rate: settings.max_rate.clone(),
        }
    }

    /// What rows themselves do not say.
    #[must_use]
    pub fn defaults(&self) -> Defaults<'_> {
        Defaults {
            stream: self.stream.as_bytes(),
            outbox: &self.outbox,
            commit_time: now(),
            event_bytes_max: self.event_bytes_max,
            contract: self.contract.as_deref(),
        }
    }

    /// Where it is remembered what pollers have put into `stream`.
    #[must_use]
    pub fn delivered_key(&self, stream: &str) -> String {
        delivered_key(stream, &self.source)
    }

    /// Where it is counted how often a delivery was begun.
    #[must_use]
    pub fn begun_key(&self) -> String {
        begun_key(&self.stream, &self.source)
    }
}

/// Brings rows to Redis.
pub struct Courier {
    delivery: Delivery,
    terms: Terms,
    selection: Selection,
    writer: EntryWriter,
    status: Arc<Status>,
    /// The fields whose values events do not share, as far as they have shown.
    varying: Varying,
}

/// One delivery: its rows, and what is known of them so far.
struct Round<'a> {
    rows: &'a [SqlRow],
    deadline: u64,
    outcomes: Vec<Outcome>,
    /// Aggregates with an event that was refused.
    refused: HashSet<Vec<u8>>,
}

impl Round<'_> {
    fn set(&mut self, place: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(place) {
            *slot = outcome;
        }
    }
}

/// The rows of one stream that are still to be written, by their place in the claim.
struct Load {
    stream: String,
    places: VecDeque<usize>,
}

/// A call that is ready: the places of its rows, in order.
struct Call {
    batch: Sealed,
    places: Vec<usize>,
    traced: Traced,
}

impl Courier {
    /// A courier for rows that are selected by `selection`; `status` is told what it delivers.
    #[must_use]
    pub fn new(
        delivery: Delivery,
        terms: Terms,
        selection: Selection,
        status: Arc<Status>,
    ) -> Self {
        let writer = EntryWriter::new(terms.format, terms.origin.clone());
        Self { delivery, terms, selection, writer, status, varying: Varying::default() }
    }

    /// Where the rows go, and on which terms.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The connection and its scripts.
    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// How the rows are to be selected.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// A row as the decoder would see it.
    #[must_use]
    pub fn row<'a>(&self, row: &'a SqlRow) -> Row<'a> {
        // What is no text would be a list that was changed behind our back: it counts as NULL, and
        // a required NULL makes the row unfit.
        self.selection.read(|place| row.try_get::<_, Option<&str>>(place).ok().flatten())
    }

    /// Brings `rows` to their streams before `deadline`; an outcome for each, in their order. After
    /// a failure (an outage, a claim that has ended) nothing is known of them: the claim is to be
    /// given up, and the next one finds out.
    pub async fn deliver(
        &mut self,
        rows: &[SqlRow],
        deadline: u64,
    ) -> Result<Vec<Outcome>, Failure> {
        self.deliver_behind(rows, deadline, &mut HashSet::new()).await
    }

    /// The same for a part of a claim: of the aggregates in `refused` nothing is written where
    /// order is kept, and those with an event that is refused now are added.
    pub async fn deliver_behind(
        &mut self,
        rows: &[SqlRow],
        deadline: u64,
        refused: &mut HashSet<Vec<u8>>,
    ) -> Result<Vec<Outcome>, Failure> {
        self.terms.rate.spend(rows.len());
        let outcomes = vec![Outcome::Behind; rows.len()];
        let mut round = Round { rows, deadline, outcomes, refused: std::mem::take(refused) };
        for stage in self.stages(rows) {
            for mut load in self.sort(rows, stage) {
                while let Some(call) = self.pack(&mut round, &mut load) {
                    self.call(&mut round, &mut load, call).await?;
                }
            }
        }
        *refused = round.refused;
        Ok(round.outcomes)
    }

    /// The stream that a row is for.
    #[must_use]
    pub fn stream<'a>(&'a self, row: &Row<'a>) -> Cow<'a, [u8]> {
        self.terms.defaults().stream_named(row)
    }

    /// The rows in stretches, one done before the next begins. Within one the streams are written
    /// one after the other, so an aggregate whose rows go to several streams ends it.
    fn stages(&self, rows: &[SqlRow]) -> Vec<Range<usize>> {
        let mut first = None;
        let is_one_stream = rows.iter().all(|row| {
            let row = self.row(row);
            let stream = self.stream(&row);
            *first.get_or_insert(stream.clone()) == stream
        });
        if is_one_stream || self.terms.ordering == Ordering::None {
            return std::iter::once(0..rows.len()).collect();
        }
        let (mut stages, mut begin) = (Vec::new(), 0);
        let mut streams: HashMap<&[u8], Cow<'_, [u8]>> = HashMap::new();
        for (place, row) in rows.iter().enumerate() {
            let row = self.row(row);
            let (aggregate, stream) = (row.aggregate_id().unwrap_or_default(), self.stream(&row));
            if streams.get(aggregate).is_some_and(|before| *before != stream) {
                stages.push(begin..place);
                begin = place;
                streams.clear();
            }
            streams.insert(aggregate, stream);
        }
        stages.push(begin..rows.len());
        stages
    }

    /// The rows of a stage by stream, streams in the order in which they are met first.
    fn sort(&self, rows: &[SqlRow], stage: Range<usize>) -> Vec<Load> {
        let mut loads: Vec<Load> = Vec::new();
        let mut numbers: HashMap<String, usize> = HashMap::new();
        for (place, row) in rows.iter().enumerate().take(stage.end).skip(stage.start) {
            let row = self.row(row);
            let stream = String::from_utf8_lossy(&self.stream(&row)).into_owned();
            let number = *numbers.entry(stream).or_insert_with_key(|stream| {
                loads.push(Load { stream: stream.clone(), places: VecDeque::new() });
                loads.len() - 1
            });
            if let Some(load) = loads.get_mut(number) {
                load.places.push_back(place);
            }
        }
        loads
    }

    /// The next call of a stream; none when nothing is left of its load.
    fn pack(&mut self, round: &mut Round<'_>, load: &mut Load) -> Option<Call> {
        let key = self.terms.delivered_key(&load.stream);
        let hint = Hint {
            format: self.terms.format,
            varying: self.varying,
            events: self.terms.batch_events.min(load.places.len()),
            bytes: 0,
        };
        let mut batch: Option<Batch> = None;
        let (mut places, mut traced) = (Vec::new(), Traced::default());
        while let Some(&place) = load.places.front() {
            let Some(row) = round.rows.get(place).map(|row| self.row(row)) else { break };
            if self.is_behind(&row, &round.refused) {
                load.places.pop_front();
                continue;
            }
            let envelope = match Envelope::new(&row, &self.terms.defaults()) {
                Ok(envelope) => envelope,
                Err(unfit) => {
                    round.set(place, Outcome::Unfit(unfit));
                    load.places.pop_front();
                    continue;
                }
            };
            let keys = (load.stream.as_str(), key.as_str());
            let filling =
                batch.get_or_insert_with(|| Batch::new(self.delivery.sha(), keys, &envelope, hint));
            let is_full = filling.events() >= self.terms.batch_events
                || filling.bytes() >= self.terms.batch_bytes;
            if is_full {
                break;
            }
            if let Err(varying) = filling.fits(&envelope) {
                // What varied once will vary again.
                self.varying = self.varying.and(varying);
                break;
            }
            if self.status.spans.is_on() {
                // When it was committed a row does not say: from here on it is in our hands.
                let names = (envelope.event_id, envelope.event_type);
                traced.note(places.len(), envelope.traceparent.as_deref(), now(), names);
            }
            filling.push(&envelope, Position::START, &mut self.writer);
            places.push(place);
            load.places.pop_front();
        }
        let batch = batch?.seal_claimed(round.deadline, self.terms.maxlen);
        Some(Call { batch, places, traced })
    }

    /// Whether the row must not be written because one before it was refused.
    fn is_behind(&self, row: &Row<'_>, refused: &HashSet<Vec<u8>>) -> bool {
        self.terms.ordering == Ordering::PerAggregate
            && !refused.is_empty()
            && row.aggregate_id().is_some_and(|aggregate| refused.contains(aggregate))
    }

    /// Makes one call and writes down what became of its rows; those behind a refused one are put
    /// back to be packed again.
    async fn call(
        &self,
        round: &mut Round<'_>,
        load: &mut Load,
        mut call: Call,
    ) -> Result<(), Failure> {
        let written = match self.delivery.deliver(&call.batch).await {
            // The whole call is refused when the user may not write this key.
            Err(failure) if failure.code == "NOPERM" && failure.text.contains("key") => {
                let refusal = Some(Failure { verdict: Verdict::Rejected, ..failure });
                Written { added: 0, present: 0, refusal }
            }
            written => written?,
        };
        let there = written.added + written.present;
        self.status.streams.add(&load.stream, written.added);
        // Which of them were there from before is not said: better no span than a second one.
        if written.present == 0 {
            self.status.spans.entered(&load.stream, call.traced.written(0..there));
        }
        let (done, rest) = call.places.split_at(there.min(call.places.len()));
        for place in done {
            round.set(*place, Outcome::Delivered);
        }
        let Some(failure) = written.refusal else {
            return if rest.is_empty() { Ok(()) } else { Err(miscounted()) };
        };
        if failure.verdict != Verdict::Rejected {
            return Err(failure);
        }
        let Some((culprit, behind)) = rest.split_first() else { return Err(miscounted()) };
        for place in behind.iter().rev() {
            load.places.push_front(*place);
        }
        self.refuse(round, *culprit, &failure);
        if failure.is_of_the_stream() {
            // Whatever comes behind would be told the same.
            for place in std::mem::take(&mut load.places) {
                self.refuse(round, place, &failure);
            }
        }
        Ok(())
    }

    /// A row was refused; of its aggregate's later ones none is written. Those that the same stream
    /// would refuse anyway are behind it just as well.
    fn refuse(&self, round: &mut Round<'_>, place: usize, failure: &Failure) {
        let Some(row) = round.rows.get(place).map(|row| self.row(row)) else { return };
        if self.is_behind(&row, &round.refused) {
            return;
        }
        let aggregate = row.aggregate_id().map(<[u8]>::to_vec);
        round.refused.extend(aggregate);
        round.set(place, Outcome::Refused(failure.clone()));
    }
}

fn miscounted() -> Failure {
    Failure::nonsense("the script of the pollers counted other events than were sent")
}

/// Microseconds since 2000-01-01: `occurred_at` of a table without created_at.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = since.as_micros().saturating_sub(u128::from(POSTGRES_EPOCH_SECONDS) * 1_000_000);
    i64::try_from(micros).unwrap_or(i64::MAX)
}
