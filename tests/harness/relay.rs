//! The relay as its users run it: the binary, its environment, its signals, its HTTP port.
//!
//! In: settings by name. Out: a finished run with its output, or a running process that can be
//! asked, signalled and killed. It must stay true that nothing but the named settings reaches the
//! process.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::process::Process;
use super::wait::{self, PATIENCE};

/// A page that takes longer than this counts as no answer.
const HTTP: Duration = Duration::from_secs(2);

/// How to run the relay: a binary and its settings.
#[derive(Clone)]
pub struct Settings {
    binary: PathBuf,
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
    http_port: u16,
    memory_kb: Option<u64>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed, both streams, in order.
    pub output: String,
}

/// A run that has ended, each stream by itself.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The answer.
    pub stdout: String,
    /// Words about the work.
    pub stderr: String,
}

/// A relay that runs; killed with the handle.
pub struct Relay {
    process: Process,
    http_port: u16,
    log: PathBuf,
    home: TempDir,
}

impl Settings {
    /// The binary that Cargo built for this test or bench, on these servers.
    pub fn new(database_url: &str, redis_url: &str) -> Self {
        let binary = option_env!("CARGO_BIN_EXE_walrelay");
        let binary = binary.expect("outside of tests and benches name the binary: with_binary");
        Self::with_binary(Path::new(binary), database_url, redis_url)
    }

    /// That binary, on these servers.
    pub fn with_binary(binary: &Path, database_url: &str, redis_url: &str) -> Self {
        let http_port = wait::free_port();
        let environment = BTreeMap::new();
        Self {
            binary: binary.to_owned(),
            environment,
            arguments: Vec::new(),
            http_port,
            memory_kb: None,
        }
        .with("database_url", database_url)
        .with("redis_url", redis_url)
        .with("http_port", &http_port.to_string())
        .with("log_format", "json")
    }

    /// Runs another binary, or a script around this one.
    #[must_use]
    pub fn with_other_binary(mut self, binary: &Path) -> Self {
        binary.clone_into(&mut self.binary);
        self
    }

    /// Sets one setting, by its name as the README writes it.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        self.with_variable(&format!("RELAY_{}", name.to_uppercase()), value)
    }

    /// Sets one variable of the environment, of whatever name.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Takes one setting away again.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(&format!("RELAY_{}", name.to_uppercase()));
        self
    }

    /// Gives the process so much address space: what needs more ends it, as a container does.
    #[must_use]
    pub fn with_memory_limit_kb(mut self, kb: u64) -> Self {
        self.memory_kb = Some(kb);
        self
    }

    /// Adds arguments behind the subcommand.
    #[must_use]
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Runs a subcommand to its end, which must come by itself. It speaks as to a person.
    pub async fn finish(&self, subcommand: &str) -> Finished {
        let mut relay = self.clone().with("log_format", "text").spawn(subcommand);
        let status = relay.process.ended(PATIENCE).await;
        Finished { code: status.code(), output: relay.output() }
    }

    /// `walrelay setup`, which must succeed.
    pub async fn setup(&self) {
        let done = self.finish("setup").await;
        assert_eq!(done.code, Some(0), "walrelay setup failed:\n{}", done.output);
    }

    /// `walrelay run`, without waiting for anything.
    pub fn start(&self) -> Relay {
        self.spawn("run")
    }

    /// Another subcommand, without waiting for anything. It speaks as to a person.
    pub fn start_command(&self, subcommand: &str) -> Relay {
        self.clone().with("log_format", "text").spawn(subcommand)
    }

    /// `walrelay run`, streaming.
    pub async fn start_ready(&self) -> Relay {
        let mut relay = self.start();
        relay.ready().await;
        relay
    }

    fn command(&self) -> Command {
        let Some(kb) = self.memory_kb else { return Command::new(&self.binary) };
        let mut command = Command::new("sh");
        command.args(["-c", &format!(r#"ulimit -v {kb} && exec "$0" "$@""#)]).arg(&self.binary);
        command
    }

    /// Runs a subcommand to its end, with what it said on each stream by itself.
    pub fn say(&self, subcommand: &str) -> Said {
        let mut command = self.command();
        command.arg(subcommand).args(&self.arguments).stdin(Stdio::null());
        said(&self.confined(command).output().expect("the binary"))
    }

    /// The same on a terminal of its own (util-linux's `script`): once `prompt` is to be seen,
    /// `input` is typed. It cannot tell the streams apart.
    pub fn say_on_terminal(&self, subcommand: &str, prompt: &str, input: &str) -> Said {
        let mut command = Command::new("script");
        let words = [self.binary.display().to_string(), subcommand.to_owned()];
        let line: Vec<String> = words.into_iter().chain(self.arguments.clone()).collect();
        // Without `exec` it is the shell's exit code.
        let line = format!("exec {}", line.join(" "));
        command.args(["-q", "-e", "-c", &line, "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let settings =
            self.clone().with_variable("TERM", "xterm").with_variable("SHELL", "/bin/sh");
        let mut child = settings.confined(command).spawn().expect("script, of util-linux");
        let mut typing = child.stdin.take();
        let mut screen = child.stdout.take().expect("its output");
        let (mut seen, mut room) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(mut keys) =
                typing.take_if(|_| String::from_utf8_lossy(&seen).contains(prompt))
            {
                keys.write_all(input.as_bytes()).expect("somebody reads what is typed");
            }
            match screen.read(&mut room) {
                Ok(0) | Err(_) => break,
                Ok(bytes) => seen.extend_from_slice(&room[..bytes]),
            }
        }
        let status = child.wait().expect("the end of script");
        said(&Output { status, stdout: seen, stderr: Vec::new() })
    }

    /// Nothing but the named settings reaches the process.
    fn confined(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(&self.environment);
        command
    }

    /// A subcommand that runs, without waiting for anything.
    pub fn spawn(&self, subcommand: &str) -> Relay {
        let home = tempfile::Builder::new().prefix("walrelay-run-").tempdir().expect("temp dir");
        let log = home.path().join("log");
        let mut command = self.command();
        command.arg(subcommand).args(&self.arguments);
        let mut command = self.confined(command);
        command.current_dir(home.path());
        let process = Process::spawn("walrelay", &mut command, &log, home.path());
        Relay { process, http_port: self.http_port, log, home }
    }
}

fn said(output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Said { code: output.status.code(), stdout, stderr }
}

impl Relay {
    /// Awaits `GET /livez`: from then on it hears signals. Before that a process ends by them.
    pub async fn alive(&self) {
        wait::until("the relay is alive", PATIENCE, async || self.get("/livez").await).await;
    }

    /// Awaits `GET /readyz` to answer 200; panics if the process ends instead.
    pub async fn ready(&mut self) {
        wait::until("the relay is ready", PATIENCE, async || {
            assert!(self.process.running(), "the relay has ended:\n{}", self.output());
            let (code, _) = self.get("/readyz").await?;
            (code == 200).then_some(())
        })
        .await;
    }

    /// `GET /status`.
    pub async fn status(&self) -> Value {
        wait::until("an answer from /status", PATIENCE, async || {
            let (_, body) = self.get("/status").await?;
            serde_json::from_str(&body).ok()
        })
        .await
    }

    /// Awaits a state by its name in `/status`.
    pub async fn until_state(&self, state: &str) {
        wait::until_equal("the relay's state", Value::from(state), PATIENCE, async || {
            self.status().await["state"].take()
        })
        .await;
    }

    /// Awaits words in what it prints.
    pub async fn until_output(&self, words: &str) {
        let what = format!("{words:?} in what is printed");
        wait::until(&what, PATIENCE, async || self.output().contains(words).then_some(())).await;
    }

    /// A page's code and body; `None` if nobody answers.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        tokio::time::timeout(HTTP, get(self.http_port, path)).await.ok()?
    }

    /// The answer to a request of HTTP/1.0, both as they are; `None` if nobody answers.
    pub async fn ask(&self, request: &str) -> Option<String> {
        tokio::time::timeout(PATIENCE, exchange(self.http_port, request)).await.ok()?
    }

    /// Where its page is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.http_port)
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, as an init system sends it.
    pub fn terminate(&mut self) {
        self.process.signal("TERM");
    }

    /// SIGINT, as Ctrl-C does.
    pub fn interrupt(&mut self) {
        self.process.signal("INT");
    }

    /// SIGSTOP: it is there and does nothing.
    pub fn freeze(&mut self) {
        self.process.signal("STOP");
    }

    /// SIGCONT after [`Self::freeze`].
    pub fn thaw(&mut self) {
        self.process.signal("CONT");
    }

    /// SIGTERM, and exit code 0 within the time a drain may take.
    pub async fn drain(&mut self) {
        self.terminate();
        let code = self.exit_code(PATIENCE).await;
        assert_eq!(code, Some(0), "a drained relay exits with 0:\n{}", self.output());
    }

    /// Awaits its end; `None` if a signal ended it.
    pub async fn exit_code(&mut self, within: Duration) -> Option<i32> {
        self.ended(within).await.code()
    }

    /// Awaits its end; the number of the signal that ended it, if one did.
    pub async fn ending_signal(&mut self, within: Duration) -> Option<i32> {
        self.ended(within).await.signal()
    }

    async fn ended(&mut self, within: Duration) -> ExitStatus {
        self.process.ended(within).await
    }

    /// Whether the process is there.
    pub fn running(&mut self) -> bool {
        self.process.running()
    }

    /// What it printed so far, both streams.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory now, in kB.
    pub fn rss_kb(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Resident memory at its highest, in kB.
    pub fn peak_rss_kb(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The same of a process that may end at any time.
    pub fn try_peak_rss_kb(&self) -> Option<u64> {
        self.try_memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        self.try_memory(field).expect("a running relay")
    }

    fn try_memory(&self, field: &str) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = text.lines().find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Processor time used so far, user and system, in ticks of 1/100 s.
    pub fn cpu_ticks(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.pid());
        let text = std::fs::read_to_string(path).expect("a running relay");
        // The name stands in parentheses and may hold spaces: count from behind it.
        let behind = text.rsplit(')').next().expect("fields behind the name");
        let fields: Vec<&str> = behind.split_whitespace().collect();
        [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
    }
}

/// One GET of HTTP/1.0.
async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let answer = exchange(port, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")).await?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}

/// The answer ends where the connection does.
async fn exchange(port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
