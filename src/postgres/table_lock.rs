//! Who works on an outbox: one line, or any number of pollers, never both.
//!
//! In: an SQL session. Out: whether the table is ours for as long as that session lasts. Two lines
//! are kept apart by the slot, a line and a poller by this.

use tokio_postgres::Client;

use super::failure::from_sql;
use crate::config::TableName;
use crate::error::{Error, Result};

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
