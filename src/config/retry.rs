//! When a refused event is tried again, and when no more. Pure: the dice are thrown by the caller.
//!
//! In: how many attempts an event has had. Out: the pause until the next, or none when it belongs
//! to the dead letters.

use std::time::Duration;

/// The settings of retrying.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Attempts before the dead letters.
    pub attempts_max: u32,
    /// Pause after the first attempt.
    pub base_delay: Duration,
    /// Growth of the pause.
    pub multiplier: f64,
    /// Longest pause, before jitter.
    pub max_delay: Duration,
    /// A pause grows by a random part of up to this fraction of it.
    pub jitter: f64,
}

impl Retry {
    /// The pause after `attempts` refused attempts; `None` when there is to be no other. `dice` is
    /// between 0 and 1: how much of the jitter is added, so that events that were refused together
    /// do not come back together.
    #[must_use]
    pub fn delay(&self, attempts: u32, dice: f64) -> Option<Duration> {
        if attempts >= self.attempts_max {
            return None;
        }
        let longest = self.max_delay.as_secs_f64();
        let exponent = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
        // Overflow is infinity, and so the longest pause.
        let pause = (self.base_delay.as_secs_f64() * self.multiplier.powi(exponent)).min(longest);
        let pause = pause * (1.0 + self.jitter * dice.clamp(0.0, 1.0));
        Some(Duration::try_from_secs_f64(pause).unwrap_or(self.max_delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Retry = Retry {
        attempts_max: 5,
        base_delay: Duration::from_secs(60),
        multiplier: 2.0,
        max_delay: Duration::from_secs(3_600),
        jitter: 0.1,
    };

    #[test]
    fn pauses_double_and_the_last_attempt_has_none_behind_it() {
        let retry = Retry { attempts_max: 6, ..DEFAULTS };
        for (attempts, seconds) in [(1, 60), (2, 120), (3, 240), (4, 480), (5, 960)] {
            let delay = retry.delay(attempts, 0.0);
            assert_eq!(delay, Some(Duration::from_secs(seconds)), "{attempts}");
        }
        assert_eq!(retry.delay(6, 0.0), None);
        assert_eq!(DEFAULTS.delay(4, 0.0), Some(Duration::from_secs(480)));
        assert_eq!(DEFAULTS.delay(5, 0.0), None);
        assert_eq!(Retry { attempts_max: 1, ..DEFAULTS }.delay(1, 0.0), None);
    }

    #[test]
    fn pauses_are_capped_and_jitter_only_adds() {
        let retry = Retry { attempts_max: 1_000, ..DEFAULTS };
        assert_eq!(retry.delay(999, 0.0), Some(retry.max_delay), "no overflow");
        assert_eq!(retry.delay(1, 1.0), Some(Duration::from_secs(66)));
        assert_eq!(retry.delay(1, 7.0), Some(Duration::from_secs(66)), "whatever the dice");
        assert_eq!(retry.delay(0, 0.0), Some(Duration::from_secs(60)), "never tried: no panic");
    }
}
