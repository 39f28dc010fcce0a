//! What Redis may forget of a poller's deliveries, and when.
//!
//! In: names that were settled. Out: the same, once no write of whoever claimed them before can
//! come any more. It must stay true that a name comes out only after [`LEASE`] since its rows were
//! committed as settled, or never: what a crash leaves is swept by the next poller.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::judge::Remembered;
use crate::sink::{Delivery, Failure, LEASE};

/// The clock of Redis and ours may run differently for so long.
const MARGIN: Duration = Duration::from_secs(1);
/// Names in one call: about a millisecond.
const CALL_NAMES_MAX: usize = 1_000;

/// By hash: the names in it.
pub type Names = HashMap<String, Vec<String>>;

/// Names that are to be forgotten, oldest first.
#[derive(Debug, Default)]
pub struct Memory {
    waiting: VecDeque<(Instant, Names)>,
}

impl Memory {
    /// These rows were committed as settled now.
    pub fn settled(&mut self, names: Names, now: Instant) {
        if !names.is_empty() {
            self.waiting.push_back((now + LEASE + MARGIN, names));
        }
    }

    /// What may be forgotten by now.
    pub fn due(&mut self, now: Instant) -> Vec<Names> {
        let due = self.waiting.iter().take_while(|(due, _)| *due <= now).count();
        self.waiting.drain(..due).map(|(_, names)| names).collect()
    }

    /// When something is.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }
}

/// Sorts names by their hash.
#[must_use]
pub fn by_hash(remembered: Vec<Remembered>) -> Names {
    let mut names = Names::new();
    for (key, name) in remembered {
        names.entry(key).or_default().push(name);
    }
    names
}

/// Has Redis forget them.
pub async fn forget(delivery: &Delivery, all: Vec<Names>) -> Result<(), Failure> {
    for (key, names) in all.into_iter().flatten() {
        for call in names.chunks(CALL_NAMES_MAX) {
            delivery.forget(&key, call).await?;
        }
    }
    Ok(())
}
