//! The consumers of `examples/consumers`, in each language whose toolchain is here.
//!
//! In: a Redis, a stream, names. Out: running consumers, which end with their handle. It must stay
//! true that the one in Rust is always there, that a toolchain that is missing is named, and that
//! no network is asked for anything. Not here: what consumers promise.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;
use super::wait;

/// Where Debian's packages put what `require` finds.
const DEBIAN: &str = "/usr/share/nodejs";
/// From here on node strips types by itself.
const NODE_STRIPS_TYPES: (u32, u32) = (22, 18);

/// One language: what runs its consumer.
pub struct Kit {
    pub language: &'static str,
    program: PathBuf,
    arguments: Vec<PathBuf>,
}

/// A consumer that runs; killed with the handle.
pub struct Running {
    pub process: Process,
    log: PathBuf,
    _home: TempDir,
}

/// All that can be run here; what it makes goes into `home`.
pub fn all(home: &Path) -> Vec<Kit> {
    let mut kits = vec![rust()];
    for (language, kit) in [("python", python()), ("typescript", typescript(home))] {
        match kit {
            Ok(kit) => kits.push(kit),
            Err(why) => {
                writeln!(std::io::stderr(), "SKIPPED: the consumer in {language}: {why}").ok();
            }
        }
    }
    kits
}

/// Cargo builds examples with the tests, beside them.
fn rust() -> Kit {
    let own = std::env::current_exe().expect("the path of this test");
    let built = own.parent().and_then(Path::parent).expect("target/PROFILE").join("examples");
    let program = built.join("consumers");
    assert!(program.is_file(), "{}: cargo build --example consumers", program.display());
    Kit { language: "rust", program, arguments: Vec::new() }
}

fn python() -> Result<Kit, &'static str> {
    // The first in PATH may be one of its own (pyenv), which does not see Debian's packages.
    let has_redis = |python: &&str| answers(Command::new(python).args(["-c", "import redis"]));
    let mut pythons = ["python3", "/usr/bin/python3"].into_iter();
    let program = pythons.find(has_redis).ok_or("no python3 with redis-py (python3-redis)")?;
    Ok(Kit { language: "python", program: program.into(), arguments: vec![source("consumer.py")] })
}

fn typescript(home: &Path) -> Result<Kit, &'static str> {
    let version = node_version().ok_or("no node")?;
    let locked = source("node_modules");
    let debian = Path::new(DEBIAN).join("redis");
    let modules = home.join("node_modules");
    if locked.is_dir() {
        std::os::unix::fs::symlink(&locked, &modules).expect("a link");
    } else if debian.is_dir() {
        std::fs::create_dir(&modules).expect("a directory");
        std::os::unix::fs::symlink(&debian, modules.join("redis")).expect("a link");
    } else {
        return Err("no node-redis (Debian's node-redis, or npm ci in examples/consumers)");
    }
    std::fs::write(home.join("package.json"), r#"{"type": "module"}"#).expect("package.json");
    let script = runnable(home, &locked, version)?;
    Ok(Kit { language: "typescript", program: "node".into(), arguments: vec![script] })
}

/// The consumer without its types, where node cannot do without them by itself.
fn runnable(home: &Path, locked: &Path, version: (u32, u32)) -> Result<PathBuf, &'static str> {
    let compiler = locked.join(".bin/tsc");
    if compiler.is_file() {
        let mut compile = Command::new(compiler);
        compile.arg("-p").arg(source("")).arg("--outDir").arg(home);
        run(&mut compile);
        return Ok(home.join("consumer.js"));
    }
    if version >= NODE_STRIPS_TYPES {
        let script = home.join("consumer.ts");
        std::fs::copy(source("consumer.ts"), &script).expect("a copy");
        return Ok(script);
    }
    let esbuild = wait::in_path("esbuild").ok_or("node before 22.18, and no esbuild")?;
    let script = home.join("consumer.js");
    let out = format!("--outfile={}", script.display());
    run(Command::new(esbuild).arg(source("consumer.ts")).arg("--format=esm").arg(out));
    Ok(script)
}

fn node_version() -> Option<(u32, u32)> {
    let output = Command::new("node").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut parts = text.trim().trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/consumers").join(name)
}

fn answers(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) {
    let output = command.output().expect("a compiler");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{said}");
}

impl Kit {
    /// Starts one, impatient, so that tests need not wait: it claims after a second, and gives up
    /// at the third delivery.
    pub fn start(&self, redis_url: &str, stream: &str, consumer: &str) -> Running {
        let home = tempfile::Builder::new().prefix("walrelay-consumer-").tempdir().expect("dir");
        let log = home.path().join("log");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // Python writes its bytecode beside what it imports otherwise.
        command.env("NODE_PATH", DEBIAN).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("REDIS_URL", redis_url).env("STREAM", stream).env("GROUP", self.language);
        command.env("CONSUMER", consumer).env("CLAIM_IDLE_MS", "1000").env("DELIVERIES_MAX", "3");
        let process = Process::spawn("a consumer", &mut command, &log, home.path());
        Running { process, log, _home: home }
    }
}

impl Running {
    /// What it printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
