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

mod backlog;
mod backpressure;
mod bounds;
mod crash;
mod dead_letters;
mod dead_letters_command;
mod durability;
mod envelope;
mod failover;
mod history;
mod killer;
mod lost_slot;
mod modes;
mod names;
mod network;
mod operator;
mod order;
mod pages;
mod parking;
mod poll;
mod poll_order;
mod retention;
mod retry;
mod retry_crash;
mod schema;
mod script;
mod security;
mod settle;
mod setup;
mod shards;
mod shards_change;
mod shutdown;
mod slot;
mod verify;
