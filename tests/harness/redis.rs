//! A Redis server of one's own.
//!
//! In: settings. Out: a server on loopback with an append-only file, that can be stopped, killed,
//! frozen and started again on the same port and data, or on what a disk would have kept of it. It
//! must stay true that it leaves nothing behind.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::aof;
use super::preload;
use super::process::Process;
use super::wait::{self, PATIENCE};

/// How long a connection is given: a frozen server accepts and never answers.
const CONNECT: Duration = Duration::from_secs(2);

/// Notes what fsync would have brought to disk.
const POWER_LOSS: &str = include_str!("power_loss.c");

/// A server; its data goes with it.
pub struct Redis {
    home: TempDir,
    port: u16,
    program: OsString,
    settings: Vec<(String, String)>,
    process: Option<Process>,
    can_lose_power: bool,
    locale: Option<&'static str>,
}

impl Redis {
    /// Starts a server with the defaults of this harness: append-only file, fsync every second.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with settings of one's own, by the names of `redis.conf`.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut redis = Self::stopped(settings);
        redis.restart().await;
        redis
    }

    /// The same, and [`Self::power_loss`] works on it. Its fsync waits for no disk.
    pub async fn start_with_power_loss(settings: &[(&str, &str)]) -> Self {
        let mut redis = Self::stopped(settings);
        preload::compile(POWER_LOSS, &redis.library());
        redis.can_lose_power = true;
        redis.restart().await;
        redis
    }

    /// Starts a server in a locale, which is compiled for it.
    pub async fn start_in_locale(locale: &'static str) -> Self {
        let mut redis = Self::stopped(&[]);
        let compiled = Command::new("localedef")
            .args(["-i", locale, "-f", "UTF-8"])
            .arg(redis.home.path().join(format!("{locale}.UTF-8")))
            .output()
            .expect("localedef, of libc-bin");
        assert!(compiled.status.success(), "the sources of package locales: {compiled:?}");
        redis.locale = Some(locale);
        redis.restart().await;
        redis
    }

    fn stopped(settings: &[(&str, &str)]) -> Self {
        let home = tempfile::Builder::new().prefix("walrelay-redis-").tempdir().expect("temp dir");
        let port = wait::free_port();
        let program = std::env::var_os("WALRELAY_REDIS_SERVER");
        let program = program.unwrap_or_else(|| "redis-server".into());
        let (settings, chosen) = (Vec::new(), settings);
        let (process, can_lose_power, locale) = (None, false, None);
        let mut redis = Self { home, port, program, settings, process, can_lose_power, locale };
        for (name, value) in chosen {
            redis.set(name, value);
        }
        redis
    }

    /// Starts a server that knows WAITAOF (Redis 7.2 and newer, Valkey), if there is one here.
    pub async fn with_waitaof(settings: &[(&str, &str)]) -> Option<Self> {
        let mut redis = Self::start_with(settings).await;
        if !redis.knows("WAITAOF").await {
            redis.stop().await;
            redis.program = "valkey-server".into();
            wait::in_path("valkey-server")?;
            redis.restart().await;
        }
        redis.knows("WAITAOF").await.then_some(redis)
    }

    async fn knows(&self, command: &str) -> bool {
        let mut ask = redis::cmd("COMMAND");
        ask.arg("INFO").arg(command);
        let known: Vec<redis::Value> =
            ask.query_async(&mut self.connection().await).await.expect("COMMAND INFO");
        known.iter().any(|entry| matches!(entry, redis::Value::Array(_)))
    }

    /// Changes a setting; it holds from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it again: same port, same data, same settings unless `set`.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "stop the server before starting it");
        aof::mend(&self.home.path().join("appendonlydir"));
        let mut command = Command::new(&self.program);
        command.current_dir(self.home.path());
        if self.can_lose_power {
            command.env("LD_PRELOAD", self.library()).env("WALRELAY_POWER_LOSS", self.notes());
        }
        if let Some(locale) = self.locale {
            command.env("LOCPATH", self.home.path()).env("LC_ALL", format!("{locale}.UTF-8"));
        }
        let port = self.port.to_string();
        let own = [
            ("port", port.as_str()),
            ("bind", "127.0.0.1"),
            ("save", ""),
            ("appendonly", "yes"),
            ("appendfsync", "everysec"),
            // A replica is not kept waiting for others to come.
            ("repl-diskless-sync-delay", "0"),
        ];
        let chosen = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.into_iter().chain(chosen) {
            command.arg(format!("--{name}")).arg(value);
        }
        let mut process = Process::spawn("Redis", &mut command, &self.log_file(), self.home.path());
        wait::until("Redis answers PING", PATIENCE, async || {
            assert!(process.running(), "Redis does not start:\n{}", self.log());
            self.try_connection().await
        })
        .await;
        self.process = Some(process);
    }

    /// SIGTERM: writes what it has and ends. Asked for again until it does: while a new replica
    /// writes its first append-only file it says "can't exit", and forgets that it was asked.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("a running server");
        wait::until("the end of Redis", PATIENCE, async || {
            process.signal("TERM");
            (!process.running()).then_some(())
        })
        .await;
    }

    /// SIGKILL: what was written to the file is kept by the kernel, what was not is gone.
    pub fn kill9(&mut self) {
        self.process.take().expect("a running server").kill();
    }

    /// SIGKILL, and its files are cut back to what it had brought to disk by fsync. Bytes lost.
    pub fn power_loss(&mut self) -> u64 {
        assert!(self.can_lose_power, "start it with start_with_power_loss");
        self.kill9();
        let notes = std::fs::read_to_string(self.notes()).unwrap_or_default();
        let synced: HashMap<u64, u64> = notes
            .lines()
            .map(|line| line.split_once(' ').expect("inode and length"))
            .map(|(inode, length)| (inode.parse().expect("inode"), length.parse().expect("length")))
            .collect();
        let files = std::fs::read_dir(self.home.path().join("appendonlydir")).expect("the AOF");
        let mut lost = 0;
        for file in files {
            let file = File::options().write(true).open(file.expect("an entry").path());
            let file = file.expect("a file of the AOF");
            let now = file.metadata().expect("its length");
            let kept = now.len().min(synced.get(&now.ino()).copied().unwrap_or_default());
            lost += now.len() - kept;
            file.set_len(kept).expect("a shorter file");
        }
        lost
    }

    /// SIGSTOP: it still accepts connections (the kernel does) and answers nothing.
    pub fn freeze(&mut self) {
        self.process.as_mut().expect("a running server").signal("STOP");
    }

    /// SIGCONT after [`Self::freeze`].
    pub fn thaw(&mut self) {
        self.process.as_mut().expect("a running server").signal("CONT");
    }

    /// Its process id; it must be running.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running server").pid()
    }

    /// Its TCP port; the same for life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, with the password if it has one.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same through another port, for a proxy.
    pub fn url_at(&self, port: u16) -> String {
        match self.settings.iter().find(|(name, _)| name == "requirepass") {
            Some((_, password)) => format!("redis://:{password}@127.0.0.1:{port}/0"),
            None => format!("redis://127.0.0.1:{port}/0"),
        }
    }

    /// A connection that answers PING.
    pub async fn connection(&self) -> MultiplexedConnection {
        let what = "a connection to Redis";
        wait::until(what, PATIENCE, async || self.try_connection().await).await
    }

    /// A connection, if the server is there and has finished loading.
    pub async fn try_connection(&self) -> Option<MultiplexedConnection> {
        try_connection(&self.url()).await
    }

    /// Runs a command, its words separated by single spaces.
    pub async fn run(&self, command: &str) {
        let mut words = command.split(' ');
        let mut built = redis::cmd(words.next().unwrap_or_default());
        built.arg(words.collect::<Vec<_>>());
        let done = built.query_async::<redis::Value>(&mut self.connection().await).await;
        done.unwrap_or_else(|error| panic!("{command}: {error}"));
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("log")
    }

    fn library(&self) -> PathBuf {
        self.home.path().join("power_loss.so")
    }

    fn notes(&self) -> PathBuf {
        self.home.path().join("synced")
    }
}

/// A connection to that URL, if somebody answers PING there within reasonable time.
pub async fn try_connection(url: &str) -> Option<MultiplexedConnection> {
    let client = redis::Client::open(url).expect("a Redis URL");
    let ask = async {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(Duration::from_secs(30)));
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.ok()?;
        redis::cmd("PING").query_async::<String>(&mut connection).await.ok()?;
        Some(connection)
    };
    tokio::time::timeout(CONNECT, ask).await.ok()?
}
