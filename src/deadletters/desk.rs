//! A session on the outbox for whoever decides what becomes of dead events.
//!
//! In: where PostgreSQL is, which table, whose patience. Out: a session that waits for locks only
//! so long, on a table that is known to have what dead letters need; and statements with its names
//! filled in.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::config::{DatabaseUrl, Outbox as Table, Parts};
use crate::error::{Error, Result};
use crate::postgres::{self, Target, from_sql};

const FILTER: &str = include_str!("../../sql/queries/dlq_filter.sql");

/// What a dead letter needs of its row; `walrelay setup` adds all that an outbox may lack.
const NEEDED: [&str; 12] = [
    "id",
    "event_id",
    "event_type",
    "aggregate_id",
    "topic",
    "published",
    "published_at",
    "attempts",
    "started_attempts",
    "next_attempt_at",
    "error_message",
    "dead_lettered_at",
];

/// The table, and where its rows go that say nothing else.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// The outbox.
    pub table: Table,
    /// The stream of rows without a topic.
    pub stream: String,
}

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Somebody at a terminal, who can end it. Two people may change many rows at once: the second
    /// waits for the first, which takes about a second for a hundred thousand rows.
    Terminal,
    /// A page that asks again. What it left behind must not go on for ever.
    Page,
}

impl Patience {
    fn statements(self) -> &'static str {
        match self {
            Self::Terminal => "SET lock_timeout = '10s'",
            Self::Page => "SET lock_timeout = '2s'; SET statement_timeout = '5s'",
        }
    }
}

/// A session on an outbox that has what is needed.
pub struct Desk<'a> {
    /// The session.
    pub client: Client,
    /// The table.
    pub outbox: &'a Outbox,
    event_id_is_uuid: bool,
    event_ids: String,
}

impl<'a> Desk<'a> {
    /// Connects, and looks whether the table has the columns.
    pub async fn open(
        url: &DatabaseUrl,
        timeout: Duration,
        outbox: &'a Outbox,
        patience: Patience,
    ) -> Result<Self> {
        let table = &outbox.table;
        let client = Target::new(url, timeout)?.sql().await?;
        postgres::set_up_session(&client).await?;
        let doing = "cannot prepare the session";
        let prepared = client.batch_execute(patience.statements()).await;
        prepared.map_err(|error| from_sql(doing, error))?;
        let rows = postgres::describe_table(&client, table).await?;
        let parts = table.parts(&postgres::names_and_types(&rows));
        complain(table, !rows.is_empty(), &parts)?;
        let event_id_is_uuid = parts.is_uuid("event_id");
        let event_ids = table.events_in(&parts, 2);
        Ok(Self { client, outbox, event_id_is_uuid, event_ids })
    }

    /// A statement on the outbox, with its places filled in.
    #[must_use]
    pub fn sql(&self, template: &str) -> String {
        let sql = template.replace("{filter}", &format!("(\n{FILTER})"));
        self.outbox.table.sql(&sql).replace("{event_ids}", &self.event_ids)
    }

    /// What somebody typed, as the table has it.
    pub fn names(&self, typed: &[String]) -> Result<Names> {
        let mut names = Names::default();
        for text in typed.iter().map(|text| text.trim()) {
            if let Ok(id) = text.parse() {
                names.ids.push(id);
            } else if !self.event_id_is_uuid {
                names.event_ids.push(text.to_owned());
            } else if is_uuid(text) {
                names.event_ids.push(text.to_ascii_lowercase());
            } else {
                return Err(Error::usage(format!("{text:?} is neither a row id nor an event id"))
                    .hint("`walrelay dlq list` shows both"));
            }
        }
        Ok(names)
    }

    /// A failure of what was being done, with the table's name.
    #[must_use]
    pub fn failed(&self, doing: &str, error: tokio_postgres::Error) -> Error {
        from_sql(&format!("{doing} of table {}", self.outbox.table), error)
    }
}

/// Rows by their names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Row ids.
    pub ids: Vec<i64>,
    /// Event ids, as the table prints them.
    pub event_ids: Vec<String>,
}

/// Which dead or parked rows are meant; nothing set: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those of this stream.
    pub stream: Option<String>,
    /// Only those of this event type.
    pub event_type: Option<String>,
    /// Only those of this aggregate.
    pub aggregate: Option<String>,
    /// Only those that have been dead for at least so many seconds.
    pub older: Option<f64>,
    /// Only those that have been dead for at most so many seconds.
    pub newer: Option<f64>,
}

impl Filter {
    /// Whether it leaves all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let texts = [&self.stream, &self.event_type, &self.aggregate];
        texts.iter().all(|text| text.is_none()) && self.older.is_none() && self.newer.is_none()
    }

    /// $1 to $6 of dlq_filter.sql.
    pub(super) fn parameters<'b>(&'b self, outbox: &'b Outbox) -> [&'b (dyn ToSql + Sync); 6] {
        [&outbox.stream, &self.stream, &self.event_type, &self.aggregate, &self.older, &self.newer]
    }
}

/// The complaint about an outbox in which nothing can be dead.
fn complain(table: &Table, exists: bool, parts: &Parts) -> Result<()> {
    if !exists {
        return Err(Error::definite(format!("table {table} does not exist"))
            .hint("run `walrelay setup`, or correct outbox_table"));
    }
    let missing: Vec<&str> = NEEDED
        .into_iter()
        .filter(|wanted| !parts.has(wanted))
        .filter_map(|wanted| table.columns.column(wanted))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!("table {table} lacks the columns {}", missing.join(", "));
    Err(Error::definite(what).hint("run `walrelay setup`: it adds those of its own"))
}

/// The form in which PostgreSQL prints one, in either case.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TableName;

    #[test]
    fn an_outbox_without_its_columns_is_told_which() {
        let table: Table = TableName { schema: "app".into(), name: "events".into() }.into();
        let complain = |exists, columns: &[(String, u32)]| {
            super::complain(&table, exists, &table.parts(columns))
        };
        let error = complain(false, &[]).unwrap_err();
        assert_eq!(error.to_string(), "table app.events does not exist");
        let all: Vec<_> = NEEDED.iter().map(|name| ((*name).to_owned(), 25)).collect();
        complain(true, &all).unwrap();
        let error = complain(true, &all[..10]).unwrap_err();
        assert!(error.to_string().ends_with("the columns error_message, dead_lettered_at"));
        assert!(error.next_step().unwrap().contains("walrelay setup"));
    }

    #[test]
    fn only_a_uuid_is_a_uuid() {
        assert!(is_uuid("A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11"));
        for text in ["", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "a0eebc999c0b4ef8bb6d6bb9bd380a11"]
        {
            assert!(!is_uuid(text), "{text}");
        }
        assert!(!is_uuid("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g"));
    }
}
