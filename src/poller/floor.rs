//! Which ids are closed: no row at or below them can appear any more. And from where rows are to be
//! looked for, for an outbox has no index on `published`.
//!
//! In: looks at the table and at who writes to it (`poll_look.sql`), and how far rows were claimed.
//! Out: the range of the next claim. It must stay true that `closed` rises to an id only when each
//! transaction that may have been given one up to it has ended since; that is why a row in flight
//! is neither skipped nor, where order is kept, overtaken. Pure: no I/O, no clock.
//!
//! The argument. A look reads the highest id first and the writers after it. Ids come from a
//! sequence, and a transaction asks it only under its lock on the table, so whoever begins after
//! the look gets higher ones. What is at or below that id is therefore visible, or belongs to one
//! of those writers; when they are gone, all of it is visible to whatever is read from then on.
//! Only ids that somebody fetched from the sequence beforehand break this; they are found by a look
//! from the very start ([`Breadth::Whole`]), and where they stand in the order nobody can say.

use std::collections::HashSet;

/// What a look saw.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The highest id of the table.
    pub highest: Option<i64>,
    /// The first new row above where the look began, locked or not.
    pub first_new: Option<i64>,
    /// Transactions that may be writing to the table, looked up after the two ids.
    pub writers: Vec<String>,
}

/// Where a look begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breadth {
    /// Above what was claimed from here.
    Next,
    /// Above what is settled, whoever did it: finds what another poller left behind.
    Unsettled,
    /// At the first row.
    Whole,
}

/// Ids that wait for transactions to end.
#[derive(Debug)]
struct Closing {
    highest: i64,
    writers: HashSet<String>,
}

/// What is known of the ids of one table; begins with nothing.
#[derive(Debug)]
pub struct Floor {
    /// Every row up to it is settled or parked.
    settled: i64,
    /// Every row up to it is settled, parked, claimed here, or locked by another poller, which has
    /// delivered it.
    claimed: i64,
    /// No row up to it can appear any more.
    closed: i64,
    closing: Option<Closing>,
    /// Prepared transactions of the look before.
    prepared: HashSet<String>,
}

impl Default for Floor {
    fn default() -> Self {
        let lowest = i64::MIN;
        Self {
            settled: lowest,
            claimed: lowest,
            closed: lowest,
            closing: None,
            prepared: HashSet::new(),
        }
    }
}

impl Floor {
    /// Above which id a look of this breadth begins.
    #[must_use]
    pub fn above(&self, breadth: Breadth) -> i64 {
        match breadth {
            Breadth::Next => self.claimed,
            Breadth::Unsettled => self.settled,
            Breadth::Whole => i64::MIN,
        }
    }

    /// The last id that is closed.
    #[must_use]
    pub fn closed(&self) -> i64 {
        self.closed
    }

    /// The transactions that keep ids open.
    pub fn waits_for(&self) -> impl Iterator<Item = &str> {
        self.closing.iter().flat_map(|closing| closing.writers.iter().map(String::as_str))
    }

    /// Takes in a look that began where [`Floor::above`] said for this breadth.
    pub fn look(&mut self, breadth: Breadth, look: &Look) {
        if breadth != Breadth::Next {
            // `first_new` is as old as `highest`: it speaks of what was closed before this look.
            let open = look.first_new.map_or(i64::MAX, |first| first.saturating_sub(1));
            self.settled = open.min(self.closed);
            self.claimed = self.settled;
        }
        self.close(look);
    }

    fn close(&mut self, look: &Look) {
        let writers: HashSet<String> = look.writers.iter().cloned().collect();
        let prepared: HashSet<String> =
            writers.iter().filter(|name| is_prepared(name)).cloned().collect();
        if let Some(mut closing) = self.closing.take() {
            closing.writers.retain(|writer| writers.contains(writer));
            // A transaction that is prepared goes on under another name: any that is new may be one
            // of those that are waited for.
            closing.writers.extend(prepared.difference(&self.prepared).cloned());
            if closing.writers.is_empty() {
                self.closed = self.closed.max(closing.highest);
            } else {
                self.closing = Some(closing);
            }
        }
        if let (None, Some(highest)) = (&self.closing, look.highest)
            && highest > self.closed
        {
            if writers.is_empty() {
                self.closed = highest;
            } else {
                self.closing = Some(Closing { highest, writers });
            }
        }
        self.prepared = prepared;
    }

    /// A claim of everything above [`Breadth::Next`], whose snapshot is younger than the last look,
    /// went up to `last`: the last row of a full claim; none when it had not so many.
    pub fn claim(&mut self, last: Option<i64>) {
        self.claimed = self.claimed.max(last.map_or(self.closed, |last| last.min(self.closed)));
    }
}

/// As pg_locks names it: without a backend.
fn is_prepared(name: &str) -> bool {
    name.starts_with("-1/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(highest: i64, first_new: Option<i64>, writers: &[&str]) -> Look {
        let writers = writers.iter().map(|&writer| writer.to_owned()).collect();
        Look { highest: Some(highest), first_new, writers }
    }

    #[test]
    fn ids_are_closed_at_once_while_nobody_writes() {
        let mut floor = Floor::default();
        floor.look(Breadth::Next, &look(7, Some(3), &[]));
        assert_eq!(floor.closed(), 7);
        floor.claim(None);
        assert_eq!(floor.above(Breadth::Next), 7);
        assert_eq!(floor.above(Breadth::Unsettled), i64::MIN, "nothing is known to be settled");
    }

    #[test]
    fn ids_stay_open_until_each_writer_of_that_moment_has_ended() {
        let mut floor = Floor::default();
        floor.look(Breadth::Next, &look(5, None, &[]));
        floor.look(Breadth::Next, &look(9, None, &["3/1", "4/1"]));
        floor.look(Breadth::Next, &look(20, None, &["4/1", "3/2"]));
        assert_eq!(floor.closed(), 5);
        assert_eq!(floor.waits_for().collect::<Vec<_>>(), ["4/1"]);
        // 3/2 began after id 9 was read: it cannot be given a lower one.
        floor.look(Breadth::Next, &look(30, None, &["3/2"]));
        assert_eq!(floor.closed(), 9);
        floor.look(Breadth::Next, &look(31, None, &[]));
        assert_eq!(floor.closed(), 31);
    }

    #[test]
    fn a_writer_that_is_prepared_is_still_waited_for() {
        let mut floor = Floor::default();
        floor.look(Breadth::Next, &look(9, None, &["3/1"]));
        floor.look(Breadth::Next, &look(9, None, &["-1/700"]));
        floor.look(Breadth::Next, &look(9, None, &["-1/700"]));
        assert_eq!(floor.closed(), i64::MIN);
        floor.look(Breadth::Next, &look(9, None, &[]));
        assert_eq!(floor.closed(), 9);
    }

    #[test]
    fn a_claim_never_moves_the_start_past_what_is_open() {
        let mut floor = Floor::default();
        floor.look(Breadth::Next, &look(10, None, &[]));
        floor.look(Breadth::Next, &look(20, None, &["3/1"]));
        // Without order rows above the closed ones are claimed too.
        floor.claim(Some(18));
        assert_eq!(floor.above(Breadth::Next), 10);
        floor.claim(Some(8));
        assert_eq!(floor.above(Breadth::Next), 10, "it never falls by a claim");
    }

    #[test]
    fn what_is_settled_rises_to_the_first_new_row_as_of_the_look_before() {
        let mut floor = Floor::default();
        floor.look(Breadth::Unsettled, &look(50, Some(40), &[]));
        assert_eq!(floor.above(Breadth::Unsettled), i64::MIN, "nothing was closed at its snapshot");
        floor.claim(None);
        floor.look(Breadth::Unsettled, &look(60, Some(45), &[]));
        assert_eq!(floor.above(Breadth::Unsettled), 44);
        assert_eq!(floor.above(Breadth::Next), 44, "rows of another poller are looked at again");
        floor.look(Breadth::Unsettled, &look(70, None, &["3/1"]));
        assert_eq!(floor.above(Breadth::Unsettled), 60);
        floor.look(Breadth::Whole, &look(70, Some(12), &["3/1"]));
        assert_eq!(floor.above(Breadth::Unsettled), 11, "an id from beforehand brings it down");
    }
}
