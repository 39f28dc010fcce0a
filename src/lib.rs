//! walrelay: from a PostgreSQL outbox table to Redis Streams, each committed event exactly once.

pub mod cli;
pub mod command;
pub mod config;
pub mod error;
pub mod lsn;
pub mod outbox;
pub mod pgoutput;
pub mod postgres;
pub mod relay;
pub mod shutdown;
pub mod sink;
pub mod telemetry;
