//! Numbers as people read them, for the demo and the bench.
//!
//! In: counts and durations. Out: text, and percentiles. Not here: where on the screen they stand.
#![allow(dead_code, reason = "shared by two programs, none of which uses all of it")]

use std::time::Duration;

/// The value that `permille` of a thousand do not exceed (nearest rank).
pub fn percentile(sorted: &[Duration], permille: usize) -> Duration {
    let rank = (sorted.len() * permille).div_ceil(1_000);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Three digits that matter, and the unit that needs no zeros.
pub fn human(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_micros() {
        0..10_000 => format!("{:.2} ms", seconds * 1e3),
        10_000..100_000 => format!("{:.1} ms", seconds * 1e3),
        100_000..1_000_000 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

/// A number as people write it.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in GB.
pub fn gigabytes(bytes: usize) -> String {
    let tenths = bytes / 100_000_000;
    format!("{}.{} GB", tenths / 10, tenths % 10)
}

/// The middle of these values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A count for arithmetic; the bench counts no further than a `u32`.
pub fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}
