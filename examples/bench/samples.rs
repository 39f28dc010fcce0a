//! The alternating rounds: both floors and each way to run the relay, in turns.
//!
//! In: a scene and its backlog. Out: every sample. It must stay true that contenders take turns:
//! what slows the machine down for a while slows all of them.

use std::error::Error;
use std::io::{Write, stderr};

use crate::figures::{float, median};
use crate::marks::Marks;
use crate::scene::{Backlog, Scene};
use crate::throughput::{self, Commands, Contender, JSON, KEEP, MARK, Run};

/// What all rounds gave.
pub struct Samples {
    /// Seconds.
    pub source: Vec<f64>,
    pub sink: Vec<f64>,
    pub runs: Vec<(Contender, Vec<Run>)>,
}

impl Samples {
    pub async fn take(
        scene: &mut Scene,
        backlog: &Backlog,
        rounds: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let runs = [KEEP, JSON, MARK].map(|contender| (contender, Vec::new())).into();
        let mut samples = Self { source: Vec::new(), sink: Vec::new(), runs };
        // Not counted: it warms every cache, and its entries are what the sink's floor writes
        // again.
        throughput::relay(scene, backlog, KEEP).await?;
        let commands = Commands::from_stream(&scene.redis.url())?;
        if commands.len() != backlog.rows {
            return Err(format!("{} entries for {} rows", commands.len(), backlog.rows).into());
        }
        for round in 1..=rounds {
            writeln!(stderr(), "round {round} of {rounds}").ok();
            samples.source.push(throughput::source(scene, backlog).await?);
            samples.sink.push(throughput::sink(scene, &commands).await?);
            for (contender, runs) in &mut samples.runs {
                // Each round of marking finds pages with as much room as the first.
                scene.sql.batch_execute("VACUUM identity.outbox").await?;
                runs.push(throughput::relay(scene, backlog, *contender).await?);
            }
        }
        Ok(samples)
    }

    pub fn source_seconds(&self) -> f64 {
        median(&self.source)
    }

    pub fn sink_seconds(&self) -> f64 {
        median(&self.sink)
    }

    /// The median of what `value` makes of the runs.
    pub fn of(&self, contender: Contender, value: impl Fn(&Run) -> f64) -> f64 {
        let runs = self.runs.iter().filter(|(known, _)| *known == contender);
        median(&runs.flat_map(|(_, runs)| runs.iter().map(&value)).collect::<Vec<_>>())
    }

    /// How near it came to what two cores can do; each run beside its own bound.
    pub fn share_of_bound(&self, rows: usize, contender: Contender) -> f64 {
        self.of(contender, |run| float(rows) / run.seconds / run.bound())
    }

    /// The highest of all runs of these.
    pub fn peak_rss_mb(&self, contenders: &[Contender]) -> f64 {
        let runs = self.runs.iter().filter(|(known, _)| contenders.contains(known));
        runs.flat_map(|(_, runs)| runs).map(|run| run.peak_rss_mb).fold(0.0, f64::max)
    }

    /// What everybody else took of the processor while the relay drained and marked nothing.
    pub fn others(&self) -> f64 {
        self.of(KEEP, |run| run.others)
    }

    pub fn note(&self, rows: usize, marks: &mut Marks) {
        let seconds = |contender| self.of(contender, |run| run.seconds);
        marks.note("keep/source", self.source_seconds() / seconds(KEEP));
        marks.note("keep/bound", self.share_of_bound(rows, KEEP));
        marks.note("json/source", self.source_seconds() / seconds(JSON));
        marks.note("mark/keep", seconds(KEEP) / seconds(MARK));
        marks.note("relay us", self.of(KEEP, |run| run.relay_us));
        marks.note("rss drain", self.peak_rss_mb(&[KEEP, JSON, MARK]));
    }
}
