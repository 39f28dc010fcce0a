//! How long to wait before trying a server again: doubling, bounded, with jitter.

use std::time::Duration;

/// The first wait: long enough not to spin, short enough not to be felt.
const FIRST: Duration = Duration::from_millis(100);

/// The waits of one outage.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits that grow to `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self { next: FIRST.min(longest), longest }
    }

    /// The next wait. Between half of the nominal one and all of it, so that relays that lost the
    /// same server do not come back in step.
    pub fn next_delay(&mut self) -> Duration {
        let nominal = self.next;
        self.next = (nominal * 2).min(self.longest);
        nominal.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// The outage is over.
    pub fn reset(&mut self) {
        self.next = FIRST.min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_start_over() {
        let longest = Duration::from_secs(1);
        let mut backoff = Backoff::new(longest);
        for nominal in [100, 200, 400, 800, 1_000, 1_000] {
            let nominal = Duration::from_millis(nominal);
            let delay = backoff.next_delay();
            assert!(delay >= nominal / 2 && delay <= nominal, "{delay:?} for {nominal:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
        assert!(Backoff::new(Duration::from_millis(1)).next_delay() <= Duration::from_millis(1));
    }
}
