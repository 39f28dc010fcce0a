//! What several lines on one outbox bring, and what they cost: every walsender decodes all of the
//! WAL.
//!
//! In: how many rows. Out: for one, two and four shards in one process, how fast the same backlog
//! drains, and the processor time of all who took part until its end. It must stay true that the
//! divisions take turns, and that each reads the same WAL: the publications are older than the
//! rows. Not here: more than one machine.

use std::error::Error;
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::scene::{Backlog, Scene};
use crate::throughput::until_marked;

const DIVISIONS: [usize; 3] = [1, 2, 4];
/// A drain that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(300);
/// Seconds in a tick of /proc.
const TICK: f64 = 0.01;

/// Seconds of processor time, and of the clock.
#[derive(Clone, Copy)]
struct Run {
    clock: f64,
    walsenders: f64,
    sessions: f64,
    redis: f64,
    relay: f64,
}

/// Measures, and adds the table to the report.
pub async fn report(report: &Report, rows: usize, rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut scene = Scene::start().await?;
    for of in DIVISIONS {
        let done = scene.settings.clone().with("shards", &of.to_string()).finish("setup").await;
        if done.code != Some(0) {
            return Err(format!("walrelay setup failed:\n{}", done.output).into());
        }
    }
    let backlog = scene.fill(Backlog::of_rows(rows)).await?;
    let rows = backlog.rows;
    let count = f64::from(u32::try_from(rows)?);
    report.line("");
    report.line(&format!("{rows} rows by shards in one process; seconds of processor time"));
    report.line("shards  after  rows/s   walsenders  SQL sessions  redis  relay  (median of each)");
    for after in ["keep", "mark"] {
        let mut samples: Vec<Vec<Run>> = vec![Vec::new(); DIVISIONS.len()];
        for _ in 0..rounds {
            for (runs, of) in samples.iter_mut().zip(DIVISIONS) {
                runs.push(drain(&mut scene, &backlog, of, after).await?);
            }
        }
        for (runs, of) in samples.iter().zip(DIVISIONS) {
            let of_all = |value: fn(&Run) -> f64| median(runs.iter().map(value).collect());
            report.line(&format!(
                "{of:>6}  {after}  {:>7.0}  {:>9.2}  {:>12.2}  {:>6.2}  {:>5.2}",
                count / of_all(|run| run.clock),
                of_all(|run| run.walsenders),
                of_all(|run| run.sessions),
                of_all(|run| run.redis),
                of_all(|run| run.relay),
            ));
        }
    }
    Ok(())
}

async fn drain(
    scene: &mut Scene,
    backlog: &Backlog,
    of: usize,
    after: &str,
) -> Result<Run, Box<dyn Error>> {
    scene.settle().await?;
    let slots: Vec<String> = match of {
        1 => vec!["bench".to_owned()],
        _ => (1..=of).map(|number| format!("bench_{number}of{of}")).collect(),
    };
    for slot in &slots {
        scene.copy_slot(backlog.slot, slot).await?;
    }
    let settings = scene.settings.clone().with("slot_name", "bench").with("durability", "memory");
    let settings = settings.with("shards", &of.to_string()).with("after_publish", after);
    let redis_before = redis_seconds(scene).await?;
    let began = Instant::now();
    let mut relay = settings.start();
    scene.until_published(&backlog.streams(), backlog.rows, PATIENCE).await?;
    if after == "mark" {
        until_marked(&relay, backlog.rows).await?;
    }
    let clock = began.elapsed().as_secs_f64();
    let backends = "backend_type = 'client backend' AND application_name LIKE 'walrelay-%'";
    let run = Run {
        clock,
        walsenders: seconds_of(scene, "backend_type = 'walsender'").await?,
        sessions: seconds_of(scene, backends).await?,
        redis: redis_seconds(scene).await? - redis_before,
        relay: f64::from(u32::try_from(relay.cpu_ticks())?) * TICK,
    };
    relay.drain().await;
    for slot in &slots {
        scene.drop_slot(slot).await?;
    }
    Ok(run)
}

/// Of the server's processes that meet the condition.
async fn seconds_of(scene: &Scene, which: &str) -> Result<f64, Box<dyn Error>> {
    let query = format!("SELECT pid FROM pg_stat_activity WHERE {which}");
    let mut ticks = 0;
    for row in scene.sql.query(&query, &[]).await? {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", row.get::<_, i32>(0)))?;
        let behind = text.rsplit(')').next().unwrap_or_default();
        let of_both = behind.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
        ticks += of_both.sum::<Result<u32, _>>()?;
    }
    Ok(f64::from(ticks) * TICK)
}

async fn redis_seconds(scene: &Scene) -> Result<f64, Box<dyn Error>> {
    let mut cache = scene.cache.clone();
    let text: String = redis::cmd("INFO").arg("cpu").query_async(&mut cache).await?;
    let mut seconds = 0.0;
    for name in ["used_cpu_sys:", "used_cpu_user:"] {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        seconds += value.unwrap_or_default().trim().parse::<f64>()?;
    }
    Ok(seconds)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
