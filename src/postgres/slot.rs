//! The replication slot: find it, create it, copy it, drop it; refuse one that is not ours.
//!
//! In: an SQL client and a name. Out: [`Slot`]. It must stay true that a slot is never moved from
//! here, and that one is dropped only by its name and where nobody holds it: the server refuses
//! anything else.

use tokio_postgres::Client;

use super::failure::from_sql;
use super::quote;
use crate::config::{Backlog, Outbox, Shard};
use crate::error::{Error, Result};
use crate::lsn::Lsn;

const FIND_SLOT: &str = include_str!("../../sql/queries/find_slot.sql");
const CREATE_SLOT: &str = include_str!("../../sql/slot.sql");
const COPY_SLOT: &str = include_str!("../../sql/queries/copy_slot.sql");
const DROP_SLOT: &str = include_str!("../../sql/queries/drop_slot.sql");
const SIBLING_SLOTS: &str = include_str!("../../sql/queries/sibling_slots.sql");
const FREE_SLOTS: &str = include_str!("../../sql/queries/free_slots.sql");

/// A logical slot that can serve us.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The process that streams from it now.
    pub active_pid: Option<i32>,
    /// That connection's application_name, where this role may see it.
    pub active_application: Option<String>,
    /// Where it stands: nothing before this is sent again.
    pub confirmed: Lsn,
    /// Why it can never be read again: PostgreSQL has removed WAL that it needed, or made it
    /// invalid.
    pub lost: Option<String>,
}

/// The slot with this name, or `None`. A slot of another plugin or database and a temporary one are
/// definite errors.
pub async fn find(client: &Client, name: &str, database: &str) -> Result<Option<Slot>> {
    let doing = format!("cannot read replication slot {name:?}");
    let row = client.query_opt(FIND_SLOT, &[&name]).await.map_err(|e| from_sql(&doing, e))?;
    let Some(row) = row else { return Ok(None) };
    let plugin: Option<String> = row.get("plugin");
    if plugin.as_deref() != Some("pgoutput") {
        let plugin = plugin.unwrap_or_else(|| "none (a physical slot)".to_owned());
        return Err(Error::definite(format!(
            "replication slot {name:?} belongs to another plugin: {plugin}, not pgoutput"
        ))
        .hint("choose another slot_name, or drop that slot if nobody uses it"));
    }
    let of: Option<String> = row.get("database");
    if of.as_deref() != Some(database) {
        let of = of.unwrap_or_default();
        return Err(Error::definite(format!(
            "replication slot {name:?} belongs to database {of:?}, not to {database:?}"
        ))
        .hint("choose another slot_name: slot names are shared by all databases of a server"));
    }
    if row.get("temporary") {
        return Err(Error::definite(format!(
            "replication slot {name:?} is temporary: it would not survive its connection"
        ))
        .hint("choose another slot_name"));
    }
    let wal_status: Option<String> = row.get("wal_status");
    let reason: Option<String> = row.get("invalidation_reason");
    let is_lost = wal_status.as_deref() == Some("lost") || reason.is_some();
    let confirmed: Option<String> = row.get("confirmed_lsn");
    Ok(Some(Slot {
        active_pid: row.get("active_pid"),
        active_application: row.get("active_application"),
        confirmed: confirmed.and_then(|text| text.parse().ok()).unwrap_or(Lsn::NONE),
        lost: is_lost.then(|| reason.unwrap_or_else(|| "its WAL is gone".to_owned())),
    }))
}

/// Creates the slot of a shard, unless it is there; `base` is what slot_name is set to. It stands
/// at the present end of the WAL: what was committed before is not sent by it. With
/// [`Backlog::Publish`] there is none afterwards where the table holds unpublished rows; nor is
/// there one where slots of another division are.
pub async fn create(
    client: &Client,
    (base, shard): (&str, Shard),
    table: &Outbox,
    backlog: Backlog,
) -> Result<()> {
    let doing = format!("cannot create replication slot {:?}", shard.name(base));
    let sql = create_sql((base, shard), table, backlog);
    client.batch_execute(&sql).await.map_err(|error| from_sql(&doing, error))
}

/// A permanent slot `to` that stands where `from` does, of whichever session that is.
pub async fn copy(client: &Client, from: &str, to: &str) -> Result<()> {
    let doing = format!("cannot create replication slot {to:?}");
    let copied = client.query_one(COPY_SLOT, &[&from, &to]).await;
    copied.map(drop).map_err(|error| from_sql(&doing, error))
}

/// Drops a slot that nobody holds; nothing happens where it is gone already.
pub async fn drop_idle(client: &Client, name: &str) -> Result<()> {
    let doing = format!("cannot drop replication slot {name:?}");
    let dropped = client.query(DROP_SLOT, &[&name]).await;
    dropped.map(drop).map_err(|error| {
        from_sql(&doing, error)
            .hint(format!("SELECT pg_drop_replication_slot({})", quote::literal(name)))
    })
}

/// The slots that belong to a relay with this `slot_name`, but for those of lines that are `of`
/// shards in all; 0 excepts none.
pub async fn siblings(client: &Client, slot_base: &str, of: u8) -> Result<Vec<(String, Shard)>> {
    let doing = format!("cannot read the replication slots of {slot_base:?}");
    let rows = client.query(SIBLING_SLOTS, &[&slot_base]).await;
    let rows = rows.map_err(|error| from_sql(&doing, error))?;
    let shard = |name: String| Shard::of_name(slot_base, &name).map(|shard| (name, shard));
    let found = rows.iter().filter_map(|row| shard(row.get("slot_name")));
    Ok(found.filter(|(_, shard)| shard.of != of).collect())
}

/// How many more slots the server takes.
pub async fn free(client: &Client) -> Result<i64> {
    let doing = "cannot count the replication slots";
    let row = client.query_one(FREE_SLOTS, &[]).await.map_err(|e| from_sql(doing, e))?;
    Ok(row.get("free"))
}

/// What [`create`] runs.
#[must_use]
pub fn create_sql((base, shard): (&str, Shard), table: &Outbox, backlog: Backlog) -> String {
    let publishes = if backlog == Backlog::Publish { "true" } else { "false" };
    table
        .sql(CREATE_SLOT)
        .replace("{slot}", &quote::literal(&shard.name(base)))
        .replace("{others}", &quote::literal(&shard.others(base)))
        .replace("{publishes_backlog}", publishes)
}
