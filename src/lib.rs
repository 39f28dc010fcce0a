//! walrelay: from a PostgreSQL outbox table to Redis Streams, each committed event exactly once.
//!
//! # Bird's eye
//!
//! ```text
//!   PostgreSQL                          walrelay                                   Redis
//!  ┌───────────┐  WAL    ┌──────────┐  ┌──────────┐  ┌────────┐  script  ┌───────────────────┐
//!  │ walsender │ ──────> │ postgres │─>│ pgoutput │─>│ outbox │─> sink ─>│ stream, checkpoint│
//!  │           │         └──────────┘  └──────────┘  └────────┘    │     └───────────────────┘
//!  │ slot      │ <── confirm ── relay: progress, hold, settle <────┘ reply
//!  │ outbox    │ <── mark rows ───┘
//!  └───────────┘
//! ```
//!
//! Events flow from left to right, receipts back. PostgreSQL's slot remembers where to go on from;
//! Redis remembers, in a checkpoint beside each stream, what it has. Nothing is kept here: whatever
//! goes wrong, the line is thrown away and begun again from the slot, and the publish script skips
//! what is there already.
//!
//! # The rooms
//!
//! - [`lsn`], [`error`], [`event_loop`], [`shutdown`], [`backoff`], [`rate`], [`quote`]: words that
//!   all rooms share.
//! - [`cli`], [`config`]: what was typed, and one checked value for every setting.
//! - [`contract`]: JSON Schemas that payloads are held against, where that is asked for.
//! - [`postgres`]: the wire. Connections, slot, publication, the replication stream.
//! - [`pgoutput`]: the decoder. Bytes in, messages out; no I/O, no clock, no allocation for a row.
//! - [`outbox`]: the meaning. Which column is which, and what event a row is.
//! - [`sink`]: the delivery. Batches, the publish script, what each reply means.
//! - [`poller`]: what the line cannot deliver, and tables without a slot: rows are claimed by SQL,
//!   published, settled.
//! - [`housekeeping`]: what is settled and old leaves the outbox, beside all the rest.
//! - [`deadletters`]: what a person does about what was given up, by command or by page.
//! - [`verify`]: whether the streams hold what the outbox says; beside everything, read only.
//! - [`relay`]: the line. It joins the rooms above, moves the positions, marks rows, starts again.
//! - [`replay`]: beside the line: events once more, from a slot's position, the table or the dead
//!   letters.
//! - [`check`]: is everything there that a relay needs? A look at both servers, changing nothing.
//! - [`telemetry`]: what an operator sees: log, pages, numbers.
//! - [`command`]: one subcommand, one file.
//!
//! `sql/` is a room too: all SQL text, one statement or one migration a file.
//!
//! # What must stay true
//!
//! 1. received >= published >= settled >= confirmed. `relay/progress.rs` is the only place where a
//!    position moves, and it asks for a receipt: the compiler refuses to confirm without one.
//! 2. `confirmed` passes only what is durable in Redis and marked in the table, or a keepalive
//!    while nothing at all is outstanding, so that a quiet outbox in a busy database holds no WAL.
//! 3. A stream is written by the publish script only, in one atomic step with its checkpoint.
//! 4. `pgoutput`, `relay/line.rs` and `relay/progress.rs` do no I/O and read no clock.
//! 5. Only `config/outbox.rs` turns a part of an event into a column; only `sink` knows field
//!    names.
//! 6. A payload's bytes are passed through as they came, and are never logged; a schema's verdict
//!    names a place and a rule, no value.
//! 7. Every queue, batch, buffer and wait has a bound with a name.
//! 8. Bytes from outside are an error or a value, never a panic; an invariant that is broken
//!    aborts, because a restart from the slot is safer than a wrong position.

pub mod backoff;
pub mod check;
pub mod cli;
pub mod command;
pub mod config;
pub mod contract;
pub mod deadletters;
pub mod error;
pub mod event_loop;
pub mod housekeeping;
pub mod lsn;
pub mod outbox;
pub mod pgoutput;
pub mod poller;
pub mod postgres;
pub mod quote;
pub mod rate;
pub mod relay;
pub mod replay;
pub mod shutdown;
pub mod sink;
pub mod telemetry;
pub mod verify;
