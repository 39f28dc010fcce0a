//! The document of a relay's /status, as far as `walrelay status` looks at it.
//!
//! In: JSON of this version or another. Out: what it says. It must stay true that every field may
//! be missing.

use serde::Deserialize;

use super::status_report::{Backlog, Heartbeat, Lag, LastError, Line, Rates};

/// The document of /status, as far as it is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Document {
    pub version: Option<String>,
    pub mode: Option<String>,
    pub mode_reason: Option<String>,
    pub state: Option<String>,
    pub state_seconds: Option<u64>,
    pub uptime_seconds: Option<u64>,
    pub endpoints: Endpoints,
    pub positions: Positions,
    pub backlog: Option<Backlog>,
    pub lag: Lag,
    pub events: Events,
    pub retry: Retry,
    pub last_error: Option<LastError>,
    pub rates: Option<Rates>,
    pub heartbeat: Option<Heartbeat>,
    pub streams: Vec<StreamCount>,
    pub shards: Vec<OfShard>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoints {
    pub postgres: String,
    pub redis: String,
    pub slot: String,
    pub table: String,
    pub stream: String,
    pub after_publish: String,
    pub durability: String,
    pub max_rate: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Positions {
    pub received: Option<String>,
    pub published: Option<String>,
    pub settled: Option<String>,
    pub confirmed: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Events {
    pub published: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Retry {
    pub circuit: Option<String>,
    pub since: Option<u64>,
    pub error: Option<String>,
    pub dead_letter_error: Option<String>,
    pub parked: Option<u64>,
    pub due: Option<u64>,
    pub dead: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamCount {
    pub name: String,
    pub published: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OfShard {
    pub shard: Option<u8>,
    pub slot: String,
    pub state: String,
    pub state_seconds: Option<u64>,
    pub positions: Positions,
    pub backlog: Option<Backlog>,
    pub lag: Lag,
    pub last_error: Option<LastError>,
}

impl Document {
    /// The lines of which it tells: none of pollers.
    pub fn lines(&self, state: &str, slot: &str) -> Vec<Line> {
        let line = |state: &str, positions: &Positions| Line {
            state: state.to_owned(),
            received: positions.received.clone(),
            published: positions.published.clone(),
            settled: positions.settled.clone(),
            confirmed: positions.confirmed.clone(),
            ..Line::default()
        };
        if !self.shards.is_empty() {
            let of_shard = |shard: &OfShard| Line {
                shard: shard.shard,
                slot: shard.slot.clone(),
                state_seconds: shard.state_seconds,
                backlog: shard.backlog.clone(),
                lag: shard.lag.clone(),
                last_error: shard.last_error.clone(),
                ..line(&shard.state, &shard.positions)
            };
            return self.shards.iter().map(of_shard).collect();
        }
        if self.mode.as_deref() == Some("poll") {
            return Vec::new();
        }
        // A line that never came up has not said which slot is its.
        let slot = if self.endpoints.slot.is_empty() { slot } else { &self.endpoints.slot };
        vec![Line {
            slot: slot.to_owned(),
            state_seconds: self.state_seconds,
            backlog: self.backlog.clone(),
            lag: self.lag.clone(),
            ..line(state, &self.positions)
        }]
    }
}
