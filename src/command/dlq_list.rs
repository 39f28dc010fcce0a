//! `walrelay dlq list`: dead or parked events, as a table or as JSON lines. Never a payload.

use std::fmt::Write as _;
use std::io::Write;

use super::dlq::say;
use super::table::{Table, width};
use crate::deadletters::{Desk, Filter, Listing, Rows, list};
use crate::error::Result;

const DEAD_HEADS: [&str; 8] =
    ["ID", "EVENT ID", "TYPE", "STREAM", "AGGREGATE", "ATTEMPTS", "DEAD SINCE (UTC)", "ERROR"];
const PARKED_HEADS: [&str; 8] =
    ["ID", "EVENT ID", "TYPE", "STREAM", "AGGREGATE", "ATTEMPTS", "DUE (UTC)", "ERROR"];
/// What is cut first to fit a terminal: a long error, then what --json has whole. The id never: it
/// is what the other commands take.
const CUTS: [(usize, usize); 6] = [(7, 40), (1, 9), (4, 9), (7, 20), (3, 12), (2, 12)];

/// How they are listed.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub rows: Rows,
    pub limit: u32,
    pub json: bool,
}

fn heads(rows: Rows) -> &'static [&'static str] {
    match rows {
        Rows::Dead => &DEAD_HEADS,
        Rows::Parked => &PARKED_HEADS,
    }
}

/// Writes the list.
pub(super) async fn run(
    desk: &Desk<'_>,
    filter: &Filter,
    Wanted { rows, limit, json }: Wanted,
    out: &mut impl Write,
) -> Result<()> {
    let found = list(desk, filter, rows, limit).await?;
    say(out, &if json { lines(&found) } else { table(&found, rows, width()) })
}

fn lines(found: &Listing) -> String {
    let mut text = String::new();
    for event in &found.events {
        // A String takes everything.
        let _always = writeln!(text, "{}", event.document());
    }
    text
}

fn table(found: &Listing, rows: Rows, width: usize) -> String {
    let mut table = Table::new(heads(rows), &CUTS);
    for event in &found.events {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        table.add(&[
            &event.id,
            &text(&event.event_id),
            &text(&event.event_type),
            &text(&event.stream),
            &text(&event.aggregate_id),
            &event.attempts.unwrap_or(0).to_string(),
            &to_the_second(&text(&event.since)),
            &text(&event.error),
        ]);
    }
    let (total, shown, name) = (found.total, found.events.len(), rows.name());
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
