//! Where the demo and the bench put their servers, and which relay they run.
//!
//! In: nothing. Out: a temporary directory that all others are made in, and the binary's path. It
//! must stay true that the directory is gone afterwards, however the program ends.

use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// `$1` goes when our end of the pipe closes, however long that takes. Servers of ours may still be
/// writing into it while they end: what is not empty yet is tried again.
const GUARD: &str = r#"read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" && break
    sleep 0.5
done"#;

/// One directory for all files, and a shell that removes it should we be killed.
///
/// Servers have watchers of their own; this one also covers what exists before the first server
/// runs.
pub struct Stage {
    guard: Child,
    _home: TempDir,
}

impl Stage {
    pub fn set() -> std::io::Result<Self> {
        let home = tempfile::Builder::new().prefix("walrelay-demo-").tempdir()?;
        // PostgreSQL runs as somebody else when we are root, and must get through to its own
        // directory.
        std::fs::set_permissions(home.path(), Permissions::from_mode(0o711))?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C on the terminal is for us.
            .process_group(0)
            .spawn()?;
        tempfile::env::override_temp_dir(home.path()).ok();
        Ok(Self { guard, _home: home })
    }
}

impl Drop for Stage {
    /// The directory goes with us: nobody is left to guard it.
    fn drop(&mut self) {
        self.guard.kill().ok();
        self.guard.wait().ok();
    }
}

/// The relay that Cargo put beside us (`target/<profile>/examples/demo`), or another by
/// WALRELAY_BIN.
pub fn binary() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(path) = std::env::var_os("WALRELAY_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    let beside = own.ancestors().nth(2).map(|profile| profile.join("walrelay"));
    match beside {
        Some(path) if path.is_file() => Ok(path),
        _ => {
            Err("no walrelay binary beside this program: run `make build`, or set WALRELAY_BIN"
                .into())
        }
    }
}
