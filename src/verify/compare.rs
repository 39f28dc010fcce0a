//! Rows against entries, one part after the other: pure.
//!
//! In: the records of a part, all of an event among them. Out: suspicions, rows without entries,
//! and who stands where in the order of its aggregate. It must stay true that what came to pass
//! after the search began is no suspicion.

use std::cmp::Ordering;

use super::findings::{Entries, Kind};
use super::record::{ENTRY, NEVER, RETRIED, Record, SETTLED, UNFIT};
use super::spill::Spill;
use super::streams::Streams;
use crate::error::Result;
use crate::sink::EntryId;

/// What looks wrong, until both servers have been asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub kind: Kind,
    pub stream: u32,
    /// The row, where there is one.
    pub row: Option<i64>,
    /// The entry that is wrong.
    pub entry: EntryId,
    /// The one beside which it is: that of the same event, or that of a later row.
    pub other: Option<EntryId>,
    /// That row.
    pub other_row: Option<i64>,
}

/// Which entries without a row are worth a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strangers {
    /// All.
    pub is_strict: bool,
    /// None is: a row that is outside the range by its id cannot be told from the entry, nor can a
    /// message, which never had a row.
    pub may_be_others: bool,
    /// Milliseconds between which the range is.
    pub since_ms: Option<u64>,
    pub until_ms: Option<u64>,
    /// The oldest settled row: what is younger must still have a row. None: rows go when they are
    /// published, or entries may be of another table.
    pub oldest_ms: Option<u64>,
    /// With `retention`: what happened and was published since must still have a row. A row goes by
    /// when it was published, so that others stay which are older.
    pub kept_ms: Option<u64>,
}

/// What the parts are compared for.
pub(super) struct Compare<'a> {
    pub streams: &'a mut Streams,
    /// Takes rows without entries.
    pub missing: &'a mut Spill,
    /// Takes entries with their rows, by aggregate.
    pub order: &'a mut Spill,
    pub entries: &'a mut Entries,
    /// When the search began, by the clock of Redis.
    pub began_ms: u64,
    /// Rows outside the range may have entries.
    pub is_limited: bool,
    pub strangers: Strangers,
}

impl Compare<'_> {
    /// Compares one part.
    pub fn part(&mut self, mut records: Vec<Record>) -> Result<Vec<Suspect>> {
        records.sort_unstable_by(by_event);
        let mut suspects = Vec::new();
        for (rows, entries) in events(&records) {
            match (rows.first(), entries.first()) {
                (Some(_), None) => self.without_entry(rows)?,
                (Some(row), Some(first)) => {
                    self.pair(row, first, &mut suspects)?;
                    // Without a unique constraint two rows may be one event.
                    let expected = rows.len().min(entries.len());
                    double(entries, expected, Some(row.row()), &mut suspects);
                }
                (None, Some(first)) => self.without_row(first, entries, &mut suspects),
                (None, None) => {}
            }
        }
        Ok(suspects)
    }

    fn without_entry(&mut self, rows: &[Record]) -> Result<()> {
        for row in rows.iter().filter(|row| row.has(SETTLED)) {
            self.missing.push(0, row)?;
        }
        Ok(())
    }

    fn pair(&mut self, row: &Record, entry: &Record, suspects: &mut Vec<Suspect>) -> Result<()> {
        let is_dated = row.b != NEVER && entry.d != NEVER;
        let is_changed = row.c != entry.c || is_dated && row.b != entry.d;
        if is_changed && !row.has(UNFIT) {
            suspects.push(suspect(Kind::Changed, entry, Some(row.row())));
        }
        if !row.has(RETRIED)
            && let Some(stream) = self.streams.get_mut(row.stream)
            && stream.oldest.is_none_or(|(oldest, _)| entry.entry() < oldest)
        {
            stream.oldest = Some((entry.entry(), row.row()));
        }
        if row.d != 0 {
            let (key, c) = (u128::from(row.d), row.a);
            let place = Record { key, c, d: 0, flags: row.flags & RETRIED, ..*entry };
            self.order.push(self.order.part_of(key), &place)?;
        }
        Ok(())
    }

    fn without_row(&mut self, first: &Record, entries: &[Record], suspects: &mut Vec<Suspect>) {
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        if first.a >= self.began_ms {
            self.entries.newer += count;
            return;
        }
        self.entries.without_row += count;
        if !self.is_limited {
            double(entries, 1, None, suspects);
        }
        if self.strangers.include(first) {
            suspects.push(suspect(Kind::Stranger, first, None));
        }
    }
}

impl Strangers {
    fn include(&self, entry: &Record) -> bool {
        if self.may_be_others {
            return false;
        }
        let occurred = Some(entry.d).filter(|occurred| *occurred != NEVER);
        let is_limited = self.since_ms.is_some() || self.until_ms.is_some();
        let Some(occurred) = occurred else { return self.is_strict && !is_limited };
        let is_in_range = self.since_ms.is_none_or(|since| since <= occurred)
            && self.until_ms.is_none_or(|until| occurred < until);
        let is_kept = || {
            self.oldest_ms.is_some_and(|oldest| oldest < occurred)
                && self.kept_ms.is_none_or(|kept| kept < occurred.min(entry.a))
        };
        is_in_range && (self.is_strict || is_kept())
    }
}

fn suspect(kind: Kind, entry: &Record, row: Option<i64>) -> Suspect {
    let (stream, entry) = (entry.stream, entry.entry());
    Suspect { kind, stream, row, entry, other: None, other_row: None }
}

/// Every entry behind the first `expected` ones is one too many.
fn double(entries: &[Record], expected: usize, row: Option<i64>, suspects: &mut Vec<Suspect>) {
    let Some(first) = entries.first() else { return };
    for entry in entries.iter().skip(expected) {
        let other = Some(first.entry());
        suspects.push(Suspect { other, ..suspect(Kind::Doubled, entry, row) });
    }
}

/// Streams in which settled rows of this part have no entry among what was read of them.
pub(super) fn lacking(mut records: Vec<Record>) -> Vec<u32> {
    records.sort_unstable_by(by_event);
    let lacking = events(&records).filter(|(_, entries)| entries.is_empty());
    let rows = lacking.flat_map(|(rows, _)| rows.iter().filter(|row| row.has(SETTLED)));
    rows.map(|row| row.stream).collect()
}

/// Of each event in a part that is sorted so: its rows and its entries.
fn events(records: &[Record]) -> impl Iterator<Item = (&[Record], &[Record])> {
    let is_one = |one: &Record, two: &Record| (one.key, one.stream) == (two.key, two.stream);
    records.chunk_by(is_one).map(|event| {
        let rows = event.iter().take_while(|record| !record.has(ENTRY)).count();
        event.split_at(rows)
    })
}

/// The rows of an event before its entries, and those as they stand.
fn by_event(one: &Record, two: &Record) -> Ordering {
    let key = |record: &Record| (record.key, record.stream, record.has(ENTRY), record.a, record.b);
    key(one).cmp(&key(two))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: u64 = 1_000;

    fn row(key: u128, id: u64, flags: u32) -> Record {
        Record { key, a: id, b: 10, c: 7, d: 3, stream: 0, flags }
    }

    fn entry(key: u128, ms: u64) -> Record {
        Record { key, a: ms, b: 0, c: 7, d: 10, stream: 0, flags: ENTRY }
    }

    struct Seen {
        suspects: Vec<(Kind, Option<i64>, u64)>,
        missing: usize,
        placed: usize,
        entries: Entries,
    }

    fn compare(records: Vec<Record>, is_strict: bool, oldest_ms: Option<u64>) -> Seen {
        compare_kept(records, is_strict, oldest_ms, None)
    }

    fn compare_kept(
        records: Vec<Record>,
        is_strict: bool,
        oldest_ms: Option<u64>,
        kept_ms: Option<u64>,
    ) -> Seen {
        let mut streams = Streams::new(&[], "s").unwrap();
        let (mut missing, mut order) = (Spill::new(1), Spill::new(1));
        let mut entries = Entries::default();
        let (since_ms, until_ms, may_be_others) = (None, None, false);
        let strangers =
            Strangers { is_strict, may_be_others, since_ms, until_ms, oldest_ms, kept_ms };
        let mut compare = Compare {
            streams: &mut streams,
            missing: &mut missing,
            order: &mut order,
            entries: &mut entries,
            began_ms: BEGAN,
            is_limited: false,
            strangers,
        };
        let suspects = compare.part(records).unwrap();
        let suspects = suspects
            .iter()
            .map(|suspect| (suspect.kind, suspect.row, suspect.entry.millis))
            .collect();
        Seen { suspects, missing: missing.len(0), placed: order.len(0), entries }
    }

    #[test]
    fn a_row_with_its_entry_is_as_it_should_be_in_whatever_state() {
        let records = vec![entry(2, 20), row(1, 1, SETTLED), entry(1, 10), row(2, 2, 0)];
        let seen = compare(records, true, None);
        assert_eq!((seen.suspects, seen.missing, seen.placed), (Vec::new(), 0, 2));
    }

    #[test]
    fn only_a_settled_row_must_have_an_entry() {
        let seen = compare(vec![row(1, 1, SETTLED), row(2, 2, 0)], true, None);
        assert_eq!((seen.suspects, seen.missing), (Vec::new(), 1));
    }

    #[test]
    fn a_stream_lacks_entries_where_a_settled_row_has_none_in_it() {
        let elsewhere = Record { stream: 4, ..row(3, 3, SETTLED) };
        let records = vec![row(1, 1, SETTLED), entry(1, 10), row(2, 2, 0), entry(3, 10), elsewhere];
        assert_eq!(lacking(records), [4]);
    }

    #[test]
    fn further_entries_and_other_contents_are_suspected() {
        let records = vec![entry(1, 30), entry(1, 10), entry(1, 20), row(1, 5, SETTLED)];
        let doubled = |ms| (Kind::Doubled, Some(5), ms);
        assert_eq!(compare(records, false, None).suspects, [doubled(20), doubled(30)]);
        let changed = Record { c: 8, ..entry(1, 10) };
        let seen = compare(vec![row(1, 5, SETTLED), changed], false, None);
        assert_eq!(seen.suspects, [(Kind::Changed, Some(5), 10)]);
        assert!(compare(vec![row(1, 5, UNFIT), changed], false, None).suspects.is_empty());
        let other_time = Record { d: 11, ..entry(1, 10) };
        assert_eq!(compare(vec![row(1, 5, 0), other_time], false, None).suspects.len(), 1);
        let no_time = Record { d: NEVER, ..entry(1, 10) };
        assert!(compare(vec![row(1, 5, 0), no_time], false, None).suspects.is_empty());
    }

    #[test]
    fn an_entry_without_a_row_is_normal_unless_its_row_must_still_be_there() {
        let records = vec![entry(1, 10), entry(2, BEGAN)];
        let seen = compare(records.clone(), false, Some(10));
        assert!(seen.suspects.is_empty(), "as old as the oldest row");
        assert_eq!((seen.entries.without_row, seen.entries.newer), (1, 1));
        let stranger = [(Kind::Stranger, None, 10)];
        assert_eq!(compare(records.clone(), false, Some(9)).suspects, stranger);
        assert_eq!(compare(records, true, None).suspects, stranger);
    }

    #[test]
    fn with_retention_a_row_must_be_there_that_is_young_by_its_event_and_by_its_entry() {
        let entry = |ms, occurred| vec![Record { d: occurred, ..entry(1, ms) }];
        let suspects =
            |records, is_strict| compare_kept(records, is_strict, Some(10), Some(50)).suspects;
        assert_eq!(suspects(entry(51, 51), false).len(), 1);
        for gone in [entry(51, 50), entry(50, 51), entry(50, 11)] {
            assert!(suspects(gone.clone(), false).is_empty(), "{gone:?}");
            assert_eq!(suspects(gone, true).len(), 1);
        }
    }
}
