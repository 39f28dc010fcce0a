//! The search, step by step.
//!
//! In: settings, what is asked. Out: a [`Report`]. The order of the steps is what keeps a live
//! system from looking wrong: first the clocks and the last id, then rows, then the wait for the
//! slots, then streams. A row that is settled when it is read has its entry by then; an entry that
//! was there before the clock was read has its row. It must stay true that nothing of either side
//! is read twice, and that no row counts as missing while a part of its stream is unread.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use super::asked::{Asked, Watch};
use super::compare::{Compare, Strangers, Suspect, lacking};
use super::findings::{Report, Rows};
use super::missing::{IDS_MAX, Missing};
use super::order::Order;
use super::outbox::{Outbox, Range};
use super::record::{ENTRY, NEVER, RETRIED, Record, SETTLED, UNFIT, hash};
use super::repair::Case;
use super::settled::{Confirmed, State, until_confirmed};
use super::spill::Spill;
use super::streams::{Streams, failed};
use super::suspects::Bench;
use crate::config::{AfterPublish, Mode, Ordering, Settings};
use crate::error::{Error, Result};
use crate::postgres::{self, Target};
use crate::rate::Limit;
use crate::sink::{Entry, Scan, Seen, Sink, Timeouts, Values, compact};

/// Parts of what is compared: one is in memory at a time.
const PARTS: usize = 256;
/// Clocks of PostgreSQL, Redis and the application mostly differ by less: so much before the first
/// row of a range its stream is read. Where created_at is ahead by more, entries are before that:
/// what is not found is looked for in the rest.
const MARGIN_MS: u64 = 3_600_000;

/// What is gathered while both sides are read.
struct Search<'a> {
    settings: &'a Settings,
    asked: &'a Asked,
    outbox: Outbox,
    sink: Sink,
    streams: Streams,
    events: Spill,
    report: Report,
    ages: Ages,
}

/// Compares outbox and streams, and repairs where that is asked.
pub async fn run(settings: &Settings, asked: &Asked, watch: &mut impl Watch) -> Result<Report> {
    asked.check()?;
    let client = Target::new(&settings.database_url, settings.connect_timeout)?.sql().await?;
    postgres::set_up_session(&client).await?;
    let outbox = Outbox::open(client, settings, asked.is_dated()).await?;
    let timeouts = Timeouts { connect: settings.connect_timeout, reply: settings.redis_timeout };
    let sink = Sink::connect(&settings.redis_url, timeouts).await;
    let sink = sink.map_err(|failure| failure.into_error("cannot connect to Redis"))?;
    let search = Search {
        settings,
        asked,
        outbox,
        sink,
        streams: Streams::new(&asked.streams, &settings.stream_name)?,
        events: Spill::new(PARTS),
        report: Report { table: settings.outbox_table.to_string(), ..Report::default() },
        ages: Ages::default(),
    };
    search.run(watch).await
}

impl Search<'_> {
    async fn run(mut self, watch: &mut impl Watch) -> Result<Report> {
        let began_ms = clock(&self.sink).await?;
        let range = self.outbox.range(self.settings, self.asked).await?;
        self.report.ids = range.ids;
        let limit = Limit::new(self.asked.rate);
        self.read_rows(&range, &limit, watch).await?;
        let confirmed = self.confirm().await?;
        self.read_streams(&limit, watch).await?;
        let missing = self.compare(&range, began_ms, watch).await?;
        self.tell(&confirmed);
        if let Some(repair) = self.asked.repair {
            let case = Case {
                outbox: &self.outbox,
                settings: self.settings,
                confirmed: &confirmed,
                began: &range.began,
                doubtful: missing.doubtful,
            };
            let ids = missing.into_ids();
            if !ids.is_empty() {
                let checked = case.check(&ids, repair);
                let repaired = match checked {
                    Ok(()) => case.repair(&ids, watch).await,
                    Err(refused) => Err(refused),
                };
                match repaired {
                    Ok(repaired) => self.report.repaired = Some(repaired),
                    Err(error) => self.report.unrepaired = Some(error),
                }
            }
        }
        self.report.streams = self.streams.names();
        Ok(self.report)
    }

    async fn read_rows(
        &mut self,
        range: &Range,
        limit: &Limit,
        watch: &mut impl Watch,
    ) -> Result<()> {
        let Self { outbox, streams, events, report, ages, .. } = self;
        let read = outbox.read(range, limit, watch, |row| {
            let Some(record) = read_row(outbox, row, streams, &mut report.rows)? else {
                return Ok(());
            };
            ages.add(&record);
            events.push(events.part_of(record.key), &record)
        });
        read.await
    }

    /// Waits until what was read as settled is in Redis for good.
    async fn confirm(&self) -> Result<Confirmed> {
        let confirmed = until_confirmed(&self.outbox.client, self.settings).await?;
        if self.settings.after_publish == AfterPublish::Keep {
            let why = "with after_publish = keep rows do not say whether they are published";
            confirmed.required(why)?;
            if confirmed == Confirmed::NoSlot {
                return Err(Error::definite(format!("{why}, and there is no replication slot"))
                    .hint("start `walrelay run`: its slot tells what is published"));
            }
        }
        Ok(confirmed)
    }

    async fn read_streams(&mut self, limit: &Limit, watch: &mut impl Watch) -> Result<()> {
        // Entries of the range cannot be much older than its rows.
        let from_ms = match self.ages.oldest_ms {
            Some(oldest) if self.asked.is_limited() && !self.ages.has_undated => {
                oldest.saturating_sub(MARGIN_MS)
            }
            _ => 0,
        };
        watch.begin("entries", None);
        let sink = self.sink.clone();
        for (number, name) in (0..).zip(self.streams.names()) {
            let scan = Scan::new(&sink, &name, from_ms);
            self.read_stream((number, &name), scan, limit, watch).await?;
        }
        if from_ms > 0 {
            for number in self.lacking()? {
                let name = self.streams.name(number).to_owned();
                let scan = Scan::before(&sink, &name, from_ms);
                self.read_stream((number, &name), scan, limit, watch).await?;
            }
        }
        // Asked last: what is trimmed while the streams are read was trimmed, not lost.
        for stream in self.streams.iter_mut() {
            let about = self.sink.about(&stream.name).await;
            stream.head.about = about.map_err(|failure| failed(failure, &stream.name))?;
            stream.head.ahead_ms = self.ages.ahead_ms;
        }
        Ok(())
    }

    async fn read_stream(
        &mut self,
        (number, name): (u32, &str),
        mut scan: Scan<'_>,
        limit: &Limit,
        watch: &mut impl Watch,
    ) -> Result<()> {
        loop {
            let page = scan.page().await.map_err(|failure| failed(failure, name))?;
            if page.is_empty() {
                return Ok(());
            }
            for entry in &page {
                self.report.entries.read += 1;
                self.add_entry(number, entry)?;
            }
            watch.reach(self.report.entries.read);
            limit.after(page.len()).await;
        }
    }

    /// Streams in which rows have no entry, as far as they are read.
    fn lacking(&self) -> Result<BTreeSet<u32>> {
        let mut streams = BTreeSet::new();
        for part in 0..self.events.parts() {
            streams.extend(lacking(self.events.load(part)?));
        }
        Ok(streams)
    }

    fn add_entry(&mut self, stream: u32, entry: &Entry) -> Result<()> {
        let values = match entry.seen() {
            Seen::Event(values) => values,
            Seen::Replayed => {
                self.report.entries.replayed += 1;
                return Ok(());
            }
            Seen::Foreign => {
                self.report.entries.foreign += 1;
                return Ok(());
            }
        };
        self.ages.add_entry(entry, values.occurred_ms());
        let record = Record {
            key: compact(values.event_id()),
            a: entry.id.millis,
            b: entry.id.number,
            c: values.digest(),
            d: values.occurred_ms().unwrap_or(NEVER),
            stream,
            flags: ENTRY,
        };
        self.events.push(self.events.part_of(record.key), &record)
    }

    /// Compares part by part, then looks through the order of aggregates.
    async fn compare(
        &mut self,
        range: &Range,
        began_ms: u64,
        watch: &mut impl Watch,
    ) -> Result<Missing> {
        let mut missing = Spill::new(1);
        // Without parts it keeps nothing.
        let mut order = Spill::new(if keeps_order(self.settings) { PARTS } else { 0 });
        let events = std::mem::replace(&mut self.events, Spill::new(0));
        let strangers = self.strangers(range).await?;
        watch.begin("parts compared", u64::try_from(2 * PARTS).ok());
        for (done, part) in (0..).zip(0..events.parts()) {
            let mut compare = Compare {
                streams: &mut self.streams,
                missing: &mut missing,
                order: &mut order,
                entries: &mut self.report.entries,
                began_ms,
                is_limited: self.asked.is_limited(),
                strangers,
            };
            let suspects = compare.part(events.load(part)?)?;
            self.look_again(&suspects).await?;
            watch.reach(done);
        }
        self.report.spilled = events.bytes + order.bytes + missing.bytes;
        drop(events);
        for (done, part) in (0..).zip(0..order.parts()) {
            let found = Order::look(&order, part)?;
            self.report.retried_late += found.retried_late;
            self.look_again(&found.suspects).await?;
            watch.reach(done + u64::try_from(PARTS).unwrap_or(0));
        }
        drop(order);
        let Self { outbox, sink, streams, report, asked, .. } = self;
        let bench = Bench { outbox, sink, streams };
        Missing::find(&bench, &missing, asked.is_strict, report).await
    }

    async fn strangers(&self, range: &Range) -> Result<Strangers> {
        let settings = self.settings;
        let is_deleted = settings.after_publish == AfterPublish::Delete;
        // Tables that have sections may write into one stream.
        let tells = !is_deleted && settings.table.is_none();
        // Not when it began: rows go while both sides are read.
        let now_ms = clock(&self.sink).await?;
        let kept_ms = settings.retention.map(|retention| {
            let retention = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
            now_ms.saturating_sub(retention).saturating_add(MARGIN_MS)
        });
        Ok(Strangers {
            is_strict: self.asked.is_strict,
            may_be_others: self.asked.has_ids() || settings.messages,
            since_ms: range.since_ms,
            until_ms: range.until_ms,
            oldest_ms: self.ages.oldest_settled_ms.filter(|_| tells),
            kept_ms,
        })
    }

    async fn look_again(&mut self, suspects: &[Suspect]) -> Result<()> {
        let Self { outbox, sink, streams, report, .. } = self;
        Bench { outbox, sink, streams }.look_again(suspects, report).await
    }

    /// What a reader should know of how this was found.
    fn tell(&mut self, confirmed: &Confirmed) {
        let report = &mut self.report;
        let notes = &mut report.notes;
        if self.settings.after_publish == AfterPublish::Delete {
            notes.push(
                "after_publish = delete: published rows are gone, so only doubled entries can be \
                 found"
                    .to_owned(),
            );
        }
        if self.settings.messages {
            notes.push(
                "messages = true: what identity.emit_message wrote has no row, so it can be found \
                 doubled, but neither missing, changed nor out of order; nor can an entry without \
                 a row be called a stranger"
                    .to_owned(),
            );
        }
        if !keeps_order(self.settings) {
            notes.push(
                "ordering = none: pollers promise no order, so none can be broken; nothing is \
                 called out of order"
                    .to_owned(),
            );
        }
        let [missing, ..] = &report.found;
        if missing.count > 0
            && let Confirmed::NotYet { slot, .. } = confirmed
        {
            notes.push(format!(
                "replication slot {slot:?} has not confirmed all: a relay may send some of what is \
                 missing by itself; start it, and look again"
            ));
        }
        if report.untold > 0 {
            notes.push(format!(
                "{} rows may be older than the first entry of their stream: trimmed, deleted or \
                 never there, which cannot be told of these (--strict counts them as missing)",
                report.untold
            ));
        }
        if self.asked.repair.is_some() && missing.count > u64::try_from(IDS_MAX).unwrap_or(0) {
            notes.push(format!("one repair takes {IDS_MAX} rows: repeat it for the rest"));
        }
    }
}

async fn clock(sink: &Sink) -> Result<u64> {
    let clock = sink.clock_ms().await;
    clock.map_err(|failure| failure.into_error("cannot ask Redis for its clock"))
}

/// Whether rows of an aggregate go out by their ids: a line keeps to the order of commit, pollers
/// only where they are asked to.
fn keeps_order(settings: &Settings) -> bool {
    settings.mode == Mode::Wal || settings.ordering == Ordering::PerAggregate
}

/// How old the rows are, by a clock that may not be that of Redis.
#[derive(Default)]
struct Ages {
    /// The oldest row, and the oldest settled one.
    oldest_ms: Option<u64>,
    oldest_settled_ms: Option<u64>,
    /// Rows without a time may be of any.
    has_undated: bool,
    /// The most that an event was later than its entry.
    ahead_ms: u64,
}

impl Ages {
    fn add(&mut self, record: &Record) {
        let ms = Some(record.b).filter(|ms| *ms != NEVER);
        let least = |known: Option<u64>| known.into_iter().chain(ms).min();
        self.has_undated |= ms.is_none();
        self.oldest_ms = least(self.oldest_ms);
        if record.has(SETTLED) {
            self.oldest_settled_ms = least(self.oldest_settled_ms);
        }
    }

    fn add_entry(&mut self, entry: &Entry, occurred_ms: Option<u64>) {
        let ahead = occurred_ms.unwrap_or(0).saturating_sub(entry.id.millis);
        self.ahead_ms = self.ahead_ms.max(ahead);
    }
}

/// A row as a record; none where it belongs to no stream of the search, or can be no event.
fn read_row(
    outbox: &Outbox,
    sql_row: &Row,
    streams: &mut Streams,
    counts: &mut Rows,
) -> Result<Option<Record>> {
    let row = outbox.row(sql_row);
    let name = outbox.stream(&row);
    let Some(number) = name.as_deref().map_or(Ok(None), |name| streams.number(name))? else {
        counts.unfit += u64::from(name.is_none());
        return Ok(None);
    };
    let state = Outbox::state(sql_row);
    *match state {
        State::Settled => &mut counts.settled,
        State::Waiting => &mut counts.waiting,
        State::Parked => &mut counts.parked,
        State::Dead => &mut counts.dead,
        State::Discarded => &mut counts.discarded,
        State::Imported => &mut counts.imported,
    } += 1;
    let (Some(event_id), Some(id)) = (row.event_id(), row.id()) else {
        counts.unfit += 1;
        return Ok(None);
    };
    let mut record = Record {
        key: compact(event_id),
        a: id.cast_unsigned(),
        b: NEVER,
        d: row.aggregate_id().map_or(0, hash),
        stream: number,
        ..Record::default()
    };
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    record.flags =
        flag(state == State::Settled, SETTLED) | flag(sql_row.get("is_retried"), RETRIED);
    if let Ok(envelope) = outbox.envelope(&row) {
        let values = Values::of(&envelope);
        record.c = values.digest();
        if row.created_at().is_some() {
            record.b = values.occurred_ms().unwrap_or(NEVER);
        }
    } else {
        counts.unfit += 1;
        record.flags |= UNFIT;
    }
    Ok(Some(record))
}
