//! What the operator sees: logs, numbers, and the pages that show them.
//!
//! In: facts from the line, stored as they change. Out: text on stderr, /livez, /readyz, /status,
//! /metrics and the page that shows them. It must stay true that nothing here waits for a server,
//! and that no payload and no secret comes in.

mod backlog;
mod document;
mod gauges;
mod heartbeat;
mod histograms;
mod http;
mod log;
mod metrics;
mod page;
mod rates;
mod readiness;
mod reconnects;
mod retries;
mod shards;
mod slot;
mod status;
mod streams;

pub use backlog::Backlog;
pub use heartbeat::Heartbeat;
pub use http::{ask, serve};
pub use log::start as start_log;
pub use metrics::{Metrics, Refusal};
pub use reconnects::{Reconnects, Server};
pub use retries::Retries;
pub use slot::SlotFacts;
pub use status::{Endpoints, State, Status, Where};
pub use streams::Streams;
