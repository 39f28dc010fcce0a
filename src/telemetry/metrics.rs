//! Every number that /metrics shows: its name, unit, labels and help text.
//!
//! In: increments from the line; gauges are read from [`Status`] when somebody asks. Out:
//! OpenMetrics text. The handles live in one struct: there is no global registry.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::sync::atomic::AtomicU64;

use super::status::{State, Status, unconfirmed_bytes};

type Labels = [(&'static str, &'static str); 1];
type Real = Gauge<f64, AtomicU64>;

/// What is counted while the relay runs.
#[derive(Debug, Default)]
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
}

impl Metrics {
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
    fn counters(&self) -> [(&'static str, &'static str, &Counter); 18] {
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
        ]
    }

    /// The page.
    #[must_use]
    pub fn page(&self, status: &Status) -> String {
        let mut registry = Registry::with_prefix("walrelay");
        for (name, help, counter) in self.counters() {
            registry.register(name, help, counter.clone());
        }
        status.retries.register(&mut registry);
        register_gauges(&mut registry, status);
        let mut text = String::new();
        // Writing into memory fails only when a metric cannot format itself; none of ours is
        // custom.
        if encode(&mut text, &registry).is_err() {
            text.clear();
        }
        text
    }
}

fn register_gauges(registry: &mut Registry, status: &Status) {
    let stands = status.stands();
    let gauge = |value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    registry.register(
        "lag_bytes",
        "WAL received and not yet confirmed to the slot",
        gauge(unconfirmed_bytes(&stands)),
    );
    registry.register(
        "lag_events",
        "Events received and not yet settled",
        gauge(stands.outstanding),
    );
    let seconds = Real::default();
    seconds.set(status.lag_seconds());
    registry.register("lag_seconds", "Time the oldest unpublished event may have waited", seconds);
    let left = status.backlog().map_or(0, |backlog| backlog.total.saturating_sub(backlog.done));
    registry.register("backlog_left", "Rows from before a new slot still to settle", gauge(left));
    let positions = Family::<Labels, Gauge>::default();
    for (name, lsn) in [
        ("received", stands.received),
        ("published", stands.published),
        ("settled", stands.settled),
        ("confirmed", stands.confirmed),
    ] {
        let value = i64::try_from(lsn.as_u64()).unwrap_or(i64::MAX);
        positions.get_or_create(&[("position", name)]).set(value);
    }
    registry.register(
        "position_bytes",
        "Where the line stands in the WAL, as a byte position",
        positions,
    );
    let states = Family::<Labels, Gauge>::default();
    let now = status.state();
    for state in State::ALL {
        states.get_or_create(&[("state", state.name())]).set(i64::from(state == now));
    }
    registry.register("state", "1 for what the relay is doing", states);
    let build = Family::<Labels, Gauge>::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("build_info", "The version that runs", build);
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "# EOF",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }
}
