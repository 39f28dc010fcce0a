//! A PostgreSQL server of one's own.
//!
//! In: settings. Out: a server on loopback and on a socket, with logical decoding and SCRAM, that
//! can be stopped, killed, frozen and started again on the same port and data. `initdb` runs once
//! per version and is copied. It must stay true that it never runs as root and leaves nothing
//! behind.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::process::Process;
use super::wait::{self, PATIENCE};

/// The superuser's; odd enough to be found in any output it must not be in.
pub const PASSWORD: &str = "pg-Secret-81f0";

/// How many ports are tried before it is not the port's fault.
const START_ATTEMPTS: usize = 3;

/// How a running server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT: ends sessions, waits until every walsender's client has confirmed the last WAL.
    Fast,
    /// SIGQUIT: as after a crash, without the crash.
    Immediate,
}

/// A server; its data goes with it.
pub struct Postgres {
    programs: PathBuf,
    home: TempDir,
    port: u16,
    settings: Vec<(String, String)>,
    process: Option<Process>,
}

impl Postgres {
    /// Starts a server with the defaults of this harness.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with settings of one's own; they win over the harness's.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let programs = programs();
        let home = tempfile::Builder::new().prefix("walrelay-pg-").tempdir().expect("temp dir");
        give_away(home.path());
        copy_template(&programs, home.path());
        let mut postgres = Self { programs, home, port: 0, settings: Vec::new(), process: None };
        for (name, value) in settings {
            postgres.set(name, value);
        }
        for _ in 0..START_ATTEMPTS {
            postgres.port = wait::free_port();
            if postgres.try_restart().await {
                return postgres;
            }
        }
        panic!("PostgreSQL does not start:\n{}", postgres.log());
    }

    /// Another server with the same settings that reads its WAL from this one; no data, not
    /// started.
    pub(super) fn sibling(&self) -> Self {
        let home = tempfile::Builder::new().prefix("walrelay-pg-").tempdir().expect("temp dir");
        give_away(home.path());
        let (programs, settings) = (self.programs.clone(), self.settings.clone());
        let mut sibling = Self { programs, home, port: wait::free_port(), settings, process: None };
        let socket = self.home.path().display();
        let from = format!("host={socket} port={} user=postgres", self.port);
        sibling.set("primary_conninfo", &from);
        sibling.set("hot_standby", "on");
        sibling
    }

    /// Changes a setting; it holds from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it again: same port, same data, same settings unless `set`.
    pub async fn restart(&mut self) {
        assert!(self.try_restart().await, "PostgreSQL does not start again:\n{}", self.log());
    }

    async fn try_restart(&mut self) -> bool {
        assert!(self.process.is_none(), "stop the server before starting it");
        let mut process = self.spawn();
        let up = wait::until("PostgreSQL accepts connections", PATIENCE, async || {
            if !process.running() {
                return Some(false);
            }
            try_client(&self.socket_url()).await.map(|_| true)
        })
        .await;
        self.process = Some(process);
        if !up {
            self.process = None;
        }
        up
    }

    fn spawn(&self) -> Process {
        let socket_dir = self.home.path().display().to_string();
        let port = self.port.to_string();
        let own = [
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            ("unix_socket_directories", socket_dir.as_str()),
            ("wal_level", "logical"),
            ("shared_buffers", "32MB"),
            ("max_connections", "60"),
            ("log_line_prefix", "%m [%p] "),
        ];
        let mut command = as_owner(&self.programs.join("postgres"));
        command.current_dir(self.home.path()).arg("-D").arg(self.data());
        let chosen = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.into_iter().chain(chosen) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        Process::spawn("PostgreSQL", &mut command, &self.log_file(), self.home.path())
    }

    /// Tells it to stop and awaits its end.
    pub async fn stop(&mut self, how: Stop) {
        let mut process = self.process.take().expect("a running server");
        process.signal(if how == Stop::Fast { "INT" } else { "QUIT" });
        process.ended(PATIENCE).await;
    }

    /// SIGKILL for the server and every child of it.
    pub fn kill9(&mut self) {
        self.process.take().expect("a running server").kill();
    }

    /// SIGSTOP for the server and every child of it.
    pub fn freeze(&mut self) {
        self.process.as_mut().expect("a running server").signal_all("STOP");
    }

    /// SIGCONT after [`Self::freeze`].
    pub fn thaw(&mut self) {
        self.process.as_mut().expect("a running server").signal_all("CONT");
    }

    /// Its TCP port; the same for life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's URL over TCP, with the password.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same through another port, for a proxy.
    #[expect(clippy::unused_self, reason = "asked of a server, like Redis's")]
    pub fn url_at(&self, port: u16) -> String {
        format!("postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres")
    }

    /// Another role's URL over TCP.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/postgres", self.port)
    }

    /// The superuser's URL over the unix socket, without a password.
    pub fn socket_url(&self) -> String {
        let home = self.home.path().display().to_string().replace('/', "%2F");
        format!("postgresql://postgres@{home}:{}/postgres", self.port)
    }

    /// A connection of the superuser over the unix socket: no proxy and no password in its way.
    pub async fn client(&self) -> Client {
        client(&self.socket_url()).await
    }

    /// Runs statements in a session of their own.
    pub async fn run(&self, sql: &str) {
        let done = self.client().await.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The first column of the first row, as text.
    pub async fn text(&self, sql: &str) -> String {
        let answer = self.client().await.simple_query(sql).await;
        let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let value = answer.iter().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else { return None };
            row.get(0).map(str::to_owned)
        });
        value.unwrap_or_else(|| panic!("{sql}: no value"))
    }

    /// Feeds a script to psql, statement by statement, as an operator does; panics at its first
    /// error.
    pub fn psql(&self, script: &str) {
        let file = self.home.path().join("script.sql");
        std::fs::write(&file, script).expect("a file for the script");
        let mut command = self.program("psql");
        command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file"]).arg(file);
        let done = command.args(["--dbname", &self.socket_url()]).output().expect("psql");
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "psql fails: {errors}\n{script}");
    }

    /// Has a shell run a line, as an operator does who has this server in the environment; panics
    /// when it fails.
    pub fn shell(&self, line: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string());
        let done = command.env("PGUSER", "postgres").env("PGPASSWORD", PASSWORD).output();
        let done = done.expect("a shell");
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "it fails: {errors}\n{line}");
    }

    /// A program of PostgreSQL's, without arguments.
    pub fn program(&self, name: &str) -> Command {
        let beside = Some(self.programs.join(name)).filter(|file| file.is_file());
        let file = beside.or_else(|| wait::in_path(name));
        Command::new(file.unwrap_or_else(|| panic!("no {name} found")))
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("log")
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }
}

impl Drop for Postgres {
    /// SIGQUIT before SIGKILL: a killed server leaves a shared memory segment behind.
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.signal_all("CONT");
        process.signal("QUIT");
        let deadline = Instant::now() + Duration::from_secs(5);
        while process.running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A connection to that URL, once there is a server that grants one.
pub async fn client(url: &str) -> Client {
    // Written out: a future that holds an async closure cannot be spawned (rust-lang/rust#100013).
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(client) = try_client(url).await {
            return client;
        }
        assert!(Instant::now() < deadline, "no connection to PostgreSQL within {PATIENCE:?}");
        tokio::time::sleep(wait::PAUSE).await;
    }
}

/// A connection to that URL, if it is granted now.
pub async fn try_client(url: &str) -> Option<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// Where `postgres` and `initdb` are: `WALRELAY_PG_BIN`, PATH, then Debian's newest.
fn programs() -> PathBuf {
    if let Some(dir) = std::env::var_os("WALRELAY_PG_BIN") {
        return PathBuf::from(dir);
    }
    // PATH may hold Debian's wrappers only; `initdb` is never one of them.
    if let Some(file) = wait::in_path("initdb") {
        return file.parent().expect("a file's directory").to_owned();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|dir| Some((dir.file_name().to_str()?.parse::<u32>().ok()?, dir.path())))
        .max()
        .map(|(_, dir)| dir.join("bin"));
    newest.expect("no PostgreSQL found: install it, or set WALRELAY_PG_BIN to its bin directory")
}

/// Who the server runs as if not as ourselves: it refuses to be root.
fn owner() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").expect("/proc").uid() != 0 {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let find = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse::<u32>().ok());
        Some((ids.next()??, ids.next()??))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("an account besides root"))
}

fn as_owner(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8");
    if let Some((uid, gid)) = owner() {
        command.uid(uid).gid(gid);
    }
    command
}

pub fn give_away(path: &Path) {
    if let Some((uid, gid)) = owner() {
        chown(path, Some(uid), Some(gid)).expect("chown");
    }
}

/// Puts a fresh cluster into `home/data`, from the cache where there is one.
fn copy_template(programs: &Path, home: &Path) {
    let data = home.join("data");
    // Only Cargo's tests and benches have a directory that outlives them; a demo keeps nothing.
    let Some(cache) = option_env!("CARGO_TARGET_TMPDIR").map(PathBuf::from) else {
        return initdb(programs, home, &data);
    };
    let version = Command::new(programs.join("postgres")).arg("--version").output();
    let version = String::from_utf8(version.expect("postgres --version").stdout).expect("UTF-8");
    let version = version.trim().replace(['/', ' ', '(', ')'], "-");
    let uid = owner().map_or_else(|| "own".to_owned(), |(uid, _)| uid.to_string());
    let template = cache.join(format!("{version}-{uid}"));
    if !template.is_dir() {
        initdb(programs, home, &data);
        // Built aside and renamed: of several tests that start at once, one wins whole.
        let aside = tempfile::Builder::new().prefix("template-").tempdir_in(&cache);
        let aside = aside.expect("cache directory");
        copy(&data, &aside.path().join("data"));
        std::fs::rename(aside.path().join("data"), &template).ok();
        return;
    }
    copy(&template, &data);
}

/// Copies a data directory whole.
pub(super) fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(done.success(), "cannot copy {} to {}", from.display(), to.display());
}

fn initdb(programs: &Path, home: &Path, data: &Path) {
    let password = home.join("password");
    std::fs::write(&password, PASSWORD).expect("password file");
    give_away(&password);
    let done = as_owner(&programs.join("initdb"))
        .current_dir(home)
        .args(["--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256"])
        .args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
        .arg(format!("--pwfile={}", password.display()))
        .arg("-D")
        .arg(data)
        .output()
        .expect("initdb");
    assert!(done.status.success(), "initdb: {}", String::from_utf8_lossy(&done.stderr));
}
