//! One file for each subcommand; only `main` looks in here.

pub mod config;
pub mod health;
pub mod run;
pub mod setup;
