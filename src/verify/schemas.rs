//! Whether rows and entries keep to the events contract: each payload against the schema of its
//! type.
//!
//! In: settings, schemas, what is asked. Out: a [`Conformity`]. It must stay true that both sides
//! are only read, a page at a time, and that memory does not grow with what is read or found.

use std::collections::BTreeMap;

use super::asked::{Asked, Watch};
use super::outbox::{Outbox, Range};
use super::streams::{Streams, failed};
use crate::config::Settings;
use crate::contract::{Contract, Subject, Violation};
use crate::error::Result;
use crate::postgres::{self, Target};
use crate::rate::Limit;
use crate::sink::{Entry, Event, Scan, Sink, Timeouts};

/// Types of events that are counted one by one; the rest are counted together.
const TYPES_MAX: usize = 1_000;
/// What stands for the rest.
const OTHERS: &str = "…";
/// The schema version of an entry that says none: dead letters do not.
const VERSION_DEFAULT: &str = "1";

/// What is to be held against the schemas.
#[derive(Clone, Debug)]
pub struct Held {
    /// The range, as for a comparison; nothing is repaired.
    pub asked: Asked,
    /// Only events of these types; none: all.
    pub types: Vec<String>,
    /// Whether the table is read.
    pub has_rows: bool,
    /// Whether the streams are.
    pub has_entries: bool,
    /// Violations that are kept.
    pub shown_max: usize,
}

/// The events that one schema speaks of, or none does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sort {
    /// The stream they belong to.
    pub stream: String,
    /// What happened.
    pub event_type: String,
    /// Version of their payloads' schema.
    pub version: String,
}

/// What was found of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The file that speaks of them.
    pub schema: Option<String>,
    /// Rows.
    pub rows: u64,
    /// Entries.
    pub entries: u64,
    /// Rows and entries that break it.
    pub broken: u64,
}

/// An event that breaks its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offender {
    /// Its row, where it is one.
    pub row: Option<i64>,
    /// Its entry, where it is one.
    pub entry: Option<String>,
    /// The stream it belongs to.
    pub stream: String,
    /// Its identity.
    pub event_id: String,
    /// What happened.
    pub event_type: String,
    /// How it does.
    pub violation: Violation,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conformity {
    /// The outbox.
    pub table: String,
    /// The streams that were read.
    pub streams: Vec<String>,
    /// Events by sort.
    pub sorts: BTreeMap<Sort, Count>,
    /// The first violations.
    pub offenders: Vec<Offender>,
    /// How many there are.
    pub broken: u64,
    /// Rows that can be no event, whatever the schemas say.
    pub unfit: u64,
    /// Entries of somebody else.
    pub foreign: u64,
}

/// Where an event was found.
enum Place {
    Row(i64),
    Entry(String),
}

struct Search<'a> {
    contract: &'a Contract,
    held: &'a Held,
    streams: Streams,
    answer: Conformity,
}

/// Holds the table and the streams against the schemas.
pub async fn check_schemas(
    settings: &Settings,
    contract: &Contract,
    held: &Held,
    watch: &mut impl Watch,
) -> Result<Conformity> {
    held.asked.check()?;
    let client = Target::new(&settings.database_url, settings.connect_timeout)?.sql().await?;
    postgres::set_up_session(&client).await?;
    let outbox = Outbox::open(client, settings, held.asked.is_dated()).await?;
    let range = outbox.range(settings, &held.asked).await?;
    let mut search = Search {
        contract,
        held,
        streams: Streams::new(&held.asked.streams, &settings.stream_name)?,
        answer: Conformity { table: settings.outbox_table.to_string(), ..Conformity::default() },
    };
    let limit = Limit::new(held.asked.rate);
    search.read_rows(&outbox, &range, &limit, watch).await?;
    if held.has_entries {
        let timeouts =
            Timeouts { connect: settings.connect_timeout, reply: settings.redis_timeout };
        let sink = Sink::connect(&settings.redis_url, timeouts).await;
        let sink = sink.map_err(|failure| failure.into_error("cannot connect to Redis"))?;
        search.read_entries(&sink, &range, &limit, watch).await?;
        search.answer.streams = search.streams.names();
    }
    Ok(search.answer)
}

impl Search<'_> {
    /// Also where only entries are meant: the rows say which streams there are.
    async fn read_rows(
        &mut self,
        outbox: &Outbox,
        range: &Range,
        limit: &Limit,
        watch: &mut impl Watch,
    ) -> Result<()> {
        let is_told_by_name = !self.held.has_rows && !self.held.asked.streams.is_empty();
        if is_told_by_name {
            return Ok(());
        }
        outbox.read(range, limit, watch, |row| self.add_row(outbox, row)).await
    }

    fn add_row(&mut self, outbox: &Outbox, row: &tokio_postgres::Row) -> Result<()> {
        let row = outbox.row(row);
        let name = outbox.stream(&row);
        if let Some(name) = &name
            && self.streams.number(name)?.is_none()
        {
            return Ok(());
        }
        if !self.held.has_rows || !self.wants(row.event_type().unwrap_or_default()) {
            return Ok(());
        }
        let (Ok(envelope), Some(id)) = (outbox.envelope(&row), row.id()) else {
            self.answer.unfit += 1;
            return Ok(());
        };
        self.add(&envelope.subject(), &envelope.payload, Place::Row(id));
        Ok(())
    }

    async fn read_entries(
        &mut self,
        sink: &Sink,
        range: &Range,
        limit: &Limit,
        watch: &mut impl Watch,
    ) -> Result<()> {
        watch.begin("entries", None);
        let mut done = 0;
        for name in self.streams.names() {
            let mut scan = Scan::new(sink, &name, range.since_ms.unwrap_or(0));
            loop {
                let page = scan.page().await.map_err(|failure| failed(failure, &name))?;
                let is_over =
                    |entry: &Entry| range.until_ms.is_some_and(|until| entry.id.millis >= until);
                page.iter().filter(|entry| !is_over(entry)).for_each(|entry| {
                    self.add_entry(&name, entry);
                });
                if page.is_empty() || page.last().is_some_and(is_over) {
                    break;
                }
                done += u64::try_from(page.len()).unwrap_or(0);
                watch.reach(done);
                limit.after(page.len()).await;
            }
        }
        Ok(())
    }

    fn add_entry(&mut self, stream: &str, entry: &Entry) {
        let event = Event::of(entry);
        let (Some(event_type), Some(payload)) = (event.get("event_type"), event.get("payload"))
        else {
            self.answer.foreign += 1;
            return;
        };
        if !self.wants(event_type.as_bytes()) {
            return;
        }
        let subject = Subject {
            topic: event.get("topic").unwrap_or(stream).as_bytes(),
            event_type: event_type.as_bytes(),
            version: event.get("schema_version").unwrap_or(VERSION_DEFAULT).as_bytes(),
            event_id: event.event_id().as_bytes(),
        };
        self.add(&subject, payload.as_bytes(), Place::Entry(entry.id.to_string()));
    }

    fn wants(&self, event_type: &[u8]) -> bool {
        let types = &self.held.types;
        types.is_empty() || types.iter().any(|wanted| wanted.as_bytes() == event_type)
    }

    fn add(&mut self, subject: &Subject<'_>, payload: &[u8], place: Place) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let sort = Sort {
            stream: text(subject.topic),
            event_type: text(subject.event_type),
            version: text(subject.version),
        };
        let sorts = &mut self.answer.sorts;
        let is_known = sorts.len() < TYPES_MAX || sorts.contains_key(&sort);
        let count = if is_known {
            let schema = || self.contract.schema_of(subject).map(str::to_owned);
            let new = || Count { schema: schema(), ..Count::default() };
            sorts.entry(sort).or_insert_with(new)
        } else {
            let names = [OTHERS; 3].map(str::to_owned);
            let [stream, event_type, version] = names;
            sorts.entry(Sort { stream, event_type, version }).or_default()
        };
        *match place {
            Place::Row(_) => &mut count.rows,
            Place::Entry(_) => &mut count.entries,
        } += 1;
        let Some(violation) = self.contract.check(subject, payload) else { return };
        count.broken += 1;
        self.answer.broken += 1;
        if self.answer.offenders.len() >= self.held.shown_max {
            return;
        }
        let (row, entry) = match place {
            Place::Row(id) => (Some(id), None),
            Place::Entry(id) => (None, Some(id)),
        };
        self.answer.offenders.push(Offender {
            row,
            entry,
            stream: text(subject.topic),
            event_id: text(subject.event_id),
            event_type: text(subject.event_type),
            violation,
        });
    }
}
