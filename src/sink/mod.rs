//! Room 4, delivery: everything that knows Redis, and of the rest only the envelope.
//!
//! In: envelopes with their positions. Out: entries in their streams, each once. It must stay true
//! that entries and checkpoint change in one atomic step (`publish.lua`), that only `layout.rs`,
//! `entry.lua` and, on the way back, `seen.rs` know field names, and that a connection that broke
//! or timed out is never used again.

mod batch;
mod checkpoint;
mod connect;
mod deliver;
mod durable;
mod entry;
mod failure;
mod layout;
mod publish;
mod recent;
mod scan;
mod seen;

pub use batch::{Batch, Hint, Sealed};
pub use checkpoint::{Checkpoint, begun_key, checkpoint_key, delivered_key};
pub use connect::{Facts, Sink, Timeouts, check_url, label};
pub use deliver::{DeadLetter, Delivery, LEASE};
pub use durable::{Barrier, Durable, Gate, until_safe};
pub use entry::EntryWriter;
pub use failure::{Failure, Verdict};
pub use layout::Varying;
pub use publish::Written;
pub use recent::{EventIds, compact, uuid, uuid_text};
pub use scan::{About, EntryId, RawEntry, Scan};
pub use seen::{Seen, Values, moment_ms};
