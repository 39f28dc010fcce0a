//! One file for each subcommand, and more where it has parts; `perform` calls them, and `main`
//! calls that.

mod bookmark;
mod check;
mod config;
mod dlq;
mod dlq_change;
mod dlq_list;
mod dlq_show;
mod health;
mod papers;
mod perform;
mod replay;
mod run;
mod schema;
mod schema_report;
mod setup;
mod setup_functions;
mod setup_numbers;
mod setup_table;
mod status;
mod status_document;
mod status_report;
mod status_servers;
mod status_view;
mod table;
mod tail;
mod tail_view;
mod teardown;
mod teardown_plan;
mod terminal;
mod verify;
mod verify_report;

pub use perform::perform;
