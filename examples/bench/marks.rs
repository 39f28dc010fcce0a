//! What the bench must show: each target beside its figure, and what fails the run.
//!
//! In: figures by the name of their mark. Out: a table, and the list of what failed. It must stay
//! true that no time fails a run, for that is the machine's as much as ours: what fails is a ratio
//! of two rates of the same run that fell well below the recorded one, and what is exact (memory,
//! the size of the binary, instructions per event). Pure.

use crate::figures::median;
use crate::recorded::{INSTRUCTIONS, RATIOS};

/// A ratio below so much of the recorded one is no noise.
const FALL: f64 = 0.8;
/// So many times the recorded instructions are told, or fail. Another compiler moves them a little.
const INSTRUCTIONS_TOLD: f64 = 1.10;
const INSTRUCTIONS_MOST: f64 = 1.25;

/// What a figure is to be.
#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

/// What becomes of a run that misses it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Fails when it fell below what is recorded.
    Ratio,
    /// Fails when it is missed.
    Exact,
    /// A matter of the machine, too: it is told.
    Told,
}

struct Mark {
    name: &'static str,
    says: &'static str,
    wanted: Wanted,
    unit: &'static str,
    kind: Kind,
}

const fn ratio(name: &'static str, says: &'static str, at_least: f64) -> Mark {
    Mark { name, says, wanted: Wanted::AtLeast(at_least), unit: "", kind: Kind::Ratio }
}

const fn exact(name: &'static str, says: &'static str, at_most: f64, unit: &'static str) -> Mark {
    Mark { name, says, wanted: Wanted::AtMost(at_most), unit, kind: Kind::Exact }
}

const fn told(name: &'static str, says: &'static str, at_most: f64, unit: &'static str) -> Mark {
    Mark { name, says, wanted: Wanted::AtMost(at_most), unit, kind: Kind::Told }
}

const MARKS: [Mark; 24] = [
    ratio("keep/source", "drain, keep, fields: rate / pg_recvlogical", 0.8),
    ratio("keep/bound", "drain, keep, fields: rate / two-core bound", 0.85),
    ratio("json/source", "drain, keep, json: rate / pg_recvlogical", 0.9),
    ratio("mark/keep", "drain, fields: mark / keep", 0.65),
    told("relay us", "drain, keep, fields: relay CPU per event", 1.5, " us"),
    exact("rss drain", "drain: peak RSS", 12.0, " MB"),
    exact("rss transaction", "one large transaction: peak RSS", 12.0, " MB"),
    exact("rss fsync", "as many rows, durability = fsync: peak RSS", 16.0, " MB"),
    told("rss transaction/drain", "peak RSS: large transaction / drain", 1.1, ""),
    ratio("poll/one by one", "poll, original indexes: memory / one by one", 20.0),
    ratio("poll ours/one by one", "poll, our indexes: memory / one by one", 20.0),
    told("producers p99", "commit p99: beside a drain / quiet", 2.0, ""),
    told("producers gently p99", "the same, with max_rate = 10000", 2.0, ""),
    told("1000 p50", "latency, 1,000 commits/s: p50", 0.2, " ms"),
    told("1000 p99", "latency, 1,000 commits/s: p99", 0.6, " ms"),
    told("1000 p99.9", "latency, 1,000 commits/s: p99.9", 1.5, " ms"),
    told("100 p50", "latency, 100 commits/s: p50", 0.5, " ms"),
    told("10000 p99", "latency, 10,000 events/s by tens: p99", 3.0, " ms"),
    told("emit", "emit_event / INSERT, a transaction: difference", 0.1, " ms"),
    told("idle", "idle: of a core", 0.5, " %"),
    told("first entry", "start to first entry", 100.0, " ms"),
    told("takeover", "leader killed, to the standby's first entry", 2_000.0, " ms"),
    told("redis back", "Redis back, to an entry", 2_000.0, " ms"),
    exact("binary", "binary, stripped", 10.0, " MB"),
];

/// The figures of a run.
pub struct Marks {
    noted: Vec<(&'static str, f64)>,
    /// Of an event, by step.
    instructions: Vec<(&'static str, f64)>,
    /// What is recorded is of the usual number of rows.
    is_comparable: bool,
}

impl Marks {
    /// Without `is_comparable` nothing that is recorded is held against the figures.
    pub fn new(is_comparable: bool) -> Self {
        Self { noted: Vec::new(), instructions: Vec::new(), is_comparable }
    }

    /// A figure; of several for one mark the median counts.
    pub fn note(&mut self, name: &'static str, figure: f64) {
        self.noted.push((name, figure));
    }

    /// The machine was not ours: nothing that is recorded is held against this run.
    pub fn disturbed(&mut self) {
        self.is_comparable = false;
    }

    /// What a step takes of an event.
    pub fn note_instructions(&mut self, step: &'static str, figure: f64) {
        self.instructions.push((step, figure));
    }

    /// The table, and beneath it what failed.
    pub fn judge(&self) -> (Vec<String>, Vec<String>) {
        let (mut lines, mut failures) = (Vec::new(), Vec::new());
        self.judge_marks(&mut lines, &mut failures);
        self.judge_instructions(&mut lines, &mut failures);
        if !lines.is_empty() {
            let head = ["targets", "wanted", "measured", "recorded"];
            let [name, wanted, measured, recorded] = head;
            lines.insert(0, format!("  {name:<46}{wanted:>12}{measured:>12}{recorded:>11}"));
        }
        (lines, failures)
    }

    fn judge_marks(&self, lines: &mut Vec<String>, failures: &mut Vec<String>) {
        for mark in &MARKS {
            let Some(figure) = self.figure(mark.name) else { continue };
            let recorded = recorded(mark.name).filter(|_| self.is_comparable);
            let is_met = match mark.wanted {
                Wanted::AtLeast(least) => figure >= least,
                Wanted::AtMost(most) => figure <= most,
            };
            let has_fallen = recorded.is_some_and(|recorded| figure < FALL * recorded);
            if mark.kind == Kind::Ratio && has_fallen {
                failures.push(format!("{}: below {FALL} of what is recorded", mark.says));
            }
            if mark.kind == Kind::Exact && !is_met {
                failures.push(format!("{}: above what is allowed", mark.says));
            }
            let wanted = match mark.wanted {
                Wanted::AtLeast(least) => format!(">= {}", text(least, mark.unit)),
                Wanted::AtMost(most) => format!("<= {}", text(most, mark.unit)),
            };
            let before = recorded.map_or_else(|| "-".to_owned(), |value| text(value, mark.unit));
            lines.push(format!(
                "  {:<46}{wanted:>12}{:>12}{before:>11}  {}{}",
                mark.says,
                text(figure, mark.unit),
                if is_met { "OK" } else { "MISSED" },
                if has_fallen { ", FELL" } else { "" },
            ));
        }
        for (name, _) in &self.noted {
            if !MARKS.iter().any(|mark| mark.name == *name) {
                failures.push(format!("no mark is named {name}"));
            }
        }
    }

    fn judge_instructions(&self, lines: &mut Vec<String>, failures: &mut Vec<String>) {
        for (step, figure) in &self.instructions {
            let known = INSTRUCTIONS.iter().find(|(known, _)| known == step);
            let Some((_, recorded)) = known else {
                failures.push(format!("no step is named {step}"));
                continue;
            };
            let times = figure / recorded;
            let said = if times > INSTRUCTIONS_MOST {
                failures.push(format!("instructions of {step}: {times:.2} times what is recorded"));
                "FAILED"
            } else if times > INSTRUCTIONS_TOLD {
                "WARNING: more"
            } else if times < 1.0 / INSTRUCTIONS_TOLD {
                "WARNING: fewer, record it"
            } else {
                "OK"
            };
            let most = format!("<= {:.0}", INSTRUCTIONS_MOST * recorded);
            let says = format!("instructions per event, up to {step}");
            lines.push(format!("  {says:<46}{most:>12}{figure:>12.0}{recorded:>11.0}  {said}"));
        }
    }

    fn figure(&self, name: &str) -> Option<f64> {
        let of_name = self.noted.iter().filter(|(noted, _)| *noted == name);
        let figures: Vec<f64> = of_name.map(|(_, figure)| *figure).collect();
        (!figures.is_empty()).then(|| median(&figures))
    }

    /// What of this run can be recorded, as `recorded.rs` has them, to be pasted there.
    pub fn to_record(&self) -> Vec<String> {
        let ratios = MARKS.iter().filter(|mark| mark.kind == Kind::Ratio);
        let figures = ratios.filter_map(|mark| Some((mark.name, self.figure(mark.name)?)));
        let ratios = figures.map(|(name, figure)| format!("    (\"{name}\", {figure:.2}),"));
        let steps = self.instructions.iter();
        let steps = steps.map(|(step, figure)| format!("    (\"{step}\", {figure:.1}),"));
        ratios.chain(steps).collect()
    }
}

fn recorded(name: &str) -> Option<f64> {
    RATIOS.iter().find(|(known, _)| *known == name).map(|(_, ratio)| *ratio)
}

fn text(figure: f64, unit: &str) -> String {
    let digits = if figure >= 100.0 { 0 } else { 2 };
    format!("{figure:.digits$}{unit}")
}
