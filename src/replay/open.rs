//! Opening a replay: the session, the source, the range, the journal.
//!
//! In: an [`Order`], settings. Out: [`Opened`]. It must stay true that a replay that is gone on
//! with keeps the range it began with, whatever the time is by now, and that a dry run asks Redis
//! for nothing but dead letters.

use tokio_postgres::Client;

use super::intake::{ENTRY_SLACK_BYTES, Intake};
use super::journal::Journal;
use super::letters::Letters;
use super::moment::When;
use super::order::{Filter, Order, Range, Source};
use super::run::{Feed, Told};
use super::slots;
use super::table::{Outbox, Table};
use super::wal::{Meaning, Span, Wal};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::lsn::{Lsn, Position};
use crate::postgres::{self, Replication, Standpoint, Target, from_sql};
use crate::sink::{self, Replayer, Sink, Timeouts};

const SYSTEM_IDENTIFIER: &str = include_str!("../../sql/queries/system_identifier.sql");

/// A frame carries one row of the WAL: an event with its column names and PostgreSQL's own bytes,
/// and other columns.
const FRAME_SLACK_BYTES: usize = 64 * 1024 * 1024;

/// What a replay stands on.
pub(super) struct Opened {
    pub feed: Feed,
    pub intake: Intake,
    pub range: (String, String),
    /// None for a dry run.
    pub journal: Option<Journal>,
}

/// What the WAL can give.
struct Wire {
    replication: Replication,
    standpoint: Standpoint,
    wal_end: Lsn,
    /// Whether the server can send messages.
    has_messages: bool,
}

struct Opening<'a> {
    settings: &'a Settings,
    order: &'a Order,
    target: Target,
    client: Client,
}

/// Opens everything.
pub(super) async fn open(
    settings: &Settings,
    order: &Order,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Opened> {
    let target = Target::new(&settings.database_url, settings.connect_timeout)?;
    let client = target.sql().await?;
    postgres::set_up_session(&client).await?;
    let mut this = Opening { settings, order, target, client };
    let mut wire = None;
    if order.source.is_wal() {
        wire = Some(this.wire().await?);
    }
    let (sink, event_bytes_max) = this.redis().await?;
    let filter = this.filter().await?;
    let range = this.range(wire.as_ref()).await?;
    if order.is_dry_run {
        let feed = this.feed(wire, sink, (&range, event_bytes_max), Position::START).await?;
        let target = order.target.as_deref();
        let intake = Intake::counting(settings, &filter, target);
        return Ok(Opened { feed, intake, range, journal: None });
    }
    let Some(replayer) = sink else { unreachable!("only a dry run does without Redis") };
    let start = wire.as_ref().filter(|_| matches!(order.source, Source::Bookmark(_)));
    let start = start.map(|wire| wire.standpoint.confirmed);
    let identity = order.identity(settings, &this.system_id().await?, start);
    let (head, is_known) = Journal::find(&replayer, &identity, order.is_again).await?;
    let range = if is_known { (head.from.clone(), head.until.clone()) } else { range };
    let journal =
        Journal::open(replayer.clone(), &identity, (head, is_known), range.clone()).await?;
    if is_known {
        let (events, _) = journal.events();
        let note = format!(
            "going on with the replay that was begun at {}: {events} events are in their streams \
             (--again begins anew)",
            journal.began()
        );
        tell(Told::Note(&note));
    }
    let done = journal.done();
    let names = (replayer.sha().to_owned(), journal.name().to_owned());
    let feed = this.feed(wire, Some(replayer), (&range, event_bytes_max), done).await?;
    let chosen = (&filter, order.target.as_deref());
    let intake = Intake::new(settings, chosen, (&names.0, &names.1), done);
    Ok(Opened { feed, intake, range, journal: Some(journal) })
}

impl Opening<'_> {
    /// What slot to copy, and the connection to copy it on.
    async fn wire(&mut self) -> Result<Wire> {
        let settings = self.settings;
        let facts = postgres::facts(&self.client).await?;
        if !facts.may_replicate {
            return Err(postgres::missing_replication_right(&facts.role));
        }
        let standpoint = match &self.order.source {
            Source::Bookmark(name) => {
                let place = (self.target.database(), &settings.outbox_table);
                slots::of_bookmark(&self.client, name, place).await?
            }
            Source::Lsn(lsn) => slots::before(&self.client, *lsn, settings).await?,
            Source::Since(_) | Source::Ids(_) | Source::Aggregate | Source::Letters(_) => {
                unreachable!("only asked for sources that are the WAL")
            }
        };
        postgres::need_free_slot(&self.client, "a replay out of the WAL").await?;
        let bytes_max = settings.max_event_bytes.saturating_add(FRAME_SLACK_BYTES);
        let mut replication = self.target.replication(bytes_max).await?;
        let wal_end = replication.identify().await?.wal_end;
        Ok(Wire { replication, standpoint, wal_end, has_messages: facts.has_messages })
    }

    /// The filter as events are held against it, outside the table as well as in it.
    async fn filter(&self) -> Result<Filter> {
        let outbox = &self.settings.outbox_table;
        let rows = postgres::describe_table(&self.client, outbox).await?;
        let parts = outbox.parts(&postgres::names_and_types(&rows));
        Ok(self.order.filter.as_printed(parts.is_uuid("aggregate_id")))
    }

    async fn redis(&self) -> Result<(Option<Replayer>, usize)> {
        let settings = self.settings;
        let needs_redis = !self.order.is_dry_run || matches!(self.order.source, Source::Letters(_));
        if !needs_redis {
            return Ok((None, settings.max_event_bytes));
        }
        let doing = format!("cannot use Redis at {}", sink::label(&settings.redis_url));
        let failed = |failure: sink::Failure| failure.into_error(&doing);
        let timeouts =
            Timeouts { connect: settings.connect_timeout, reply: settings.redis_timeout };
        let sink = Sink::connect(&settings.redis_url, timeouts).await.map_err(failed)?;
        let facts = sink.facts().await.map_err(failed)?;
        let bytes_max = facts.bulk_bytes_max.map_or(settings.max_event_bytes, |max| {
            max.saturating_sub(ENTRY_SLACK_BYTES).min(settings.max_event_bytes)
        });
        Ok((Some(Replayer::load(sink).await.map_err(failed)?), bytes_max))
    }

    async fn system_id(&self) -> Result<String> {
        let row = self.client.query_one(SYSTEM_IDENTIFIER, &[]).await;
        let row = row.map_err(|error| from_sql("cannot identify the PostgreSQL server", error))?;
        Ok(row.get("system_id"))
    }

    /// Where a replay that begins now begins and ends.
    async fn range(&self, wire: Option<&Wire>) -> Result<(String, String)> {
        if let Some(Wire { standpoint, wal_end, .. }) = wire {
            let from =
                if let Source::Lsn(lsn) = self.order.source { lsn } else { standpoint.confirmed };
            let until = match self.order.until {
                Range::Lsn(lsn) => lsn,
                Range::Time(_) | Range::Now => *wal_end,
            };
            for (option, lsn) in [("--from-lsn", from), ("--until", until)] {
                if lsn > *wal_end {
                    let what = format!("{option} {lsn} is ahead of the WAL, which ends at");
                    return Err(Error::usage(format!("{what} {wal_end}")));
                }
            }
            return Ok((from.to_string(), until.to_string()));
        }
        let until = match &self.order.until {
            Range::Time(when) => when.resolve(&self.client).await?,
            Range::Lsn(_) | Range::Now => When::Now.resolve(&self.client).await?,
        };
        let from = if let Source::Since(when) = &self.order.source {
            when.resolve(&self.client).await?.text
        } else {
            String::new()
        };
        Ok((from, until.text))
    }

    async fn feed(
        self,
        wire: Option<Wire>,
        replayer: Option<Replayer>,
        ((from, until), event_bytes_max): (&(String, String), usize),
        done: Position,
    ) -> Result<Feed> {
        let Self { settings, order, client, .. } = self;
        let meaning = Meaning {
            outbox: settings.outbox_table.clone(),
            stream: settings.stream_name.clone(),
            event_bytes_max,
            contract: settings.contract.clone(),
            messages: settings.messages,
        };
        if let Some(wire) = wire {
            let span = Span { from: lsn(from)?, until: lsn(until)? };
            return wire.stream(settings, meaning, span, done).await;
        }
        let outbox = Outbox::new(client, &settings.outbox_table).await?;
        if let (Source::Letters(stream), Some(replayer)) = (&order.source, replayer) {
            let millis = When::At(until.clone()).resolve(&outbox.client).await?.millis;
            let letters = Letters::new((replayer, outbox), meaning, stream, millis);
            return Ok(Feed::Letters(Box::new(letters)));
        }
        let (names, until) = if let Source::Ids(typed) = &order.source {
            // Who names rows means them, whenever they were written.
            (Some(outbox.names(typed)?), None)
        } else {
            (None, Some(until.clone()))
        };
        let since = Some(from.clone()).filter(|from| !from.is_empty());
        let wanted = outbox.wanted(names, (since, until), &order.filter)?;
        Ok(Feed::Table(Box::new(Table::open(outbox, wanted, meaning, done).await?)))
    }
}

impl Wire {
    /// Copies the slot in this very session and streams from the copy: no other session can.
    async fn stream(
        mut self,
        settings: &Settings,
        meaning: Meaning,
        span: Span,
        done: Position,
    ) -> Result<Feed> {
        let copy = format!("walrelay_replay_{:08x}", fastrand::u32(..));
        let stands = self.replication.copy_slot(&self.standpoint.slot, &copy).await?;
        let from = span.from.max(done.commit_lsn);
        if stands > from {
            return Err(Error::transient(format!(
                "replication slot {:?} has moved past {from} just now",
                self.standpoint.slot
            ))
            .hint("try again: another slot may stand there; bookmarks do not move"));
        }
        // Together they let through what each would: all rows, whatever the number of shards.
        let publications: Vec<String> =
            settings.shards.all().map(|shard| shard.name(&settings.publication_base)).collect();
        let names = (copy.as_str(), publications.as_slice());
        let wal =
            Wal::start((self.replication, self.has_messages), names, meaning, (span, from)).await?;
        Ok(Feed::Wal(Box::new(wal)))
    }
}

fn lsn(text: &str) -> Result<Lsn> {
    text.parse().map_err(|error| {
        Error::definite(format!("the journal of the replay says {text:?} for an LSN"))
            .because(error)
            .hint("begin anew with --again")
    })
}
