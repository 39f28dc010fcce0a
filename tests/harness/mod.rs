//! Real servers and a real relay, for tests, benches and the demo.
//!
//! In: which servers to start and how. Out: handles that stop, kill, freeze and restart them on the
//! same port and data. It must stay true that nothing outlives the process that started it, not
//! even when that one is killed with SIGKILL, and that logs are printed only when something failed.
//! Not here: what the relay promises (`tests/promises`).
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "shared by several crates, none of which uses all; a failure here is a failed test"
)]

pub mod aof;
pub mod browser;
pub mod checked;
pub mod consumer;
pub mod copies;
pub mod kits;
pub mod ledger;
pub mod parked;
pub mod postgres;
pub mod preload;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod relay;
pub mod wait;
pub mod world;
