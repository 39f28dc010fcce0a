//! `walrelay verify`: what may be typed behind it.

use clap::Args;

use super::range::Range;

pub(super) const HELP: &str = "\
Compares the outbox with the streams while everything runs; only reads, unless --repair is given.
It finds
  missing       a row that the relay has settled, without an entry
  doubled       a further entry of an event that is in its stream already
  out of order  an entry that stands behind one of a later row (a higher id) of its aggregate
  changed       an entry that says something else than its row
  stranger      an entry whose row should be in the table, and is not (--strict: every one without)
Whatever looks wrong is looked at again on both servers before it is reported.

Rows that are parked, dead, discarded or not published yet are counted, not missed; so is history
that was born published, if its published_at is NULL. Replayed entries are skipped. Entries that
were retried, revived or repaired may stand behind later ones. What was trimmed, or may have been
(rows written before the oldest entry was added), is counted; Redis tells more from 7.0 on.
Consumers that XDEL what they have read leave nothing to compare.
Out of order is also what two transactions leave that wrote the same aggregate at once without
locking it: the one with the lower id committed later, and its events went out in that order.
An entry without a row is no stranger where its row may have gone by retention, nor, with sections
[tables.NAME], where it may be another table's. With ordering = none pollers promise no order: then
nothing is out of order.
With after_publish = keep it waits until the slot has confirmed the rows; with delete only doubled
entries can be found.

TIME is \"2026-07-01 10:00\" (UTC), the same with an offset, or an age such as 2h; it is compared
with created_at. Of a range the streams are read from an hour before its first row, and whole where
an entry is not found there. Memory stays at some 30 MiB; beyond that a temporary file (TMPDIR)
takes 112 bytes an event, and is gone however this ends.

--repair makes missing rows due, so that the running relay publishes them, each once, and waits for
that. They then stand behind later events of their aggregate: the order of before is lost.

Exit codes: 0 all is as it should be (or was repaired), 1 something is not, or a server cannot be
reached, 2 wrong arguments.

Examples:
  walrelay verify
  walrelay verify --since 2h --rate 5000
  walrelay verify --from-id 1 --to-id 500000 --stream identity.user.v1 --json
  walrelay verify --repair --yes";

/// Which rows and entries, and what to do about what is missing.
#[derive(Args, Clone, Debug, Default)]
pub struct Verify {
    /// Which.
    #[command(flatten)]
    pub range: Range,
    /// Also report every entry without a row, and what may or may not have been trimmed
    #[arg(long)]
    pub strict: bool,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// Whether.
    #[command(flatten)]
    pub repair: VerifyRepair,
}

/// Whether missing rows are to be published again.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct VerifyRepair {
    /// Have the running relay publish what is missing
    #[arg(long)]
    pub repair: bool,
    /// Repair also more than 1000 rows, and those that may have been trimmed
    #[arg(long, requires = "repair")]
    pub yes: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Arguments;

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in ["verify --yes", "verify --rate 0", "verify --from-id x", "verify now"] {
            let words = std::iter::once("walrelay").chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_err(), "{line}");
        }
    }
}
