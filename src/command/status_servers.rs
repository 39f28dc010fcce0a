//! What PostgreSQL and Redis say of the relay, asked by ourselves.
//!
//! In: settings. Out: facts, or why there are none, in words. It must stay true that every question
//! has an end (a statement timeout for what counts rows, a deadline for all of it), that nothing is
//! changed, and that a right which this role lacks costs that one answer and no other.

use std::time::Duration;

use tokio_postgres::Client;

use super::status::Subject;
use super::status_report::{Holder, Line, Rows, Stream};
use crate::config::{AfterPublish, DatabaseUrl, Outbox};
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::outbox::moment;
use crate::postgres::{self, Surveyed, Target, Tenure, from_sql};
use crate::sink::{self, Failure, Reader, Timeouts};

const SERVER: &str = include_str!("../../sql/queries/status_server.sql");
const SESSION: &str = include_str!("../../sql/queries/status_session.sql");
const PARKED: &str = include_str!("../../sql/queries/status_parked.sql");
const DEAD: &str = include_str!("../../sql/queries/status_dead.sql");
const UNPUBLISHED: &str = include_str!("../../sql/queries/status_unpublished.sql");
const FIND_TABLE: &str = include_str!("../../sql/queries/find_table.sql");
const SYSTEM_IDENTIFIER: &str = include_str!("../../sql/queries/system_identifier.sql");

/// For all that one server is asked; three counts of two seconds fit in.
const DEADLINE: Duration = Duration::from_secs(10);
/// A server that takes longer to let us in is away, for somebody who waits for an answer.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Streams that are looked at.
const STREAMS_MAX: usize = 100;
/// Who holds the table and has done nothing for so long counts all the same: it has the table.
const PATIENCE_SECONDS: f64 = 60.0;
/// How the relay names its connections.
const APPLICATION: &str = "walrelay";

/// What PostgreSQL says.
#[derive(Clone, Debug)]
pub(super) struct PostgresFacts {
    pub at: String,
    pub current: Lsn,
    /// All slots of the configuration, those of other numbers of shards too.
    pub slots: Vec<Surveyed>,
    /// How many shards there are.
    pub of: u8,
    pub state: &'static str,
    pub role: &'static str,
    pub table: String,
    pub rows: Rows,
    /// The configured slots, in the order of the shards.
    pub names: Vec<(Option<u8>, String)>,
    /// What names the cluster in checkpoints.
    pub system: Option<String>,
}

/// What Redis says.
#[derive(Clone, Debug)]
pub(super) struct RedisFacts {
    pub at: String,
    pub streams: Vec<Stream>,
}

impl PostgresFacts {
    /// The configured slots, there or not, and then those that are left over.
    pub fn lines(&self) -> Vec<Line> {
        let configured = self.names.iter().map(|(shard, name)| {
            let slot = self.slots.iter().find(|slot| slot.name == *name);
            let state = match slot {
                None => "missing",
                Some(slot) if slot.lost.is_some() => "lost",
                Some(slot) if slot.holder.is_some() => "held",
                Some(_) => "idle",
            };
            let (slot, state) = (name.clone(), state.to_owned());
            Line { shard: *shard, slot, state, ..Line::default() }
        });
        let left_over = self.slots.iter().filter(|slot| slot.shard.of != self.of);
        configured.chain(left_over.map(Line::left_over)).collect()
    }
}

/// Asks PostgreSQL; `counts` says whether rows are counted as well.
pub(super) async fn postgres(subject: &Subject, counts: bool) -> Result<PostgresFacts, String> {
    let Some(url) = &subject.database else { return Err("database_url is not set".to_owned()) };
    in_time("PostgreSQL", ask_postgres(subject, url, counts)).await
}

/// Asks Redis for the checkpoints of the system, and for its streams.
pub(super) async fn redis(subject: &Subject, system: Option<&str>) -> Result<RedisFacts, String> {
    if subject.redis.is_none() {
        return Err("redis_url is not set".to_owned());
    }
    in_time("Redis", ask_redis(subject, system)).await
}

async fn in_time<T>(who: &str, asking: impl Future<Output = Result<T>>) -> Result<T, String> {
    let late = |_| Err(Error::transient(format!("{who} gave no answer in {DEADLINE:?}")));
    let answer = tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(late);
    answer.map_err(|error| error.to_string())
}

async fn ask_postgres(subject: &Subject, url: &DatabaseUrl, counts: bool) -> Result<PostgresFacts> {
    let target = Target::new(url, subject.connect_timeout.min(CONNECT_MAX))?;
    let client = target.sql().await?;
    postgres::set_up_session(&client).await?;
    let doing = "cannot ask the PostgreSQL server how it is";
    client.batch_execute(SESSION).await.map_err(|error| from_sql(doing, error))?;
    let row = client.query_one(SERVER, &[]).await.map_err(|error| from_sql(doing, error))?;
    let version: &str = row.get("version");
    let is_standby = if row.get("is_standby") { ", a standby" } else { "" };
    let current: Option<&str> = row.get("current_lsn");
    let slots = postgres::survey(&client, &subject.slot).await?;
    let mut facts = PostgresFacts {
        at: format!("PostgreSQL {version} at {}{is_standby}", target.label()),
        current: current.and_then(|text| text.parse().ok()).unwrap_or(Lsn::NONE),
        slots,
        of: subject.shards.of(),
        state: "not running",
        role: "unknown",
        table: subject.table.to_string(),
        rows: Rows::default(),
        names: subject.slots(),
        system: None,
    };
    if counts {
        (facts.state, facts.role) = at_work(&client, subject, &facts).await;
        facts.system = system(&client).await;
        facts.rows = rows(&client, &subject.table, subject.after_publish).await;
    }
    Ok(facts)
}

/// Whether somebody relays, as far as PostgreSQL can tell.
async fn at_work(
    client: &Client,
    subject: &Subject,
    facts: &PostgresFacts,
) -> (&'static str, &'static str) {
    let is_held = |name: &str| {
        let slot = facts.slots.iter().find(|slot| slot.name == name);
        slot.and_then(|slot| slot.holder.as_ref()).is_some_and(|(_, application)| {
            application.as_deref().is_none_or(|application| application.starts_with(APPLICATION))
        })
    };
    if facts.names.iter().all(|(_, name)| is_held(name)) {
        return ("streaming", "leader");
    }
    let whole = Tenure::Line(crate::config::Shard::WHOLE);
    match postgres::table_holder(client, &subject.table, whole, PATIENCE_SECONDS).await {
        Ok(Some(holder)) if holder.polls => ("polling", "poller"),
        Ok(Some(_)) => ("working", "leader"),
        Ok(None) | Err(_) => ("not running", "none"),
    }
}

async fn system(client: &Client) -> Option<String> {
    let row = client.query_one(SYSTEM_IDENTIFIER, &[]).await.ok()?;
    row.try_get("system_id").ok()
}

/// Counts rows, each kind by itself: what cannot be counted is not known.
async fn rows(client: &Client, table: &Outbox, after_publish: AfterPublish) -> Rows {
    let mut rows = Rows::default();
    let columns = match client.query(FIND_TABLE, &[&table.schema, &table.name]).await {
        Ok(found) => found,
        Err(error) => {
            rows.error = Some(from_sql("cannot read the outbox's columns", error).to_string());
            return rows;
        }
    };
    let parts = table.parts(&postgres::names_and_types(&columns));
    let has = |part: &str| parts.has(part);
    if columns.is_empty() {
        rows.error = Some(format!("table {table} does not exist"));
        return rows;
    }
    if !["published", "next_attempt_at", "dead_lettered_at"].into_iter().all(has) {
        rows.error = Some(format!("table {table} lacks columns that `walrelay setup` adds"));
        return rows;
    }
    let known = table.without(has);
    let sql = |template: &str| known.sql(template);
    let whole = |row: &tokio_postgres::Row, name: &str| {
        row.try_get::<_, i64>(name).ok().and_then(|count| u64::try_from(count).ok())
    };
    let mut fault = |error| {
        let text = from_sql("rows were not counted", error).to_string();
        rows.error.get_or_insert(text);
    };
    let parked = client.query_one(&sql(PARKED), &[]).await.map_err(&mut fault).ok();
    let dead = client.query_one(&sql(DEAD), &[]).await.map_err(&mut fault).ok();
    // Rows that are kept as they are bear no mark.
    let unpublished = match after_publish {
        AfterPublish::Keep => None,
        AfterPublish::Mark | AfterPublish::Delete => {
            client.query_one(&sql(UNPUBLISHED), &[]).await.map_err(&mut fault).ok()
        }
    };
    rows.parked = parked.as_ref().and_then(|row| whole(row, "parked"));
    rows.due = parked.as_ref().and_then(|row| whole(row, "due"));
    rows.dead = dead.as_ref().and_then(|row| whole(row, "dead"));
    rows.unpublished = unpublished.as_ref().and_then(|row| whole(row, "unpublished"));
    rows.oldest_unpublished_seconds =
        unpublished.and_then(|row| row.try_get::<_, Option<f64>>("seconds").ok().flatten());
    rows
}

async fn ask_redis(subject: &Subject, system: Option<&str>) -> Result<RedisFacts> {
    let Some(url) = &subject.redis else {
        return Err(Error::usage("redis_url is not set"));
    };
    let doing = format!("cannot ask Redis at {}", sink::label(url));
    let connect = subject.connect_timeout.min(CONNECT_MAX);
    let timeouts = Timeouts { connect, reply: subject.redis_timeout };
    let asking = async {
        let reader = Reader::connect(url, timeouts).await?;
        let at = format!("{} at {}", reader.version().await?, sink::label(url));
        let reached = match system {
            Some(system) => reader.checkpoints(system).await?,
            None => Vec::new(),
        };
        let mut streams = Vec::new();
        let configured = subject.slots();
        for (_, slot) in &configured {
            // Its key is known: no looking through keys, which a user may not be allowed to.
            let Some(system) = system else { continue };
            let key = sink::checkpoint_key(&subject.stream, &format!("{slot}@{system}"));
            if let Some(position) = reader.position(&key).await? {
                let checkpoint = Some(position.commit_lsn.to_string());
                let (name, slot) = (subject.stream.clone(), Some(slot.clone()));
                streams.push(Stream { name, slot, checkpoint, ..Stream::default() });
            }
        }
        for of in reached {
            let Some((slot, _)) = of.source.split_once('@') else { continue };
            let is_ours = configured.iter().any(|(_, name)| name == slot);
            if is_ours && of.stream != subject.stream {
                let checkpoint = of.position.map(|position| position.commit_lsn.to_string());
                let (name, slot) = (of.stream, Some(slot.to_owned()));
                streams.push(Stream { name, slot, checkpoint, ..Stream::default() });
            }
        }
        if streams.is_empty() {
            streams.push(Stream { name: subject.stream.clone(), ..Stream::default() });
        }
        streams.truncate(STREAMS_MAX);
        for stream in &mut streams {
            look_at(&reader, stream).await?;
        }
        Ok::<_, Failure>(RedisFacts { at, streams })
    };
    asking.await.map_err(|failure| failure.into_error(&doing))
}

/// Its length and its last entry; nothing where its key is no stream or not ours to read.
async fn look_at(reader: &Reader, stream: &mut Stream) -> Result<(), Failure> {
    let looked = async {
        let entries = reader.len(&stream.name).await?;
        Ok::<_, Failure>((entries, reader.back(&stream.name, None, 1).await?))
    };
    let (entries, last) = match looked.await {
        Ok(looked) => looked,
        Err(failure) if failure.is_of_the_stream() => return Ok(()),
        Err(failure) => return Err(failure),
    };
    stream.entries = Some(entries);
    if let Some(entry) = last.first() {
        stream.last_id = Some(entry.id.to_string());
        let millis = i64::try_from(entry.id.millis).unwrap_or(i64::MAX);
        let age = moment::now().saturating_sub(millis.saturating_mul(1_000)).max(0);
        let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
        stream.last_age_seconds = Some(age.as_secs_f64());
    }
    Ok(())
}

/// Who holds a slot, for people.
pub(super) fn who(holder: &Holder) -> String {
    let application = holder.application.as_deref().unwrap_or("unknown");
    format!("{application} (pid {})", holder.pid)
}
