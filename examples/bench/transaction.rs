//! One transaction that is larger than any memory the relay would want to have, and as many rows
//! of the usual transactions while events wait until Redis has them on its disk.
//!
//! In: how many rows. Out: both drains: the peak of memory is what counts. It must stay true that
//! the rows are those of the usual backlog, but for the one COMMIT.

use std::error::Error;

use crate::figures::{float, thousands};
use crate::report::Report;
use crate::scene::{Backlog, Scene};
use crate::throughput::{self, Contender, KEEP, Run, SAFE};

pub struct Runs {
    pub bare: Run,
    /// As many events wait as the relay takes in: its memory must not grow with the rest.
    pub safe: Run,
}

pub async fn measure(scene: &mut Scene, rows: usize) -> Result<Runs, Box<dyn Error>> {
    let usual = Backlog { slot: "transaction", ..Backlog::of_rows(rows) };
    let bare = drain(scene, Backlog { rows, per_transaction: rows, ..usual.clone() }, KEEP).await?;
    let safe = drain(scene, usual, SAFE).await?;
    scene.sql.batch_execute("TRUNCATE identity.outbox").await?;
    scene.settle().await?;
    Ok(Runs { bare, safe })
}

async fn drain(
    scene: &mut Scene,
    backlog: Backlog,
    contender: Contender,
) -> Result<Run, Box<dyn Error>> {
    let backlog = scene.fill(backlog).await?;
    let run = throughput::relay(scene, &backlog, contender).await?;
    scene.drop_slot(backlog.slot).await?;
    Ok(run)
}

pub fn report(report: &Report, rows: usize, runs: &Runs) {
    let Runs { bare, safe } = runs;
    report.line("");
    report.line(&format!(
        "One transaction of {} rows: {:.0} rows/s, relay {:.2} us per event, peak RSS {:.1} MB;",
        thousands(rows),
        float(rows) / bare.seconds,
        bare.relay_us,
        bare.peak_rss_mb
    ));
    report.line(&format!(
        "as many by hundreds, durability = fsync: {:.0} rows/s, peak RSS {:.1} MB",
        float(rows) / safe.seconds,
        safe.peak_rss_mb
    ));
}
