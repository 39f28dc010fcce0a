//! What is parked and what becomes of it: numbers of the retry poller, and whether Redis takes
//! what it has.
//!
//! In: facts from the poller. Out: its part of /status and of /metrics.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Value, json};

use super::status::{Status, unix_micros};

/// Not counted, or not to be counted cheaply.
const UNKNOWN: i64 = -1;

/// Numbers of the retry poller.
#[derive(Debug)]
pub struct Retries {
    /// Parked events that went out.
    pub delivered: Counter,
    /// Parked events that were refused again, or wait behind one that was.
    pub refused: Counter,
    /// Events that died.
    pub dead_lettered: Counter,
    /// Times Redis took nothing that was due.
    pub outages: Counter,
    parked: AtomicI64,
    due: AtomicI64,
    dead: AtomicI64,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    circuit: Option<Open>,
    letter_error: Option<String>,
}

/// What one line sees, or several together.
struct Sight {
    /// Parked, due, dead.
    rows: [i64; 3],
    circuit: Option<Open>,
    letter_error: Option<String>,
}

impl Sight {
    fn with(self, other: Self) -> Self {
        // A line that stands by counts nothing: its leader does.
        let sum = |counts: (i64, i64)| match counts {
            (UNKNOWN, known) | (known, UNKNOWN) => known,
            (one, more) => one.saturating_add(more),
        };
        let [parked, due, dead] = self.rows;
        let [more_parked, more_due, more_dead] = other.rows;
        Self {
            rows: [(parked, more_parked), (due, more_due), (dead, more_dead)].map(sum),
            circuit: self.circuit.or(other.circuit),
            letter_error: self.letter_error.or(other.letter_error),
        }
    }
}

#[derive(Clone, Debug)]
struct Open {
    since: u64,
    error: String,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            delivered: Counter::default(),
            refused: Counter::default(),
            dead_lettered: Counter::default(),
            outages: Counter::default(),
            parked: AtomicI64::new(UNKNOWN),
            due: AtomicI64::new(UNKNOWN),
            dead: AtomicI64::new(UNKNOWN),
            said: Mutex::default(),
        }
    }
}

impl Retries {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many rows are parked, and due.
    pub fn saw(&self, parked: u64, due: u64) {
        self.parked.store(whole(parked), Ordering::Relaxed);
        self.due.store(whole(due), Ordering::Relaxed);
    }

    /// So many rows are dead, if that is known.
    pub fn saw_dead(&self, dead: Option<u64>) {
        self.dead.store(dead.map_or(UNKNOWN, whole), Ordering::Relaxed);
    }

    /// Redis takes nothing. Says whether that is news.
    pub fn open_circuit(&self, error: &str) -> bool {
        let mut said = self.said();
        let is_news = said.circuit.is_none();
        let since =
            said.circuit.as_ref().map_or_else(|| unix_micros() / 1_000_000, |open| open.since);
        said.circuit = Some(Open { since, error: error.to_owned() });
        is_news
    }

    /// It does again. Says whether that is news.
    pub fn close_circuit(&self) -> bool {
        self.said().circuit.take().is_some()
    }

    /// Whether Redis took nothing when it was tried last.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.said().circuit.is_some()
    }

    /// Why dead letters cannot be written; none when one was.
    pub fn letter_error(&self, error: Option<String>) {
        self.said().letter_error = error;
    }

    /// For one of several lines: what it counts is counted here as well.
    pub(super) fn of_line(&self) -> Self {
        Self {
            delivered: self.delivered.clone(),
            refused: self.refused.clone(),
            dead_lettered: self.dead_lettered.clone(),
            outages: self.outages.clone(),
            ..Self::default()
        }
    }

    fn sight(&self) -> Sight {
        let said = self.said();
        let rows = [&self.parked, &self.due, &self.dead].map(|rows| rows.load(Ordering::Relaxed));
        Sight { rows, circuit: said.circuit.clone(), letter_error: said.letter_error.clone() }
    }

    /// What there is to see: here, or with several lines all together.
    fn sights(&self, lines: &[Arc<Status>]) -> Sight {
        let of_lines = lines.iter().map(|line| line.retries.sight());
        of_lines.reduce(Sight::with).unwrap_or_else(|| self.sight())
    }

    pub(super) fn document(&self, lines: &[Arc<Status>]) -> Value {
        let Sight { rows, circuit, letter_error } = self.sights(lines);
        let [parked, due, dead] = rows.map(|rows| match rows {
            UNKNOWN => Value::Null,
            rows => json!(rows),
        });
        json!({
            "circuit": if circuit.is_some() { "open" } else { "closed" },
            "since": circuit.as_ref().map(|open| open.since),
            "error": circuit.as_ref().map(|open| &open.error),
            "dead_letter_error": letter_error,
            "parked": parked,
            "due": due,
            "dead": dead,
            "delivered": self.delivered.get(),
            "refused": self.refused.get(),
            "dead_lettered": self.dead_lettered.get(),
            "outages": self.outages.get(),
        })
    }

    pub(super) fn register(&self, registry: &mut Registry, lines: &[Arc<Status>]) {
        for (name, help, counter) in [
            ("events_retried", "Parked events written to Redis", &self.delivered),
            (
                "retries_refused",
                "Tries of parked events that Redis refused, or that wait behind such a one",
                &self.refused,
            ),
            ("events_dead_lettered", "Events given up, with a dead letter", &self.dead_lettered),
            ("retry_outages", "Times Redis took nothing that was due", &self.outages),
        ] {
            registry.register(name, help, counter.clone());
        }
        let Sight { rows: [parked, due, dead], circuit, .. } = self.sights(lines);
        let circuit = i64::from(circuit.is_some());
        let rows = || Unit::Other("rows".to_owned());
        for (name, help, value) in [
            (
                "parked",
                "Outbox rows set aside to be tried again; -1 before the first count",
                parked,
            ),
            (
                "due",
                "Parked rows whose time has come, those that wait behind others among them",
                due,
            ),
            (
                "dead",
                "Outbox rows that were given up; -1 without an index on dead_lettered_at",
                dead,
            ),
        ] {
            let gauge = Gauge::<i64>::default();
            gauge.set(value);
            registry.register_with_unit(name, help, rows(), gauge);
        }
        let gauge = Gauge::<i64>::default();
        gauge.set(circuit);
        let help = "1 while Redis takes nothing that is due";
        registry.register("retry_circuit_open", help, gauge);
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_circuit_keeps_its_beginning_until_it_closes() {
        let retries = Retries::default();
        assert_eq!(retries.document(&[])["circuit"], "closed");
        assert_eq!(retries.document(&[])["parked"], Value::Null);
        assert!(retries.open_circuit("gone"));
        let since = retries.document(&[])["since"].clone();
        assert!(!retries.open_circuit("still gone"));
        assert_eq!(retries.document(&[])["since"], since);
        assert_eq!(retries.document(&[])["error"], "still gone");
        assert!(retries.close_circuit());
        assert!(!retries.close_circuit());
    }
}
