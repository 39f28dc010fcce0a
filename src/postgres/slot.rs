//! The replication slot: find it, create it, refuse one that is not ours.
//!
//! In: an SQL client and a name. Out: [`Slot`]. It must stay true that a slot is never dropped or
//! moved from here.

use tokio_postgres::Client;

use super::failure::{SLOT_IS_LOST, from_sql};
use super::quote;
use crate::error::{Error, Result};
use crate::lsn::Lsn;

const FIND_SLOT: &str = include_str!("../../sql/queries/find_slot.sql");
const CREATE_SLOT: &str = include_str!("../../sql/slot.sql");

/// A logical slot that can serve us.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The process that streams from it now.
    pub active_pid: Option<i32>,
    /// That connection's application_name, where this role may see it.
    pub active_application: Option<String>,
    /// Where it stands: nothing before this is sent again.
    pub confirmed: Lsn,
}

/// The slot with this name, or `None`. A slot of another plugin or database, a temporary one and a
/// lost one are definite errors.
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
    if wal_status.as_deref() == Some("lost") {
        return Err(Error::definite(format!(
            "replication slot {name:?} is lost: PostgreSQL removed WAL that it still needed \
             (max_slot_wal_keep_size)"
        ))
        .hint(SLOT_IS_LOST));
    }
    let confirmed: Option<String> = row.get("confirmed_lsn");
    Ok(Some(Slot {
        active_pid: row.get("active_pid"),
        active_application: row.get("active_application"),
        confirmed: confirmed.and_then(|text| text.parse().ok()).unwrap_or(Lsn::NONE),
    }))
}

/// Creates the slot, unless it is there. It stands at the present end of the WAL: what was
/// committed before is not sent by it.
pub async fn create(client: &Client, name: &str) -> Result<()> {
    let doing = format!("cannot create replication slot {name:?}");
    client.batch_execute(&create_sql(name)).await.map_err(|error| from_sql(&doing, error))
}

/// What [`create`] runs.
#[must_use]
pub fn create_sql(name: &str) -> String {
    CREATE_SLOT.replace("{slot}", &quote::literal(name))
}
