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
mod event;
mod failure;
mod layout;
mod look;
mod page;
mod publish;
mod reader;
mod recent;
mod replay;
mod scan;
mod seen;
mod stored;

pub use batch::{Batch, Hint, Sealed};
pub use checkpoint::{Checkpoint, begun_key, checkpoint_key, delivered_key};
pub use connect::{Facts, Sink, Timeouts, check_url, label};
pub use deliver::{DeadLetter, Delivery, LEASE};
pub use durable::{Barrier, Durable, Gate, until_safe};
pub use entry::EntryWriter;
pub use event::{Event, Part};
pub use failure::{Failure, Verdict};
pub use layout::Varying;
pub use look::{Permission, user};
pub use page::PageSize;
pub use publish::Written;
pub use reader::{Reached, Reader};
pub use recent::{EventIds, compact, uuid, uuid_text};
pub use replay::{Head, Letter, Replayer};
pub use scan::{About, Scan};
pub use seen::{Seen, Values};
pub use stored::{Entry, EntryId};
