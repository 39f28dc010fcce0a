//! Row by row along the primary key, from where the last round ended.

use std::time::Duration;

use super::keeper::{Broom, pause};
use crate::config::TableName;
use crate::error::Result;
use crate::postgres::{from_sql, is_lock_conflict};

pub(super) const DELETE: &str = include_str!("../../sql/queries/retention_delete.sql");

/// Rows looked at by one statement, and so the most that it locks and deletes: some milliseconds.
const BATCH_ROWS: i64 = 500;
/// Between two statements: 5,000 rows a second at most.
const BATCH_PAUSE: Duration = Duration::from_millis(100);
/// After so many rounds one begins at the first row again: for rows that somebody held, and for
/// those that were committed or settled behind the walk.
const ROUNDS_PER_WALK: u32 = 16;

/// What is old by now.
pub(super) struct Ages {
    pub xmin: i64,
    /// Seconds.
    pub retention: f64,
    pub aged: Option<i64>,
}

/// Where a table's walk stands.
pub(super) struct Walk {
    /// Nothing at or below it can be deleted yet, or it was somebody else's when we came by.
    floor: i64,
    rounds: u32,
}

impl Default for Walk {
    fn default() -> Self {
        Self { floor: i64::MIN, rounds: 0 }
    }
}

/// What one statement saw.
struct Seen {
    rows: i64,
    last: Option<i64>,
    first_young: Option<i64>,
    deleted: i64,
}

impl Walk {
    /// Deletes what may go, until it meets rows that are all too young.
    pub async fn round(
        &mut self,
        broom: &mut Broom,
        sql: &str,
        ages: &Ages,
        table: &TableName,
    ) -> Result<()> {
        self.rounds += 1;
        if self.rounds >= ROUNDS_PER_WALK {
            *self = Self::default();
        }
        let mut at = self.floor;
        let mut has_young = false;
        loop {
            let before = broom.wal_bytes().await?;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&ages.xmin, &ages.retention, &ages.aged, &at, &BATCH_ROWS];
            let seen = match broom.client.query_one(sql, &parameters).await {
                Ok(row) => Seen {
                    rows: row.get("seen"),
                    last: row.get("last"),
                    first_young: row.get("first_young"),
                    deleted: row.get("deleted"),
                },
                // Somebody holds the whole table, or the other one of two: the next round is soon.
                Err(error) if is_lock_conflict(&error) => return Ok(()),
                Err(error) => {
                    let doing = format!("cannot delete old rows of table {table}");
                    return Err(from_sql(&doing, error));
                }
            };
            broom.status.metrics.expired.inc_by(u64::try_from(seen.deleted).unwrap_or(0));
            if let Some(last) = seen.last {
                at = last;
            }
            if !has_young {
                self.floor = seen.first_young.map_or(at, |young| young.saturating_sub(1));
                has_young = seen.first_young.is_some();
            }
            if seen.is_end() {
                return Ok(());
            }
            let written = broom.wal_bytes().await?.saturating_sub(before);
            let least = if seen.deleted > 0 { BATCH_PAUSE } else { Duration::ZERO };
            tokio::time::sleep(pause(written, least)).await;
        }
    }
}

impl Seen {
    /// Ids rise with time, more or less: behind a batch in which something is too young and nothing
    /// could go, the rest is younger still. Rows that must stay for other reasons are stepped over.
    fn is_end(&self) -> bool {
        self.rows < BATCH_ROWS || (self.deleted == 0 && self.first_young.is_some())
    }
}
