//! What the pollers of a process remember while their connections come and go: attempts that must
//! not count, and names that Redis may forget, later.
//!
//! In: what a round begins and ends with. Out: what is to be done when there is time. It must stay
//! true that a name is forgotten only [`LEASE`] and a second after its row was settled: until then
//! a write that is still under way could come, and would be recognised by it. Bounded: what does
//! not fit is left in Redis for the sweep of the next process.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::judge::Remembered;
use crate::sink::LEASE;

/// What is settled is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(LEASE.as_secs() + 1);
/// Names that wait to be forgotten.
const NAMES_MAX: usize = 100_000;
/// Hashes that are known to have been swept.
const SWEPT_MAX: usize = 4_096;

/// Shared by all that poll in this process.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    /// Rows with an attempt that was begun by us and is not over.
    begun: HashSet<i64>,
    /// Names of deliveries that were begun by us and are not over.
    deliveries: HashSet<String>,
    settled: VecDeque<(Instant, Arc<str>, String)>,
    swept: HashSet<String>,
}

impl Kept {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Nobody panics while it is held; were it so, what is in there is still true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attempts at these rows have begun.
    pub fn begin(&self, ids: impl Iterator<Item = i64>) {
        self.inside().begun.extend(ids);
    }

    /// They are over, one way or the other.
    pub fn end(&self, ids: impl Iterator<Item = i64>) {
        let mut inside = self.inside();
        for id in ids {
            inside.begun.remove(&id);
        }
    }

    /// Attempts that were begun by rounds that are no more.
    #[must_use]
    pub fn begun(&self) -> Vec<i64> {
        self.inside().begun.iter().copied().collect()
    }

    /// A delivery of this name begins.
    pub fn begin_delivery(&self, name: &str) {
        self.inside().deliveries.insert(name.to_owned());
    }

    /// It was answered.
    pub fn end_delivery(&self, name: &str) {
        self.inside().deliveries.remove(name);
    }

    /// Deliveries that were begun by pollers that are no more.
    #[must_use]
    pub fn deliveries(&self) -> Vec<String> {
        self.inside().deliveries.iter().cloned().collect()
    }

    /// The rows behind these names are settled now.
    pub fn settled(&self, names: impl Iterator<Item = Remembered>) {
        let due = Instant::now() + REMEMBERED;
        let mut inside = self.inside();
        let mut keys: HashMap<String, Arc<str>> = HashMap::new();
        for (key, name) in names {
            if inside.settled.len() >= NAMES_MAX {
                return;
            }
            let key = keys.entry(key).or_insert_with_key(|key| key.as_str().into());
            inside.settled.push_back((due, Arc::clone(key), name));
        }
    }

    /// When the next name may be forgotten.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.inside().settled.front().map(|(due, _, _)| *due)
    }

    /// Names of one hash that may be forgotten by now, so many at most.
    #[must_use]
    pub fn forgettable(&self, now: Instant, most: usize) -> Option<(Arc<str>, Vec<String>)> {
        let mut inside = self.inside();
        let (due, key, _) = inside.settled.front()?;
        let key = (*due <= now).then(|| Arc::clone(key))?;
        let is_next = |(due, of, _): &(Instant, Arc<str>, String)| *due <= now && *of == key;
        let count = inside.settled.iter().take(most).take_while(|next| is_next(next)).count();
        let names = inside.settled.drain(..count).map(|(_, _, name)| name).collect();
        Some((key, names))
    }

    /// Whether a hash is met for the first time: leftovers of another life may be in it.
    #[must_use]
    pub fn is_unswept(&self, key: &str) -> bool {
        !self.inside().swept.contains(key)
    }

    /// It was swept.
    pub fn swept(&self, key: &str) {
        let mut inside = self.inside();
        if inside.swept.len() >= SWEPT_MAX {
            inside.swept.clear();
        }
        inside.swept.insert(key.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(from: u32, to: u32, key: &str) -> impl Iterator<Item = Remembered> {
        (from..=to).map(move |n| (key.to_owned(), n.to_string()))
    }

    #[tokio::test]
    async fn names_are_forgotten_after_the_lease_and_hash_by_hash() {
        let kept = Kept::default();
        kept.settled(names(1, 3, "a"));
        kept.settled(names(4, 4, "b"));
        let now = Instant::now();
        assert!(kept.forgettable(now + LEASE, 10).is_none());
        let later = now + REMEMBERED;
        assert_eq!(kept.forgettable(later, 2), Some(("a".into(), vec!["1".into(), "2".into()])));
        assert_eq!(kept.forgettable(later, 10), Some(("a".into(), vec!["3".into()])));
        assert_eq!(kept.forgettable(later, 10), Some(("b".into(), vec!["4".into()])));
        assert!(kept.due().is_none());
    }

    #[test]
    fn only_attempts_that_are_not_over_are_given_back() {
        let kept = Kept::default();
        kept.begin([1, 2, 3].into_iter());
        kept.end([2].into_iter());
        let mut begun = kept.clone().begun();
        begun.sort_unstable();
        assert_eq!(begun, [1, 3]);
    }
}
