//! `make bench`: the relay beside the floors of both its ends, on the same rows, and its latency.
//!
//! In: a release build of walrelay, PostgreSQL and Redis binaries; ROUNDS, ROWS and DURATION
//! (seconds of each latency run) from the environment; ONLY_THROUGHPUT=1 leaves latency and
//! recovery out. Out: tables. It must stay true that contenders take turns: what slows the machine
//! down for a while slows all of them. Not here: a pass mark.
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

mod latency;
mod polling;
mod recovery;
mod report;
mod scene;
mod shards;
mod throughput;

use std::error::Error;
use std::io::{Write, stderr};
use std::process::ExitCode;
use std::time::Duration;

use report::{Report, Samples};
use scene::{Scene, TRANSACTION_ROWS};
use stage::Stage;
use throughput::{After, Commands};

/// Commits per second of the latency runs, and `durability`: waiting for a disk must not show.
const LOADS: [(u32, &str); 5] =
    [(100, "fsync"), (1_000, "fsync"), (1_000, "memory"), (1_000, "fsync"), (1_000, "memory")];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        done = bench() => match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                writeln!(stderr(), "bench: {error}").ok();
                ExitCode::FAILURE
            }
        }
    }
}

async fn bench() -> Result<(), Box<dyn Error>> {
    let rounds = number("ROUNDS", 3)?;
    let rows = number("ROWS", 200_000)?.next_multiple_of(TRANSACTION_ROWS);
    let duration = Duration::from_secs(u64::try_from(number("DURATION", 10)?)?);
    let _stage = Stage::set()?;
    let report = Report::new();
    report.line("walrelay bench");
    if std::env::var_os("ONLY_SHARDS").is_some() {
        return shards::report(&report, rows, rounds).await;
    }
    let mut scene = Scene::start(rows).await?;
    report.machine(&mut scene).await?;
    scene.fill().await?;
    let samples = throughput(&mut scene, rounds).await?;
    report.throughput(rows, &samples);
    report.polling_head();
    for indexes in [polling::Indexes::Ours, polling::Indexes::Original] {
        report.polling(&polling::measure(&mut scene, indexes).await?);
    }
    if std::env::var_os("ONLY_THROUGHPUT").is_some() {
        return Ok(());
    }
    report.latency_head();
    for load in LOADS {
        report.latency(&latency::measure(&mut scene, load, duration).await?);
    }
    report.legend();
    let takeover = recovery::takeover(&mut scene).await?;
    let redis_back = recovery::redis_back(&mut scene).await?;
    report.recovery(&takeover, &redis_back);
    Ok(())
}

async fn throughput(scene: &mut Scene, rounds: usize) -> Result<Samples, Box<dyn Error>> {
    let mut samples = Samples::default();
    // Not counted: it warms every cache, and its entries are what the sink's floor writes again.
    throughput::relay(scene, After::Keep).await?;
    let commands = Commands::from_stream(&scene.redis.url())?;
    if commands.len() != scene.rows {
        return Err(format!("{} entries for {} rows", commands.len(), scene.rows).into());
    }
    for round in 1..=rounds {
        writeln!(stderr(), "round {round} of {rounds}").ok();
        samples.source.push(throughput::source(scene).await?);
        samples.sink.push(throughput::sink(scene, &commands).await?);
        samples.keep.push(throughput::relay(scene, After::Keep).await?);
        samples.mark.push(throughput::relay(scene, After::Mark).await?);
    }
    Ok(samples)
}

/// A number from the environment.
fn number(name: &str, default: usize) -> Result<usize, Box<dyn Error>> {
    match std::env::var(name) {
        Ok(text) => match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{name}={text}: a number above 0, please").into()),
        },
        Err(_) => Ok(default),
    }
}
