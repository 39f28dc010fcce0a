//! `walrelay check`: what `check` found, as lines for people or one JSON object.
//!
//! In: findings. Out: text on standard output, and the exit code that monitoring plugins have. It
//! must stay true that nothing that comes from a server moves the cursor.

use std::io::Write;

use serde_json::{Value, json};

use super::dlq::say;
use super::table::printable;
use super::terminal::{Colour, Style, heading};
use crate::check::{self, Area, Finding, Level};
use crate::cli::Check;
use crate::config::Settings;
use crate::error::Result;

/// What monitoring plugins answer.
const CODES: [(Level, u8); 3] = [(Level::Ok, 0), (Level::Warning, 1), (Level::Failure, 2)];

/// Looks at both servers, for each table, writes what was found, and returns the exit code.
pub async fn run(all: &[Settings], asked: Check, out: &mut impl Write) -> Result<u8> {
    let (mut worst, mut told) = (Level::Ok, Vec::new());
    for (at, settings) in all.iter().enumerate() {
        let (findings, table) = (check::run(settings).await, settings.table.as_deref());
        worst = worst.max(check::worst(&findings));
        let text = if asked.json {
            format!("{}\n", document(table, &findings))
        } else {
            heading(table, at == 0) + &text(&findings, &told, Style::of_stdout())
        };
        say(out, &text)?;
        told.extend(findings);
    }
    Ok(code(worst, asked.allow_warnings))
}

fn code(worst: Level, allows_warnings: bool) -> u8 {
    let counts = if allows_warnings && worst == Level::Warning { Level::Ok } else { worst };
    CODES.iter().find(|(level, _)| *level == counts).map_or(2, |(_, code)| *code)
}

fn document(table: Option<&str>, findings: &[Finding]) -> Value {
    let one = |finding: &Finding| {
        json!({
            "area": finding.area.name(),
            "object": finding.object,
            "level": finding.level.name(),
            "found": finding.found,
            "why": finding.advice.as_ref().map(|advice| &advice.why),
            "fix": finding.advice.as_ref().map(|advice| &advice.fix),
        })
    };
    let all: Vec<Value> = findings.iter().map(one).collect();
    let mut document = json!({ "level": check::worst(findings).name(), "findings": all });
    if let (Some(table), Some(fields)) = (table, document.as_object_mut()) {
        fields.insert("table".to_owned(), table.into());
    }
    document
}

/// Without what was `told` of a table before it: of the servers the same is found for each.
fn text(findings: &[Finding], told: &[Finding], style: Style) -> String {
    let all = findings.len();
    let findings: Vec<&Finding> =
        findings.iter().filter(|finding| !told.contains(finding)).collect();
    let wide = findings.iter().map(|finding| finding.object.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let has = |area| findings.iter().any(|finding| finding.area == area);
    let areas = [Area::Postgres, Area::Redis, Area::Settings];
    for area in areas.into_iter().filter(|area| *area != Area::Settings || has(*area)) {
        text += area.name();
        text.push('\n');
        for finding in findings.iter().filter(|finding| finding.area == area) {
            text += &lines(finding, wide, style);
        }
        text.push('\n');
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let counts =
        [(Level::Failure, "failure"), (Level::Warning, "warning")].map(
            |(level, word)| match count(level) {
                0 => format!("no {word}s"),
                1 => style.paint(colour(level), &format!("1 {word}")),
                many => style.paint(colour(level), &format!("{many} {word}s")),
            },
        );
    let [failures, warnings] = counts;
    let again = match all - findings.len() {
        0 => String::new(),
        again => format!("; {again} as above"),
    };
    text + &format!("{failures}, {warnings}, {} OK{again}\n", count(Level::Ok))
}

fn colour(level: Level) -> Colour {
    match level {
        Level::Ok => Colour::Green,
        Level::Warning => Colour::Yellow,
        Level::Failure => Colour::Red,
    }
}

/// One finding: its line, and below it what to do.
fn lines(finding: &Finding, wide: usize, style: Style) -> String {
    let level = style.paint(colour(finding.level), &format!("{:<7}", finding.level.name()));
    let (object, found) = (printable(&finding.object), printable(&finding.found));
    let mut text = vec![format!("  {level}  {object:<wide$}  {found}").trim_end().to_owned()];
    if let Some(advice) = &finding.advice {
        let why = style.paint(Colour::Dim, &printable(&advice.why));
        text.push(format!("           why  {why}"));
        for (at, line) in advice.fix.lines().enumerate() {
            let word = if at == 0 { "fix" } else { "   " };
            text.push(format!("           {word}  {}", printable(line)));
        }
    }
    text.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Advice;

    fn findings() -> Vec<Finding> {
        let advice = Advice { why: "it hurts".into(), fix: "SET a;\nSET b;".into() };
        let one = |area, object: &str, level, advice| Finding {
            area,
            object: object.into(),
            level,
            found: "x\x1b[2J".into(),
            advice,
        };
        vec![
            one(Area::Postgres, "version", Level::Ok, None),
            one(Area::Postgres, "setting wal_level", Level::Failure, Some(advice.clone())),
            one(Area::Redis, "replicas", Level::Warning, Some(advice)),
        ]
    }

    #[test]
    fn the_answer_is_aligned_and_tells_more_of_what_is_not_ok() {
        assert_eq!(
            text(&findings(), &[], Style::PLAIN),
            "PostgreSQL\n  \
               OK       version            x [2J\n  \
               FAILURE  setting wal_level  x [2J\n           \
                        why  it hurts\n           \
                        fix  SET a;\n                \
                             SET b;\n\
             \n\
             Redis\n  \
               WARNING  replicas           x [2J\n           \
                        why  it hurts\n           \
                        fix  SET a;\n                \
                             SET b;\n\
             \n\
             1 failure, 1 warning, 1 OK\n"
        );
    }

    #[test]
    fn what_was_told_of_a_table_is_not_told_again() {
        let (all, told) = (findings(), &findings()[..2]);
        let text = text(&all, told, Style::PLAIN);
        assert!(!text.contains("version") && text.contains("WARNING  replicas"), "{text}");
        assert!(text.ends_with("no failures, 1 warning, 0 OK; 2 as above\n"), "{text}");
        assert_eq!(document(Some("orders"), &all)["table"], "orders");
        assert!(document(None, &all).get("table").is_none());
    }

    #[test]
    fn json_has_every_field_of_every_finding() {
        let document = document(None, &findings());
        assert_eq!(document["level"], "FAILURE");
        let first = json!({
            "area": "PostgreSQL", "object": "version", "level": "OK", "found": "x\u{1b}[2J",
            "why": null, "fix": null,
        });
        assert_eq!(document["findings"][0], first);
        assert_eq!(document["findings"][2]["fix"], "SET a;\nSET b;");
    }

    #[test]
    fn the_exit_code_is_that_of_a_monitoring_plugin() {
        let codes = [Level::Ok, Level::Warning, Level::Failure].map(|level| code(level, false));
        assert_eq!(codes, [0, 1, 2]);
        let codes = [Level::Ok, Level::Warning, Level::Failure].map(|level| code(level, true));
        assert_eq!(codes, [0, 0, 2]);
    }
}
