//! Whether this machine and the servers agree on what time it is.
//!
//! In: what a server's clock said, and this machine's before and after. Out: a finding. What hangs
//! on clocks: when retries are due, how old an event looks, who believes in whose lag. Nothing is
//! lost by a wrong one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::finding::{Finding, Subject, seconds_text};

/// More than this shows in every lag that is told.
const SKEW_SECONDS_MAX: f64 = 2.0;

/// This machine's clock, in seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The server's time was read between `before` and `after`.
pub(super) fn judge(subject: Subject, server: f64, before: f64, after: f64) -> Finding {
    // Somewhere in between it was asked: that much is in doubt.
    let skew = if server < before {
        server - before
    } else if server > after {
        server - after
    } else {
        return subject.ok("as this machine's");
    };
    let side = if skew > 0.0 { "ahead of" } else { "behind" };
    let seconds = skew.abs();
    if seconds <= SKEW_SECONDS_MAX {
        return subject.ok(format!("{:.0} ms {side} this machine's", seconds * 1_000.0));
    }
    subject.warning(
        format!("{} {side} this machine's", seconds_text(seconds)),
        "retries come too early or too late, and every age and lag is wrong by as much",
        "timedatectl set-ntp true   # on whichever machine is wrong",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::{Level, on_redis};

    #[test]
    fn what_the_network_explains_is_no_skew() {
        let judged = |server| judge(on_redis("clock"), server, 100.0, 103.0);
        for (server, level) in
            [(101.0, Level::Ok), (98.5, Level::Ok), (104.9, Level::Ok), (97.0, Level::Warning)]
        {
            assert_eq!(judged(server).level, level, "{server}");
        }
        assert_eq!(judged(113.0).found, "10 s ahead of this machine's");
        assert_eq!(judged(40.0).found, "60 s behind this machine's");
    }
}
