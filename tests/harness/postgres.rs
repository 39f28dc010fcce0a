//! A private PostgreSQL: its own data directory, port and socket; real, with fsync on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::process::{self, Process};

/// The superuser's password. No output of the relay may ever hold it.
pub const PASSWORD: &str = "hunter2";
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How to stop it.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// SIGINT: ends sessions, waits for walsenders.
    Fast,
    /// SIGQUIT: as good as a crash.
    Immediate,
}

/// A running server.
pub struct Postgres {
    home: TempDir,
    port: u16,
    settings: Vec<String>,
    process: Option<Process>,
}

impl Postgres {
    /// Starts one with wal_level = logical and these settings (`name=value`) on top.
    pub async fn start(settings: &[&str]) -> Self {
        let home =
            tempfile::Builder::new().prefix("walrelay-pg-").tempdir().expect("a temporary folder");
        open_to_all(home.path());
        let data = home.path().join("data");
        copy(&template(), &data);
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
        let data = self.home.path().join("data");
        let socket = self.home.path().display();
        let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
        let ours = [
            "wal_level=logical".to_owned(),
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={socket}"),
            "max_connections=60".to_owned(),
            "max_wal_size=4GB".to_owned(),
        ];
        for setting in ours.iter().chain(&self.settings) {
            arguments.extend(["-c".to_owned(), setting.clone()]);
        }
        let deadline = Instant::now() + START_PATIENCE;
        let program = bin_folder().join("postgres");
        let log = self.home.path().join("log");
        let mut running = Process::start(&program, &arguments, &[], process::unprivileged(), &log);
        loop {
            if self.connect().await.is_ok() {
                break;
            }
            // After a SIGKILL the orphans of the old one may hold its memory for a moment.
            if running.ended().is_some() {
                running = Process::start(&program, &arguments, &[], process::unprivileged(), &log);
            }
            assert!(Instant::now() < deadline, "postgres does not start:\n{}", running.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.process = Some(running);
    }

    /// Stops it and waits for its end.
    pub fn stop(&mut self, how: Stop) {
        let Some(mut process) = self.process.take() else { return };
        process.signal(match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        });
        process.wait(START_PATIENCE);
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL over TCP, with the superuser's password.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same through another port: a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable")
    }

    /// Its URL over the unix socket.
    pub fn socket_url(&self) -> String {
        let folder = self.home.path().display().to_string().replace('/', "%2F");
        format!("postgresql://postgres@{folder}:{}/postgres", self.port)
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// An SQL session.
    pub async fn client(&self) -> Client {
        self.connect().await.expect("PostgreSQL takes connections")
    }

    /// Runs statements in a session of their own.
    pub async fn run(&self, sql: &str) {
        self.client()
            .await
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The first column of the first row, as text.
    pub async fn text(&self, sql: &str) -> String {
        self.maybe_text(sql).await.unwrap_or_else(|| panic!("{sql}: no value"))
    }

    /// The same, where there may be none.
    pub async fn maybe_text(&self, sql: &str) -> Option<String> {
        let answer = self.client().await.simple_query(sql).await;
        let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        answer.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }
}

/// The folder with `postgres` and `initdb`: `WALRELAY_PG_BIN`, or the newest of Debian's, or the path's.
pub fn bin_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("WALRELAY_PG_BIN") {
        return folder.into();
    }
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = debian
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .map(|(version, path)| (version, path.join("bin")))
        .filter(|(_, bin)| bin.join("postgres").is_file())
        .max();
    if let Some((_, bin)) = newest {
        return bin;
    }
    let postgres = process::find("postgres").expect("PostgreSQL is installed: `make setup`");
    postgres.parent().expect("a program is in a folder").to_owned()
}

/// An initialised data directory, made once per machine and copied for each server.
fn template() -> PathBuf {
    let bin = bin_folder();
    let user = process::unprivileged();
    let mark =
        format!("{}{user:?}", bin.display()).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let account = std::env::var("USER").unwrap_or_default();
    let template = std::env::temp_dir().join(format!("walrelay-initdb-{account}{mark}"));
    if template.join("PG_VERSION").is_file() {
        return template;
    }
    let work =
        tempfile::Builder::new().prefix("walrelay-initdb-").tempdir().expect("a temporary folder");
    open_to_all(work.path());
    let (data, password) = (work.path().join("data"), work.path().join("password"));
    std::fs::write(&password, PASSWORD).expect("a file can be written");
    let log = work.path().join("log");
    let arguments = [
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        "--auth-host=scram-sha-256",
        "--auth-local=trust",
        &format!("--pwfile={}", password.display()),
        &format!("--pgdata={}", data.display()),
    ]
    .map(str::to_owned);
    let mut initdb = Process::start(&bin.join("initdb"), &arguments, &[], user, &log);
    let code = initdb.wait(START_PATIENCE);
    assert_eq!(code, 0, "initdb failed:\n{}", initdb.output());
    // Whoever comes second keeps the first one's.
    let _first = std::fs::rename(&data, &template);
    template
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cannot copy {}", from.display());
}

/// A folder of root's that the servers' account may use.
pub fn open_to_all(folder: &Path) {
    if let Some((uid, gid)) = process::unprivileged() {
        std::os::unix::fs::chown(folder, Some(uid), Some(gid))
            .expect("root may give a folder away");
    }
}
