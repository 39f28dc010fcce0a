//! Moments as people and programs read them: RFC 3339 to Unix time and back.
//!
//! In: text from outside, or a clock. Out: microseconds since 1970, or text in UTC. It must stay
//! true that text that is no moment is no number either.

use std::time::{SystemTime, UNIX_EPOCH};

use super::occurred_at::OccurredAt;

/// From the Unix epoch to PostgreSQL's, in microseconds.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// `2026-11-21T17:55:01` and `.123`.
const SECONDS_END: usize = 19;
const MILLIS_END: usize = 23;

/// This machine's clock, in Unix microseconds.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Unix microseconds as `2026-11-21T17:55:01Z`.
#[must_use]
pub fn to_the_second(micros: i64) -> String {
    utc(micros, SECONDS_END) + "Z"
}

/// Unix microseconds as `2026-11-21T17:55:01.123Z`.
#[must_use]
pub fn to_the_millisecond(micros: i64) -> String {
    utc(micros, MILLIS_END) + "Z"
}

fn utc(micros: i64, end: usize) -> String {
    let moment = OccurredAt::from_postgres_micros(micros.saturating_sub(POSTGRES_EPOCH_MICROS));
    String::from_utf8_lossy(moment.as_bytes()).chars().take(end).collect()
}

/// Unix microseconds of `2026-11-21T17:55:01.123456+01:00`; the offset may be `Z` or `+00`, and
/// have seconds.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_at_checked(10)?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let mut date = date.split('-').map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    if date.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(zone_at)?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let in_day = clock(whole)?;
    let seconds = days_from_civil(year, month, day) * 86_400 + in_day - offset(zone)?;
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    seconds.checked_mul(1_000_000)?.checked_add(digits(&micros)?)
}

/// Digits and nothing else.
fn digits(text: &str) -> Option<i64> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

/// Seconds of `17`, `17:55` or `17:55:01`.
fn clock(text: &str) -> Option<i64> {
    let mut seconds = 0;
    let mut unit = 3_600;
    for part in text.split(':') {
        if part.len() != 2 || unit == 0 {
            return None;
        }
        seconds += digits(part)? * unit;
        unit /= 60;
    }
    Some(seconds)
}

/// Seconds by which a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    match zone.strip_prefix('+') {
        Some(ahead) => clock(ahead),
        None => match zone.strip_prefix('-') {
            Some(behind) => clock(behind).map(|seconds| -seconds),
            None => matches!(zone, "Z" | "z").then_some(0),
        },
    }
}

/// Days since 1970-01-01, by years that begin on a first of March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const YEAR_0005: i64 = -62_000_000_000_000_000;
    const YEAR_9892: i64 = 250_000_000_000_000_000;

    #[test]
    fn moments_are_read_with_every_offset() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-01-01T00:00:00.5+00:00", 946_684_800_500_000),
            ("2024-02-29T23:59:59.123456+01:30", 1_709_245_799_123_456),
            ("2026-11-21 17:55:01+00", 1_795_283_701_000_000),
            ("1900-01-01T00:00:00+00:53:28", -2_208_992_008_000_000),
            ("1969-12-31T23:59:59.999999Z", -1),
        ] {
            assert_eq!(parse(text), Some(micros), "{text}");
        }
        for text in [
            "",
            "now",
            "2026-11-21",
            "2026-11-21T17:55:01",
            "2026-13-21T17:55:01Z",
            "2026-11-21T17:55:01.Z",
            "2026-11-21T1:55:01Z",
            "2026-11-21T17:55:01:09:08Z",
            "+026-11-21T17:55:01Z",
            "9999999999999999999999-01-01T00:00:00Z",
            "2026-11-2\u{e9}T17:55:01Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(micros in YEAR_0005..YEAR_9892) {
            let millis = micros.div_euclid(1_000) * 1_000;
            prop_assert_eq!(parse(&to_the_millisecond(micros)), Some(millis));
            let seconds = micros.div_euclid(1_000_000) * 1_000_000;
            prop_assert_eq!(parse(&to_the_second(micros)), Some(seconds));
        }

        #[test]
        fn no_text_is_a_panic(text: String) {
            let _any = parse(&text);
        }
    }
}
