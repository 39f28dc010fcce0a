//! Beside the line or the pollers: what is settled and old leaves the outbox.
//!
//! In: settings, a way to PostgreSQL. Out: fewer rows, or fewer partitions. It must stay true that
//! nothing goes that is unpublished, parked or dead, nor anything whose WAL the slot has not
//! confirmed: the slot may send that again, and then its row must be there to be marked or parked;
//! that it holds up nobody: small batches, locks that are not waited for, a bound on rows and WAL
//! per second; and that its failures are told and tried again, and end nothing else.

mod keeper;
mod partition;
mod rules;
mod sample;
mod walk;

pub use keeper::{Bound, Keeper, Running};
