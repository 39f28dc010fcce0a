//! The promises of the README, one module each, kept on real servers by the built binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a test says what is wrong by panicking"
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
mod settle;
mod slot;
mod writers;

/// The relay under test.
const BINARY: &str = env!("CARGO_BIN_EXE_walrelay");
