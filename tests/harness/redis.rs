//! A private Redis: append-only file on, everysec, in a temporary directory.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::process::{self, Process};

const START_PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub struct Redis {
    home: TempDir,
    port: u16,
    settings: Vec<String>,
    process: Option<Process>,
}

impl Redis {
    /// Starts one, with these settings (`--name value` as one text each, without the dashes) on top.
    pub async fn start(settings: &[&str]) -> Self {
        let home = tempfile::Builder::new()
            .prefix("walrelay-redis-")
            .tempdir()
            .expect("a temporary folder");
        let mut server = Self {
            home,
            port: process::free_port(),
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            process: None,
        };
        server.restart().await;
        server
    }

    /// Starts it again, on the same data and port.
    pub async fn restart(&mut self) {
        let home = self.home.path().display();
        let mut arguments: Vec<String> = format!(
            "--port {} --bind 127.0.0.1 --dir {home} --appendonly yes --appendfsync everysec --save ''",
            self.port
        )
        .split(' ')
        .map(|word| word.trim_matches('\'').to_owned())
        .collect();
        for setting in &self.settings {
            let (name, value) = setting.split_once(' ').expect("a setting is a name and a value");
            arguments.extend([format!("--{name}"), value.to_owned()]);
        }
        let program = std::env::var_os("WALRELAY_REDIS_SERVER").map(PathBuf::from);
        let program = program.or_else(|| process::find("redis-server"));
        let program = program.expect("Redis is installed: `make setup`");
        let log = self.home.path().join("log");
        let mut running = Process::start(&program, &arguments, &[], None, &log);
        let deadline = Instant::now() + START_PATIENCE;
        while !self.answers().await {
            assert!(running.ended().is_none(), "redis-server ended:\n{}", running.output());
            assert!(
                Instant::now() < deadline,
                "redis-server does not start:\n{}",
                running.output()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.process = Some(running);
    }

    /// Whether it answers and has loaded its data.
    async fn answers(&self) -> bool {
        let Ok(mut connection) = self.connect().await else { return false };
        let answer: redis::RedisResult<redis::Value> =
            redis::cmd("PING").query_async(&mut connection).await;
        match answer {
            Ok(_) => true,
            // One with a password answers that it wants it: it is up.
            Err(error) => error.code() == Some("NOAUTH"),
        }
    }

    /// Kills it: what the kernel has of its file is kept, as after any crash of a process.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// Its URL through another port: a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}/0")
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        // The client gives up after half a second by itself; a busy machine may take longer.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        redis::Client::open(self.url())?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A connection.
    pub async fn connection(&self) -> MultiplexedConnection {
        self.connect().await.expect("Redis takes connections")
    }

    /// Runs a command, words separated by single spaces.
    pub async fn run(&self, command: &str) -> redis::Value {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            cmd.arg(word);
        });
        let answer = cmd.query_async(&mut self.connection().await).await;
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}
