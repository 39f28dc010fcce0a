//! Getting a line going: connect, check, create what is missing, take the slot.
//!
//! In: settings. Out: [`Start`], everything a line stands on, with START_REPLICATION done. It must
//! stay true that each precondition is checked here, with an error that names the object and the
//! next step, before anything is published; and that what may change while we are away is read
//! again at every start.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::line::{Limits, Line};
use super::settle::{Marker, Settler};
use crate::config::{AfterPublish, Settings};
use crate::error::{Error, Result};
use crate::outbox::Plan;
use crate::postgres::{self, Replication, Slot, Target, from_sql, quote};
use crate::sink::{self, Durable, Sink, Timeouts};
use crate::telemetry::{Endpoints, State, Status};

const FIND_TABLE: &str = include_str!("../../sql/queries/find_table.sql");
const COUNT_UNPUBLISHED: &str = include_str!("../../sql/queries/count_unpublished.sql");

/// How often a standby looks whether the slot is free: well inside the second or two in which it is
/// to lead.
const STANDBY_POLL: Duration = Duration::from_millis(500);
/// A frame carries one row of the WAL: an event with its column names and PostgreSQL's own bytes,
/// and other columns.
const FRAME_SLACK_BYTES: usize = 64 * 1024 * 1024;
/// Status updates leave at least this many times within wal_sender_timeout.
const FEEDBACK_PER_TIMEOUT: u32 = 4;

/// Everything a line stands on.
pub(super) struct Start {
    pub line: Line,
    pub replication: Replication,
    pub sink: Sink,
    pub settler: Settler,
    pub marker: Marker,
    /// The server's timeline, for the checkpoints.
    pub timeline: u32,
    /// How often the server is told where we stand.
    pub feedback_interval: Duration,
    /// A checkpoint's key, for trying writes.
    pub probe_key: String,
    /// What runs where, for people.
    pub endpoints: Endpoints,
}

/// The settings, and the way to PostgreSQL made of them.
pub(super) struct Context {
    pub settings: Arc<Settings>,
    pub target: Target,
    pub status: Arc<Status>,
}

impl Context {
    /// Fails only for a wrong URL or unreadable certificates.
    pub fn new(settings: Arc<Settings>, status: Arc<Status>) -> Result<Self> {
        let target = Target::new(&settings.database_url, settings.connect_timeout)?;
        Ok(Self { settings, target, status })
    }

    pub fn timeouts(&self) -> Timeouts {
        Timeouts { connect: self.settings.connect_timeout, reply: self.settings.redis_timeout }
    }

    /// Brings a line up. While another relay holds the slot this waits, as a standby.
    pub async fn start(&self) -> Result<Start> {
        let settings = &*self.settings;
        let client = self.target.sql().await?;
        let facts = postgres::facts(&client).await?;
        if !facts.may_replicate {
            return Err(postgres::missing_replication_right(&facts.role));
        }
        check_table(&client, settings).await?;
        self.prepare_publication(&client).await?;
        let slot = self.free_slot(&client).await?;
        let (sink, durable, redis) = self.connect_redis().await?;

        let frame_bytes_max = settings.max_event_bytes.saturating_add(FRAME_SLACK_BYTES);
        let mut replication = self.target.replication(frame_bytes_max).await?;
        let standing = replication.identify().await?;
        let source = format!("{}@{}", settings.slot_name, standing.system_id);
        let marker = Marker::new(client, &settings.outbox_table, settings.after_publish).await?;
        replication
            .start(&settings.slot_name, &settings.publication_name, facts.has_messages)
            .await?;
        let longest = facts.wal_sender_timeout.map(|timeout| timeout / FEEDBACK_PER_TIMEOUT);
        let feedback_interval =
            longest.map_or(settings.feedback_interval, |max| max.min(settings.feedback_interval));
        Ok(Start {
            line: Line::new(limits(settings, &sink, source.clone()), slot.confirmed),
            replication,
            probe_key: sink::checkpoint_key(&settings.stream_name, &source),
            sink,
            settler: Settler::new(durable, settings.after_publish, Instant::now()),
            marker,
            timeline: standing.timeline,
            feedback_interval,
            endpoints: Endpoints {
                postgres: format!("PostgreSQL {} at {}", facts.version, self.target.label()),
                redis,
                slot: settings.slot_name.clone(),
                publication: settings.publication_name.clone(),
                table: settings.outbox_table.to_string(),
                stream: settings.stream_name.clone(),
                after_publish: settings.after_publish.name(),
                durability: describe(settings, durable),
            },
        })
    }

    async fn prepare_publication(&self, client: &Client) -> Result<()> {
        let Settings { publication_name: name, outbox_table: table, auto_create, .. } =
            &*self.settings;
        if postgres::find_publication(client, name, table).await? {
            return Ok(());
        }
        if !auto_create {
            return Err(missing(&format!("publication {name:?}")));
        }
        postgres::create_publication(client, name, table).await?;
        tracing::info!(publication = name, table = %table, "publication created");
        Ok(())
    }

    /// The slot, once nobody holds it.
    async fn free_slot(&self, client: &Client) -> Result<Slot> {
        let name = &self.settings.slot_name;
        let mut is_said = false;
        loop {
            let Some(slot) = postgres::find_slot(client, name, self.target.database()).await?
            else {
                self.create_slot(client).await?;
                continue;
            };
            let Some(pid) = slot.active_pid else { return Ok(slot) };
            self.status.enter(State::Standby);
            if !std::mem::replace(&mut is_said, true) {
                let holder = slot.active_application.as_deref().unwrap_or("unknown");
                tracing::info!(
                    slot = name,
                    pid,
                    holder,
                    "standby: the slot is in use; taking over once it is free"
                );
            }
            tokio::time::sleep(STANDBY_POLL).await;
        }
    }

    async fn create_slot(&self, client: &Client) -> Result<()> {
        let Settings { slot_name: name, outbox_table: table, auto_create, .. } = &*self.settings;
        if !auto_create {
            return Err(missing(&format!("replication slot {name:?}")));
        }
        postgres::create_slot(client, name).await?;
        tracing::info!(slot = name, "replication slot created: events from now on are published");
        let sql =
            COUNT_UNPUBLISHED.replace("{table}", &quote::qualified(&table.schema, &table.name));
        let doing = format!("cannot count the unpublished rows of table {table}");
        let row = match client.query_one(&sql, &[]).await {
            Ok(row) => row,
            // A table without the flag has nothing to count.
            Err(error) if postgres::is_undefined_column(&error) => return Ok(()),
            Err(error) => return Err(from_sql(&doing, error)),
        };
        let unpublished: i64 = row.get("unpublished");
        if unpublished > 0 {
            tracing::warn!(
                table = %table,
                rows = unpublished,
                "the table holds unpublished rows from before the slot: the slot does not send them"
            );
        }
        Ok(())
    }

    async fn connect_redis(&self) -> Result<(Sink, Durable, String)> {
        let settings = &*self.settings;
        let label = sink::label(&settings.redis_url);
        let doing = format!("cannot use Redis at {label}");
        let sink = Sink::connect(&settings.redis_url, self.timeouts())
            .await
            .map_err(|failure| failure.into_error(&doing))?;
        let facts = sink.facts().await.map_err(|failure| failure.into_error(&doing))?;
        let durable = facts.durable(settings.durability)?;
        if let Some(policy) = facts.maxmemory_policy.as_deref()
            && policy.starts_with("allkeys-")
        {
            tracing::warn!(
                policy,
                "Redis throws any key away when its memory is full, streams too: set \
                 maxmemory-policy noeviction"
            );
        }
        Ok((sink, durable, format!("{} at {label}", facts.version)))
    }
}

fn limits(settings: &Settings, sink: &Sink, source: String) -> Limits {
    Limits {
        outbox: settings.outbox_table.clone(),
        stream: settings.stream_name.clone(),
        source,
        format: settings.entry_format,
        batch_events: settings.batch_size.get(),
        batch_bytes: settings.batch_bytes,
        batches_in_flight: settings.batches_in_flight.get(),
        event_bytes_max: settings.max_event_bytes,
        maxlen: settings.stream_maxlen.map_or(0, std::num::NonZeroU64::get),
        publish_sha: sink.publish_sha(),
    }
}

/// The outbox: there, with the columns an event needs, and with the privileges to settle rows.
async fn check_table(client: &Client, settings: &Settings) -> Result<()> {
    let table = &settings.outbox_table;
    let doing = format!("cannot read the columns of table {table}");
    let rows = client
        .query(FIND_TABLE, &[&table.schema, &table.name])
        .await
        .map_err(|error| from_sql(&doing, error))?;
    let Some(first) = rows.first() else {
        return Err(Error::definite(format!("table {table} does not exist"))
            .hint("create it with `walrelay setup`, or correct outbox_table"));
    };
    let (may_update, may_delete) = (first.get("may_update"), first.get("may_delete"));
    let columns: Vec<(String, u32)> =
        rows.iter().map(|row| (row.get("column_name"), row.get("type_oid"))).collect();
    let described = columns.iter().map(|(name, oid)| (name.as_str(), *oid));
    Plan::from_columns(table, &described)?;
    let quoted = quote::qualified(&table.schema, &table.name);
    let (is_allowed, grant) = match settings.after_publish {
        AfterPublish::Mark => (may_update, "UPDATE (published, published_at)"),
        AfterPublish::Delete => (may_delete, "DELETE"),
        AfterPublish::Keep => (true, ""),
    };
    if !is_allowed {
        return Err(Error::definite(format!(
            "after_publish = {}, but this role may not do that on table {table}",
            settings.after_publish.name()
        ))
        .hint(format!("GRANT SELECT, {grant} ON {quoted} TO the role in database_url")));
    }
    if settings.after_publish == AfterPublish::Mark {
        let has = |wanted: &str| columns.iter().any(|(name, _)| name == wanted);
        if !has("published") || !has("published_at") {
            return Err(Error::definite(format!(
                "after_publish = mark, but table {table} lacks the column published or published_at"
            ))
            .hint("add them with `walrelay setup`, or set after_publish to delete or keep"));
        }
    }
    Ok(())
}

fn missing(what: &str) -> Error {
    Error::definite(format!("{what} does not exist, and auto_create is off"))
        .hint("create it with `walrelay setup`")
}

fn describe(settings: &Settings, durable: Durable) -> String {
    let name = settings.durability.name();
    match durable {
        Durable::AtOnce => name.to_owned(),
        Durable::After(hold) => format!("{name} (confirmed {} s after the write)", hold.as_secs()),
    }
}
