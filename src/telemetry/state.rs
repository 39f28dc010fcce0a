//! What a relay may be doing, by the names that /status, metrics and logs give it.
//!
//! It must stay true that a relay which is ready and leads is one that delivers what is committed
//! now.

use serde::Serialize;

/// What the relay is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// On its way to the servers, or waiting for one to come back.
    Connecting,
    /// Another relay holds the slot; this one is ready to take over.
    Standby,
    /// There was no slot, or none that can be read: the rows from before a new one are published.
    Snapshot,
    /// The line is up.
    Streaming,
    /// There is no line: rows are claimed.
    Polling,
    /// The line is up, but PostgreSQL does not answer.
    Silent,
    /// Redis takes no writes: the replication connection is kept and nothing is read.
    Holding,
    /// On its way out.
    Draining,
    /// One of several tables ended for a reason that somebody must mend; it is tried again by and
    /// by. Where there is one, the process ends instead.
    Stopped,
}

impl State {
    /// All that a process with one table can be in, as /metrics counts them.
    pub const ALL: [Self; 8] = [
        Self::Connecting,
        Self::Standby,
        Self::Snapshot,
        Self::Streaming,
        Self::Polling,
        Self::Silent,
        Self::Holding,
        Self::Draining,
    ];

    /// As it is written everywhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Standby => "standby",
            Self::Snapshot => "snapshot",
            Self::Streaming => "streaming",
            Self::Polling => "polling",
            Self::Silent => "silent",
            Self::Holding => "holding",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }

    /// Whether a load balancer or an orchestrator may be content. Not with a snapshot: what is
    /// committed now is published only after it.
    #[must_use]
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Streaming | Self::Polling | Self::Standby)
    }

    /// Whether the slot, or the table, is this relay's to work on now.
    #[must_use]
    pub fn leads(self) -> bool {
        !matches!(self, Self::Connecting | Self::Standby | Self::Stopped)
    }
}
