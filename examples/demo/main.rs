//! `make demo`: the relay at work on real servers, killed half way, and judged at the end.
//!
//! In: a release build of walrelay, PostgreSQL and Redis binaries. Out: some twenty seconds to
//! watch, a summary, and exit code 0 if every committed event is in its stream exactly once and in
//! order, else 1. It must stay true that nothing is left behind, also after Ctrl-C. Not here:
//! measurements to quote; that is `make bench`.
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

mod judge;
mod plot;
mod reader;
mod scene;
mod screen;
mod teller;
mod writer;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use figures::{human, percentile, thousands};
use harness::consumer::{Consumer, Entry};
use harness::world::STREAM;
use judge::Verdict;
use plot::Plot;
use reader::Reader;
use scene::Scene;
use screen::{Screen, Tone};
use stage::Stage;
use teller::{Teller, Told};
use writer::Writer;

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let screen = Screen::new();
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {
            screen.heading("Interrupted. Servers are stopped, files are gone.");
            ExitCode::from(INTERRUPTED)
        }
        verdict = demonstrate(&screen) => match verdict {
            Ok(verdict) if verdict.is_good() => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(error) => {
                screen.line("");
                screen.aside(Tone::Bad, &format!("the demo cannot go on: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

async fn demonstrate(screen: &Screen) -> Result<Verdict, Box<dyn Error>> {
    let _stage = Stage::set()?;
    screen.heading("walrelay: what PostgreSQL commits, Redis Streams hold exactly once");
    let mut scene = Scene::start(screen).await?;
    screen.table_head();
    let told = match play(screen, &mut scene).await {
        Ok(told) => told,
        Err(error) => return Err(format!("{error}\n\n{}", scene.relay.output()).into()),
    };
    let entries = Consumer::new(&scene.redis.url(), STREAM).read_all().await;
    let published: Vec<String> = entries.iter().map(Entry::event_id).map(str::to_owned).collect();
    let client = scene.postgres.client().await;
    // One writer, so the order of ids is the order of commit.
    let query = "SELECT event_id::text FROM identity.outbox ORDER BY id";
    let rows = client.query(query, &[]).await?;
    let committed: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let verdict = Verdict::of(&committed, &published);
    summarise(screen, &verdict, &told, [committed.len(), published.len()]);
    let relay = format!(
        "{:.1} MB at its peak, {} ms of processor time since the restart",
        f64::from(u32::try_from(scene.relay.peak_rss_kb())?) / 1024.0,
        scene.relay.cpu_ticks() * 10,
    );
    screen.line("");
    screen.line(&format!("    the relay: {relay}"));
    scene.relay.terminate();
    let code = scene.relay.exit_code(Duration::from_secs(12)).await;
    conclude(screen, &verdict, code);
    if code != Some(0) {
        return Err(format!("the relay should have drained and exited 0: {code:?}").into());
    }
    Ok(verdict)
}

async fn play(screen: &Screen, scene: &mut Scene) -> Result<Told, Box<dyn Error>> {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let reader = Reader::start(&scene.redis.url(), sender.clone())?;
    let writer = Writer::new(scene.postgres.client().await).await?;
    let redis = scene.redis.connection().await;
    let reported = Arc::clone(&reader.reported);
    let plot = Plot { scene, writer, redis, sender, committed: 0, reported };
    let told = async { Ok(Teller::new(screen).listen(&mut receiver).await) };
    let ((), told) = tokio::try_join!(plot.play(), told)?;
    Ok(told)
}

fn summarise(screen: &Screen, verdict: &Verdict, told: &Told, counts: [usize; 2]) {
    let [committed, published] = counts.map(thousands);
    let must_be_zero = |name, count: usize, remark: &str| {
        let tone = if count == 0 { Tone::Good } else { Tone::Bad };
        screen.total(name, &thousands(count), tone, remark);
    };
    screen.heading("Summary");
    let rolled_back = format!("and {} transactions rolled back", told.rolled_back);
    screen.total("events committed", &committed, Tone::Strong, &rolled_back);
    screen.total("entries in the stream", &published, Tone::Strong, "");
    must_be_zero("lost", verdict.lost, "");
    must_be_zero("doubled", verdict.doubled, "");
    must_be_zero("out of order", verdict.out_of_order, "");
    must_be_zero("never committed", verdict.foreign, "");
    screen.latencies_head();
    latencies(screen, "relay up", &told.live);
    latencies(screen, "relay down, catching up", &told.outage);
}

fn latencies(screen: &Screen, when: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let figures = [500, 990, 1_000].map(|permille| human(percentile(&sorted, permille)));
    screen.latencies(when, &figures, sorted.len());
}

fn conclude(screen: &Screen, verdict: &Verdict, code: Option<i32>) {
    screen.line("");
    if verdict.is_good() && code == Some(0) {
        let text = "✔ every committed event once, in the order of commit, across a kill -9";
        screen.line(&format!("  {}", screen.paint(Tone::Good, text)));
        screen.line("    exit code 0");
    } else {
        let text = "✘ the promise is broken: please report this output";
        screen.line(&format!("  {}", screen.paint(Tone::Bad, text)));
        screen.line("    exit code 1");
    }
    screen.heading("How to go on");
    for (command, purpose) in [
        ("docker compose up --build", "PostgreSQL, Redis and the relay in containers"),
        ("walrelay setup --print", "the SQL for your own database, to read first"),
        ("walrelay config", "every setting, its value, and where it came from"),
        ("make bench", "throughput and latency on this machine"),
    ] {
        screen.line(&format!("    {command:<27}{}", screen.paint(Tone::Faint, purpose)));
    }
    screen.line("");
}
