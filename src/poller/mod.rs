//! What the line cannot deliver, and outboxes without a slot: rows are claimed by SQL (FOR UPDATE
//! SKIP LOCKED), published, settled.
//!
//! In: rows of the outbox. Out: entries and dead letters in Redis, settled rows. It must stay true
//! that a row is claimed from before it is published until its settling is committed, that nothing
//! is written after a claim has ended (`sink::LEASE`), and that a crash at any point leaves rows
//! that are claimed again and found to be in Redis already.

mod assurance;
mod bulk;
mod claim;
mod claim_rows;
mod claimer;
mod courier;
mod floor;
mod judge;
mod kept;
mod lane;
mod memory;
mod outlet;
mod retry;
mod round;
mod settle;
mod table;
mod trouble;
mod wake;

pub use assurance::Assurance;
pub use bulk::{Bulk, Ground, Watch};
pub use courier::{Courier, Outcome, Terms};
pub use judge::{Claimed, Judge, Judgement, Remembered, WAITS_BEHIND};
pub use kept::Kept;
pub use retry::{Workplace, run as retry};
pub use settle::{Parked, Settlement, Settler, Slot};
pub use trouble::Trouble;
