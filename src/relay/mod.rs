//! The line: the loop that joins the wire, the decoder, the meaning and the delivery.
//!
//! What decides is pure: no I/O, no clock (`simulation` rains faults on it). `progress` moves
//! positions, `line`, `streams` fill batches, `messages` knows events without rows, `history`,
//! `takeover` judge checkpoints, `pulse` heartbeats; `refusal`, `leaving`, `held`, `parking` see to
//! what is refused, `careful` to what ends the process; `memory`, `silence` know what to tell. The
//! rest acts: `restart` brings the line up again, `start`, `preflight` get it going, `session` is
//! its `select!`, `feedback` what is due by the clock, `landing` what Redis says; `settle` marks
//! rows, `desk`, `parker`, `adopting` park them, `hold` awaits Redis, `heart` beats, `watch` notes
//! deaths, `alone` has lines take turns. `shards`, `tables` run several (`crew`), `tenure` waits,
//! `handover` clears up; `backlog`, `reconcile`, `reader`, `ferry`, `park`, `forget` make a slot.

mod adopting;
mod alone;
mod backlog;
mod careful;
mod crew;
mod desk;
mod feedback;
mod ferry;
mod flight;
mod forget;
mod handover;
mod heart;
mod held;
mod history;
mod hold;
mod landing;
mod leaving;
mod line;
mod memory;
mod messages;
mod mode;
mod park;
mod parker;
mod parking;
mod poll;
mod preflight;
mod progress;
mod pulse;
mod reader;
mod reconcile;
mod refusal;
mod restart;
mod session;
mod settle;
mod shards;
mod silence;
#[cfg(test)]
mod simulation;
mod start;
mod streams;
mod tables;
mod takeover;
mod tenure;
mod watch;

pub use history::{History, Judgement};
pub use mode::{obstacle, run};
pub use {parker::PARKING_COLUMNS, preflight::message_obstacle, tables::run as run_tables};
