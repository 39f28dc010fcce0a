//! What fails a bench: its judge, held against figures that are made up.
//!
//! In: `examples/bench/marks.rs` as it is, without servers. Out: which figures fail a run and which
//! are only told.
#![allow(dead_code, reason = "the bench uses what this does not")]

#[path = "../examples/shared/figures.rs"]
mod figures;
#[path = "../examples/bench/marks.rs"]
mod marks;
#[path = "../examples/bench/recorded.rs"]
mod recorded;

use marks::Marks;
use recorded::{INSTRUCTIONS, RATIOS};

fn judged(is_comparable: bool, name: &'static str, figures: &[f64]) -> (String, Vec<String>) {
    let mut marks = Marks::new(is_comparable);
    for figure in figures {
        marks.note(name, *figure);
    }
    let (lines, failures) = marks.judge();
    let rows: Vec<String> = lines.into_iter().skip(1).collect();
    (rows.join("\n"), failures)
}

#[test]
fn a_ratio_fails_only_when_it_fell_well_below_what_is_recorded() {
    for (name, recorded) in RATIOS {
        let (line, failures) = judged(true, name, &[0.79 * recorded]);
        assert!(line.ends_with("FELL") && failures.len() == 1, "{name}: {line}");
        let (line, failures) = judged(true, name, &[0.81 * recorded]);
        assert!(!line.ends_with("FELL") && failures.is_empty(), "{name}: {line}");
        let (line, failures) = judged(false, name, &[0.1 * recorded]);
        assert!(line.ends_with("MISSED") && failures.is_empty(), "{name}: {line}");
    }
}

#[test]
fn a_time_that_is_missed_is_told_and_fails_nothing() {
    let (line, failures) = judged(true, "1000 p50", &[0.21]);
    assert!(line.ends_with("MISSED") && failures.is_empty(), "{line}");
    let (line, failures) = judged(true, "1000 p50", &[0.20]);
    assert!(line.ends_with("OK") && failures.is_empty(), "{line}");
}

#[test]
fn memory_and_size_fail_when_they_are_missed() {
    for (name, limit) in
        [("rss drain", 12.0), ("rss transaction", 12.0), ("rss fsync", 16.0), ("binary", 10.0)]
    {
        let (line, failures) = judged(false, name, &[limit + 0.1]);
        assert!(line.ends_with("MISSED") && failures.len() == 1, "{line}");
        let (line, failures) = judged(false, name, &[limit]);
        assert!(line.ends_with("OK") && failures.is_empty(), "{line}");
    }
}

#[test]
fn instructions_are_told_when_they_moved_and_fail_when_they_rose_by_a_quarter() {
    for (step, recorded) in INSTRUCTIONS {
        for (times, end, failures) in [
            (1.26, "FAILED", 1),
            (1.24, "WARNING: more", 0),
            (1.09, "OK", 0),
            (0.92, "OK", 0),
            (0.80, "WARNING: fewer, record it", 0),
        ] {
            let mut marks = Marks::new(false);
            marks.note_instructions(step, times * recorded);
            let (lines, failed) = marks.judge();
            let line = lines.last().cloned().unwrap_or_default();
            assert!(line.ends_with(end) && failed.len() == failures, "{times}: {line}");
        }
    }
}

#[test]
fn of_several_figures_the_median_counts() {
    let (line, _) = judged(true, "1000 p50", &[9.0, 0.1, 0.15]);
    assert!(line.contains("0.15 ms"), "{line}");
}

#[test]
fn a_figure_that_no_mark_waits_for_fails() {
    assert_eq!(judged(true, "misspelt", &[1.0]).1, ["no mark is named misspelt"]);
}
