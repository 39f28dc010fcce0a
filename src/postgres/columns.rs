//! The columns of a table, by name and type.
//!
//! In: an SQL client and a table. Out: names and type oids, in their order. No column: no table.

use tokio_postgres::Client;

use super::failure::from_sql;
use crate::config::TableName;
use crate::error::{Error, Result};

const FIND_TABLE: &str = include_str!("../../sql/queries/find_table.sql");

/// The columns; a definite error where there is no such table.
pub async fn columns(client: &Client, table: &TableName) -> Result<Vec<(String, u32)>> {
    let doing = format!("cannot read the columns of table {table}");
    let rows = client
        .query(FIND_TABLE, &[&table.schema, &table.name])
        .await
        .map_err(|error| from_sql(&doing, error))?;
    if rows.is_empty() {
        return Err(Error::definite(format!("table {table} does not exist"))
            .hint("create it with `walrelay setup`, or correct outbox_table"));
    }
    Ok(rows.iter().map(|row| (row.get("column_name"), row.get("type_oid"))).collect())
}
