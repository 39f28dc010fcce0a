//! What a quiet machine showed: ratios of two rates of one run, and instructions per event.
//!
//! In: the lines that `make bench` prints for this file. It must stay true that no absolute time
//! stands here: those are the machine's.

/// By the name of the mark; of 200,000 rows.
pub const RATIOS: &[(&str, f64)] = &[
    ("keep/source", 1.20),
    ("keep/bound", 0.80),
    ("json/source", 1.30),
    ("mark/keep", 0.75),
    ("poll/one by one", 22.0),
    ("poll ours/one by one", 30.0),
];

/// By the step of `examples/events`, of an event; each step with those before it.
pub const INSTRUCTIONS: &[(&str, f64)] =
    &[("decode", 1_141.1), ("envelopes", 4_518.0), ("fields", 5_084.3), ("json", 9_769.3)];
