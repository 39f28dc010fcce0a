//! What the server says of the stream that we read: asked beside it, over SQL.
//!
//! In: an SQL client, a slot, and the process id of the replication connection. Out:
//! [`Walsender`]. It must stay true that the answer is about that very process: two connections may
//! have reached two servers (several hosts, a balancer, a failover in between), and then what one
//! says does not hold for the other.

use tokio_postgres::Client;

use super::failure::from_sql;
use super::replication::Replication;
use crate::error::{Error, Result};
use crate::lsn::Lsn;

const WALSENDER: &str = include_str!("../../sql/queries/walsender.sql");

/// The slot as its walsender holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walsender {
    /// Where the slot stands: nothing before this is sent again.
    pub confirmed: Lsn,
    /// The end of the WAL that is on disk. Whoever streamed from the slot before us saw no more.
    pub wal_end: Lsn,
    /// `sync`, `quorum`, `potential` or `async`: whether commits on the server wait for us.
    pub sync_state: Option<String>,
}

/// What the server says of `stream`, which has been started from `slot`. When its process does not
/// hold the slot on the server that `client` talks to, the error is transient, begin again; unless
/// the stream has ended already and says why.
pub async fn walsender(client: &Client, slot: &str, stream: &mut Replication) -> Result<Walsender> {
    match ask(client, slot, stream.pid()).await {
        Ok(walsender) => Ok(walsender),
        Err(error) => Err(stream.ending().await.unwrap_or(error)),
    }
}

/// Whether the server's process `pid` still holds `slot`; when not, the error is transient.
pub async fn holds(client: &Client, slot: &str, pid: i32) -> Result<()> {
    ask(client, slot, pid).await.map(drop)
}

async fn ask(client: &Client, slot: &str, pid: i32) -> Result<Walsender> {
    let doing = format!("cannot read who streams from replication slot {slot:?}");
    let row = client.query_opt(WALSENDER, &[&slot]).await.map_err(|e| from_sql(&doing, e))?;
    let Some(row) = row else {
        return Err(Error::transient(format!(
            "replication slot {slot:?} is not on the server that SQL goes to: the replication \
             connection has reached another server"
        )));
    };
    let holder: Option<i32> = row.get("active_pid");
    if holder != Some(pid) {
        let holder = holder.map_or_else(|| "nobody".to_owned(), |pid| format!("process {pid}"));
        return Err(Error::transient(format!(
            "replication slot {slot:?} is held by {holder}, not by process {pid} that streams to \
             us: the two connections have reached different servers, or it was taken away"
        ))
        .hint("a pooler or proxy between us and PostgreSQL may hide the process: go around it"));
    }
    let confirmed: Option<String> = row.get("confirmed_lsn");
    let wal_end: String = row.get("wal_end");
    Ok(Walsender {
        confirmed: confirmed.and_then(|text| text.parse().ok()).unwrap_or(Lsn::NONE),
        wal_end: wal_end.parse().map_err(|error| Error::transient(doing).because(error))?,
        sync_state: row.get("sync_state"),
    })
}
