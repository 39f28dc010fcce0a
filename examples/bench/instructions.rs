//! Instructions per event of the line's own functions, counted by valgrind: what no busy machine
//! can blur.
//!
//! In: `examples/events`, built beside the bench. Out: a count for each step, which includes those
//! before it. It must stay true that start-up does not count: each figure is the difference of two
//! runs. Without valgrind it says so and counts nothing.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use crate::figures::float;
use crate::marks::Marks;
use crate::recorded::INSTRUCTIONS;
use crate::report::Report;

/// Batches of the shorter run; the longer has twice as many.
const BATCHES: usize = 40;
/// Events of a batch there.
const BATCH: usize = 256;

/// Counts and notes every step that is recorded.
pub fn measure(report: &Report, marks: &mut Marks) -> Result<(), Box<dyn Error>> {
    let program = std::env::current_exe()?.with_file_name("events");
    if !program.is_file() {
        return Err("no events program beside this one: run `make bench`".into());
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        report.line("");
        report.line("Instructions per event: left out, there is no valgrind here");
        return Ok(());
    }
    for (step, _) in INSTRUCTIONS {
        let [short, long] = [BATCHES, 2 * BATCHES].map(|batches| count(&program, step, batches));
        let more = long?.checked_sub(short?).ok_or("a longer run took fewer instructions")?;
        marks.note_instructions(step, float(more) / float(BATCHES * BATCH));
    }
    Ok(())
}

fn count(program: &Path, step: &str, batches: usize) -> Result<usize, Box<dyn Error>> {
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([step, &batches.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected : "));
    match counted.and_then(|(_, number)| number.trim().parse().ok()) {
        Some(count) if done.status.success() => Ok(count),
        _ => Err(format!("valgrind cannot count {step}:\n{said}").into()),
    }
}
