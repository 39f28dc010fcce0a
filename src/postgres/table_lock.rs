//! Who works on an outbox: one line, or the lines of one division into shards, or any number of
//! pollers.
//!
//! In: an SQL session. Out: whether the table is ours to work on for as long as that session lasts.
//! Each has one advisory lock on the table, of a number that says what it is:
//!
//! ```text
//!   1635018099           one line (exclusive), pollers (shared)
//!   1635020000 + 100*N + k     shard k of N (exclusive)
//! ```
//!
//! Those of one way (a line and pollers; the shards of one N) are kept apart, or let in together,
//! by PostgreSQL's lock modes. Those of different ways are kept apart by a look at what is held,
//! and a lock that is the door makes one step of looking and taking (`try_lock_table.sql`). It must
//! stay true that nobody takes one of these locks by another way than through the door.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::failure::{from_sql, is_lock_conflict};
use crate::config::{Shard, TableName};
use crate::error::{Error, Result};

const TABLE_HOLDER: &str = include_str!("../../sql/queries/table_holder.sql");
const TRY_LOCK_TABLE: &str = include_str!("../../sql/queries/try_lock_table.sql");
const TRY_LOCK_CLEARING: &str = include_str!("../../sql/queries/try_lock_clearing.sql");

/// The lock of a line for all rows, and of pollers.
const WHOLE: i32 = 1_635_018_099;
/// Where the locks of shards begin.
const SHARDS: i32 = 1_635_020_000;
/// Numbers for the shards of one division.
const PER_DIVISION: i32 = 100;

/// How a table is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// By the line of a shard: nobody else, but for the other shards of its division.
    Line(Shard),
    /// By pollers.
    Shared,
}

impl Tenure {
    /// The number of its lock, and the first and last of its way.
    fn numbers(self) -> (i32, i32, i32) {
        match self {
            Self::Line(shard) if !shard.is_whole() => {
                let first = SHARDS + PER_DIVISION * i32::from(shard.of);
                (first + i32::from(shard.number), first, first + PER_DIVISION - 1)
            }
            Self::Line(_) | Self::Shared => (WHOLE, WHOLE, WHOLE),
        }
    }
}

/// Tries to take the table for this session; false when others work on it in a way that does not go
/// with ours.
pub async fn try_lock(client: &Client, table: &TableName, tenure: Tenure) -> Result<bool> {
    let doing = format!("cannot take the relay's lock on table {table}");
    let is_alone = tenure != Tenure::Shared;
    let (number, first, last) = tenure.numbers();
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&table.schema, &table.name, &number, &is_alone, &first, &last];
    let row = match client.query_opt(TRY_LOCK_TABLE, &parameters).await {
        Ok(row) => row,
        // Very many are at the door.
        Err(error) if is_lock_conflict(&error) => return Ok(false),
        Err(error) => return Err(from_sql(&doing, error)),
    };
    let missing = || Error::definite(format!("table {table} does not exist"));
    row.map(|row| row.get("is_ours")).ok_or_else(missing)
}

/// Tries to be, for this session, the one who clears away what lines of another division left
/// behind.
pub async fn try_lock_clearing(client: &Client, table: &TableName) -> Result<bool> {
    let doing = format!("cannot take the relay's lock on table {table}");
    let asked = client.query_opt(TRY_LOCK_CLEARING, &[&table.schema, &table.name]).await;
    let row = asked.map_err(|error| from_sql(&doing, error))?;
    Ok(row.is_some_and(|row| row.get("is_ours")))
}

/// Somebody who works on a table.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The server's process.
    pub pid: i32,
    /// Its application_name.
    pub application: String,
    /// Whether it polls; else it is a line.
    pub polls: bool,
    /// Whether it streams from no slot and has asked the server nothing for a while.
    pub is_idle: bool,
}

/// Who keeps this session from working on the table in that way; a line before a poller.
/// `idle_seconds` is what counts as a while.
pub async fn holder(
    client: &Client,
    table: &TableName,
    tenure: Tenure,
    idle_seconds: f64,
) -> Result<Option<Holder>> {
    let doing = format!("cannot read who works on table {table}");
    let (number, first, last) = tenure.numbers();
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&table.schema, &table.name, &number, &first, &last, &idle_seconds];
    let asked = client.query_opt(TABLE_HOLDER, &parameters).await;
    let row = asked.map_err(|error| from_sql(&doing, error))?;
    Ok(row.map(|row| Holder {
        pid: row.get("pid"),
        application: row.get("application"),
        polls: !row.get::<_, bool>("is_alone"),
        is_idle: row.get("is_idle"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SHARDS_MAX;

    #[test]
    fn every_shard_has_a_number_of_its_own_within_its_division() {
        let mut numbers = vec![Tenure::Shared.numbers().0];
        for of in 2..=SHARDS_MAX {
            for number in 1..=of {
                let (own, first, last) = Tenure::Line(Shard { number, of }).numbers();
                assert!(first < own && own <= last && last < SHARDS + 2_000);
                numbers.push(own);
            }
        }
        assert_eq!(Tenure::Line(Shard::WHOLE).numbers(), Tenure::Shared.numbers());
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
}
