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

use super::status::{State, Status};

type Labels = Vec<(&'static str, String)>;
type Real = Gauge<f64, AtomicU64>;

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
        status.retries.register(&mut registry, status.lines());
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
    register_each(
        registry,
        status,
        ("lag_bytes", "WAL received and not yet confirmed to the slot"),
        Status::unconfirmed_bytes,
    );
    let help = "Events received and not yet settled";
    register_each(registry, status, ("lag_events", help), |line| line.stands().outstanding);
    let help = "Rows from before a new slot still to settle";
    register_each(registry, status, ("backlog_left", help), |line| {
        line.backlog().map_or(0, |backlog| backlog.total.saturating_sub(backlog.done))
    });
    let seconds = Real::default();
    seconds.set(status.lag_seconds());
    registry.register("lag_seconds", "Time the oldest unpublished event may have waited", seconds);
    let positions = Family::<Labels, Gauge>::default();
    let states = Family::<Labels, Gauge>::default();
    for (line, labels) in lines(status) {
        let stands = line.stands();
        for (name, lsn) in [
            ("received", stands.received),
            ("published", stands.published),
            ("settled", stands.settled),
            ("confirmed", stands.confirmed),
        ] {
            let labels = with(&labels, "position", name);
            positions.get_or_create(&labels).set(whole(lsn.as_u64()));
        }
        let now = line.state();
        for state in State::ALL {
            let labels = with(&labels, "state", state.name());
            states.get_or_create(&labels).set(i64::from(state == now));
        }
    }
    registry.register(
        "position_bytes",
        "Where the line stands in the WAL, as a byte position",
        positions,
    );
    registry.register("state", "1 for what the relay is doing", states);
    let build = Family::<Labels, Gauge>::default();
    build.get_or_create(&with(&[], "version", env!("CARGO_PKG_VERSION"))).set(1);
    registry.register("build_info", "The version that runs", build);
}

/// The lines, with the label that tells one of several from the others.
fn lines(status: &Status) -> Vec<(&Status, Labels)> {
    if status.lines().is_empty() {
        return vec![(status, Vec::new())];
    }
    let number = |line: &Status| line.shard.map_or(0, |shard| shard.number).to_string();
    let labelled = status.lines().iter().map(|line| (&**line, vec![("shard", number(line))]));
    labelled.collect()
}

fn with(labels: &[(&'static str, String)], name: &'static str, value: &str) -> Labels {
    let mut labels = labels.to_vec();
    labels.push((name, value.to_owned()));
    labels
}

/// A gauge for each line.
fn register_each(
    registry: &mut Registry,
    status: &Status,
    (name, help): (&'static str, &'static str),
    value: impl Fn(&Status) -> u64,
) {
    if status.lines().is_empty() {
        let gauge = Gauge::<i64>::default();
        gauge.set(whole(value(status)));
        return registry.register(name, help, gauge);
    }
    let gauges = Family::<Labels, Gauge>::default();
    for (line, labels) in lines(status) {
        gauges.get_or_create(&labels).set(whole(value(line)));
    }
    registry.register(name, help, gauges);
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
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
