//! How the drain changes as its load grows: streams, payloads, transactions, backlogs.
//!
//! In: a scene. Out: a table of rows/s, MB/s, processor time and memory. It must stay true that one
//! thing grows at a time, that all else is as in the usual backlog, and that each point has so many
//! rows as take seconds.

use std::error::Error;

use crate::disk;
use crate::figures::{float, gigabytes, thousands};
use crate::report::Report;
use crate::scene::{Backlog, Scene};
use crate::throughput::{self, KEEP, Run};

/// Rows where rows are not what grows.
const ROWS: usize = 100_000;
/// Bytes of payloads where these are what grows.
const BYTES: usize = 200_000_000;
/// What Redis keeps of an entry besides its payload.
const ENTRY_BYTES: usize = 400;

const STREAMS: [usize; 5] = [1, 4, 16, 64, 1_000];
const PAYLOADS: [(usize, &str); 5] =
    [(100, "100 B"), (1_000, "1 kB"), (10_000, "10 kB"), (100_000, "100 kB"), (1_000_000, "1 MB")];
const TRANSACTIONS: [usize; 4] = [1, 10, 1_000, 1_000_000];
const BACKLOGS: [usize; 3] = [10_000, 100_000, 1_000_000];
const HUGE: usize = 10_000_000;

/// `scale` divides the rows: 1 but for a trial.
pub async fn measure(
    scene: &mut Scene,
    report: &Report,
    scale: usize,
) -> Result<(), Box<dyn Error>> {
    head(report);
    for (name, backlog) in points(std::env::var_os("HUGE").is_some(), scale) {
        // A point that does not fit must not cost those behind it.
        if let Err(reason) = fits(&backlog) {
            report.line(&format!("  {name:<28}left out: {reason}"));
            continue;
        }
        let backlog = scene.fill(backlog).await?;
        let run = throughput::relay(scene, &backlog, KEEP).await?;
        scene.drop_slot(backlog.slot).await?;
        line(report, &name, &backlog, &run);
    }
    Ok(())
}

fn points(huge: bool, scale: usize) -> Vec<(String, Backlog)> {
    let usual = Backlog { slot: "growth", ..Backlog::of_rows(ROWS / scale) };
    let mut points = Vec::new();
    for streams in STREAMS {
        let backlog = Backlog { streams, ..usual.clone() };
        points.push((format!("streams: {streams}"), backlog));
    }
    for (payload_bytes, name) in PAYLOADS {
        let rows = (BYTES / payload_bytes / scale).min(usual.rows).next_multiple_of(100);
        let backlog = Backlog { rows, payload_bytes, ..usual.clone() };
        points.push((format!("payloads of {name}"), backlog));
    }
    for per_transaction in TRANSACTIONS {
        let per_transaction = per_transaction.min(HUGE / 10 / scale);
        let rows = usual.rows.next_multiple_of(per_transaction);
        let backlog = Backlog { rows, per_transaction, ..usual.clone() };
        points.push((format!("transactions of {}", thousands(per_transaction)), backlog));
    }
    for rows in BACKLOGS.into_iter().chain(huge.then_some(HUGE)) {
        let rows = (rows / scale).next_multiple_of(usual.per_transaction);
        let backlog = Backlog { rows, ..usual.clone() };
        points.push((format!("backlog of {}", thousands(rows)), backlog));
    }
    points
}

fn head(report: &Report) {
    report.line("");
    report.line(
        "Drains, keep, fields; but for what grows: 1 stream, payloads of 360 bytes, 100 rows",
    );
    report.line("per transaction");
    report.line("");
    report.line(&format!(
        "  {:<28}{:>10}{:>10}{:>9}{:>13}{:>10}",
        "", "rows", "rows/s", "MB/s", "relay/event", "peak RSS"
    ));
}

fn line(report: &Report, name: &str, backlog: &Backlog, run: &Run) {
    let rate = float(backlog.rows) / run.seconds;
    report.line(&format!(
        "  {name:<28}{:>10}{rate:>10.0}{:>9.1}{:>10.2} us{:>7.1} MB",
        thousands(backlog.rows),
        rate * float(backlog.payload_bytes) / 1e6,
        run.relay_us,
        run.peak_rss_mb
    ));
}

fn fits(backlog: &Backlog) -> Result<(), Box<dyn Error>> {
    disk::need(backlog.bytes_on_disk())?;
    let (bytes, free) = (backlog.rows * (backlog.payload_bytes + ENTRY_BYTES), available_memory()?);
    if bytes > free {
        let [bytes, free] = [bytes, free].map(gigabytes);
        return Err(format!("Redis would need {bytes} of memory, and {free} are free").into());
    }
    Ok(())
}

/// Bytes that can be had without swapping.
fn available_memory() -> Result<usize, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:")).unwrap_or_default();
    let kb: usize = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(kb * 1_024)
}
