//! What `walrelay schema check` found, for people and for programs. Never a payload.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::table::{Table, printable, width};
use super::terminal::{Colour, Style};
use crate::verify::{Conformity, Count, Offender, Sort};

const SORT_HEADS: [&str; 7] =
    ["STREAM", "TYPE", "VERSION", "SCHEMA", "ROWS", "ENTRIES", "VIOLATIONS"];
const SORT_CUTS: [(usize, usize); 3] = [(3, 16), (0, 12), (1, 12)];
const HEADS: [&str; 6] = ["ROW", "ENTRY", "EVENT ID", "TYPE", "AT", "AGAINST"];
const CUTS: [(usize, usize); 3] = [(5, 24), (4, 16), (3, 12)];

/// One object.
pub(super) fn document(found: &Conformity, took: Duration) -> Value {
    let sort = |(sort, count): (&Sort, &Count)| {
        json!({
            "stream": sort.stream,
            "type": sort.event_type,
            "version": sort.version,
            "schema": count.schema,
            "rows": count.rows,
            "entries": count.entries,
            "violations": count.broken,
        })
    };
    let offender = |offender: &Offender| {
        json!({
            "row": offender.row,
            "entry": offender.entry,
            "stream": offender.stream,
            "event_id": offender.event_id,
            "type": offender.event_type,
            "schema": offender.violation.schema,
            "path": offender.violation.place,
            "rule": offender.violation.rule,
            "more": offender.violation.more,
        })
    };
    json!({
        "table": found.table,
        "is_clean": found.broken == 0,
        "streams": found.streams,
        "types": found.sorts.iter().map(sort).collect::<Vec<_>>(),
        "violations": found.broken,
        "first": found.offenders.iter().map(offender).collect::<Vec<_>>(),
        "unfit_rows": found.unfit,
        "foreign_entries": found.foreign,
        "seconds": took.as_secs_f64(),
    })
}

/// For a person at a terminal.
pub(super) fn text(found: &Conformity, took: Duration, style: Style) -> String {
    let mut text = String::new();
    let mut line = |what: &str| {
        // A String takes everything.
        let _always = writeln!(text, "{what}");
    };
    let streams = match found.streams.as_slice() {
        [] => "no stream".to_owned(),
        [one] => format!("stream {}", printable(one)),
        all => format!("{} streams", all.len()),
    };
    line(&format!("table {}, {streams}", printable(&found.table)));
    if !found.sorts.is_empty() {
        line("");
        line(sorts(found, style).trim_end());
        line("");
    }
    let unknown = found.sorts.values().filter(|count| count.schema.is_none()).count();
    if unknown > 0 {
        let types = if unknown == 1 { "type has" } else { "types have" };
        line(&format!("{unknown} {types} no schema (-)"));
    }
    for (count, what) in [
        (found.unfit, "rows that can be no event, whatever a schema says"),
        (found.foreign, "entries that are no events"),
    ] {
        if count > 0 {
            line(&format!("{what}: {count}"));
        }
    }
    let verdict = match found.broken {
        0 => style.paint(Colour::Green, "no violation"),
        1 => style.paint(Colour::Red, "1 violation"),
        many => style.paint(Colour::Red, &format!("{many} violations")),
    };
    match found.offenders.len() {
        shown if u64::try_from(shown).is_ok_and(|shown| shown < found.broken) => {
            line(&format!("{verdict}, the first {shown} (--limit shows more):"));
        }
        0 => line(&verdict),
        _ => line(&format!("{verdict}:")),
    }
    if !found.offenders.is_empty() {
        line(offenders(found).trim_end());
    }
    line(&style.paint(Colour::Dim, &format!("{:.1} s", took.as_secs_f64())));
    text
}

fn sorts(found: &Conformity, style: Style) -> String {
    let mut table = Table::new(&SORT_HEADS, &SORT_CUTS);
    for (sort, count) in &found.sorts {
        let colour = match (count.broken, &count.schema) {
            (1.., _) => Some(Colour::Red),
            (_, None) => Some(Colour::Yellow),
            (_, Some(_)) => None,
        };
        table.add_in(
            colour,
            &[
                &sort.stream,
                &sort.event_type,
                &sort.version,
                count.schema.as_deref().unwrap_or("-"),
                &count.rows.to_string(),
                &count.entries.to_string(),
                &count.broken.to_string(),
            ],
        );
    }
    table.styled(width(), style)
}

fn offenders(found: &Conformity) -> String {
    let mut table = Table::new(&HEADS, &CUTS);
    for Offender { row, entry, event_id, event_type, violation, .. } in &found.offenders {
        let rule = match violation.more {
            0 => violation.rule.to_string(),
            more => format!("{} (and {more} more)", violation.rule),
        };
        let place = if violation.place.is_empty() { "the whole" } else { &violation.place };
        table.add(&[
            &row.map(|row| row.to_string()).unwrap_or_default(),
            entry.as_deref().unwrap_or_default(),
            event_id,
            event_type,
            place,
            &rule,
        ]);
    }
    table.text(width())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Violation;

    fn found() -> Conformity {
        let sort = |event_type: &str| Sort {
            stream: "s".into(),
            event_type: event_type.into(),
            version: "1".into(),
        };
        let schema = Some("A.json".to_owned());
        let violation = Violation {
            schema: Some("A.json".into()),
            place: "/n".into(),
            rule: "type integer".into(),
            more: 2,
        };
        Conformity {
            table: "identity.outbox".into(),
            streams: vec!["s".into()],
            sorts: [
                (sort("A"), Count { schema, rows: 3, entries: 2, broken: 2 }),
                (sort("B"), Count { rows: 1, ..Count::default() }),
            ]
            .into(),
            offenders: vec![Offender {
                row: Some(7),
                entry: None,
                stream: "s".into(),
                event_id: "e".into(),
                event_type: "A".into(),
                violation,
            }],
            broken: 2,
            unfit: 0,
            foreign: 1,
        }
    }

    #[test]
    fn types_are_counted_and_the_first_violations_shown() {
        assert_eq!(
            text(&found(), Duration::from_millis(1_500), Style::PLAIN),
            "table identity.outbox, stream s\n\n\
             STREAM  TYPE  VERSION  SCHEMA  ROWS  ENTRIES  VIOLATIONS\n\
             s       A     1        A.json  3     2        2\n\
             s       B     1        -       1     0        0\n\n\
             1 type has no schema (-)\n\
             entries that are no events: 1\n\
             2 violations, the first 1 (--limit shows more):\n\
             ROW  ENTRY  EVENT ID  TYPE  AT  AGAINST\n\
             7           e         A     /n  type integer (and 2 more)\n\
             1.5 s\n"
        );
        let clean = Conformity::default();
        let text = text(&clean, Duration::ZERO, Style::PLAIN);
        assert_eq!(text, "table , no stream\nno violation\n0.0 s\n");
    }

    #[test]
    fn json_has_the_place_and_the_rule() {
        let document = document(&found(), Duration::ZERO);
        assert_eq!(document["types"][1]["schema"], Value::Null);
        assert_eq!(document["first"][0]["path"], "/n");
        assert_eq!(document["first"][0]["rule"], "type integer");
        assert_eq!((&document["violations"], &document["is_clean"]), (&2.into(), &false.into()));
    }
}
