//! What the README promises, on real servers: one module a promise, one sentence a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod backpressure;
mod crash;
mod envelope;
mod network;
mod operator;
mod order;
mod schema;
mod security;
mod settle;
mod shutdown;
mod slot;
