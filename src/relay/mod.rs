//! The line: the loop that joins the wire, the decoder, the meaning and the delivery.
//!
//! What decides is pure: `progress` is where positions move, `line` and `streams` say what goes
//! into which batch and when, `history` whether a checkpoint speaks of PostgreSQL's present
//! history, `refusal`, `leaving`, `held` and `parking` what becomes of what cannot be published,
//! `memory` and `silence` what is worth telling. What acts is the rest: `restart` brings the line
//! up again whenever it ends, `start` and `preflight` get it going, `session` is its one `select!`,
//! `landing` what Redis answers, `settle` marks rows, `desk` and `parker` park them, `hold` waits
//! for Redis. `simulation` puts the
//! deciding half between model servers and lets faults rain. It must stay true that nothing in
//! the deciding half does I/O or reads a clock.

mod desk;
mod flight;
mod held;
mod history;
mod hold;
mod landing;
mod leaving;
mod line;
mod memory;
mod parker;
mod parking;
mod preflight;
mod progress;
mod refusal;
mod restart;
mod session;
mod settle;
mod silence;
#[cfg(test)]
mod simulation;
mod start;
mod streams;

pub use restart::run;
