//! What the tests, the demo and the benchmark stand on: real servers, the built binary, and a judge.
//!
//! Everything is started in temporary directories on free loopback ports, and killed with the process that
//! started it. Nothing here waits for a time: it waits for a fact, and says which when it never comes.
#![allow(dead_code, reason = "tests, demo and benchmark each use a part of it")]

pub mod consumer;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod relay;

use std::time::{Duration, Instant};

pub use consumer::{Entry, Stream};
pub use postgres::Postgres;
pub use proxy::Proxy;
pub use redis::Redis;

/// Long enough for a slow shared machine: only a test that fails waits this long.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(15);

/// The stream of the default topic.
pub const STREAM: &str = "identity.user.v1";

/// Waits until `fact` holds. Panics with `what` and the last thing seen when that has not changed for
/// [`PATIENCE`]: what moves is not stuck, however slow the machine.
pub async fn eventually<T>(what: &str, mut fact: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    loop {
        match fact().await {
            Ok(value) => return value,
            Err(seen) if seen != last => {
                last = seen;
                deadline = Instant::now() + PATIENCE;
            }
            Err(seen) if Instant::now() > deadline => panic!("never: {what}; last seen: {seen}"),
            Err(_) => {}
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Both servers, with the schema set up.
pub struct World {
    /// PostgreSQL.
    pub postgres: Postgres,
    /// Redis.
    pub redis: Redis,
}

impl World {
    /// Starts both and runs `walrelay setup`.
    pub async fn start(binary: &str) -> Self {
        Self::with(binary, &[], &[]).await
    }

    /// The same with settings for the servers.
    pub async fn with(binary: &str, postgres: &[&str], redis: &[&str]) -> Self {
        let world = Self::bare(postgres, redis).await;
        world.relay(binary).command("setup").success();
        world
    }

    /// Both servers, empty.
    pub async fn bare(postgres: &[&str], redis: &[&str]) -> Self {
        let postgres = Postgres::start(postgres).await;
        let redis = Redis::start(redis).await;
        Self { postgres, redis }
    }

    /// A relay between the two, not yet running.
    pub fn relay(&self, binary: &str) -> relay::Plan {
        relay::Plan::new(binary, &self.postgres.url(), &self.redis.url())
    }
}
