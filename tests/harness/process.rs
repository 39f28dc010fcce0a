//! One child process that cannot be forgotten.
//!
//! In: a command. Out: a handle to signal, await and kill it. It must stay true that the child ends
//! with the handle, and also when this process is killed: a small shell holds the other end of a
//! pipe, and what it reads there is the end of our life. Not here: what the child is for.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait;

/// `$1` the process, `$2` its directory: both go when our end of the pipe closes. SIGQUIT first:
/// PostgreSQL then ends its children and gives its shared memory back.
const WATCH: &str = r#"read -r _
kids=$(cat /proc/"$1"/task/*/children 2>/dev/null)
kill -CONT "$1" $kids; kill -QUIT "$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$1" || break
    sleep 0.1
done
kill -KILL "$1" $kids
rm -rf -- "$2""#;

/// How many lines of a log a failed test shows.
const TAIL: usize = 60;

/// A running child, its log, and the shell that watches over both.
pub struct Process {
    name: &'static str,
    child: Child,
    watcher: Option<Child>,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts the command with all its output in `log`, beside whatever is there already.
    ///
    /// `home` is what it leaves behind; it is removed if this process is killed.
    pub fn spawn(name: &'static str, command: &mut Command, log: &Path, home: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("log file");
        let err = out.try_clone().expect("log file, twice");
        // A group of its own: Ctrl-C on the terminal is for us, and our end is the watcher's cue.
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let watcher = Command::new("sh")
            .args(["-c", WATCH, "watch", &child.id().to_string()])
            .arg(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh");
        Self { name, child, watcher: Some(watcher), log: log.to_owned(), status: None }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name without `SIG`, if the process still runs.
    pub fn signal(&mut self, signal: &str) {
        if self.running() {
            kill(signal, &[self.pid()]);
        }
    }

    /// Sends a signal to the process and to its children.
    pub fn signal_all(&mut self, signal: &str) {
        if self.running() {
            let mut pids = children(self.pid());
            pids.insert(0, self.pid());
            kill(signal, &pids);
        }
    }

    /// Whether it has not ended yet.
    pub fn running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("wait for a child");
        }
        if self.status.is_some() {
            self.dismiss_watcher();
        }
        self.status.is_none()
    }

    /// Awaits its end; panics if it does not come.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait::until(&what, within, async || (!self.running()).then_some(())).await;
        self.status.expect("it has ended")
    }

    /// SIGKILL for it and its children, and its remains are collected.
    pub fn kill(&mut self) {
        self.signal_all("KILL");
        if self.status.is_none() {
            self.status = Some(self.child.wait().expect("wait for a child"));
        }
        self.dismiss_watcher();
    }

    /// A watcher that outlived its process could one day shoot at another one of the same number.
    fn dismiss_watcher(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            watcher.kill().ok();
            watcher.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {} (pid {}), end of its log", self.name, self.pid());
            eprintln!("{}", wait::tail(&self.log, TAIL));
        }
    }
}

/// The shell's own `kill`: std has no signals, and the program of that name may not be installed.
fn kill(signal: &str, pids: &[u32]) {
    let list: Vec<String> = pids.iter().map(u32::to_string).collect();
    let script = format!("kill -{signal} {}", list.join(" "));
    let done = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
    done.expect("sh");
}

/// The direct children: PostgreSQL's are leaders of groups of their own, so a group does not do.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let lists = tasks.into_iter().flatten().flatten().map(|task| task.path().join("children"));
    let text: Vec<String> = lists.filter_map(|list| std::fs::read_to_string(list).ok()).collect();
    text.join(" ").split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
