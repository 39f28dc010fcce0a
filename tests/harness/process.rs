//! Child processes that do not outlive their test.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running child whose output goes to a file. Killed when dropped, and by the kernel when this process
/// (or the thread that started it) dies.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program` as `user` (uid, gid), or as ourselves.
    pub fn start(
        program: &Path,
        arguments: &[String],
        environment: &[(String, String)],
        user: Option<(u32, u32)>,
        log: &Path,
    ) -> Self {
        let output =
            File::options().create(true).append(true).open(log).expect("the log can be opened");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some((uid, gid)) = user {
            command.args([
                format!("--reuid={uid}"),
                format!("--regid={gid}"),
                "--clear-groups".into(),
            ]);
        }
        command.arg(program).args(arguments);
        if !environment.is_empty() {
            command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
            command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file handle can be cloned"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned());
        Self { child, name: name.unwrap_or_default(), log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by name: `TERM`, `KILL`, `STOP`, `CONT`, ...
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {name} to {}", self.name);
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end: the exit code, or minus the signal that killed it.
    pub fn wait(&mut self, patience: Duration) -> i32 {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
            }
            assert!(
                Instant::now() < deadline,
                "{} does not end; it says:\n{}",
                self.name,
                self.output()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        // Already ended is as good.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }

    /// What it has written.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<&str> = output.lines().rev().take(60).collect();
            eprintln!("--- {} ---", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Where a program is.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Whether we are root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|us| us.uid() == 0)
}

/// uid and gid of the account that servers run as when we are root: PostgreSQL refuses to be root.
pub fn unprivileged() -> Option<(u32, u32)> {
    if !is_root() {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let find = |wanted: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}
