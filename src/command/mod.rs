//! One file for each subcommand, and more where it has parts; only `main` looks in here.

pub mod bookmark;
pub mod check;
pub mod config;
pub mod dlq;
mod dlq_change;
mod dlq_list;
mod dlq_show;
pub mod health;
pub mod papers;
pub mod replay;
pub mod run;
pub mod setup;
pub mod status;
mod status_document;
mod status_report;
mod status_servers;
mod status_view;
mod table;
pub mod tail;
mod tail_view;
pub mod teardown;
mod teardown_plan;
mod terminal;
pub mod verify;
mod verify_report;
