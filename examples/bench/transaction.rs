//! One transaction that is larger than any memory the relay would want to have.
//!
//! In: how many rows. Out: the drain of it: its peak of memory is what counts. It must stay true
//! that its rows are those of the usual backlog, but for the one COMMIT.

use std::error::Error;

use crate::figures::{float, thousands};
use crate::report::Report;
use crate::scene::{Backlog, Scene};
use crate::throughput::{self, KEEP, Run};

pub async fn measure(scene: &mut Scene, rows: usize) -> Result<Run, Box<dyn Error>> {
    let slot = "transaction";
    let usual = Backlog::of_rows(rows);
    let backlog = Backlog { slot, rows, per_transaction: rows, ..usual };
    let backlog = scene.fill(backlog).await?;
    let run = throughput::relay(scene, &backlog, KEEP).await?;
    scene.drop_slot(slot).await?;
    scene.sql.batch_execute("TRUNCATE identity.outbox").await?;
    scene.settle().await?;
    Ok(run)
}

pub fn report(report: &Report, rows: usize, run: &Run) {
    report.line("");
    report.line(&format!(
        "One transaction of {} rows: {:.0} rows/s, relay {:.2} us per event, peak RSS {:.1} MB",
        thousands(rows),
        float(rows) / run.seconds,
        run.relay_us,
        run.peak_rss_mb
    ));
}
