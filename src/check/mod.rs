//! `walrelay check`: is everything there that a relay needs, and what will hurt it one day?
//!
//! In: settings, and what the two servers say. Out: [`Finding`]s, in the order in which they are
//! read. It must stay true that nothing is changed on either server; that what is wrong in one
//! place hides nothing of the rest, so that a single pass tells all; that each finding that is not
//! OK says why it matters and what to paste to mend it; and that every wait is bounded. A file a
//! group of facts: what asks is small, what judges is pure. `pass` puts them in order.

mod acl;
mod clock;
mod finding;
mod fix;
mod index;
mod keys;
mod memory;
mod messages;
mod pass;
mod postgres;
mod publication;
mod redis;
mod role;
mod schemas;
mod server;
mod session;
mod sessions;
mod slot;
mod table;
mod wal;

pub use finding::{Advice, Area, Finding, Level, worst};
pub use pass::run;
