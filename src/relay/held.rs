//! Which aggregates have an event that is parked: their later events wait behind it.
//!
//! In: what is decided to be parked, what was committed, and what the database says is still
//! parked. Out: whether an aggregate is held. It must stay true that an aggregate is let go only
//! when the database, asked after the last parking of it was committed, knows of no parked row of
//! it; and that the memory for this is bounded. Aggregates are known by a hash: a collision makes
//! an innocent event wait for a while. Pure.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use crate::lsn::Position;

/// Aggregates remembered, at some 40 bytes each; past this every aggregate is held.
pub const HELD_MAX: usize = 262_144;

/// The hash of an aggregate; [`NOBODY`] for an event of none.
#[must_use]
pub fn aggregate(id: &[u8]) -> u64 {
    if id.is_empty() {
        return NOBODY;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(id);
    hasher.finish().max(1)
}

/// The aggregate of an event that waits behind no other.
pub const NOBODY: u64 = 0;

#[derive(Clone, Copy, Debug, Default)]
struct Hold {
    /// Parkings of it that are decided and not committed.
    undone: u32,
    /// The refresh that was the next one when it was parked last.
    stamp: u64,
}

impl Hold {
    fn ends(self, refresh: u64) -> bool {
        self.undone == 0 && self.stamp < refresh
    }
}

/// What the database says.
#[derive(Clone, Debug)]
pub struct Found {
    /// Rows that a relay has parked and that the slot may send again: their ids and positions.
    pub known: HashMap<i64, Position>,
    /// Aggregates with a parked row; none when there are more than [`HELD_MAX`].
    pub held: Option<Vec<u64>>,
    /// Whether any row is parked, or was and is not forgotten yet.
    pub is_any: bool,
}

impl Default for Found {
    /// Nothing is parked.
    fn default() -> Self {
        Self { known: HashMap::new(), held: Some(Vec::new()), is_any: false }
    }
}

/// The aggregates that are held.
#[derive(Debug, Default)]
pub struct Held {
    holds: HashMap<u64, Hold>,
    /// All the others too.
    rest: Option<Hold>,
    /// Number of the next refresh.
    refresh: u64,
}

impl Held {
    /// As the database has it when a line begins.
    #[must_use]
    pub fn new(found: Option<Vec<u64>>) -> Self {
        let rest = found.is_none().then(Hold::default);
        let holds = found.unwrap_or_default().into_iter().map(|hash| (hash, Hold::default()));
        Self { holds: holds.collect(), rest, refresh: 0 }
    }

    /// Whether nobody is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.rest.is_none()
    }

    /// How many are known to be held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.holds.len()
    }

    /// Whether an event of this aggregate has to wait.
    #[must_use]
    pub fn has(&self, aggregate: u64) -> bool {
        aggregate != NOBODY && (self.rest.is_some() || self.holds.contains_key(&aggregate))
    }

    /// An event of it is going to be parked.
    pub fn hold(&mut self, aggregate: u64) {
        if aggregate != NOBODY {
            let stamp = self.refresh;
            let is_full = self.rest.is_some() || self.holds.len() >= HELD_MAX;
            let hold = match self.holds.get_mut(&aggregate) {
                Some(hold) => hold,
                None if is_full => self.rest.get_or_insert_default(),
                None => self.holds.entry(aggregate).or_default(),
            };
            *hold = Hold { undone: hold.undone + 1, stamp };
        }
    }

    /// That is committed.
    pub fn committed(&mut self, aggregate: u64) {
        let stamp = self.refresh;
        let hold = self.holds.get_mut(&aggregate).or(self.rest.as_mut());
        if let Some(hold) = hold.filter(|_| aggregate != NOBODY) {
            *hold = Hold { undone: hold.undone.saturating_sub(1), stamp };
        }
    }

    /// The database is about to be asked; the number of this time.
    pub fn begin_refresh(&mut self) -> u64 {
        self.refresh += 1;
        self.refresh
    }

    /// It answered: aggregates with a parked row, none when there are too many.
    pub fn end_refresh(&mut self, refresh: u64, found: Option<Vec<u64>>) {
        let Some(found) = found else {
            self.rest.get_or_insert_default();
            return;
        };
        // Of what is lumped together nobody can be told apart.
        if self.rest.is_some_and(|rest| !rest.ends(refresh)) {
            return;
        }
        let found: HashMap<u64, Hold> =
            found.into_iter().map(|hash| (hash, Hold::default())).collect();
        self.rest = None;
        self.holds.retain(|hash, hold| !hold.ends(refresh) || found.contains_key(hash));
        for (hash, hold) in found {
            self.holds.entry(hash).or_insert(hold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregate_is_held_until_the_database_knows_of_no_parked_row() {
        let mut held = Held::new(Some(vec![7]));
        assert!(held.has(7) && !held.has(8) && !held.has(NOBODY));
        held.hold(8);
        let refresh = held.begin_refresh();
        held.end_refresh(refresh, Some(vec![]));
        assert!(!held.has(7), "its row is not parked any more");
        assert!(held.has(8), "its parking is not committed");
        let refresh = held.begin_refresh();
        held.committed(8);
        held.end_refresh(refresh, Some(vec![]));
        assert!(held.has(8), "the database may have answered before");
        let refresh = held.begin_refresh();
        held.end_refresh(refresh, Some(vec![8]));
        assert!(held.has(8));
        let refresh = held.begin_refresh();
        held.end_refresh(refresh, Some(vec![]));
        assert!(held.is_empty());
    }

    #[test]
    fn past_the_bound_everybody_waits_until_there_are_fewer() {
        let mut held = Held::new(None);
        assert!(held.has(1));
        held.hold(1);
        let refresh = held.begin_refresh();
        held.end_refresh(refresh, Some(vec![]));
        assert!(held.has(2), "the parking of one of them is not committed");
        held.committed(1);
        let refresh = held.begin_refresh();
        held.end_refresh(refresh, None);
        assert!(held.has(2), "still too many");
        let refresh = held.begin_refresh();
        held.end_refresh(refresh, Some(vec![1]));
        assert!(held.has(1) && !held.has(2));
        for hash in 1..=u64::try_from(HELD_MAX).unwrap() + 5 {
            held.hold(hash);
        }
        assert_eq!(held.len(), HELD_MAX);
        assert!(held.has(u64::MAX));
    }

    #[test]
    fn aggregates_are_told_apart() {
        assert_eq!(aggregate(b""), NOBODY);
        assert_eq!(aggregate(b"a"), aggregate(b"a"));
        assert_ne!(aggregate(b"a"), aggregate(b"b"));
    }
}
