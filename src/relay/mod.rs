//! The line: the loop that joins the wire, the decoder, the meaning and the delivery.
//!
//! What decides is pure: `progress` is where positions move, `line` and `streams` say what goes
//! into which batch and when, `history` whether a checkpoint speaks of PostgreSQL's present
//! history,
//! `memory` and `silence` what is worth telling. What acts is the rest: `restart` brings the line
//! up again whenever it ends, `start` and `preflight` get it going, `session` is its one `select!`,
//! `landing` what Redis answers, `settle` marks rows, `hold` waits for Redis. `simulation` puts the
//! deciding half between model servers and lets faults rain. It must stay true that nothing in
//! the deciding half does I/O or reads a clock.

mod flight;
mod history;
mod hold;
mod landing;
mod line;
mod memory;
mod mode;
mod poll;
mod preflight;
mod progress;
mod restart;
mod session;
mod settle;
mod silence;
#[cfg(test)]
mod simulation;
mod start;
mod streams;

pub use mode::run;
