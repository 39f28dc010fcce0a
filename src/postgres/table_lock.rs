//! Who works on an outbox: one line, or any number of pollers, never both.
//!
//! In: an SQL session. Out: whether the table is ours for as long as that session lasts. Two lines
//! are kept apart by the slot, a line and a poller by this.

use tokio_postgres::Client;

use super::failure::from_sql;
use crate::config::TableName;
use crate::error::{Error, Result};

const TABLE_HOLDER: &str = include_str!("../../sql/queries/table_holder.sql");
const TRY_LOCK_TABLE: &str = include_str!("../../sql/queries/try_lock_table.sql");

/// How a table is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// By a line: nobody else.
    Alone,
    /// By pollers.
    Shared,
}

/// Tries to take the table for this session; false when others work on it in the other way.
pub async fn try_lock(client: &Client, table: &TableName, tenure: Tenure) -> Result<bool> {
    let doing = format!("cannot take the relay's lock on table {table}");
    let is_alone = tenure == Tenure::Alone;
    let row = client
        .query_opt(TRY_LOCK_TABLE, &[&table.schema, &table.name, &is_alone])
        .await
        .map_err(|error| from_sql(&doing, error))?;
    let missing = || Error::definite(format!("table {table} does not exist"));
    row.map(|row| row.get("is_ours")).ok_or_else(missing)
}

/// Somebody who works on a table.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The server's process.
    pub pid: i32,
    /// Its application_name.
    pub application: String,
    /// How.
    pub tenure: Tenure,
    /// Whether it has asked the server nothing for a while.
    pub is_idle: bool,
}

/// Who works on the table besides this session; a line before a poller. `idle_seconds` is what
/// counts as a while.
pub async fn holder(
    client: &Client,
    table: &TableName,
    idle_seconds: f64,
) -> Result<Option<Holder>> {
    let doing = format!("cannot read who works on table {table}");
    let row = client
        .query_opt(TABLE_HOLDER, &[&table.schema, &table.name, &idle_seconds])
        .await
        .map_err(|error| from_sql(&doing, error))?;
    Ok(row.map(|row| Holder {
        pid: row.get("pid"),
        application: row.get("application"),
        tenure: if row.get("is_alone") { Tenure::Alone } else { Tenure::Shared },
        is_idle: row.get("is_idle"),
    }))
}
