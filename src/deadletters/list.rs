//! Dead or parked events, those that need somebody first at the head. Never a payload.

use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::desk::{Desk, Filter};
use crate::error::Result;

const LIST: &str = include_str!("../../sql/queries/dlq_list.sql");
const LIST_PARKED: &str = include_str!("../../sql/queries/dlq_list_parked.sql");

/// Which rows are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Given up.
    Dead,
    /// To be tried again.
    Parked,
}

impl Rows {
    /// As people call them.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Parked => "parked",
        }
    }

    /// The column that says since when, or when.
    fn time(self) -> &'static str {
        match self {
            Self::Dead => "dead_lettered_at",
            Self::Parked => "next_attempt_at",
        }
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The first of them.
    pub events: Vec<Event>,
    /// How many there are in all.
    pub total: i64,
}

/// A row that was not delivered, as far as it is anybody's business.
#[derive(Clone, Debug)]
pub struct Event {
    rows: Rows,
    /// The row.
    pub id: String,
    /// The event's identity.
    pub event_id: Option<String>,
    /// Its type.
    pub event_type: Option<String>,
    /// Where it was to go.
    pub stream: Option<String>,
    /// Whose it is.
    pub aggregate_id: Option<String>,
    /// How often it was refused.
    pub attempts: Option<i64>,
    /// Dead since, or tried again at; RFC 3339. None for a moment that is infinitely far.
    pub since: Option<String>,
    /// Why.
    pub error: Option<String>,
}

impl Event {
    fn read(rows: Rows, row: &Row) -> Self {
        let text = |name| row.get::<_, Option<String>>(name);
        Self {
            rows,
            id: text("id").unwrap_or_default(),
            event_id: text("event_id"),
            event_type: text("event_type"),
            stream: text("stream"),
            aggregate_id: text("aggregate_id"),
            attempts: row.get("attempts"),
            since: text("since"),
            error: text("error"),
        }
    }

    /// As JSON, the row's id as a number.
    #[must_use]
    pub fn document(&self) -> Value {
        let id: Option<i64> = self.id.parse().ok();
        json!({
            "id": id,
            "event_id": self.event_id,
            "event_type": self.event_type,
            "stream": self.stream,
            "aggregate_id": self.aggregate_id,
            "attempts": self.attempts,
            self.rows.time(): self.since,
            "error": self.error,
        })
    }
}

/// What the filter means, at most `limit` of it.
pub async fn list(desk: &Desk<'_>, filter: &Filter, rows: Rows, limit: u32) -> Result<Listing> {
    let sql = desk.sql(match rows {
        Rows::Dead => LIST,
        Rows::Parked => LIST_PARKED,
    });
    let limit = i64::from(limit);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = filter.parameters(desk.outbox).to_vec();
    parameters.push(&limit);
    let doing = format!("cannot list the {} rows", rows.name());
    let found = desk.client.query(&sql, &parameters).await;
    let found = found.map_err(|error| desk.failed(&doing, error))?;
    Ok(Listing {
        total: found.first().map_or(0, |row| row.get("total")),
        events: found.iter().map(|row| Event::read(rows, row)).collect(),
    })
}
