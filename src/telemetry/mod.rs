//! What the operator sees: logs, numbers, and the pages that show them.
//!
//! In: facts from the line, stored as they change. Out: text on stderr, /livez, /readyz, /status,
//! /metrics and the page that shows them. It must stay true that nothing here waits for a server,
//! and that no payload and no secret comes in.

mod backlog;
mod http;
mod log;
mod metrics;
mod page;
mod retries;
mod shards;
mod status;

pub use backlog::Backlog;
pub use http::{ask, serve};
pub use log::start as start_log;
pub use metrics::Metrics;
pub use retries::Retries;
pub use status::{Endpoints, State, Status, Where};
