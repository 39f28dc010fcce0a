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
mod bookmark;
mod bounds;
mod check;
mod check_keys;
mod check_redis;
mod check_slot;
mod cli;
mod cloudevents;
mod consumers;
mod contract;
mod crash;
mod dead_letters;
mod dead_letters_command;
mod durability;
mod emit;
mod envelope;
mod failover;
mod health;
mod history;
mod killer;
mod lost_slot;
mod messages;
mod metrics;
mod modes;
mod moving_in;
mod names;
mod network;
mod operator;
mod order;
mod page;
mod pages;
mod parking;
mod payloads;
mod poll;
mod poll_order;
mod rate;
mod replay;
mod retention;
mod retry;
mod retry_crash;
mod schema;
mod script;
mod security;
mod settle;
mod setup;
mod several_tables;
mod shards;
mod shards_change;
mod shutdown;
mod slot;
mod status;
mod tables;
mod tail;
mod teardown;
mod tracing;
mod verify;
mod verify_sound;
mod written_before;
