//! Facts about the server, asked once per start of the line, and the complaints that follow from
//! them.
//!
//! In: an SQL client. Out: [`Facts`]. Asked on the SQL connection, because some managed servers
//! refuse SHOW and SELECT in replication mode. What a role or a database sets holds for both
//! connections, for they log in to the same.

use std::time::Duration;

use tokio_postgres::Client;

use super::failure::{from_sql, standby};
use crate::error::{Error, Result};

const SERVER_FACTS: &str = include_str!("../../sql/queries/server_facts.sql");

/// The oldest PostgreSQL that has all we ask for: publish_via_partition_root and wal_status came
/// with 13.
const VERSION_MIN: i32 = 130_000;
/// Logical messages pass through pgoutput from 14 on.
const VERSION_MESSAGES: i32 = 140_000;

/// What the server is.
#[derive(Clone, Debug)]
pub struct Facts {
    /// For people: `15.18`.
    pub version: String,
    /// For programs: 150018.
    pub version_num: i32,
    /// How much it writes to the WAL.
    pub wal_level: String,
    /// Whether pgoutput can pass on logical messages.
    pub has_messages: bool,
    /// `wal_sender_timeout`: how long our stream may be silent; `None` is for ever.
    pub wal_sender_timeout: Option<Duration>,
    /// The role we are logged in as.
    pub role: String,
    /// Whether that role may stream.
    pub may_replicate: bool,
}

/// Asks the server, and refuses one that cannot serve a slot: too old, wal_level too low. A standby
/// is waited for: it may be about to be promoted.
pub async fn facts(client: &Client) -> Result<Facts> {
    let facts = facts_without_wal(client).await?;
    if facts.wal_level != "logical" {
        let wal_level = &facts.wal_level;
        return Err(Error::definite(format!(
            "PostgreSQL runs with wal_level = {wal_level}: it writes no logical changes"
        ))
        .hint(
            "set wal_level = logical (ALTER SYSTEM SET wal_level = logical) and restart \
             PostgreSQL, or set mode = poll",
        ));
    }
    Ok(facts)
}

/// The same for a server whose WAL is not to be read.
pub async fn facts_without_wal(client: &Client) -> Result<Facts> {
    let doing = "cannot read the facts of the PostgreSQL server";
    let row = client.query_one(SERVER_FACTS, &[]).await.map_err(|e| from_sql(doing, e))?;
    let version_num: i32 = row.get("version_num");
    let version: String = row.get("version");
    let wal_level: String = row.get("wal_level");
    if version_num < VERSION_MIN {
        return Err(Error::definite(format!("PostgreSQL {version} is too old"))
            .hint("walrelay needs PostgreSQL 13 or later"));
    }
    if row.get("is_standby") {
        return Err(standby("the PostgreSQL server is a standby"));
    }
    let timeout_ms: i64 = row.get("wal_sender_timeout_ms");
    let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
    Ok(Facts {
        version,
        version_num,
        wal_level,
        has_messages: version_num >= VERSION_MESSAGES,
        wal_sender_timeout: (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms)),
        role: row.get("role"),
        may_replicate: row.get("may_replicate"),
    })
}

/// The complaint about a role that may not stream.
#[must_use]
pub fn missing_replication_right(role: &str) -> Error {
    Error::definite(format!(
        "role {role:?} has no REPLICATION attribute: it may not stream the WAL"
    ))
    .hint(format!("ALTER ROLE {} REPLICATION", super::quote::ident(role)))
}
