//! Rows from before the slot that cannot be published now: parked, as the line parks its own.
//!
//! In: rows with their reasons. Out: they bear attempts, the time of the next one, the reason, and
//! a place in the order of commits just before the slot's beginning. It must stay true that such
//! places rise with the rows' ids, that they lie before everything that the slot sends, and that a
//! row that somebody else has settled stays as it is.

use std::collections::HashSet;

use tokio_postgres::{Client, Statement};

use crate::config::{Outbox, Retry};
use crate::error::{Error, Result};
use crate::lsn::{Lsn, Position};
use crate::outbox::Unfit;
use crate::poller::WAITS_BEHIND;
use crate::postgres::{from_sql, is_lock_conflict};
use crate::sink::Failure;

const PARK_BACKLOG: &str = include_str!("../../sql/queries/park_backlog.sql");
const HELD_AGGREGATES: &str = include_str!("../../sql/queries/held_aggregates.sql");

/// A row that is to be parked.
pub(super) struct Park {
    pub id: i64,
    attempts: u32,
    reason: String,
}

impl Park {
    pub fn refused(id: i64, failure: &Failure) -> Self {
        Self { id, attempts: 1, reason: failure.to_string() }
    }

    /// The poller finds the same and gives it to the dead letters: it is due at once.
    pub fn unfit(id: i64, unfit: &Unfit) -> Self {
        Self { id, attempts: 0, reason: unfit.to_string() }
    }

    pub fn behind(id: i64) -> Self {
        Self { id, attempts: 0, reason: WAITS_BEHIND.to_owned() }
    }
}

/// Parks rows; says once that it does.
pub(super) struct Parker {
    table: Outbox,
    retry: Retry,
    /// None where the table lacks the columns for it.
    statement: Option<Statement>,
    /// The place of the row parked last.
    last: Position,
}

impl Parker {
    /// For a slot that begins at `consistent`. The statement is prepared in the session of
    /// `client`.
    pub async fn new(
        client: &Client,
        table: &Outbox,
        retry: Retry,
        consistent: Lsn,
        can_park: bool,
    ) -> Result<Self> {
        let sql = table.sql(PARK_BACKLOG);
        let doing = format!("cannot prepare parking rows of table {table}");
        let statement = if can_park {
            Some(client.prepare(&sql).await.map_err(|error| from_sql(&doing, error))?)
        } else {
            None
        };
        // A commit record may begin at the slot's very first byte.
        let before = Lsn::new(consistent.as_u64().saturating_sub(1));
        let last = Position { commit_lsn: before, ordinal: 0 };
        Ok(Self { table: table.clone(), retry, statement, last })
    }

    /// Returns when the rows are parked, or settled by somebody else.
    pub async fn park(&mut self, client: &Client, parks: &[Park]) -> Result<()> {
        let Some(first) = parks.first() else { return Ok(()) };
        let Some(statement) = &self.statement else {
            return Err(Error::definite(format!(
                "row id={} of table {} cannot be published ({}), and the table has no columns to \
                 park it",
                first.id, self.table, first.reason
            ))
            .hint("add them with `walrelay setup`, or correct the row"));
        };
        let ids: Vec<i64> = parks.iter().map(|park| park.id).collect();
        let attempts: Vec<i32> =
            parks.iter().map(|park| i32::try_from(park.attempts).unwrap_or(i32::MAX)).collect();
        let delays: Vec<f64> = parks.iter().map(|park| self.delay(park.attempts)).collect();
        let reasons: Vec<&str> = parks.iter().map(|park| park.reason.as_str()).collect();
        let mut last = self.last;
        let places: Vec<String> = parks
            .iter()
            .map(|_| {
                last.ordinal = last.ordinal.saturating_add(1);
                last.to_string()
            })
            .collect();
        let doing = format!("cannot park rows of table {}", self.table);
        loop {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&ids, &attempts, &delays, &reasons, &places];
            match client.execute(statement, &values).await {
                Ok(_) => break,
                // A row that somebody has locked is waited for.
                Err(error) if is_lock_conflict(&error) => {}
                Err(error) => return Err(from_sql(&doing, error)),
            }
        }
        self.last = last;
        tracing::warn!(
            table = %self.table, rows = ids.len(), first_id = first.id, reason = first.reason,
            "rows from before the slot cannot be published now: parked"
        );
        Ok(())
    }

    /// Milliseconds until the next attempt. Where there is to be none the poller says so: at once.
    fn delay(&self, attempts: u32) -> f64 {
        let delay = if attempts == 0 { None } else { self.retry.delay(attempts, fastrand::f64()) };
        delay.unwrap_or_default().as_secs_f64() * 1_000.0
    }
}

/// Aggregates with an event that is parked already, among the rows that `mine` is true of.
pub(super) async fn held(client: &Client, table: &Outbox, mine: &str) -> Result<HashSet<Vec<u8>>> {
    let sql = table.sql(HELD_AGGREGATES).replace("{mine}", mine);
    let doing = format!("cannot read the parked rows of table {table}");
    let rows = client.query(&sql, &[&i64::MAX]).await.map_err(|error| from_sql(&doing, error))?;
    let aggregate = |row: &tokio_postgres::Row| row.get::<_, Option<String>>("aggregate_id");
    Ok(rows.iter().filter_map(aggregate).map(String::into_bytes).collect())
}
