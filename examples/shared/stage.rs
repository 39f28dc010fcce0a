//! Where the demo and the bench put their servers, and which relay they run.
//!
//! In: nothing. Out: a temporary directory that all others are made in, and the binary's path. It
//! must stay true that the directory is gone afterwards, however the program ends.

use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::process::Process;

/// One directory for all files, and a process whose watcher removes it should we be killed.
///
/// Servers have watchers of their own; this one also covers what exists before the first server
/// runs.
pub struct Stage {
    _guard: Process,
    _home: TempDir,
}

impl Stage {
    pub fn set() -> std::io::Result<Self> {
        let home = tempfile::Builder::new().prefix("walrelay-demo-").tempdir()?;
        // PostgreSQL runs as somebody else when we are root, and must get through to its own
        // directory.
        std::fs::set_permissions(home.path(), Permissions::from_mode(0o711))?;
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let guard = Process::spawn("sleep", &mut sleep, &home.path().join("log"), home.path());
        tempfile::env::override_temp_dir(home.path()).ok();
        Ok(Self { _guard: guard, _home: home })
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
