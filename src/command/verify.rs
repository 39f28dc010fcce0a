//! `walrelay verify`: whether outbox and streams hold the same.
//!
//! In: settings, and what was asked. Out: the report on `out`, and a failure where something is not
//! as it should be: that is the exit code.

use std::io::Write;
use std::time::Instant;

use super::dlq::say;
use super::terminal::{Progress, Style};
use super::verify_report;
use crate::cli;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::verify::{self, Asked, Kind, Repair, Report, Watch};

/// The range that was typed, to be read.
pub(super) fn asked(typed: &cli::Range) -> Asked {
    Asked {
        since: typed.since.clone(),
        until: typed.until.clone(),
        from_id: typed.from_id,
        to_id: typed.to_id,
        streams: typed.stream.clone(),
        rate: typed.rate,
        ..Asked::default()
    }
}

/// Compares, and writes what was found.
pub async fn run(settings: &Settings, typed: &cli::Verify, out: &mut impl Write) -> Result<()> {
    let asked = Asked {
        is_strict: typed.strict,
        repair: typed.repair.repair.then_some(Repair { is_sure: typed.repair.yes }),
        ..asked(&typed.range)
    };
    let began = Instant::now();
    let mut steps = Steps::default();
    let ended = verify::run(settings, &asked, &mut steps).await;
    steps.end();
    let mut report = ended?;
    let text = if typed.json {
        format!("{}\n", verify_report::document(&report, began.elapsed()))
    } else {
        verify_report::text(&report, began.elapsed(), Style::of_stdout())
    };
    say(out, &text)?;
    match report.unrepaired.take() {
        Some(error) => Err(error),
        None => verdict(&report),
    }
}

/// Everything that was found counts, but for what has been repaired.
fn verdict(report: &Report) -> Result<()> {
    let published = report.repaired.map_or(0, |repaired| repaired.published);
    let left = report.total().saturating_sub(published);
    if left == 0 {
        return Ok(());
    }
    let (are, what) = if left == 1 { ("is", "finding") } else { ("are", "findings") };
    let error = Error::definite(format!("there {are} {left} {what} in table {}", report.table));
    Err(if report.repaired.is_some_and(|repaired| repaired.published < repaired.due) {
        error.hint(
            "`walrelay dlq list --parked` shows what was refused; run `walrelay verify` again",
        )
    } else if report.repaired.is_none() && report.of(Kind::Missing).count > 0 {
        error.hint("`walrelay verify --repair` has the running relay publish what is missing")
    } else {
        error.hint("no entry is changed by walrelay: consumers know a repeat by its event_id")
    })
}

/// One step after the other, each with its own progress.
#[derive(Default)]
pub(super) struct Steps {
    now: Option<Progress>,
}

impl Steps {
    pub fn end(&mut self) {
        if let Some(step) = self.now.take() {
            step.end();
        }
    }
}

impl Watch for Steps {
    fn begin(&mut self, what: &'static str, total: Option<u64>) {
        self.end();
        self.now = Some(Progress::new(what, total));
    }

    fn reach(&mut self, done: u64) {
        if let Some(step) = &mut self.now {
            step.reach(done);
        }
    }
}
