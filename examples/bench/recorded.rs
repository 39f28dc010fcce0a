//! What is held against a run: ratios of two rates of one run, the lowest of what a machine shared
//! with others showed in its calmer hours, and instructions per event, which are exact.
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
    &[("decode", 547.1), ("envelopes", 2_400.2), ("fields", 3_127.1), ("json", 7_515.1)];
