//! What was found, and how much was looked at.
//!
//! In: findings, one at a time. Out: how many of each kind, and the first few. It must stay true
//! that memory does not grow with what is found, and that no payload gets in here.

use crate::error::Error;
use crate::sink::EntryId;

/// Findings of a kind that are shown.
const SHOWN_MAX: usize = 10;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A settled row without an entry.
    Missing,
    /// A further entry of an event.
    Doubled,
    /// An entry that stands behind one of a later row of its aggregate.
    OutOfOrder,
    /// An entry that says something else than its row.
    Changed,
    /// An entry without a row.
    Stranger,
}

impl Kind {
    /// In the order in which they are told.
    pub const ALL: [Self; 5] =
        [Self::Missing, Self::Doubled, Self::OutOfOrder, Self::Changed, Self::Stranger];

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Doubled => "doubled",
            Self::OutOfOrder => "out of order",
            Self::Changed => "changed",
            Self::Stranger => "stranger",
        }
    }

    /// For programs.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::OutOfOrder => "out_of_order",
            Self::Missing | Self::Doubled | Self::Changed | Self::Stranger => self.name(),
        }
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The row, where there is one.
    pub row: Option<i64>,
    /// The event's identity.
    pub event_id: String,
    /// The stream.
    pub stream: String,
    /// The entry, where there is one.
    pub entry: Option<EntryId>,
    /// What else there is to say.
    pub detail: String,
}

/// All of one kind.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// How many.
    pub count: u64,
    /// The first, by row and entry.
    pub first: Vec<Finding>,
}

impl Found {
    /// One more.
    pub fn add(&mut self, finding: Finding) {
        self.count += 1;
        let order = |finding: &Finding| (finding.row.unwrap_or(i64::MAX), finding.entry);
        let at = self.first.partition_point(|known| order(known) <= order(&finding));
        if at < SHOWN_MAX {
            self.first.insert(at, finding);
            self.first.truncate(SHOWN_MAX);
        }
    }
}

/// Rows of the range, by what has become of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows {
    /// Published by the relay, or, where rows do not tell, surely so.
    pub settled: u64,
    /// Not published yet.
    pub waiting: u64,
    /// Set aside, to be tried again.
    pub parked: u64,
    /// Given up.
    pub dead: u64,
    /// Given up and settled by an operator.
    pub discarded: u64,
    /// Born published, or marked by somebody else: no events of ours.
    pub imported: u64,
    /// No event can be made of them.
    pub unfit: u64,
}

/// Entries of the streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entries {
    /// All that were read.
    pub read: u64,
    /// Replayed ones.
    pub replayed: u64,
    /// Nothing of ours.
    pub foreign: u64,
    /// Of events without a row in the range, or whose rows are gone.
    pub without_row: u64,
    /// Added since the search began.
    pub newer: u64,
}

/// Rows made due again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repaired {
    /// Rows that were made due.
    pub due: u64,
    /// Of them published since.
    pub published: u64,
}

/// The answer.
#[derive(Debug, Default)]
pub struct Report {
    /// The outbox.
    pub table: String,
    /// The first and the last row that could be in the range.
    pub ids: Option<(i64, i64)>,
    /// What was looked at.
    pub rows: Rows,
    /// What was looked at.
    pub entries: Entries,
    /// The streams that were read.
    pub streams: Vec<String>,
    /// By [`Kind::ALL`].
    pub found: [Found; Kind::ALL.len()],
    /// Rows whose entries were trimmed.
    pub trimmed: u64,
    /// Rows of which it cannot be told whether their entries were trimmed.
    pub untold: u64,
    /// Entries behind later ones of their aggregate because they were retried.
    pub retried_late: u64,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// What `--repair` did.
    pub repaired: Option<Repaired>,
    /// Why it did not.
    pub unrepaired: Option<Error>,
    /// Bytes in temporary files.
    pub spilled: u64,
}

impl Report {
    /// Findings of one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &Found {
        let [missing, doubled, order, changed, stranger] = &self.found;
        match kind {
            Kind::Missing => missing,
            Kind::Doubled => doubled,
            Kind::OutOfOrder => order,
            Kind::Changed => changed,
            Kind::Stranger => stranger,
        }
    }

    pub(super) fn add(&mut self, kind: Kind, finding: Finding) {
        let [missing, doubled, order, changed, stranger] = &mut self.found;
        let found = match kind {
            Kind::Missing => missing,
            Kind::Doubled => doubled,
            Kind::OutOfOrder => order,
            Kind::Changed => changed,
            Kind::Stranger => stranger,
        };
        found.add(finding);
    }

    /// How many findings there are in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.found.iter().map(|found| found.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_few_are_kept_in_their_order_and_all_are_counted() {
        let mut found = Found::default();
        for row in (1..=1_000).rev() {
            let (event_id, stream) = (row.to_string(), String::new());
            found.add(Finding {
                row: Some(row),
                event_id,
                stream,
                entry: None,
                detail: String::new(),
            });
        }
        assert_eq!(found.count, 1_000);
        let rows: Vec<i64> = found.first.iter().filter_map(|finding| finding.row).collect();
        assert_eq!(rows, (1..=10).collect::<Vec<_>>());
    }
}
