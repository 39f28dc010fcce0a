//! Bookmarks: replication slots that nobody streams from, each of which pins a position of the WAL.
//!
//! In: an SQL client, names. Out: [`Standpoint`]s, of bookmarks and of others. It must stay true
//! that a bookmark is known by its name alone ([`PREFIX`], which no slot of a line can begin with:
//! config refuses it), that nothing else is dropped from here, and that no slot is ever moved. To
//! replay is to stream from a temporary copy, made in the session that streams.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::failure::from_sql;
use super::quote;
use super::replication::Replication;
use crate::config::BOOKMARK_PREFIX as PREFIX;
use crate::error::{Error, Result};
use crate::lsn::Lsn;

const LIST_SLOTS: &str = include_str!("../../sql/queries/list_slots.sql");
const SLOT_KINDS: &str = include_str!("../../sql/queries/slot_kinds.sql");
const SLOTS_IN_USE: &str = include_str!("../../sql/queries/slots_in_use.sql");
const WAL_AGE: &str = include_str!("../../sql/queries/wal_age.sql");
const CREATE_BOOKMARK: &str = include_str!("../../sql/queries/create_bookmark.sql");
const COPY_SLOT_HERE: &str = include_str!("../../sql/queries/copy_slot_here.sql");

/// To create a slot is to wait for the locks of open transactions.
const WAIT_FOR_LOCKS: &str = "SET lock_timeout = 0";

/// A slot from which events can be read again, or could.
#[derive(Clone, Debug)]
pub struct Standpoint {
    /// The slot's name.
    pub slot: String,
    /// Whether somebody streams from it.
    pub is_active: bool,
    /// The oldest WAL that it holds.
    pub restart: Option<Lsn>,
    /// What is committed from here on it sends.
    pub confirmed: Lsn,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes of WAL that may still be written before it is lost; `None` for no bound.
    pub safe_bytes: Option<i64>,
    /// Whether its WAL is gone.
    pub is_lost: bool,
    /// Bytes of WAL that it holds.
    pub retained_bytes: Option<u64>,
}

impl Standpoint {
    /// The bookmark's name, if it is one.
    #[must_use]
    pub fn bookmark(&self) -> Option<&str> {
        self.slot.strip_prefix(PREFIX)
    }
}

/// The slot of a bookmark.
#[must_use]
pub fn slot_of(bookmark: &str) -> String {
    format!("{PREFIX}{bookmark}")
}

/// All slots of this database that could be copied, those that stand furthest back first.
pub async fn standpoints(client: &Client) -> Result<Vec<Standpoint>> {
    let doing = "cannot list the replication slots";
    let rows = client.query(LIST_SLOTS, &[]).await.map_err(|e| from_sql(doing, e))?;
    let lsn = |text: Option<&str>| text.and_then(|text| text.parse::<Lsn>().ok());
    Ok(rows
        .iter()
        .map(|row| Standpoint {
            slot: row.get("slot_name"),
            is_active: row.get("active"),
            restart: lsn(row.get("restart_lsn")),
            confirmed: lsn(row.get("confirmed_lsn")).unwrap_or(Lsn::NONE),
            wal_status: row.get("wal_status"),
            safe_bytes: row.get("safe_wal_size"),
            is_lost: row.get("is_lost"),
            retained_bytes: row
                .get::<_, Option<i64>>("retained_bytes")
                .and_then(|bytes| u64::try_from(bytes).ok()),
        })
        .collect())
}

/// Seconds since the WAL at these positions was written, at least; nothing where this role may not
/// know.
pub async fn ages(client: &Client, positions: &[Lsn]) -> HashMap<Lsn, f64> {
    let texts: Vec<String> = positions.iter().map(ToString::to_string).collect();
    match client.query(WAL_AGE, &[&texts]).await {
        Ok(rows) => rows
            .iter()
            .filter_map(|row| Some((row.get::<_, &str>("lsn").parse().ok()?, row.get("seconds"))))
            .collect(),
        Err(error) => {
            tracing::debug!(error = %from_sql("cannot read the age of WAL", error), "no ages");
            HashMap::new()
        }
    }
}

/// A definite error where the server takes no more slots: which it has, and how many it may have.
pub async fn need_free_slot(client: &Client, purpose: &str) -> Result<()> {
    let doing = "cannot count the replication slots";
    let row = client.query_one(SLOTS_IN_USE, &[]).await.map_err(|e| from_sql(doing, e))?;
    let (allowed, names): (i64, Vec<String>) = (row.get("allowed"), row.get("names"));
    if i64::try_from(names.len()).is_ok_and(|used| used < allowed) {
        return Ok(());
    }
    Err(Error::definite(format!(
        "{purpose} needs a free replication slot, and all {allowed} (max_replication_slots) are \
         in use: {}",
        names.join(", ")
    ))
    .hint(
        "drop one that nobody uses (`walrelay bookmark list` shows those that are bookmarks), or \
         raise max_replication_slots and restart PostgreSQL",
    ))
}

/// Pins the present end of the WAL, once the transactions that are open by now have ended.
pub async fn create_now(client: &Client, slot: &str) -> Result<Lsn> {
    let doing = format!("cannot create replication slot {slot:?}");
    let failed = |error| from_sql(&doing, error);
    client.batch_execute(WAIT_FOR_LOCKS).await.map_err(failed)?;
    let row = client.query_one(CREATE_BOOKMARK, &[&slot]).await.map_err(failed)?;
    let text: &str = row.get("confirmed_lsn");
    text.parse().map_err(|error| Error::transient(doing.clone()).because(error))
}

/// A definite error unless there is a bookmark of that name in this database.
pub async fn need_bookmark(client: &Client, name: &str, database: &str) -> Result<()> {
    let slot = slot_of(name);
    let doing = format!("cannot read replication slot {slot:?}");
    let found = client.query_opt(SLOT_KINDS, &[&slot]).await.map_err(|e| from_sql(&doing, e))?;
    let Some(row) = found else { return Err(no_bookmark(client, name).await) };
    let (plugin, of): (&str, &str) = (row.get("plugin"), row.get("database"));
    if plugin != "pgoutput" || row.get("temporary") {
        return Err(Error::definite(format!(
            "replication slot {slot:?} is no bookmark, though it is named like one: {plugin}"
        ))
        .hint("let whoever made it drop it: SELECT pg_drop_replication_slot(...)"));
    }
    if of != database {
        return Err(Error::definite(format!("bookmark {name:?} is one of database {of:?}"))
            .hint(format!("name that database in database_url instead of {database:?}")));
    }
    Ok(())
}

async fn no_bookmark(client: &Client, name: &str) -> Error {
    let found = client.query_opt(SLOT_KINDS, &[&name]).await;
    let is_slot = matches!(found, Ok(Some(_)));
    let error = Error::definite(format!("there is no bookmark {name:?}"));
    if is_slot {
        return error.hint(format!(
            "replication slot {name:?} is there, but it is no bookmark; `walrelay bookmark list` \
             shows what is"
        ));
    }
    error.hint("`walrelay bookmark list` shows those that are")
}

impl Replication {
    /// A temporary slot of this session where the slot `from` stands, to be streamed from with
    /// [`Replication::start_at`]. Returns where that is.
    pub async fn copy_slot(&mut self, from: &str, to: &str) -> Result<Lsn> {
        let doing = format!("cannot copy replication slot {from:?} for the time of the replay");
        // The scanner of replication commands before PostgreSQL 15 knows no comments.
        let lines = COPY_SLOT_HERE.lines().filter(|line| !line.starts_with("--"));
        let sql = lines
            .collect::<Vec<_>>()
            .join(" ")
            .replace("{from}", &quote::literal(from))
            .replace("{to}", &quote::literal(to));
        let rows = self.ask(&sql, &doing).await?;
        let lsn = rows.into_iter().next().and_then(|row| row.into_iter().next()?);
        let lsn = lsn.and_then(|text| text.parse().ok());
        lsn.ok_or_else(|| Error::transient(format!("{doing}: its answer makes no sense")))
    }
}
