//! What `walrelay verify` found, for people and for programs. Never a payload.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::table::{Table, printable, width};
use super::terminal::{Colour, Style};
use crate::verify::{Finding, Kind, Report};

const HEADS: [&str; 6] = ["FINDING", "ROW", "EVENT ID", "STREAM", "ENTRY", "DETAIL"];
const CUTS: [(usize, usize); 3] = [(5, 24), (3, 12), (2, 9)];

/// One object.
pub(super) fn document(report: &Report, took: Duration) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "row": finding.row,
            "event_id": finding.event_id,
            "stream": finding.stream,
            "entry": finding.entry.map(|id| id.to_string()),
            "detail": finding.detail,
        })
    };
    let kind = |kind: Kind| {
        let found = report.of(kind);
        let first: Vec<Value> = found.first.iter().map(finding).collect();
        (kind.key().to_owned(), json!({"count": found.count, "first": first}))
    };
    let (rows, entries) = (report.rows, report.entries);
    json!({
        "table": report.table,
        "is_clean": report.total() == 0,
        "from_id": report.ids.map(|(first, _)| first),
        "to_id": report.ids.map(|(_, last)| last),
        "streams": report.streams,
        "rows": {
            "settled": rows.settled,
            "waiting": rows.waiting,
            "parked": rows.parked,
            "dead": rows.dead,
            "discarded": rows.discarded,
            "imported": rows.imported,
            "unfit": rows.unfit,
            "trimmed": report.trimmed,
            "untold": report.untold,
        },
        "entries": {
            "read": entries.read,
            "replayed": entries.replayed,
            "foreign": entries.foreign,
            "without_row": entries.without_row,
            "newer": entries.newer,
            "retried_late": report.retried_late,
        },
        "findings": Value::Object(Kind::ALL.into_iter().map(kind).collect::<Map<_, _>>()),
        "repaired": report.repaired.map(|repaired| {
            json!({"due": repaired.due, "published": repaired.published})
        }),
        "notes": report.notes,
        "temporary_bytes": report.spilled,
        "seconds": took.as_secs_f64(),
    })
}

/// For a person at a terminal.
pub(super) fn text(report: &Report, took: Duration, style: Style) -> String {
    let mut text = String::new();
    let mut line = |what: &str| {
        // A String takes everything.
        let _always = writeln!(text, "{what}");
    };
    let range =
        report.ids.map_or("no rows".to_owned(), |(from, to)| format!("rows {from} to {to}"));
    let streams = match report.streams.as_slice() {
        [one] => format!("stream {}", printable(one)),
        all => format!("{} streams", all.len()),
    };
    line(&format!("table {}, {range}, against {streams}", printable(&report.table)));
    line(&format!("rows     {}", rows(report)));
    line(&format!("entries  {}", entries(report)));
    line(&findings(report, style));
    if report.total() > 0 {
        line("");
        line(table(report).trim_end());
    }
    if let Some(repaired) = report.repaired {
        line("");
        line(&format!(
            "repaired: {} rows made due, {} published again by the running relay, each once. \
             They stand behind later\nevents of their aggregates: the order of before cannot be \
             restored.",
            repaired.due, repaired.published
        ));
    }
    for note in &report.notes {
        line(&format!("note: {note}"));
    }
    line(&style.paint(Colour::Dim, &format!("{:.1} s", took.as_secs_f64())));
    text
}

fn rows(report: &Report) -> String {
    let rows = report.rows;
    told(&[
        (rows.settled, "settled", true),
        (rows.waiting, "not published yet", false),
        (rows.parked, "parked", false),
        (rows.dead, "dead", false),
        (rows.discarded, "discarded", false),
        (rows.imported, "published by others", false),
        (rows.unfit, "that can be no event", false),
        (report.trimmed, "whose entries were trimmed", false),
        (report.untold, "whose entries may have been trimmed", false),
    ])
}

fn entries(report: &Report) -> String {
    let entries = report.entries;
    told(&[
        (entries.read, "read", true),
        (entries.replayed, "replayed", false),
        (entries.foreign, "of somebody else", false),
        (entries.without_row, "without a row in the range", false),
        (entries.newer, "added meanwhile", false),
        (report.retried_late, "behind later ones because they were retried", false),
    ])
}

/// What there is none of goes without saying.
fn told(counts: &[(u64, &str, bool)]) -> String {
    let said = counts.iter().filter(|(count, _, is_always)| *count > 0 || *is_always);
    said.map(|(count, what, _)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

fn findings(report: &Report, style: Style) -> String {
    if report.total() == 0 {
        return format!("found    {}", style.paint(Colour::Green, "nothing wrong"));
    }
    let counts = Kind::ALL.map(|kind| (report.of(kind).count, kind.name(), false));
    format!("found    {}", style.paint(Colour::Red, &told(&counts)))
}

fn table(report: &Report) -> String {
    let mut table = Table::new(&HEADS, &CUTS);
    for kind in Kind::ALL {
        for finding in &report.of(kind).first {
            table.add(&[
                kind.name(),
                &finding.row.map(|row| row.to_string()).unwrap_or_default(),
                &finding.event_id,
                &finding.stream,
                &finding.entry.map(|id| id.to_string()).unwrap_or_default(),
                &finding.detail,
            ]);
        }
    }
    table.text(width())
}
