//! What the demo plays on: private servers in a temporary directory, set up by the product itself.
//!
//! In: nothing; programs are found as the tests find them. Out: servers, and a relay that streams. It must
//! stay true that all of it is gone afterwards, however the demo ends: see [`Stage`].

use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::postgres::Postgres;
use crate::harness::process::Process;
use crate::harness::redis::Redis;
use crate::harness::relay::{Relay, Settings};
use crate::screen::Screen;

/// One directory for all files, and a process whose watcher removes it should we be killed.
///
/// Servers have watchers of their own; this one also covers what exists before the first server runs.
pub struct Stage {
    _guard: Process,
    _home: TempDir,
}

impl Stage {
    pub fn set() -> std::io::Result<Self> {
        let home = tempfile::Builder::new().prefix("walrelay-demo-").tempdir()?;
        // PostgreSQL runs as somebody else when we are root, and must get through to its own directory.
        std::fs::set_permissions(home.path(), Permissions::from_mode(0o711))?;
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let guard = Process::spawn("sleep", &mut sleep, &home.path().join("log"), home.path());
        tempfile::env::override_temp_dir(home.path()).ok();
        Ok(Self { _guard: guard, _home: home })
    }
}

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

/// The relay that Cargo put beside us (`target/<profile>/examples/demo`), or another by WALRELAY_BIN.
fn binary() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(path) = std::env::var_os("WALRELAY_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    let beside = own.ancestors().nth(2).map(|profile| profile.join("walrelay"));
    match beside {
        Some(path) if path.is_file() => Ok(path),
        _ => Err("no walrelay binary beside the demo: run `make demo`, or set WALRELAY_BIN".into()),
    }
}
