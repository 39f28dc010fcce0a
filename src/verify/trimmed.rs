//! Whether an entry that is not there may have been trimmed: pure.
//!
//! In: what the server knows of a stream, and a row without its entry. Out: a [`Fate`]. Trimming
//! takes the oldest entries of a stream, and Redis counts what is gone (from 7.0 on). A row that
//! was written after the oldest entry was added is none of those. Its id proves nothing: a
//! transaction may stay open while thousands of later rows are published and trimmed. It must stay
//! true that a row is only called missing where trimming cannot explain it, and that what nobody
//! can tell is said to be so.

use crate::sink::About;

/// Clocks of PostgreSQL and Redis differ by less.
const SKEW_MS: u64 = 5_000;
/// So many ids may be in the hands of transactions that overlap, mostly: near the end of what was
/// trimmed rows are not in the order of their ids.
const JUMBLE: i64 = 10_000;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It should be there.
    Missing,
    /// It was trimmed.
    Trimmed,
    /// Trimmed, deleted or never there.
    Untold,
}

/// A stream, as far as it tells of what is not there any more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// Nothing where there is no such stream.
    pub about: Option<About>,
    /// The row of the oldest entry that has one and was not retried.
    pub first_row: Option<i64>,
    /// Rows without entries that trimming could explain, where that is known.
    pub suspects: Option<u64>,
    /// By so much the time of an event was ahead of its entry's, at most.
    pub ahead_ms: u64,
}

impl Head {
    /// The same without what makes it only likely that a row was not trimmed.
    pub fn certain(self) -> Self {
        Self { first_row: None, suspects: None, ..self }
    }
}

/// What became of the entry of that row.
pub(super) fn fate(head: &Head, row: i64, created_ms: Option<u64>) -> Fate {
    // A key that is gone was deleted whole; a stream that is trimmed to nothing still stands.
    let Some(about) = head.about else { return Fate::Missing };
    let is_younger = match (about.first, created_ms) {
        (Some(first), Some(created)) => {
            created > first.millis.saturating_add(SKEW_MS).saturating_add(head.ahead_ms)
        }
        _ => false,
    };
    if is_younger || about.removed == Some(0) {
        return Fate::Missing;
    }
    let is_behind = head.first_row.is_some_and(|first| row > first.saturating_add(JUMBLE));
    match (about.removed, about.deleted) {
        // All that is gone was deleted one by one.
        (Some(1), Some(_)) => Fate::Missing,
        // Nothing but its id tells how old it is.
        _ if is_behind && created_ms.is_none() => Fate::Missing,
        // Written before the oldest entry was added, and yet far behind it: of a backlog, or of a
        // transaction that took long.
        _ if is_behind => Fate::Untold,
        (None, _) | (Some(_), Some(_)) => Fate::Untold,
        // More rows lack their entries than entries were ever taken away.
        (Some(removed), None) if head.suspects.is_some_and(|suspects| suspects > removed) => {
            Fate::Missing
        }
        (Some(_), None) => Fate::Trimmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::EntryId;

    const FIRST_MS: u64 = 1_000_000;

    fn head(removed: Option<u64>, deleted: Option<u64>, first_row: Option<i64>) -> Head {
        let id = |ms| EntryId { millis: ms, number: 0 };
        let first = Some(id(FIRST_MS));
        let about = About { first, removed, deleted: deleted.map(id) };
        Head { about: Some(about), first_row, suspects: Some(1), ahead_ms: 0 }
    }

    #[test]
    fn without_a_stream_or_without_removals_it_is_missing() {
        assert_eq!(fate(&Head::default(), 1, None), Fate::Missing);
        assert_eq!(fate(&head(Some(0), None, Some(5)), 1, Some(0)), Fate::Missing);
    }

    #[test]
    fn what_is_older_than_the_first_entry_of_a_trimmed_stream_was_trimmed() {
        let trimmed = head(Some(100), None, Some(50));
        assert_eq!(fate(&trimmed, 1, Some(FIRST_MS - 1)), Fate::Trimmed);
        assert_eq!(fate(&trimmed, 1, None), Fate::Trimmed);
        assert_eq!(fate(&trimmed, 51, Some(FIRST_MS)), Fate::Trimmed, "overlapping transactions");
        assert_eq!(fate(&trimmed, 51 + JUMBLE, Some(FIRST_MS)), Fate::Untold, "a long transaction");
        assert_eq!(fate(&trimmed, 51, Some(FIRST_MS + SKEW_MS + 1)), Fate::Missing);
        let ahead = Head { ahead_ms: 7, ..trimmed };
        assert_eq!(fate(&ahead, 51, Some(FIRST_MS + SKEW_MS + 7)), Fate::Trimmed);
        assert_eq!(fate(&ahead, 51, Some(FIRST_MS + SKEW_MS + 8)), Fate::Missing);
        let many = Head { suspects: Some(101), ..trimmed };
        assert_eq!(fate(&many, 1, Some(0)), Fate::Missing, "more than were ever removed");
    }

    #[test]
    fn an_entry_deleted_by_itself_is_missing_and_one_that_may_be_either_is_untold() {
        let deleted = head(Some(1), Some(FIRST_MS + 7), Some(1));
        assert_eq!(fate(&deleted, 8, Some(FIRST_MS - 1)), Fate::Missing);
        let first_deleted = head(Some(1), Some(FIRST_MS - 7), Some(2));
        assert_eq!(fate(&first_deleted, 1, Some(FIRST_MS - 8)), Fate::Missing);
        let both = head(Some(100), Some(FIRST_MS - 7), Some(50));
        assert_eq!(fate(&both, 1, Some(0)), Fate::Untold);
        assert_eq!(fate(&both, 51, Some(0)), Fate::Untold, "overlapping transactions");
    }

    #[test]
    fn a_server_that_does_not_count_removals_leaves_it_untold() {
        let old = head(None, None, Some(50));
        assert_eq!(fate(&old, 1, Some(0)), Fate::Untold);
        assert_eq!(fate(&old, 51, Some(0)), Fate::Untold, "overlapping transactions");
        assert_eq!(fate(&old, 1, Some(FIRST_MS * 2)), Fate::Missing);
    }

    #[test]
    fn a_row_without_a_time_is_likely_missing_far_behind_what_was_trimmed_but_not_for_certain() {
        for (removed, deleted) in [(Some(100), None), (Some(100), Some(7)), (None, None)] {
            let head = head(removed, deleted, Some(50));
            assert_ne!(fate(&head, 50 + JUMBLE, None), Fate::Missing);
            assert_eq!(fate(&head, 51 + JUMBLE, None), Fate::Missing);
            assert_ne!(fate(&head.certain(), 51 + JUMBLE, None), Fate::Missing);
        }
    }
}
