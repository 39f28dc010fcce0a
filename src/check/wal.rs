//! How fast the WAL grows, and for how long a slot may keep it.
//!
//! In: two looks at its end, and PostgreSQL's own average. Out: [`Rate`], and what the bound on a
//! slot's WAL means in hours. Two measures, because neither tells all: a moment misses what comes
//! at night, an average what has just begun; the faster one counts.

use std::time::Duration;

use super::finding::{Finding, bytes_text, on_postgres, seconds_text};
use super::fix;
use super::server::Server;
use super::session::Session;
use crate::error::Result;

const AVERAGE: &str = include_str!("../../sql/queries/check_wal_average.sql");
const END: &str = include_str!("../../sql/queries/check_wal_end.sql");

/// pg_stat_wal is there from here on.
const VERSION_AVERAGE: i32 = 140_000;
/// Between the two looks: long enough to see a load, short enough for a person.
const MOMENT: Duration = Duration::from_millis(250);
/// An average over less than this says nothing.
const AVERAGE_SECONDS_MIN: f64 = 60.0;
/// An outage of a day should cost no slot, nor the disk.
const DAY_SECONDS: f64 = 86_400.0;
const KEEP_GIB_MIN: f64 = 10.0;
const GIB: f64 = 1_073_741_824.0;

/// Bytes of WAL a second, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    pub bytes_per_second: f64,
    pub how: &'static str,
}

pub(super) async fn ask(session: &Session, server: &Server) -> Result<Rate> {
    let end = async || Ok(session.row(END, &[]).await?.get::<_, f64>("bytes"));
    let began = end().await?;
    tokio::time::sleep(MOMENT).await;
    let now = (end().await? - began) / MOMENT.as_secs_f64();
    if server.version_num < VERSION_AVERAGE {
        return Ok(rate(now, None));
    }
    let row = session.row(AVERAGE, &[]).await?;
    let (bytes, seconds): (f64, Option<f64>) = (row.get("bytes"), row.get("seconds"));
    Ok(rate(now, seconds.map(|seconds| (bytes, seconds))))
}

fn rate(now: f64, since_reset: Option<(f64, f64)>) -> Rate {
    let average = since_reset
        .filter(|(_, seconds)| *seconds >= AVERAGE_SECONDS_MIN)
        .map_or(0.0, |(bytes, seconds)| bytes / seconds);
    if average >= now {
        return Rate { bytes_per_second: average, how: "on average since stats_reset" };
    }
    Rate { bytes_per_second: now, how: "measured just now" }
}

/// The line that gives an outage of a day its room.
pub(super) fn keep_for_a_day(rate: Option<Rate>) -> String {
    let day = rate.map_or(0.0, |rate| rate.bytes_per_second * DAY_SECONDS / GIB);
    let gib = day.ceil().max(KEEP_GIB_MIN);
    fix::reload("max_slot_wal_keep_size", &format!("'{gib:.0}GB'"))
}

/// For how long a slot with so much room may stand still.
pub(super) fn hours(room_bytes: f64, rate: Rate) -> Option<f64> {
    (rate.bytes_per_second > 0.0).then(|| room_bytes / rate.bytes_per_second / 3_600.0)
}

pub(super) fn judge(server: &Server, rate: Option<Rate>) -> Finding {
    let subject = on_postgres("setting max_slot_wal_keep_size");
    let Some(keep) = server.keep_bytes else {
        return subject.warning(
            "-1 (no bound)",
            "while the relay is away the slot keeps WAL until the disk of PostgreSQL is full, and \
             then nobody can write; choose less than what is free there",
            keep_for_a_day(rate),
        );
    };
    subject.ok(match rate {
        Some(rate) => format!("{}, WAL grows by {rate}", bytes_text(keep)),
        None => bytes_text(keep),
    })
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/s ({})", bytes_text(self.bytes_per_second), self.how)
    }
}

/// What a slot has left, in words.
pub(super) fn room_text(room_bytes: f64, rate: Option<Rate>) -> String {
    let room = bytes_text(room_bytes.max(0.0));
    match rate.and_then(|rate| Some((hours(room_bytes, rate)?, rate))) {
        Some((hours, rate)) => {
            format!("{room} to go, {} at {rate}", seconds_text(hours.max(0.0) * 3_600.0))
        }
        None => format!("{room} to go"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::Level;

    #[test]
    fn the_faster_measure_counts_and_is_named() {
        let just_now = rate(100.0, Some((6_000.0, 120.0)));
        assert_eq!((just_now.bytes_per_second, just_now.how), (100.0, "measured just now"));
        let average = rate(10.0, Some((6_000.0, 120.0)));
        assert_eq!(average.how, "on average since stats_reset");
        assert!((average.bytes_per_second - 50.0).abs() < 1e-9);
        assert_eq!(rate(1.0, Some((6_000.0, 2.0))).how, "measured just now", "too short a time");
        assert_eq!(rate(1.0, None).how, "measured just now");
    }

    #[test]
    fn a_bound_is_asked_for_and_fits_a_day() {
        let fast = Rate { bytes_per_second: 1_048_576.0, how: "x" };
        assert!(keep_for_a_day(Some(fast)).contains("= '85GB';"), "{}", keep_for_a_day(Some(fast)));
        assert!(keep_for_a_day(None).contains("= '10GB';"));
        let unbound = judge(&Server::default(), None);
        assert_eq!(unbound.level, Level::Warning);
        let bound = Server { keep_bytes: Some(GIB), ..Server::default() };
        assert_eq!(judge(&bound, Some(fast)).level, Level::Ok);
    }

    #[test]
    fn hours_are_left_as_long_as_wal_grows() {
        let rate = Rate { bytes_per_second: GIB / 3_600.0, how: "x" };
        assert!((hours(2.0 * GIB, rate).unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(hours(GIB, Rate { bytes_per_second: 0.0, how: "x" }), None);
        assert!(room_text(2.0 * GIB, Some(rate)).starts_with("2.0 GiB to go, 2 hours at "));
        assert_eq!(room_text(GIB, None), "1.0 GiB to go");
    }
}
