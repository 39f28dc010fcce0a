//! The columns of a table, and what this role may do with them.
//!
//! In: an SQL client and a table. Out: rows of `find_table.sql`, or names and type oids, in their
//! order. No column: no table.

use tokio_postgres::{Client, Row};

use super::failure::from_sql;
use crate::config::TableName;
use crate::error::{Error, Result};

const FIND_TABLE: &str = include_str!("../../sql/queries/find_table.sql");

/// A row for each column; none where there is no such table.
pub async fn describe(client: &Client, table: &TableName) -> Result<Vec<Row>> {
    let doing = format!("cannot read the columns of table {table}");
    client
        .query(FIND_TABLE, &[&table.schema, &table.name])
        .await
        .map_err(|error| from_sql(&doing, error))
}

/// Names and type oids of what [`describe`] says.
#[must_use]
pub fn names_and_types(rows: &[Row]) -> Vec<(String, u32)> {
    rows.iter().map(|row| (row.get("column_name"), row.get("type_oid"))).collect()
}

/// The columns; a definite error where there is no such table.
pub async fn columns(client: &Client, table: &TableName) -> Result<Vec<(String, u32)>> {
    let rows = describe(client, table).await?;
    if rows.is_empty() {
        return Err(Error::definite(format!("table {table} does not exist"))
            .hint("create it with `walrelay setup`, or correct outbox_table"));
    }
    Ok(names_and_types(&rows))
}
