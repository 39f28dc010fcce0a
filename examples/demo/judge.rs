//! The verdict: what PostgreSQL holds as committed against what Redis holds as published.
//!
//! In: event ids in the order of commit, event ids in the order of the stream. Out: counts of what
//! is wrong. It must stay true that neither list comes from the relay. Not here: reading them.

use std::collections::{HashMap, HashSet};

/// What is wrong; all zero in a good world.
pub struct Verdict {
    pub lost: usize,
    pub doubled: usize,
    pub out_of_order: usize,
    /// Entries that no committed row stands for.
    pub foreign: usize,
}

impl Verdict {
    pub fn of(committed: &[String], published: &[String]) -> Self {
        let places: HashMap<&str, usize> =
            committed.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
        let mut verdict = Self { lost: 0, doubled: 0, out_of_order: 0, foreign: 0 };
        let mut met = HashSet::new();
        let mut furthest = None;
        for id in published {
            match places.get(id.as_str()) {
                None => verdict.foreign += 1,
                Some(_) if !met.insert(id) => verdict.doubled += 1,
                Some(place) => {
                    verdict.out_of_order += usize::from(Some(place) < furthest);
                    furthest = furthest.max(Some(place));
                }
            }
        }
        verdict.lost = places.len() - met.len();
        verdict
    }

    pub fn is_good(&self) -> bool {
        self.lost + self.doubled + self.out_of_order + self.foreign == 0
    }
}
