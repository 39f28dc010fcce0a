//! The order within each aggregate: ids rise along a stream.
//!
//! In: entries with their rows, by aggregate. Out: suspicions, and how many stand late because they
//! were retried. Producers of one aggregate take turns (they lock its row), so that the order of
//! ids is the order of commits; where they do not, two transactions that overlap may commit the
//! other way round, and nothing that is left in the table tells. It must stay true that memory is
//! bounded however few aggregates there are: a part that is too large is divided by time.

use std::collections::HashMap;

use super::compare::Suspect;
use super::findings::Kind;
use super::record::{RETRIED, Record};
use super::spill::Spill;
use crate::error::Result;
use crate::sink::EntryId;

/// Records sorted at once: 16 MiB.
const LOAD_MAX: usize = 262_144;
/// Into how many a part that is too large is divided.
const DIVISIONS: usize = 64;

/// Of each aggregate in each stream: the highest row so far, and its entry.
type Tails = HashMap<(u128, u32), (i64, EntryId)>;

/// What was found in one part.
#[derive(Default)]
pub(super) struct Order {
    tails: Tails,
    pub suspects: Vec<Suspect>,
    pub retried_late: u64,
}

impl Order {
    /// Looks through a part, and shows what is suspected whenever that is much.
    pub fn part(&mut self, spill: &Spill, part: usize, load_max: usize) -> Result<()> {
        let mut times: Option<(u64, u64)> = None;
        if spill.len(part) > load_max {
            spill.each(part, |record| {
                let (low, high) = times.unwrap_or((record.a, record.a));
                times = Some((low.min(record.a), high.max(record.a)));
                Ok(())
            })?;
        }
        let Some((low, high)) = times.filter(|(low, high)| low < high) else {
            self.walk(spill.load(part)?);
            return Ok(());
        };
        let mut divided = Spill::new(DIVISIONS);
        let width = (high - low) / u64::try_from(DIVISIONS).unwrap_or(1) + 1;
        spill.each(part, |record| {
            let division = usize::try_from((record.a - low) / width).unwrap_or(0);
            divided.push(division, &record)
        })?;
        (0..divided.parts()).try_for_each(|division| self.part(&divided, division, load_max))
    }

    /// The same with the usual bound.
    pub fn look(spill: &Spill, part: usize) -> Result<Self> {
        let mut order = Self::default();
        order.part(spill, part, LOAD_MAX)?;
        Ok(order)
    }

    fn walk(&mut self, mut records: Vec<Record>) {
        records.sort_unstable_by_key(|record| (record.key, record.stream, record.a, record.b));
        for record in records {
            let (row, entry) = (record.c.cast_signed(), record.entry());
            let tail = self.tails.entry((record.key, record.stream)).or_insert((row, entry));
            if row >= tail.0 {
                *tail = (row, entry);
            } else if record.has(RETRIED) {
                self.retried_late += 1;
            } else {
                self.suspects.push(Suspect {
                    kind: Kind::OutOfOrder,
                    stream: record.stream,
                    row: Some(row),
                    entry,
                    other: Some(tail.1),
                    other_row: Some(tail.0),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(rows: &[(u64, u64, u32)]) -> Spill {
        let mut spill = Spill::new(1);
        for (ms, row, flags) in rows {
            let record = Record { key: 1, a: *ms, c: *row, flags: *flags, ..Record::default() };
            spill.push(0, &record).unwrap();
        }
        spill
    }

    fn found(rows: &[(u64, u64, u32)], load_max: usize) -> (Vec<(i64, i64)>, u64) {
        let mut order = Order::default();
        order.part(&placed(rows), 0, load_max).unwrap();
        let pairs = order.suspects.iter().filter_map(|found| found.row.zip(found.other_row));
        (pairs.collect(), order.retried_late)
    }

    #[test]
    fn ids_that_go_down_are_found_however_the_part_is_divided() {
        let rows: Vec<(u64, u64, u32)> = (1..=500).map(|n| (n * 3, n, 0)).collect();
        let mut swapped = rows.clone();
        (swapped[100].1, swapped[101].1) = (swapped[101].1, swapped[100].1);
        for load_max in [1, 7, 100, LOAD_MAX] {
            assert_eq!(found(&rows, load_max), (Vec::new(), 0), "{load_max}");
            assert_eq!(found(&swapped, load_max), (vec![(101, 102)], 0), "{load_max}");
        }
        let burst: Vec<(u64, u64, u32)> = (1..=50).map(|n| (7, n, 0)).collect();
        assert_eq!(found(&burst, 10).0.len(), 0, "of one millisecond: by their place in it");
    }

    #[test]
    fn what_was_retried_may_stand_behind_later_ones() {
        let rows = [(1, 1, 0), (2, 3, 0), (3, 2, RETRIED), (4, 4, 0)];
        assert_eq!(found(&rows, LOAD_MAX), (Vec::new(), 1));
    }

    #[test]
    fn aggregates_and_streams_are_looked_at_by_themselves() {
        let mut spill = placed(&[(1, 9, 0)]);
        let other = Record { key: 2, a: 2, c: 1, ..Record::default() };
        spill.push(0, &other).unwrap();
        spill.push(0, &Record { key: 1, stream: 1, ..other }).unwrap();
        assert!(Order::look(&spill, 0).unwrap().suspects.is_empty());
    }
}
