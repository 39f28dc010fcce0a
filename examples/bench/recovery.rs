//! How long events wait when something dies: the leader, or Redis.
//!
//! In: a scene. Out: the times from the death of the leader to the standby's first entry, and from
//! the first PONG of a Redis that was killed to the first entry in it. It must stay true that the
//! row that is waited for was committed while nobody could publish it.

use std::error::Error;
use std::time::{Duration, Instant};

use crate::harness::relay::Settings;
use crate::harness::world::{STREAM, insert};
use crate::scene::Scene;
use crate::stage::binary;

const ROUNDS: usize = 5;
const SLOT: &str = "bench_recovery";
const PATIENCE: Duration = Duration::from_secs(60);

type Times = Result<Vec<Duration>, Box<dyn Error>>;

/// SIGKILL for the leader, until the standby has published what was committed right after.
pub async fn takeover(scene: &mut Scene) -> Times {
    prepare(scene).await?;
    let other = Settings::with_binary(&binary()?, &scene.postgres.url(), &scene.redis.url());
    let mut first = scene.settings.clone().with("slot_name", SLOT);
    let mut second = other.with("slot_name", SLOT);
    let mut times = Vec::new();
    let mut leader = first.start_ready().await;
    for round in 0..ROUNDS {
        let standby = second.start();
        standby.until_state("standby").await;
        let died = Instant::now();
        leader.kill9();
        publish_one(scene, round).await?;
        times.push(died.elapsed());
        leader = standby;
        std::mem::swap(&mut first, &mut second);
    }
    leader.drain().await;
    finish(scene, times).await
}

/// SIGKILL for Redis; from its first PONG afterwards until the relay has published what was
/// committed meanwhile.
pub async fn redis_back(scene: &mut Scene) -> Times {
    prepare(scene).await?;
    let mut relay = scene.settings.clone().with("slot_name", SLOT).start_ready().await;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let before = len(scene).await?;
        scene.redis.kill9();
        insert(&scene.sql, i64::try_from(round)?).await?;
        relay.until_state("holding").await;
        scene.redis.restart().await;
        let back = Instant::now();
        scene.cache = scene.redis.connection().await;
        scene.until_published(&[STREAM.to_owned()], before + 1, PATIENCE).await?;
        times.push(back.elapsed());
    }
    relay.drain().await;
    finish(scene, times).await
}

async fn prepare(scene: &mut Scene) -> Result<(), Box<dyn Error>> {
    scene.settle().await?;
    scene.sql.batch_execute("TRUNCATE identity.outbox").await?;
    scene.create_slot(SLOT).await
}

async fn finish(scene: &Scene, mut times: Vec<Duration>) -> Times {
    scene.drop_slot(SLOT).await?;
    times.sort_unstable();
    Ok(times)
}

async fn len(scene: &mut Scene) -> Result<usize, Box<dyn Error>> {
    Ok(redis::cmd("XLEN").arg(STREAM).query_async(&mut scene.cache).await?)
}

async fn publish_one(scene: &mut Scene, round: usize) -> Result<(), Box<dyn Error>> {
    let before = len(scene).await?;
    insert(&scene.sql, i64::try_from(round)?).await?;
    scene.until_published(&[STREAM.to_owned()], before + 1, PATIENCE).await
}
