//! The bench's tables, and the machine they were measured on.
//!
//! In: samples. Out: lines on stdout, medians first. It must stay true that a busy machine says so
//! above its figures: they are worth nothing to others.

use std::io::{Stdout, Write, stdout};
use std::process::Command;
use std::time::Duration;

use crate::figures::{float, human, median, percentile, thousands};
use crate::latency::{By, Load, Measured};
use crate::marks::Marks;
use crate::polling::Polled;
use crate::samples::Samples;
use crate::scene::{Backlog, Scene};
use crate::throughput::Run;

pub struct Report {
    out: Stdout,
}

impl Report {
    pub fn new() -> Self {
        Self { out: stdout() }
    }

    /// A reader that closed the pipe does not stop a measurement.
    pub fn line(&self, text: &str) {
        writeln!(self.out.lock(), "{text}").ok();
    }

    pub async fn machine(&self, scene: &mut Scene) -> Result<(), Box<dyn std::error::Error>> {
        let row = scene.sql.query_one("SHOW server_version", &[]).await?;
        let postgres: String = row.get(0);
        let mut info = redis::cmd("INFO");
        let info: String = info.arg("server").query_async(&mut scene.cache).await?;
        let redis = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        self.line(&format!("  processor   {} x {}", cores, processor()));
        self.line(&format!("  kernel      Linux {}", read("/proc/sys/kernel/osrelease").trim()));
        self.line(&format!("  PostgreSQL  {postgres}, fsync on, on {}", file_system()));
        let redis = redis.unwrap_or("(unknown)").trim();
        self.line(&format!("  Redis       {redis}, appendonly yes, appendfsync everysec"));
        let load: f64 = read("/proc/loadavg").split(' ').next().unwrap_or("0").parse()?;
        self.line(&format!("  load        {load:.1} before the first measurement"));
        if load > 0.5 {
            self.line("              other programs are at work: do not quote what follows");
        }
        Ok(())
    }

    pub fn throughput(&self, backlog: &Backlog, samples: &Samples) {
        self.line("");
        self.line(&format!(
            "Backlog of {} rows, payload of {} bytes, {} per transaction: median of {} rounds",
            thousands(backlog.rows),
            backlog.payload_bytes,
            backlog.per_transaction,
            samples.source.len()
        ));
        self.line("");
        self.line(&format!("  {:<34}{:>9}{:>10}{:>9}", "", "rows/s", "of source", "of sink"));
        let rows = backlog.rows;
        let (source, sink) =
            (rate(rows, samples.source_seconds()), rate(rows, samples.sink_seconds()));
        let floor = |name: &str, rate: f64| {
            let figures = [format!("{:.2}", rate / source), format!("{:.2}", rate / sink)];
            self.line(&format!(
                "  {name:<34}{:>9}{:>10}{:>9}",
                whole(rate),
                figures[0],
                figures[1]
            ));
        };
        floor("pg_recvlogical to a file (source)", source);
        floor("pipelined XADD (sink)", sink);
        for (contender, runs) in &samples.runs {
            let seconds = median(&runs.iter().map(|run| run.seconds).collect::<Vec<_>>());
            floor(&format!("walrelay, {}", contender.name()), rate(rows, seconds));
        }
        self.costs(rows, samples);
        self.line("");
        self.rounds("source", rows, &samples.source);
        self.rounds("sink", rows, &samples.sink);
        for (contender, runs) in &samples.runs {
            let seconds = runs.iter().map(|run| run.seconds).collect::<Vec<_>>();
            self.rounds(&contender.name(), rows, &seconds);
        }
    }

    pub fn disturbed(&self, others: f64) {
        self.line("");
        self.line(&format!("  Others took {:.0} % of the processor:", 100.0 * others));
        self.line("  ratios are shown and not held against what is recorded");
    }

    /// What an event costs whom, and how fast two cores could be at that price.
    fn costs(&self, rows: usize, samples: &Samples) {
        self.line("");
        self.line(&format!(
            "  {:<16}{:>11}{:>10}{:>10}{:>12}{:>9}{:>9}{:>10}",
            "CPU per event",
            "walsender",
            "Redis",
            "relay",
            "2 / sum",
            "of that",
            "others",
            "peak RSS"
        ));
        for (contender, runs) in &samples.runs {
            let of = |value: fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
            let us = |value: fn(&Run) -> f64| format!("{:.2} us", of(value));
            self.line(&format!(
                "  {:<16}{:>11}{:>10}{:>10}{:>12}{:>9.2}{:>7.0} %{:>7.1} MB",
                contender.name(),
                us(|run| run.walsender_us),
                us(|run| run.redis_us),
                us(|run| run.relay_us),
                format!("{}/s", whole(of(Run::bound))),
                samples.share_of_bound(rows, *contender),
                100.0 * of(|run| run.others),
                of(|run| run.peak_rss_mb),
            ));
        }
    }

    /// Every round, so that a reader sees how far the median can be trusted.
    fn rounds(&self, name: &str, rows: usize, seconds: &[f64]) {
        let all: Vec<String> =
            seconds.iter().map(|&seconds| format!("{:>9}", whole(rate(rows, seconds)))).collect();
        self.line(&format!("  rows/s by round, {name:<17}{}", all.join(" ")));
    }

    pub fn polling_head(&self) {
        self.line("");
        self.line(
            "The same rows by mode = poll, in rows/s, from its start to the last marked row;",
        );
        self.line("beside it a worker that waits for XADD and UPDATE of each row (100 per commit)");
        self.line("");
        self.line(&format!(
            "  {:<20}{:>14}{:>14}{:>12}{:>22}",
            "table with", "memory", "fsync", "one by one", "memory / one by one"
        ));
    }

    pub fn polling(&self, polled: &Polled) {
        let Polled { name, memory, fsync, one_by_one, .. } = polled;
        let times = format!("{:.1}", memory / one_by_one);
        let [memory, fsync, one] = [*memory, *fsync, *one_by_one].map(whole);
        self.line(&format!("  {name:<20}{memory:>14}{fsync:>14}{one:>12}{times:>22}"));
    }

    pub fn latency_head(&self) {
        self.line("");
        self.line("COMMIT acknowledged to XREAD returned, after_publish = mark");
        self.line("");
        self.line(&format!(
            "  {:<24}{:>9}{:>10}{:>10}{:>10}{:>13}{:>11}{:>13}",
            "commits/s", "p50", "p99", "p99.9", "max", "p50 of send", "before ack", "late by p99"
        ));
    }

    pub fn latency(&self, measured: &Measured) {
        let [p50, p99, p999, max] =
            [500, 990, 999, 1_000].map(|permille| human(percentile(&measured.from_ack, permille)));
        let send = human(percentile(&measured.from_send, 500));
        let Load { rate, events, by } = measured.load;
        let by = match by {
            By::Relay(durability) => durability,
            By::Writer => "no relay",
        };
        let of = if events == 1 { String::new() } else { format!(" of {events}") };
        let rate = format!("{rate} ({:.0}){of} {by}", measured.achieved);
        let slip = human(measured.slip);
        self.line(&format!(
            "  {rate:<24}{p50:>9}{p99:>10}{p999:>10}{max:>10}{send:>13}{:>11}{slip:>13}",
            measured.before_ack
        ));
    }

    /// Sorted times.
    pub fn recovery(&self, takeover: &[Duration], redis_back: &[Duration]) {
        self.line("");
        self.line("Until events flow again, median and worst");
        self.line("");
        for (name, times) in [
            ("leader killed, to the standby's first entry", takeover),
            ("Redis killed, from its first PONG to an entry", redis_back),
        ] {
            let [median, worst] = [500, 1_000].map(|permille| human(percentile(times, permille)));
            self.line(&format!("  {name:<48}{median:>9}{worst:>10}"));
        }
    }

    /// Each target with its figure; what failed.
    pub fn verdict(&self, marks: &Marks) -> Vec<String> {
        let (lines, failures) = marks.judge();
        let to_record = marks.to_record();
        let head = "For examples/bench/recorded.rs, if this was a quiet machine:".to_owned();
        let head = if to_record.is_empty() { Vec::new() } else { vec![String::new(), head] };
        self.line("");
        for line in lines.into_iter().chain(head).chain(to_record) {
            self.line(&line);
        }
        failures
    }

    pub fn legend(&self) {
        self.line("");
        for text in [
            "commits/s    as scheduled, (as achieved), events of each, and the durability setting;",
            "             no relay: each writer adds the entry itself, after its commit",
            "of send      from sending the INSERT, thus with the commit itself",
            "before ack   entries seen before the writer had its answer; they count as 0",
            "late by      how far the writers fell behind their schedule",
        ] {
            self.line(&format!("  {text}"));
        }
    }
}

fn rate(rows: usize, seconds: f64) -> f64 {
    float(rows) / seconds
}

/// A rate without a fraction, with separators.
fn whole(rate: f64) -> String {
    format!("{rate:.0}").parse().map_or_else(|_| "-".to_owned(), thousands)
}

fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let line = text.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(": ")).map(|(_, model)| model.to_owned());
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// A server in memory has no disk to wait for: that must be seen.
fn file_system() -> String {
    let mut stat = Command::new("stat");
    stat.args(["--file-system", "--format=%T"]).arg(std::env::temp_dir());
    let name = stat.output().ok().and_then(|done| String::from_utf8(done.stdout).ok());
    name.map_or_else(|| "(unknown)".to_owned(), |name| name.trim().to_owned())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
