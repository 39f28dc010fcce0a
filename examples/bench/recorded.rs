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
    ("poll/one by one", 8.0),
    ("poll ours/one by one", 10.0),
];
