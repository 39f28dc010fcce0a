//! `walrelay dlq`: what could not be delivered, as the outbox in PostgreSQL knows it.
//!
//! In: settings, and what was asked. Out: a list, a row, or rows that are due again or settled. It
//! must stay true that a change happens whole or not at all, that nobody's change is repeated by
//! somebody else's, and that a payload is shown by `show` only, which was asked for it. Redis has
//! no part in this: it works while Redis is down.

use std::io::Write;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::{dlq_change, dlq_list, dlq_show, terminal};
use crate::cli::{Dlq, DlqFilter};
use crate::config::{self, DatabaseUrl, TableName};
use crate::error::{Error, Result};
use crate::postgres::{self, Target, from_sql, quote};

const FIND_TABLE: &str = include_str!("../../sql/queries/find_table.sql");
const FILTER: &str = include_str!("../../sql/queries/dlq_filter.sql");

/// Two people may change many rows at once: the second waits for the first, which takes about a
/// second for a hundred thousand rows.
const PATIENCE: &str = "SET lock_timeout = '10s'";

/// A hundred years: longer than any outbox lives, short enough for PostgreSQL's clock.
const AGE_SECONDS_MAX: f64 = 100.0 * 365.25 * 86_400.0;

const UUID_OID: u32 = 2950;

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
pub struct Outbox {
    /// The outbox.
    pub table: TableName,
    /// The stream of rows without a topic.
    pub stream: String,
}

/// A session on an outbox that has what is needed.
pub(super) struct Desk<'a> {
    pub client: Client,
    pub outbox: &'a Outbox,
    event_id_is_uuid: bool,
}

/// Does what was asked, and writes the answer to `out`.
pub async fn run(
    url: &DatabaseUrl,
    timeout: Duration,
    outbox: &Outbox,
    asked: &Dlq,
    out: &mut impl Write,
) -> Result<()> {
    let mut desk = Desk::open(url, timeout, outbox).await?;
    match asked {
        Dlq::List { filter, parked, limit, json } => {
            let filter = Filter::new(filter)?;
            let rows = if *parked { dlq_list::Rows::Parked } else { dlq_list::Rows::Dead };
            let wanted = dlq_list::Wanted { rows, limit: *limit, json: *json };
            dlq_list::run(&desk, &filter, wanted, out).await
        }
        Dlq::Show { id, json } => dlq_show::run(&desk, id, *json, out).await,
        Dlq::Retry { chosen } => dlq_change::retry(&mut desk, chosen, out).await,
        Dlq::Discard { chosen, yes } => dlq_change::discard(&mut desk, chosen, *yes, out).await,
    }
}

impl<'a> Desk<'a> {
    async fn open(url: &DatabaseUrl, timeout: Duration, outbox: &'a Outbox) -> Result<Self> {
        let table = &outbox.table;
        let client = Target::new(url, timeout)?.sql().await?;
        postgres::set_up_session(&client).await?;
        let doing = "cannot prepare the session";
        client.batch_execute(PATIENCE).await.map_err(|error| from_sql(doing, error))?;
        let doing = format!("cannot read the columns of table {table}");
        let rows = client
            .query(FIND_TABLE, &[&table.schema, &table.name])
            .await
            .map_err(|error| from_sql(&doing, error))?;
        let columns: Vec<(&str, u32)> =
            rows.iter().map(|row| (row.get("column_name"), row.get("type_oid"))).collect();
        complain(table, &columns)?;
        let event_id_is_uuid = columns.contains(&("event_id", UUID_OID));
        Ok(Self { client, outbox, event_id_is_uuid })
    }

    /// A statement on the outbox, with its places filled in.
    pub fn sql(&self, template: &str) -> String {
        let table = quote::qualified(&self.outbox.table.schema, &self.outbox.table.name);
        // As text an index on a uuid would not serve.
        let event_ids = if self.event_id_is_uuid {
            "event_id = ANY ($2::text[]::uuid[])"
        } else {
            "event_id::text = ANY ($2::text[])"
        };
        template
            .replace("{table}", &table)
            .replace("{event_ids}", event_ids)
            .replace("{filter}", &format!("(\n{FILTER})"))
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
    pub fn failed(&self, doing: &str, error: tokio_postgres::Error) -> Error {
        from_sql(&format!("{doing} of table {}", self.outbox.table), error)
    }
}

/// Rows by their names.
#[derive(Default)]
pub(super) struct Names {
    pub ids: Vec<i64>,
    pub event_ids: Vec<String>,
}

/// A filter whose ages are numbers.
pub(super) struct Filter<'a> {
    typed: &'a DlqFilter,
    older: Option<f64>,
    newer: Option<f64>,
}

impl<'a> Filter<'a> {
    pub fn new(typed: &'a DlqFilter) -> Result<Self> {
        let age = |flag: &str, text: &Option<String>| {
            let Some(text) = text else { return Ok(None) };
            let age = config::duration(text).map_err(|reason| {
                Error::usage(format!("{flag} {text:?} {reason}"))
                    .hint("a number with ms, s, m, h or d behind it, such as 2h")
            })?;
            Ok(Some(age.as_secs_f64().min(AGE_SECONDS_MAX)))
        };
        let older = age("--older-than", &typed.older_than)?;
        let newer = age("--newer-than", &typed.newer_than)?;
        Ok(Self { typed, older, newer })
    }

    pub fn is_empty(&self) -> bool {
        let texts = [&self.typed.stream, &self.typed.event_type, &self.typed.aggregate];
        texts.iter().all(|text| text.is_none()) && self.older.is_none() && self.newer.is_none()
    }

    /// $1 to $6 of dlq_filter.sql.
    pub fn parameters<'b>(&'b self, outbox: &'b Outbox) -> [&'b (dyn ToSql + Sync); 6] {
        let typed = self.typed;
        [
            &outbox.stream,
            &typed.stream,
            &typed.event_type,
            &typed.aggregate,
            &self.older,
            &self.newer,
        ]
    }
}

/// The complaint about an outbox in which nothing can be dead.
fn complain(table: &TableName, columns: &[(&str, u32)]) -> Result<()> {
    if columns.is_empty() {
        return Err(Error::definite(format!("table {table} does not exist"))
            .hint("run `walrelay setup`, or correct outbox_table"));
    }
    let has = |wanted: &str| columns.iter().any(|(name, _)| *name == wanted);
    let missing: Vec<&str> = NEEDED.into_iter().filter(|wanted| !has(wanted)).collect();
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

/// Writes an answer whole. A reader who has seen enough (`| head`) is no failure.
pub(super) fn say(out: &mut impl Write, text: &str) -> Result<()> {
    terminal::put(out, text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn an_outbox_without_its_columns_is_told_which() {
        let table = TableName { schema: "app".into(), name: "events".into() };
        let error = complain(&table, &[]).unwrap_err();
        assert_eq!(error.to_string(), "table app.events does not exist");
        let all: Vec<(&str, u32)> = NEEDED.iter().map(|name| (*name, 25)).collect();
        complain(&table, &all).unwrap();
        let error = complain(&table, &all[..10]).unwrap_err();
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

    #[test]
    fn ages_are_durations_and_nonsense_is_named() {
        let typed = DlqFilter { older_than: Some("2h".into()), ..DlqFilter::default() };
        let filter = Filter::new(&typed).unwrap();
        assert!(!filter.is_empty());
        assert!(filter.older.is_some_and(|seconds| (seconds - 7_200.0).abs() < 0.001));
        let typed = DlqFilter { newer_than: Some("soon".into()), ..DlqFilter::default() };
        let error = Filter::new(&typed).err().unwrap();
        assert!(error.to_string().contains("--newer-than \"soon\""), "{error}");
        assert!(Filter::new(&DlqFilter::default()).unwrap().is_empty());
    }

    #[test]
    fn a_reader_who_has_seen_enough_is_no_failure() {
        struct Closed(ErrorKind);
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        say(&mut Closed(ErrorKind::BrokenPipe), "x").unwrap();
        say(&mut Closed(ErrorKind::StorageFull), "x").unwrap_err();
    }
}
