//! The events contract: JSON Schemas that payloads are held against before they are published.
//!
//! In: a directory, once, and then payloads with the names of their events. Out: nothing, or a
//! [`Violation`]. `layout` says which file speaks of which events, `compile` makes a validator of
//! it, `shelf` finds the one for an event, `violation` puts into words what it found, `telling`
//! warns now and then. It must stay true that nothing is read after the start and nothing at all
//! from the network, that an event without a schema costs one look-up, and that no value of a
//! payload leaves this room: a violation names places and rules.

mod compile;
mod layout;
mod shelf;
mod telling;
#[cfg(test)]
mod tests;
mod violation;

pub use shelf::{Breach, Contract, Subject, Unknown};
pub use violation::Violation;
