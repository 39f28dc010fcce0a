//! What the demo plays on: private servers in a temporary directory, set up by the product itself.
//!
//! In: nothing; programs are found as the tests find them. Out: servers, and a relay that streams.
//! It must stay true that all of it is gone afterwards, however the demo ends: see `stage`.

use std::error::Error;

use crate::harness::postgres::Postgres;
use crate::harness::redis::Redis;
use crate::harness::relay::{Relay, Settings};
use crate::screen::Screen;
use crate::stage::binary;

pub struct Scene {
    pub relay: Relay,
    pub settings: Settings,
    pub redis: Redis,
    pub postgres: Postgres,
}

impl Scene {
    pub async fn start(screen: &Screen) -> Result<Self, Box<dyn Error>> {
        let binary = binary()?;
        screen.heading("Private servers in a temporary directory, gone when this ends");
        let postgres = Postgres::start().await;
        let client = postgres.client().await;
        let row = client.query_one("SHOW server_version", &[]).await?;
        let version: String = row.get(0);
        let version = version.split(' ').next().unwrap_or_default();
        screen.ready(
            &format!("PostgreSQL {version}"),
            &format!("127.0.0.1:{}, wal_level = logical, fsync on", postgres.port()),
        );
        let redis = Redis::start().await;
        let mut connection = redis.connection().await;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        screen.ready(
            &format!("Redis {}", version.unwrap_or("(unknown)").trim()),
            &format!("127.0.0.1:{}, appendonly yes, appendfsync everysec", redis.port()),
        );
        let settings = Settings::with_binary(&binary, &postgres.url(), &redis.url());
        let done = settings.finish("setup").await;
        if done.code != Some(0) {
            return Err(format!("walrelay setup failed:\n{}", done.output).into());
        }
        screen.ready("walrelay setup", "schema identity, publication and slot \"walrelay\"");
        let relay = settings.start_ready().await;
        screen.ready(
            "walrelay run",
            &format!("pid {}, from the WAL to the stream identity.user.v1", relay.pid()),
        );
        Ok(Self { relay, settings, redis, postgres })
    }
}
