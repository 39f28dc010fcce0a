//! How many rows a round of retrying claims.
//!
//! In: how long a round took to publish them, and how long for all else: to choose them, out of all
//! that are parked, and to wait for Redis's disk. Out: a number. It must stay true that it is a
//! moderate one at first, for what is known of them is in memory; and that where very many are
//! parked most of the time goes into publishing.

use std::time::Duration;

use crate::rate::Limit;

/// Rows of the first claim, and of any.
const ROWS: usize = 2_000;
const ROWS_MAX: usize = 8 * ROWS;
/// With `max_rate` as many as go in this time: a round is delivered without a pause.
const TIME: Duration = Duration::from_secs(1);

/// Rows of the next claim.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRows {
    now: usize,
    least: usize,
    most: usize,
}

impl ClaimRows {
    /// Few at first; within the limit.
    #[must_use]
    pub fn new(limit: &Limit) -> Self {
        let [least, most] = [ROWS, ROWS_MAX].map(|rows| limit.within(TIME, rows));
        Self { now: least, least, most }
    }

    /// So many.
    #[must_use]
    pub fn now(self) -> usize {
        self.now
    }

    /// A round has settled `rows` of them.
    pub fn fit(&mut self, rows: usize, publishing: Duration, all_else: Duration) {
        let next = match rows {
            // Of a class that has its own number, or all that there were.
            rows if rows < self.now / 2 => self.now,
            _ if all_else > publishing => self.now.saturating_mul(2),
            _ if all_else * 4 < publishing => self.now / 2,
            _ => self.now,
        };
        self.now = next.clamp(self.least, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(4);
    const SHORT: Duration = Duration::from_millis(900);

    #[test]
    fn more_rows_are_claimed_while_publishing_them_takes_less_than_all_else() {
        let mut rows = ClaimRows::new(&Limit::default());
        assert_eq!(rows.now(), ROWS);
        for wanted in [4_000, 8_000, 16_000, 16_000] {
            rows.fit(rows.now(), SHORT, LONG);
            assert_eq!(rows.now(), wanted);
        }
        rows.fit(100, SHORT, LONG);
        assert_eq!(rows.now(), 16_000, "that tells nothing");
        rows.fit(16_000, SHORT, SHORT);
        assert_eq!(rows.now(), 16_000);
        for _ in 0..9 {
            rows.fit(rows.now(), LONG, SHORT);
        }
        assert_eq!(rows.now(), ROWS, "never fewer");
    }

    #[test]
    fn a_limit_bounds_them() {
        let mut rows = ClaimRows::new(&Limit::new(Some(3_000)));
        rows.fit(rows.now(), SHORT, LONG);
        rows.fit(rows.now(), SHORT, LONG);
        assert_eq!(rows.now(), 3_000);
        assert_eq!(ClaimRows::new(&Limit::new(Some(10))).now(), 10);
    }
}
