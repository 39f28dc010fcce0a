//! Every counter that /metrics shows: its name and help text. And the page.
//!
//! In: increments from the line. Out: OpenMetrics text. The handles live in one struct: there is no
//! global registry. It must stay true that a label has few values, all known beforehand, and that
//! each of them is on the page from the beginning.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::contract;
use super::gauges;
use super::histograms::Histograms;
use super::status::Status;
use crate::contract::Violation;

/// What all names begin with.
const PREFIX: &str = "walrelay";

/// A counter for each value of one label.
pub(super) type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

/// Why an event was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key of its stream is none.
    WrongType,
    /// The relay's user may not write it.
    NoPermission,
    /// It can never become an entry.
    Unfit,
    /// Its payload breaks its schema.
    Schema,
    /// It has ended the process again and again.
    Deadly,
    /// Anything else that Redis said of it.
    Other,
}

impl Refusal {
    const ALL: [Self; 6] =
        [Self::WrongType, Self::NoPermission, Self::Unfit, Self::Schema, Self::Deadly, Self::Other];

    /// By what is written into the row: Redis's own words, or ours.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.split(' ').next().unwrap_or_default() {
            "WRONGTYPE" => Self::WrongType,
            "NOPERM" => Self::NoPermission,
            _ if text.contains("ended the process") => Self::Deadly,
            _ => Self::Other,
        }
    }

    /// Of what can never be an entry, by our words for it.
    #[must_use]
    pub fn of_unfit(text: &str) -> Self {
        if Violation::is_said_by(text) { Self::Schema } else { Self::Unfit }
    }

    fn name(self) -> &'static str {
        match self {
            Self::WrongType => "wrongtype",
            Self::NoPermission => "noperm",
            Self::Unfit => "unfit",
            Self::Schema => "schema",
            Self::Deadly => "deadly",
            Self::Other => "other",
        }
    }
}

/// What is counted while the relay runs.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Events written to Redis.
    pub published: Counter,
    /// Events that the slot sent again and that Redis had already.
    pub duplicates: Counter,
    /// Rows marked (or deleted) after publishing.
    pub marked: Counter,
    /// Rows that were deleted before they could be marked.
    pub gone: Counter,
    /// Rows that were born published or parked, and so are no news.
    pub ignored: Counter,
    /// Events parked in their rows.
    pub parked: Counter,
    /// Times the whole outbox was looked through for what `retention` lets go.
    pub retention_rounds: Counter,
    /// Rows that were settled and older than the retention, and were deleted.
    pub expired: Counter,
    /// Partitions that held nothing else, and were dropped.
    pub partitions_dropped: Counter,
    /// Script calls that published something.
    pub batches: Counter,
    /// Times the line came up, the first included.
    pub lines: Counter,
    /// Times the line ended by a failure and was started again.
    pub restarts: Counter,
    /// Times Redis was lost or took no writes.
    pub redis_outages: Counter,
    /// Times Redis came back with less than it had.
    pub redis_rollbacks: Counter,
    /// Times a stream's checkpoint was of a history that PostgreSQL lost.
    pub history_rewinds: Counter,
    /// Times the slot was gone or could not be read any more.
    pub slots_lost: Counter,
    /// Rows from before a new slot that were settled.
    pub backlog_rows: Counter,
    /// Failures of any kind.
    pub errors: Counter,
    /// Script calls that were refused because another relay leads.
    pub fenced: Counter,
    /// Script calls that were refused because a stream did not hold what they follow.
    pub gaps: Counter,
    rejected: Labelled,
    /// How long things take, and how large they are.
    pub histograms: Histograms,
}

impl Metrics {
    /// An event was refused, for good or for now.
    pub fn rejected(&self, why: Refusal) {
        self.rejected.get_or_create(&[("reason", why.name())]).inc();
    }

    pub(super) fn events_document(&self) -> Value {
        json!({
            "published": self.published.get(),
            "duplicates": self.duplicates.get(),
            "marked": self.marked.get(),
            "gone": self.gone.get(),
            "parked": self.parked.get(),
            "ignored": self.ignored.get(),
            "batches": self.batches.get(),
        })
    }

    pub(super) fn retention_document(&self) -> Value {
        json!({
            "rounds": self.retention_rounds.get(),
            "rows_deleted": self.expired.get(),
            "partitions_dropped": self.partitions_dropped.get(),
        })
    }

    pub(super) fn reconnects_document(&self) -> Value {
        json!({
            "lines": self.lines.get(),
            "restarts": self.restarts.get(),
            "redis_outages": self.redis_outages.get(),
            "redis_rollbacks": self.redis_rollbacks.get(),
            "history_rewinds": self.history_rewinds.get(),
            "slots_lost": self.slots_lost.get(),
        })
    }

    /// The names end in `_total` as they are printed.
    fn counters(&self) -> [(&'static str, &'static str, &Counter); 20] {
        [
            ("events_published", "Events written to Redis", &self.published),
            (
                "events_duplicate",
                "Events that the slot sent again and Redis had already; nothing was written twice",
                &self.duplicates,
            ),
            ("rows_marked", "Outbox rows marked or deleted after publishing", &self.marked),
            ("rows_gone", "Outbox rows deleted by others before they were marked", &self.gone),
            ("rows_ignored", "Outbox rows born published or parked", &self.ignored),
            ("events_parked", "Events set aside in their outbox rows", &self.parked),
            (
                "retention_rounds",
                "Times the outbox was looked through for what retention lets go",
                &self.retention_rounds,
            ),
            ("rows_expired", "Settled rows deleted because of retention", &self.expired),
            (
                "partitions_dropped",
                "Partitions dropped because of retention",
                &self.partitions_dropped,
            ),
            ("batches", "Script calls that published a batch", &self.batches),
            ("lines", "Times the line from slot to Redis came up", &self.lines),
            ("restarts", "Times the line ended by a failure and was started again", &self.restarts),
            ("redis_outages", "Times Redis was lost or took no writes", &self.redis_outages),
            (
                "redis_rollbacks",
                "Times Redis came back with less than it had",
                &self.redis_rollbacks,
            ),
            (
                "history_rewinds",
                "Times PostgreSQL had lost the history that a stream was published from",
                &self.history_rewinds,
            ),
            (
                "slots_lost",
                "Times the slot was gone or lost, and a new one was begun with a snapshot",
                &self.slots_lost,
            ),
            ("backlog_rows", "Rows from before a new slot that were settled", &self.backlog_rows),
            ("errors", "Failures of any kind, see the log", &self.errors),
            (
                "fenced",
                "Times Redis refused this relay because another one leads; nothing was written",
                &self.fenced,
            ),
            (
                "gaps",
                "Script calls that Redis refused because a stream did not hold what they follow: \
                 behind a refused event, or Redis has lost its end",
                &self.gaps,
            ),
        ]
    }

    /// The page.
    #[must_use]
    pub fn page(&self, status: &Status) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        self.register_table(&mut registry, status);
        register_process(&mut registry, status);
        text(&registry)
    }

    /// The page of one of several tables: each number says whose it is, but those of the process,
    /// which stand on the first.
    pub(super) fn page_of_table(&self, status: &Status, table: &str, is_first: bool) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        let label = ("table".into(), table.to_owned().into());
        self.register_table(registry.sub_registry_with_label(label), status);
        if is_first {
            register_process(&mut registry, status);
        }
        text(&registry)
    }

    fn register_table(&self, registry: &mut Registry, status: &Status) {
        for (name, help, counter) in self.counters() {
            registry.register(name, help, counter.clone());
        }
        for why in Refusal::ALL {
            drop(self.rejected.get_or_create(&[("reason", why.name())]));
        }
        let help = "Events that were refused when they were first tried, or can never be entries";
        registry.register("events_rejected", help, self.rejected.clone());
        status.reconnects.register(registry);
        status.retries.register(registry, status.lines());
        self.histograms.register(registry);
        contract::register(registry, status);
        gauges::register(registry, status);
    }
}

fn register_process(registry: &mut Registry, status: &Status) {
    status.spans.register(registry);
    gauges::register_build(registry);
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into memory fails only when a metric cannot format itself; none of ours is custom.
    if encode(&mut text, registry).is_err() {
        text.clear();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::state::State;
    use super::*;
    use crate::config::Shard;

    #[test]
    fn the_page_has_counters_gauges_and_their_help() {
        let status = Status::default();
        status.metrics.published.inc_by(7);
        let page = status.metrics.page(&status);
        for line in [
            "# HELP walrelay_events_published Events written to Redis.",
            "walrelay_events_published_total 7",
            "walrelay_state{state=\"connecting\"} 1",
            "walrelay_state{state=\"streaming\"} 0",
            "walrelay_position_bytes{position=\"confirmed\"} 0",
            "walrelay_lag_seconds 0.0",
            "# UNIT walrelay_lag_bytes bytes",
            "walrelay_events_rejected_total{reason=\"wrongtype\"} 0",
            "walrelay_reconnects_total{server=\"redis\"} 0",
            "walrelay_slot_safe_wal_bytes NaN",
            "walrelay_commit_to_entry_seconds_count 0",
            "# EOF",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn of_several_lines_each_has_its_gauges_and_all_have_one_counter() {
        let status = Status::default();
        let lines = status.split(&[1, 3].map(|number| Shard { number, of: 4 }));
        lines[1].enter(State::Streaming);
        for line in &lines {
            line.metrics.published.inc();
            line.retries.saw(2, 1);
        }
        let page = status.metrics.page(&status);
        for line in [
            "walrelay_events_published_total 2",
            "walrelay_state{shard=\"1\",state=\"connecting\"} 1",
            "walrelay_state{shard=\"3\",state=\"streaming\"} 1",
            "walrelay_lag_bytes{shard=\"3\"} 0",
            "walrelay_parked_rows 4",
            "walrelay_dead_rows -1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }
}
