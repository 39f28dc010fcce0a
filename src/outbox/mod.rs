//! Room 3, the meaning: the contract of the outbox table and the event that a row stands for.
//!
//! In: relations, tuples and logical messages of the decoder. Out: an [`Envelope`] that borrows
//! their bytes. It must stay true that the payload is passed through untouched, and that which
//! column is which is asked of the settings.

mod envelope;
mod fault;
mod message;
pub mod moment;
mod obituary;
mod occurred_at;
mod row;
mod select;
mod told;

pub use envelope::{Defaults, Envelope, Unfit};
pub use fault::Fault;
pub use message::{Kept, Told, message_prefix};
pub use obituary::Obituary;
pub use occurred_at::OccurredAt;
pub use row::{COLUMNS, Copied, Plan, Row};
pub use select::{FIELDS, Selection};
