//! The gauges of /metrics: what is so at the moment, read when somebody asks.
//!
//! In: [`Status`]. Out: gauges, with a label `shard` where a table has several lines. What is not
//! known is NaN, which no alert takes for a number.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeGaugeValue;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{Atomic, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::backlog::count;
use super::slot::{SlotFacts, WAL_STATUSES};
use super::state::State;
use super::status::Status;

type Labels = Vec<(&'static str, String)>;
type Real = Gauge<f64, AtomicU64>;

/// A gauge of one number for each line.
struct OfLine {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    value: fn(&Status) -> i64,
}

/// The same, where the number may be unknown.
struct MaybeOfLine {
    name: &'static str,
    help: &'static str,
    unit: Unit,
    value: fn(&Status) -> Option<f64>,
}

pub(super) fn register(registry: &mut Registry, status: &Status) {
    let lines = lines(status);
    for OfLine { name, help, unit, value } in numbers() {
        let values = lines.iter().map(|(line, labels)| (labels, value(line)));
        register_values::<i64, AtomicI64>(registry, (name, help, unit), values);
    }
    for MaybeOfLine { name, help, unit, value } in maybe_numbers() {
        let of_line = |line| value(line).unwrap_or(f64::NAN);
        let values = lines.iter().map(|(line, labels)| (labels, of_line(line)));
        register_values::<f64, AtomicU64>(registry, (name, help, Some(unit)), values);
    }
    let seconds = Real::default();
    seconds.set(status.lag_seconds());
    let help = "Time the oldest unpublished event may have waited";
    registry.register_with_unit("lag", help, Unit::Seconds, seconds);
    register_words(registry, &lines);
}

fn numbers() -> [OfLine; 3] {
    [
        OfLine {
            name: "lag",
            help: "WAL up to PostgreSQL's present end, as far as it is known, and not yet \
                   confirmed to the slot",
            unit: Some(Unit::Bytes),
            value: |line| whole(line.unconfirmed_bytes()),
        },
        OfLine {
            name: "lag",
            help: "Events received and not yet settled",
            unit: Some(Unit::Other("events".to_owned())),
            value: |line| whole(line.stands().outstanding),
        },
        OfLine {
            name: "backlog_left",
            help: "Rows from before a new slot still to settle",
            unit: None,
            value: |line| whole(line.backlog().map_or(0, |all| all.total.saturating_sub(all.done))),
        },
    ]
}

fn maybe_numbers() -> [MaybeOfLine; 3] {
    [
        MaybeOfLine {
            name: "heartbeat_age",
            help: "What was committed so long ago is in Redis; NaN before the first heartbeat, and \
                   for a standby",
            unit: Unit::Seconds,
            value: |line| line.heartbeat.times().map(|(_, age)| age.as_secs_f64()),
        },
        MaybeOfLine {
            name: "slot_safe_wal",
            help: "WAL that may be written before the slot is in danger of being lost; NaN without \
                   max_slot_wal_keep_size",
            unit: Unit::Bytes,
            value: |line| line.says().slot?.safe_wal_size.map(signed),
        },
        MaybeOfLine {
            name: "slot_retained",
            help: "WAL that PostgreSQL keeps for the slot",
            unit: Unit::Bytes,
            value: |line| line.says().slot?.retained_bytes.map(signed),
        },
    ]
}

/// A number for each line; a line that is alone has no label, and no braces.
fn register_values<'a, N, A>(
    registry: &mut Registry,
    (name, help, unit): (&'static str, &'static str, Option<Unit>),
    values: impl Iterator<Item = (&'a Labels, N)>,
) where
    N: EncodeGaugeValue + Send + Sync + std::fmt::Debug + 'static,
    A: Atomic<N> + Default + Send + Sync + std::fmt::Debug + 'static,
{
    let (family, alone) = (Family::<Labels, Gauge<N, A>>::default(), Gauge::<N, A>::default());
    let mut is_alone = false;
    for (labels, value) in values {
        is_alone = labels.is_empty();
        if is_alone {
            alone.set(value);
        } else {
            family.get_or_create(labels).set(value);
        }
    }
    match (unit, is_alone) {
        (Some(unit), true) => registry.register_with_unit(name, help, unit, alone),
        (Some(unit), false) => registry.register_with_unit(name, help, unit, family),
        (None, true) => registry.register(name, help, alone),
        (None, false) => registry.register(name, help, family),
    }
}

/// Gauges whose labels say what is so.
fn register_words(registry: &mut Registry, lines: &[(&Status, Labels)]) {
    let positions = Family::<Labels, Gauge>::default();
    let states = Family::<Labels, Gauge>::default();
    let slots = Family::<Labels, Gauge>::default();
    for (line, labels) in lines {
        let stands = line.stands();
        for (name, lsn) in [
            ("received", stands.received),
            ("published", stands.published),
            ("settled", stands.settled),
            ("confirmed", stands.confirmed),
        ] {
            let labels = with(labels, "position", name);
            positions.get_or_create(&labels).set(whole(lsn.as_u64()));
        }
        let said = line.says();
        let of_tables = line.table.is_some().then_some(State::Stopped);
        for state in State::ALL.into_iter().chain(of_tables) {
            let labels = with(labels, "state", state.name());
            states.get_or_create(&labels).set(i64::from(state == said.state));
        }
        let SlotFacts { wal_status, .. } = said.slot.unwrap_or_default();
        for status in WAL_STATUSES {
            let labels = with(labels, "wal_status", status);
            let is_so = wal_status.as_deref() == Some(status);
            slots.get_or_create(&labels).set(i64::from(is_so));
        }
    }
    let help = "Where the line stands in the WAL, as a byte position";
    registry.register_with_unit("position", help, Unit::Bytes, positions);
    registry.register("state", "1 for what the relay is doing", states);
    let help = "1 for whether PostgreSQL still has the WAL that the slot needs";
    registry.register("slot_wal_status", help, slots);
}

/// What is the process's, whatever its tables.
pub(super) fn register_build(registry: &mut Registry) {
    let build = Family::<Labels, Gauge>::default();
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("arch", std::env::consts::ARCH),
        ("os", std::env::consts::OS),
    ];
    build.get_or_create(&labels.map(|(name, value)| (name, value.to_owned())).to_vec()).set(1);
    registry.register("build_info", "The version that runs, and for which machines", build);
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

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Exact up to four billion, and near enough above.
fn signed(bytes: i64) -> f64 {
    const CHUNK: u64 = 1 << 20;
    let size = bytes.unsigned_abs();
    let size = count(size / CHUNK) * count(CHUNK) + count(size % CHUNK);
    if bytes < 0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_numbers_whatever_their_size_and_sign() {
        for (bytes, wanted) in [(0, 0.0), (-5, -5.0), (1 << 40, 1_099_511_627_776.0)] {
            assert_eq!(signed(bytes).to_bits(), f64::to_bits(wanted), "{bytes}");
        }
    }
}
