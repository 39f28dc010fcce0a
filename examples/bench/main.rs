//! `make bench`: the relay beside the floors of both its ends, on the same rows; its latency, its
//! footprint; and each target with its figure.
//!
//! In: a release build of walrelay, PostgreSQL and Redis binaries; from the environment ROUNDS,
//! ROWS, TRANSACTION (rows of the large one), DURATION (seconds of each latency run), GENTLY
//! (`max_rate` of the drain that leaves the servers to others) and ONLY (some of the parts below,
//! with commas). Out: tables, and exit code 1 if a ratio fell well below the recorded one or
//! something exact is missed (`marks`). It must stay true that contenders take turns: what slows
//! the machine down for a while slows all of them.
#![allow(
    clippy::large_futures,
    reason = "one task that lives as long as the program has nothing to gain from the heap"
)]

#[path = "../shared/figures.rs"]
mod figures;
#[path = "../../tests/harness/mod.rs"]
mod harness;
#[path = "../shared/stage.rs"]
mod stage;

mod cpu;
mod disk;
mod emit;
mod footprint;
mod growth;
mod instructions;
mod latency;
mod marks;
mod parts;
mod polling;
mod producers;
mod recorded;
mod recovery;
mod report;
mod samples;
mod scene;
mod shards;
mod throughput;
mod transaction;
mod writers;

use std::error::Error;
use std::io::{Write, stderr};
use std::process::ExitCode;
use std::time::Duration;

use figures::percentile;
use latency::{By, Load};
use marks::Marks;
use parts::{Part, Parts, number};
use producers::GENTLY;
use report::Report;
use samples::Samples;
use scene::{Backlog, Scene};
use stage::Stage;
use throughput::KEEP;

/// Rows of the backlog; what is recorded is of so many.
const ROWS: usize = 200_000;
/// Who gets more of the processor than this while the relay drains decides what comes out.
const OTHERS_MOST: f64 = 0.15;
/// The latency runs. Waiting for a disk must not show: `fsync` and `memory` take turns, and with
/// them what there is without a relay.
const LOADS: [Load; 8] = [
    Load { rate: 100, events: 1, by: By::Relay("fsync") },
    Load { rate: 1_000, events: 1, by: By::Relay("fsync") },
    Load { rate: 1_000, events: 1, by: By::Writer },
    Load { rate: 1_000, events: 1, by: By::Relay("memory") },
    Load { rate: 1_000, events: 1, by: By::Relay("fsync") },
    Load { rate: 1_000, events: 1, by: By::Writer },
    Load { rate: 1_000, events: 1, by: By::Relay("memory") },
    Load { rate: 1_000, events: 10, by: By::Relay("fsync") },
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        done = bench() => match done {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                complain(&error.to_string());
                ExitCode::FAILURE
            }
        }
    }
}

fn complain(text: &str) {
    writeln!(stderr(), "bench: {text}").ok();
}

/// Measures what is asked for; whether nothing failed.
async fn bench() -> Result<bool, Box<dyn Error>> {
    let parts = Parts::from_environment()?;
    let rows = number("ROWS", ROWS)?;
    let _stage = Stage::set()?;
    let report = Report::new();
    let mut marks = Marks::new(rows == ROWS);
    let done = measure(&report, &parts, rows, &mut marks).await;
    // What came before an error was measured all the same.
    let failures = report.verdict(&marks);
    for failure in &failures {
        complain(failure);
    }
    done.map(|()| failures.is_empty())
}

async fn measure(
    report: &Report,
    parts: &Parts,
    rows: usize,
    marks: &mut Marks,
) -> Result<(), Box<dyn Error>> {
    report.line("walrelay bench");
    if parts.has(Part::Instructions) {
        instructions::measure(report, marks)?;
    }
    if parts.has(Part::Shards) {
        shards::report(report, rows, number("ROUNDS", 3)?).await?;
    }
    if !parts.need_the_scene() {
        return Ok(());
    }
    let mut scene = Scene::start().await?;
    report.machine(&mut scene).await?;
    let mut drain_rss_mb = None;
    // First of all, while there is spare WAL for certain; what they write would be in the way.
    if parts.has(Part::Producers) {
        let backlog = scene.fill(Backlog::of_rows(rows)).await?;
        let producers = producers::measure(&mut scene, &backlog, number("GENTLY", GENTLY)?).await?;
        producers.report(report);
        producers.note(marks);
        scene.drop_slot(backlog.slot).await?;
    }
    if parts.has_any(&[Part::Throughput, Part::Polling]) {
        drain_rss_mb = backlog(&mut scene, report, parts, rows, marks).await?;
    }
    if parts.has(Part::Transaction) {
        let rows = number("TRANSACTION", 10 * rows)?;
        let runs = transaction::measure(&mut scene, rows).await?;
        transaction::report(report, rows, &runs);
        marks.note("rss transaction", runs.bare.peak_rss_mb);
        marks.note("rss fsync", runs.safe.peak_rss_mb);
        if let Some(drain) = drain_rss_mb {
            marks.note("rss transaction/drain", runs.bare.peak_rss_mb / drain);
        }
    }
    small(&mut scene, report, parts, marks).await?;
    if parts.has(Part::Growth) {
        growth::measure(&mut scene, report, number("SCALE", 1)?).await?;
    }
    Ok(())
}

/// What is measured on the rows of one backlog; the peak of memory of its plain drain.
async fn backlog(
    scene: &mut Scene,
    report: &Report,
    parts: &Parts,
    rows: usize,
    marks: &mut Marks,
) -> Result<Option<f64>, Box<dyn Error>> {
    let mut drain_rss_mb = None;
    let backlog = scene.fill(Backlog::of_rows(rows)).await?;
    if parts.has(Part::Throughput) {
        let samples = Samples::take(scene, &backlog, number("ROUNDS", 5)?).await?;
        report.throughput(&backlog, &samples);
        samples.note(backlog.rows, marks);
        if samples.others() > OTHERS_MOST {
            report.disturbed(samples.others());
            marks.disturbed();
        }
        drain_rss_mb = Some(samples.peak_rss_mb(&[KEEP]));
    }
    if parts.has(Part::Polling) {
        report.polling_head();
        for indexes in [polling::Indexes::Ours, polling::Indexes::Original] {
            let polled = polling::measure(scene, backlog.rows, indexes).await?;
            report.polling(&polled);
            marks.note(polled.mark, polled.memory / polled.one_by_one);
        }
    }
    scene.drop_slot(backlog.slot).await?;
    Ok(drain_rss_mb)
}

/// What needs no backlog.
async fn small(
    scene: &mut Scene,
    report: &Report,
    parts: &Parts,
    marks: &mut Marks,
) -> Result<(), Box<dyn Error>> {
    let duration = Duration::from_secs(u64::try_from(number("DURATION", 10)?)?);
    if parts.has(Part::Latency) {
        report.latency_head();
        for load in LOADS {
            let measured = latency::measure(scene, load, duration).await?;
            report.latency(&measured);
            measured.note(marks);
        }
        report.legend();
    }
    if parts.has(Part::Emit) {
        emit::measure(scene, report, number("ROUNDS", 5)?, marks).await?;
    }
    if parts.has(Part::Footprint) {
        let footprint = footprint::measure(scene, duration).await?;
        footprint.report(report);
        footprint.note(marks);
    }
    if parts.has(Part::Recovery) {
        let takeover = recovery::takeover(scene).await?;
        let redis_back = recovery::redis_back(scene).await?;
        report.recovery(&takeover, &redis_back);
        marks.note("takeover", percentile(&takeover, 500).as_secs_f64() * 1e3);
        marks.note("redis back", percentile(&redis_back, 500).as_secs_f64() * 1e3);
    }
    Ok(())
}
