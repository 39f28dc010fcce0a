//! Whether outbox and streams hold the same: each settled row its entry, once, in the order of its
//! aggregate, and saying what the row says.
//!
//! In: settings, a range, a way to both servers. Out: a [`Report`]. `outbox` reads rows, `streams`
//! entries; both become records (`record`) in parts (`spill`) that `compare` joins one by one and
//! `order` looks through once more. What is found by that is only suspected: `suspects` looks at
//! both servers again before it is said. `trimmed` decides what Redis was told to forget, `repair`
//! makes missing rows due. `schemas` holds both sides against the events contract instead. It must
//! stay true that memory is bounded whatever the range, that both servers are read in short steps,
//! that a live system gives no false finding, and that nothing is written but by `repair`.

mod asked;
mod compare;
mod findings;
mod missing;
mod order;
mod outbox;
mod record;
mod repair;
mod schemas;
mod settled;
mod spill;
mod streams;
mod suspects;
mod trimmed;
mod work;

pub use asked::{Asked, Repair, Watch};
pub use findings::{Entries, Finding, Found, Kind, Repaired, Report, Rows};
pub use schemas::{Conformity, Count, Held, Offender, Sort, check_schemas};
pub use work::run;
