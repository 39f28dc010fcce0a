//! What could not be delivered, as the outbox in PostgreSQL knows it: found, and decided upon, by
//! `walrelay dlq` and by the page.
//!
//! In: a way to PostgreSQL, and what is asked. Out: rows, never a payload; or rows that are due
//! again or settled. It must stay true that a change happens whole or not at all, that nobody's
//! change is repeated by somebody else's, and that the network may look and change only as far as
//! `guard` lets it. Redis has no part in this: it works while Redis is down.

mod change;
mod desk;
mod guard;
mod list;
mod web;

pub use change::{Change, Choice, change, find};
pub use desk::{Desk, Filter, Names, Outbox, Patience};
pub use list::{Event, Listing, Rows, list};
pub use web::routes;
