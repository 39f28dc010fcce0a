//! One file for each subcommand, and more where it has parts; only `main` looks in here.

pub mod config;
pub mod dlq;
mod dlq_change;
mod dlq_list;
mod dlq_show;
pub mod health;
pub mod run;
pub mod setup;
mod table;
#[allow(dead_code, reason = "for the commands that are being built")]
mod terminal;
pub mod verify;
mod verify_report;
