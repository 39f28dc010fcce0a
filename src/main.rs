//! The binary: reads the command line and has the library do the rest.

use std::process::ExitCode;

use clap::Parser;

use walrelay::cli::Arguments;
use walrelay::command;

fn main() -> ExitCode {
    // Wrong arguments end the process in here, with exit code 2.
    command::perform(Arguments::parse())
}
