//! All slots that belong to one `slot_name`, as they are: for commands that show or drop them.
//!
//! In: an SQL client and the setting. Out: [`Surveyed`] slots. It must stay true that nothing is
//! refused here: what is wrong with a slot is part of the picture.

use tokio_postgres::Client;

use super::failure::from_sql;
use crate::config::Shard;
use crate::error::Result;
use crate::lsn::Lsn;

const SLOTS_OF: &str = include_str!("../../sql/queries/slots_of.sql");

/// A slot as it is.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// Its name.
    pub name: String,
    /// Which line's it is.
    pub shard: Shard,
    /// The output plugin; anything but pgoutput is somebody else's.
    pub plugin: String,
    /// The process that holds it, and that connection's application_name where this role may see
    /// it.
    pub holder: Option<(i32, Option<String>)>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Why it can never be read again.
    pub lost: Option<String>,
    /// So much more WAL may be written before it is lost; `None` where nothing bounds that.
    pub safe_bytes: Option<i64>,
    /// From here on PostgreSQL keeps the WAL for it.
    pub restart: Option<Lsn>,
    /// Nothing before this is sent again.
    pub confirmed: Option<Lsn>,
    /// WAL that is kept for it.
    pub kept_bytes: Option<u64>,
    /// WAL that it has not confirmed.
    pub behind_bytes: Option<u64>,
}

/// The slots whose names are made from `slot_base`.
pub async fn survey(client: &Client, slot_base: &str) -> Result<Vec<Surveyed>> {
    let doing = format!("cannot read the replication slots of {slot_base:?}");
    let rows = client.query(SLOTS_OF, &[&slot_base]).await;
    let rows = rows.map_err(|error| from_sql(&doing, error))?;
    let surveyed = |row: &tokio_postgres::Row| {
        let name: String = row.get("slot_name");
        let shard = Shard::of_name(slot_base, &name)?;
        let lsn = |column: &str| row.get::<_, Option<&str>>(column)?.parse().ok();
        let bytes = |column: &str| u64::try_from(row.get::<_, Option<i64>>(column)?).ok();
        let wal_status: Option<String> = row.get("wal_status");
        let reason: Option<String> = row.get("invalidation_reason");
        let is_lost = wal_status.as_deref() == Some("lost") || reason.is_some();
        let pid: Option<i32> = row.get("active_pid");
        Some(Surveyed {
            name,
            shard,
            plugin: row.get::<_, Option<String>>("plugin").unwrap_or_default(),
            holder: pid.map(|pid| (pid, row.get("active_application"))),
            wal_status,
            lost: is_lost.then(|| reason.unwrap_or_else(|| "its WAL is gone".to_owned())),
            safe_bytes: row.get("safe_bytes"),
            restart: lsn("restart_lsn"),
            confirmed: lsn("confirmed_lsn"),
            kept_bytes: bytes("kept_bytes"),
            behind_bytes: bytes("behind_bytes"),
        })
    };
    Ok(rows.iter().filter_map(surveyed).collect())
}
