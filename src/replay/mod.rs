//! Events once more: from a slot's position, from the table or from the dead letters, into a
//! stream.
//!
//! In: an [`Order`], settings. Out: entries that say they are replayed, and an [`Outcome`]. The
//! sources are `wal` (a temporary copy of a slot that `slots` chose), `table` and `letters`; what
//! they find goes through `intake` (filter, target, batches), leaves at the rate asked for, and
//! is remembered by `journal`, so that a replay that was cut off goes on without a gap and without
//! a repeat. `open` gets all that going, and `run` joins it. It must stay true that the line is not
//! disturbed: no slot but our own copy is read, and no checkpoint is written; that memory is
//! bounded; and that rows become events by the same rooms as in the line.

mod intake;
mod journal;
mod letters;
mod moment;
mod open;
mod order;
mod run;
mod slots;
mod table;
mod wal;

pub use intake::{Seen, Tally};
pub use moment::When;
pub use order::{Filter, Order, Range, Source};
pub use run::{Outcome, Told, run};
