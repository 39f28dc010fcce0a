//! Room 3, the meaning: the contract of the outbox table and the event that a row stands for.
//!
//! In: relations and tuples of the decoder. Out: an [`Envelope`] that borrows the row's bytes. It
//! must stay true that the payload is passed through untouched and that only `row.rs` knows column
//! names.

mod envelope;
pub mod moment;
mod obituary;
mod row;
mod select;

pub use envelope::{Defaults, Envelope, OccurredAt, Unfit};
pub use obituary::Obituary;
pub use row::{COLUMNS, Copied, Plan, Row};
pub use select::{FIELDS, Selection};
