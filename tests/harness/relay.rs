//! The relay under test: the built binary, so that a SIGKILL is a real one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::eventually;
use super::process::{self, Process};

const EXIT_PATIENCE: Duration = Duration::from_secs(60);

/// A relay that is not running yet: the binary and its environment.
#[derive(Clone)]
pub struct Plan {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    port: u16,
}

impl Plan {
    /// Between these servers, with a free port for its pages.
    pub fn new(binary: &str, database_url: &str, redis_url: &str) -> Self {
        let port = process::free_port();
        let plan = Self { binary: binary.into(), environment: Vec::new(), port };
        plan.set("database_url", database_url)
            .set("redis_url", redis_url)
            .set("http_port", &port.to_string())
            .set("log_format", "json")
            .set("reconnect_delay_max", "300ms")
    }

    /// With a setting, or with another value for it.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        let variable = format!("RELAY_{}", name.to_uppercase());
        self.environment.retain(|(known, _)| *known != variable);
        self.environment.push((variable, value.to_owned()));
        self
    }

    /// Without a setting.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        let variable = format!("RELAY_{}", name.to_uppercase());
        self.environment.retain(|(known, _)| *known != variable);
        self
    }

    /// Runs another subcommand to its end.
    pub fn command(&self, arguments: &str) -> Ended {
        let output = Command::new(&self.binary)
            .args(arguments.split_whitespace())
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("the binary can be run");
        Ended(output)
    }

    /// `walrelay run`, without waiting for anything.
    pub fn spawn(&self) -> Relay {
        let home =
            tempfile::Builder::new().prefix("walrelay-run-").tempdir().expect("a temporary folder");
        let log = home.path().join("log");
        let arguments = ["run".to_owned()];
        let process = Process::start(&self.binary, &arguments, &self.environment, None, &log);
        Relay { process, port: self.port, _home: home }
    }

    /// `walrelay run`, until it streams.
    pub async fn start(&self) -> Relay {
        let mut relay = self.spawn();
        relay.becomes("streaming").await;
        relay
    }
}

/// A command that has ended.
pub struct Ended(Output);

impl Ended {
    /// Its exit code.
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    /// Both of its outputs.
    pub fn text(&self) -> String {
        let (out, err) = (&self.0.stdout, &self.0.stderr);
        format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
    }

    /// Its standard output.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// It must have succeeded.
    pub fn success(self) -> Self {
        assert_eq!(self.code(), 0, "{}", self.text());
        self
    }
}

/// A running relay.
pub struct Relay {
    process: Process,
    port: u16,
    _home: TempDir,
}

impl Relay {
    /// Waits until /status says `state`.
    pub async fn becomes(&mut self, state: &str) {
        eventually(&format!("the relay is {state}"), async || {
            if let Some(status) = self.process.ended() {
                panic!("the relay ended with {status}:\n{}", self.output());
            }
            let seen = self.status().map(|status| status["state"].as_str().map(str::to_owned));
            match seen {
                Some(Some(now)) if now == state => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// The document of /status, if it answers.
    pub fn status(&self) -> Option<Value> {
        let (_, body) = self.get("/status")?;
        serde_json::from_str(&body).ok()
    }

    /// A number out of /status, by its path: `/events/published`.
    pub fn number(&self, path: &str) -> u64 {
        let status = self.status().expect("the relay answers");
        status
            .pointer(path)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("no {path} in {status:#}"))
    }

    /// A page: its code and body.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// SIGTERM, and its exit code.
    pub fn stop(&mut self) -> i32 {
        self.process.signal("TERM");
        self.exit_code()
    }

    /// Waits for its end.
    pub fn exit_code(&mut self) -> i32 {
        self.process.wait(EXIT_PATIENCE)
    }

    /// What it has logged.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Its largest resident memory so far, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()));
        let status = status.expect("the relay runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux counts it");
        let number = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok());
        number.expect("a number of kB")
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid()));
        let stat = stat.expect("the relay runs");
        let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        // Linux reports in hundredths of a second to user space, whatever its own clock is.
        Duration::from_millis(ticks * 10)
    }
}
