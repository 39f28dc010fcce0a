//! Waits for facts, never for a time to pass; and free ports.
//!
//! In: a question that is asked again and again. Out: its answer, or a panic that says what was
//! awaited and what was seen last. Not here: any sleep that a test could use as a substitute.

use std::fmt::Debug;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Between two questions: short against what is awaited, long against its cost.
pub const PAUSE: Duration = Duration::from_millis(20);

/// For what should take a second or two, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Below Linux's ephemeral range, on purpose: a client that tries a dead port of that range again
/// and again is one day given the same port as its own source and connects to itself; and the port
/// of a stopped server could be lent to somebody else before it is started again. The upper third
/// is left to Redis Cluster, whose bus listens 10,000 ports higher.
const PORTS: std::ops::Range<u16> = 12_000..22_000;

/// Asks until the answer is `Some`; panics after `within`, saying what was awaited.
pub async fn until<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain for: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks until the answer is `wanted`; panics after `within` with the last answer.
pub async fn until_equal<T: PartialEq + Debug>(
    what: &str,
    wanted: T,
    within: Duration,
    mut ask: impl AsyncFnMut() -> T,
) {
    let deadline = Instant::now() + within;
    loop {
        let seen = ask().await;
        if seen == wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "waited {within:?} in vain for: {what}; wanted {wanted:?}, last seen {seen:?}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// What holds this process's ports until it ends: UDP sockets of the same numbers, which the kernel
/// gives to one process only and takes back from a dead one.
static HELD: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// A loopback port that nobody listens on and that no other test is given while this process
/// lives: the relay of a test whose Redis is down on purpose would find another test's Redis there.
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = fastrand::u16(PORTS);
        let Ok(held) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            HELD.lock().expect("no panic while it is held").push(held);
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 between {} and {}", PORTS.start, PORTS.end);
}

/// The program of that name in PATH.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The last lines of a log, for a failed test.
pub fn tail(file: &Path, lines: usize) -> String {
    let bytes = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
