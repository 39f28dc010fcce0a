//! What the operator sees: logs, numbers, and the pages that show them.
//!
//! In: facts from the line, stored as they change. Out: text on stderr, /livez, /readyz, /status,
//! /metrics and the page that shows them. It must stay true that nothing here waits for a server,
//! and that no payload and no secret comes in.

mod backlog;
mod board;
mod connections;
mod contract;
mod document;
mod gauges;
mod heartbeat;
mod histograms;
mod http;
mod log;
mod merge;
mod metrics;
mod page;
mod rates;
mod readiness;
mod reconnects;
mod retries;
mod said;
mod shards;
mod slot;
mod spans;
mod state;
mod status;
mod streams;

pub use backlog::Backlog;
pub use board::Board;
pub use heartbeat::Heartbeat;
pub use http::{ask, path_of, serve, table_of};
pub use log::start as start_log;
pub use metrics::{Metrics, Refusal};
pub use reconnects::{Reconnects, Server};
pub use retries::Retries;
pub use said::LastSaid;
pub use slot::SlotFacts;
pub use spans::{Spans, Traced};
pub use state::State;
pub use status::{Endpoints, Status, Where};
pub use streams::Streams;
