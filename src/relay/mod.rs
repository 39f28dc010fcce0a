//! The line: the loop that joins the wire, the decoder, the meaning and the delivery.
//!
//! `progress` (pure) is where positions move; `line` (pure) decides what goes into which batch and
//! when;
//! `settle` marks rows; `session` is the one `select!` that feeds them; `restart` brings the line
//! up again whenever it ends. It must stay true that nothing in `progress` and `line` does I/O or
//! reads a clock.

mod backoff;
mod flight;
mod history;
mod hold;
mod landing;
mod line;
mod memory;
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

pub use restart::run;
