//! What `walrelay status` knows, from whichever source: the object that --json prints.
//!
//! In: the document of a relay's /status, or what the servers say. Out: a [`Report`]. It must stay
//! true that what is not known is null and not 0, and that a relay of another version is understood
//! as far as it goes: every field of its document may be missing.

use serde::{Deserialize, Serialize};

use super::status_document::{Document, StreamCount};
use super::status_servers::{PostgresFacts, RedisFacts};
use crate::postgres::Surveyed;

/// One look.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    /// Of which of several tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// `relay`, or `servers` where none answered.
    pub source: &'static str,
    pub url: Option<String>,
    pub no_answer: Option<String>,
    /// Whether it streams, stands by or polls.
    pub ok: bool,
    pub role: &'static str,
    pub state: String,
    pub state_seconds: Option<u64>,
    pub mode: Option<String>,
    pub mode_reason: Option<String>,
    pub version: Option<String>,
    pub uptime_seconds: Option<u64>,
    pub postgres: Server,
    pub redis: Server,
    pub table: Option<String>,
    pub stream: Option<String>,
    pub after_publish: Option<String>,
    pub durability: Option<String>,
    /// Events a second at most.
    pub max_rate: Option<u64>,
    /// The end of PostgreSQL's WAL.
    pub current_lsn: Option<String>,
    pub lag: Lag,
    pub rates: Option<Rates>,
    pub heartbeat: Option<Heartbeat>,
    /// Events since the relay began.
    pub published: Option<u64>,
    pub rows: Rows,
    pub circuit: Option<Circuit>,
    pub last_error: Option<LastError>,
    pub backlog: Option<Backlog>,
    pub lines: Vec<Line>,
    pub streams: Vec<Stream>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Server {
    /// Version and address.
    pub at: Option<String>,
    /// Why it could not be asked.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Lag {
    pub bytes: Option<u64>,
    pub events: Option<u64>,
    pub seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "as /status has them")]
pub(super) struct Rates {
    pub per_second_10s: Option<f64>,
    pub per_second_1m: Option<f64>,
    pub per_second_5m: Option<f64>,
    /// Between two looks of ours, at a relay that does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Heartbeat {
    pub round_trip_seconds: Option<f64>,
    pub age_seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Rows {
    pub parked: Option<u64>,
    pub due: Option<u64>,
    pub dead: Option<u64>,
    /// Counted in the table, without a relay to ask.
    pub unpublished: Option<u64>,
    pub oldest_unpublished_seconds: Option<f64>,
    /// Why something was not counted.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Circuit {
    pub is_open: bool,
    pub since_unix_seconds: Option<u64>,
    pub error: Option<String>,
    pub dead_letter_error: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct LastError {
    pub error: String,
    pub hint: Option<String>,
    pub unix_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Backlog {
    pub rows: Option<u64>,
    pub done: Option<u64>,
    pub rows_per_second: Option<f64>,
    pub seconds_left: Option<u64>,
}

/// One slot, and the line on it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Line {
    pub shard: Option<u8>,
    pub slot: String,
    pub state: String,
    pub state_seconds: Option<u64>,
    pub received: Option<String>,
    pub published: Option<String>,
    pub settled: Option<String>,
    pub confirmed: Option<String>,
    pub lag: Lag,
    pub backlog: Option<Backlog>,
    pub last_error: Option<LastError>,
    /// The rest is PostgreSQL's view of the slot.
    pub restart: Option<String>,
    pub behind_bytes: Option<u64>,
    pub kept_bytes: Option<u64>,
    pub safe_bytes: Option<i64>,
    pub wal_status: Option<String>,
    pub lost: Option<String>,
    pub held_by: Option<Holder>,
    /// Of another number of shards than is configured: nobody may be reading it.
    pub is_left_over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Holder {
    pub pid: i32,
    pub application: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Stream {
    pub name: String,
    /// Since the relay began.
    pub published: Option<u64>,
    pub entries: Option<u64>,
    pub last_id: Option<String>,
    pub last_age_seconds: Option<f64>,
    pub slot: Option<String>,
    pub checkpoint: Option<String>,
}

impl Report {
    /// Of what a relay answered; `slot` is the configured one. None when that was no relay.
    pub fn of_relay(url: &str, document: &str, slot: &str) -> Option<Self> {
        let document: Document = serde_json::from_str(document).ok()?;
        let state = document.state.clone()?;
        let mode = document.mode.clone()?;
        let lines = document.lines(&state, slot);
        let Document { endpoints, retry, .. } = document;
        let known = |text: String| Some(text).filter(|text| !text.is_empty());
        Some(Self {
            source: "relay",
            url: Some(url.to_owned()),
            ok: is_fine(&state),
            role: role(&state, &lines),
            state,
            state_seconds: document.state_seconds,
            mode: Some(mode),
            mode_reason: document.mode_reason,
            version: document.version,
            uptime_seconds: document.uptime_seconds,
            postgres: Server { at: known(endpoints.postgres), error: None },
            redis: Server { at: known(endpoints.redis), error: None },
            table: known(endpoints.table),
            stream: known(endpoints.stream),
            after_publish: known(endpoints.after_publish),
            durability: known(endpoints.durability),
            max_rate: endpoints.max_rate,
            lag: document.lag,
            rates: document.rates,
            heartbeat: document.heartbeat,
            published: document.events.published,
            rows: Rows {
                parked: retry.parked,
                due: retry.due,
                dead: retry.dead,
                ..Rows::default()
            },
            circuit: retry.circuit.map(|circuit| Circuit {
                is_open: circuit == "open",
                since_unix_seconds: retry.since,
                error: retry.error,
                dead_letter_error: retry.dead_letter_error,
            }),
            last_error: document.last_error,
            backlog: document.backlog,
            lines,
            streams: document
                .streams
                .into_iter()
                .map(|StreamCount { name, published }| Stream {
                    name,
                    published,
                    ..Stream::default()
                })
                .collect(),
            ..Self::default()
        })
    }

    /// Of what the servers say, where no relay answered.
    pub fn of_servers(
        no_answer: String,
        postgres: Result<PostgresFacts, String>,
        redis: Result<RedisFacts, String>,
    ) -> Self {
        let mut report = Self { source: "servers", no_answer: Some(no_answer), ..Self::default() };
        match redis {
            Ok(facts) => {
                report.redis.at = Some(facts.at);
                report.streams = facts.streams;
            }
            Err(error) => report.redis.error = Some(error),
        }
        report.role = "unknown";
        "unknown".clone_into(&mut report.state);
        match postgres {
            Ok(facts) => {
                facts.state.clone_into(&mut report.state);
                report.role = facts.role;
                report.ok = is_fine(facts.state);
                report.rows = facts.rows.clone();
                report.table = Some(facts.table.clone());
                report.lines = facts.lines();
                report.lag.seconds = facts.rows.oldest_unpublished_seconds;
                report.lag.events = facts.rows.unpublished;
                report.see(Ok(facts));
                report.place_checkpoints();
            }
            Err(error) => report.postgres.error = Some(error),
        }
        report
    }

    /// Adds what PostgreSQL says of the slots.
    pub fn see(&mut self, facts: Result<PostgresFacts, String>) {
        let facts = match facts {
            Ok(facts) => facts,
            Err(error) => {
                self.postgres.error = Some(error);
                return;
            }
        };
        self.postgres.at.get_or_insert_with(|| facts.at.clone());
        self.current_lsn = Some(facts.current.to_string());
        for line in &mut self.lines {
            if let Some(slot) = facts.slots.iter().find(|slot| slot.name == line.slot) {
                line.see(slot);
            }
        }
        if self.source == "relay" {
            let left_over = facts.slots.iter().filter(|slot| slot.shard.of != facts.of);
            self.lines.extend(left_over.map(Line::left_over));
        }
        // What has not even been received counts as well.
        let behind = self.lines.iter().filter(|line| !line.is_left_over);
        self.lag.bytes = behind.filter_map(|line| line.behind_bytes).max().or(self.lag.bytes);
    }

    /// What Redis has counts as published by the slot's line.
    fn place_checkpoints(&mut self) {
        for line in &mut self.lines {
            let of_slot = self.streams.iter().filter(|of| of.slot.as_ref() == Some(&line.slot));
            line.published = of_slot.filter_map(|of| of.checkpoint.clone()).max_by_key(|text| {
                text.parse::<crate::lsn::Lsn>().map(crate::lsn::Lsn::as_u64).unwrap_or_default()
            });
        }
    }
}

impl Line {
    /// PostgreSQL's view of its slot.
    pub fn see(&mut self, slot: &Surveyed) {
        self.restart = slot.restart.map(|lsn| lsn.to_string());
        self.confirmed = slot.confirmed.map(|lsn| lsn.to_string()).or(self.confirmed.take());
        self.behind_bytes = slot.behind_bytes;
        self.kept_bytes = slot.kept_bytes;
        self.safe_bytes = slot.safe_bytes;
        self.wal_status.clone_from(&slot.wal_status);
        self.lost.clone_from(&slot.lost);
        self.held_by = slot.holder.clone().map(|(pid, application)| Holder { pid, application });
    }

    /// A slot that is not of this configuration any more.
    pub fn left_over(slot: &Surveyed) -> Self {
        let state = if slot.holder.is_some() { "held" } else { "left over" };
        let mut line = Self {
            slot: slot.name.clone(),
            state: state.to_owned(),
            is_left_over: true,
            ..Self::default()
        };
        line.see(slot);
        line
    }
}

/// What is as it should be.
pub(super) fn is_fine(state: &str) -> bool {
    matches!(state, "streaming" | "polling" | "standby")
}

fn role(state: &str, lines: &[Line]) -> &'static str {
    let of = |state: &str| match state {
        "standby" => "standby",
        "polling" => "poller",
        "streaming" | "holding" | "silent" | "snapshot" | "draining" => "leader",
        _ => "unknown",
    };
    let mut roles = lines.iter().map(|line| of(&line.state));
    match roles.next() {
        None => of(state),
        Some(first) if roles.all(|role| role == first) => first,
        Some(_) => "mixed",
    }
}
