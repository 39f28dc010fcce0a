//! `walrelay dlq list`: dead or parked events, as a table or as JSON lines. Never a payload.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::dlq::{Desk, Filter, say};
use super::table::{Table, width};
use crate::error::Result;

const LIST: &str = include_str!("../../sql/queries/dlq_list.sql");
const LIST_PARKED: &str = include_str!("../../sql/queries/dlq_list_parked.sql");

const DEAD_HEADS: [&str; 8] =
    ["ID", "EVENT ID", "TYPE", "STREAM", "AGGREGATE", "ATTEMPTS", "DEAD SINCE (UTC)", "ERROR"];
const PARKED_HEADS: [&str; 8] =
    ["ID", "EVENT ID", "TYPE", "STREAM", "AGGREGATE", "ATTEMPTS", "DUE (UTC)", "ERROR"];
/// What is cut first to fit a terminal: a long error, then what --json has whole. The id never: it
/// is what the other commands take.
const CUTS: [(usize, usize); 6] = [(7, 40), (1, 9), (4, 9), (7, 20), (3, 12), (2, 12)];

/// Which rows are listed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    Dead,
    Parked,
}

/// How they are listed.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub rows: Rows,
    pub limit: u32,
    pub json: bool,
}

impl Rows {
    fn heads(self) -> &'static [&'static str] {
        match self {
            Self::Dead => &DEAD_HEADS,
            Self::Parked => &PARKED_HEADS,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Parked => "parked",
        }
    }
}

/// Writes the list.
pub(super) async fn run(
    desk: &Desk<'_>,
    filter: &Filter<'_>,
    Wanted { rows, limit, json }: Wanted,
    out: &mut impl Write,
) -> Result<()> {
    let sql = desk.sql(match rows {
        Rows::Dead => LIST,
        Rows::Parked => LIST_PARKED,
    });
    let limit = i64::from(limit);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = filter.parameters(desk.outbox).to_vec();
    parameters.push(&limit);
    let found = desk.client.query(&sql, &parameters).await;
    let found = found.map_err(|error| desk.failed("cannot list the dead rows", error))?;
    say(out, &if json { lines(&found, rows) } else { table(&found, rows, width()) })
}

fn lines(found: &[Row], rows: Rows) -> String {
    let mut text = String::new();
    for row in found {
        let time = match rows {
            Rows::Dead => "dead_lettered_at",
            Rows::Parked => "next_attempt_at",
        };
        let id: Option<i64> = row.get::<_, &str>("id").parse().ok();
        let line = json!({
            "id": id,
            "event_id": row.get::<_, Option<&str>>("event_id"),
            "event_type": row.get::<_, Option<&str>>("event_type"),
            "stream": row.get::<_, &str>("stream"),
            "aggregate_id": row.get::<_, Option<&str>>("aggregate_id"),
            "attempts": row.get::<_, Option<i64>>("attempts"),
            time: row.get::<_, &str>("since"),
            "error": row.get::<_, Option<&str>>("error"),
        });
        // A String takes everything.
        let _always = writeln!(text, "{line}");
    }
    text
}

fn table(found: &[Row], rows: Rows, width: usize) -> String {
    let mut table = Table::new(rows.heads(), &CUTS);
    for row in found {
        let text = |name| row.get::<_, Option<&str>>(name).unwrap_or_default();
        table.add(&[
            text("id"),
            text("event_id"),
            text("event_type"),
            text("stream"),
            text("aggregate_id"),
            &row.get::<_, Option<i64>>("attempts").unwrap_or(0).to_string(),
            &to_the_second(text("since")),
            text("error"),
        ]);
    }
    let total = found.first().map_or(0, |row| row.get::<_, i64>("total"));
    let shown = found.len();
    let name = rows.name();
    let last = match total {
        0 => format!("no {name} events\n"),
        1 => format!("1 {name} event\n"),
        _ if i64::try_from(shown).is_ok_and(|shown| shown < total) => {
            format!("{shown} of {total} {name} events; --limit shows more, filters show fewer\n")
        }
        _ => format!("{total} {name} events\n"),
    };
    if shown == 0 { last } else { table.text(width) + &last }
}

/// `2026-07-01T10:20:30.123456Z` for a person who reads many of them.
fn to_the_second(moment: &str) -> String {
    moment.chars().take(19).map(|letter| if letter == 'T' { ' ' } else { letter }).collect()
}
