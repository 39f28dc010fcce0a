//! The line: the loop that joins the wire, the decoder, the meaning and the delivery.
//!
//! What decides is pure: `progress` is where positions move, `line` and `streams` say what goes
//! into which batch and when, `history` and `takeover` whether a checkpoint speaks of PostgreSQL's
//! present history, `pulse` which heartbeat has passed, `refusal`, `leaving`, `held` and `parking`
//! what becomes of what cannot be published, `careful` which event ends the process, `memory` and
//! `silence` what is worth telling. What acts is the rest: `restart` brings the line up again
//! whenever it ends, `start` and `preflight` get it going, `session` is its one `select!`,
//! `landing` what Redis answers, `settle` marks rows, `desk` and `parker` park them, `hold` waits
//! for Redis, `heart` writes heartbeats, `watch` notes what may end the process, `alone` has such
//! lines take turns. `shards` runs several. `tenure` waits for its turn; `backlog` makes a slot
//! that is missing, with `reconcile`, `reader`, `ferry`, `park` and `forget` to settle the rows
//! from before it; `handover` clears away what lines of another kind left. `simulation` puts the
//! deciding half between model servers and lets faults rain. It must stay true that nothing in
//! that half does I/O or reads a clock.

mod alone;
mod backlog;
mod careful;
mod desk;
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
mod takeover;
mod tenure;
mod watch;

pub use history::{History, Judgement};
pub use mode::{obstacle, run};
pub use parker::PARKING_COLUMNS;
