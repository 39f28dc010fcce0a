//! Libraries that are loaded into a program before its own, to show it a world that is worse.
//!
//! In: C. Out: the library. It must stay true that only processes of a test are given one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Sets the time of day of whoever has it by `WALRELAY_CLOCK_AHEAD` seconds.
const CLOCK: &str = include_str!("clock.c");

/// The library that makes a clock wrong, in that directory.
pub fn clock(home: &Path) -> PathBuf {
    let library = home.join("clock.so");
    compile(CLOCK, &library);
    library
}

/// Makes a library of one C file, with the compiler that Rust links with anyway.
pub fn compile(source: &str, library: &Path) {
    let file = library.with_extension("c");
    std::fs::write(&file, source).expect("the library's source");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(library).arg(&file);
    let done = cc.output().expect("cc");
    assert!(done.status.success(), "cc: {}", String::from_utf8_lossy(&done.stderr));
}
