//! When an event happened, as consumers read it.
//!
//! In: what PostgreSQL prints, or the microseconds of a commit. Out: RFC 3339 with an offset, in
//! place. It must stay true that what cannot be said so (infinity, a year before Christ) is no
//! moment, and that no allocation is needed: each event has one.

use super::envelope::Unfit;

/// One byte of eight, each.
const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x80 * EACH;

/// A moment as RFC 3339 with its offset, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OccurredAt {
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl OccurredAt {
    /// `2026-11-21T04:38:15.123456+00:00`, with room for an offset with seconds.
    const BYTES_MAX: usize = 40;

    /// From what PostgreSQL prints with `datestyle = ISO`: `2026-11-21 04:38:15.123456+00`. A
    /// timestamp without a zone is taken as UTC, the zone of the replication session.
    pub fn from_postgres(text: &[u8]) -> Result<Self, Unfit> {
        let (date, time) = text.split_at_checked(10).ok_or(Unfit::OccurredAt)?;
        let time = time.strip_prefix(b" ").ok_or(Unfit::OccurredAt)?;
        let is_date = match *date {
            [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] => {
                are_digits([y1, y2, y3, y4, m1, m2, d1, d2])
            }
            _ => false,
        };
        if !is_date || !are_all_digits_or_signs(time) {
            return Err(Unfit::OccurredAt);
        }
        let zone = time.iter().rposition(|byte| matches!(byte, b'+' | b'-'));
        let suffix: &[u8] = match zone.map(|at| time.len() - at) {
            None => b"+00:00",
            Some(3) => b":00",
            Some(_) => b"",
        };
        let mut moment = Self { bytes: [0; Self::BYTES_MAX], len: 0 };
        moment.push(text)?;
        moment.push(suffix)?;
        if let Some(between) = moment.bytes.get_mut(date.len()) {
            *between = b'T';
        }
        Ok(moment)
    }

    /// From microseconds since 2000-01-01 UTC, as the commit carries them.
    #[must_use]
    pub fn from_postgres_micros(micros: i64) -> Self {
        let unix = micros.saturating_add(946_684_800_000_000);
        let (days, in_day) = (unix.div_euclid(86_400_000_000), unix.rem_euclid(86_400_000_000));
        let (year, month, day) = civil_from_days(days);
        let (second, micro) = (in_day / 1_000_000, in_day % 1_000_000);
        let text = format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micro:06}+00:00",
            second / 3600,
            second / 60 % 60,
            second % 60
        );
        let mut moment = Self { bytes: [0; Self::BYTES_MAX], len: 0 };
        // A commit time of the wire cannot be that long; were it, the epoch is a visible nonsense.
        if moment.push(text.as_bytes()).is_err() {
            return Self::from_postgres_micros(0);
        }
        moment
    }

    fn push(&mut self, part: &[u8]) -> Result<(), Unfit> {
        let end = self.len + part.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(Unfit::OccurredAt)?;
        room.copy_from_slice(part);
        self.len = end;
        Ok(())
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Whether all eight are digits: their upper half is 3, and stays 3 with 6 more.
fn are_digits(bytes: [u8; 8]) -> bool {
    const UPPER: u64 = 0xF0 * EACH;
    const THREES: u64 = 0x30 * EACH;
    let all = u64::from_ne_bytes(bytes);
    all & UPPER == THREES && (all + 6 * EACH) & UPPER == THREES
}

/// Whether all eight are digits, `:`, `.`, `+` or `-`: from `+` to `:` but for two.
fn are_digits_or_signs(bytes: [u8; 8]) -> bool {
    let all = u64::from_ne_bytes(bytes);
    // A byte reaches its high bit by what is added only from a certain value on.
    let reach = |all: u64, value: u64| (all + (0x80 - value) * EACH) & HIGH_BITS;
    let lacks = |sign: u8| reach(all ^ (u64::from(sign) * EACH), 1) == HIGH_BITS;
    all & HIGH_BITS == 0
        && reach(all, u64::from(b'+')) == HIGH_BITS
        && reach(all, u64::from(b':') + 1) == 0
        && lacks(b',')
        && lacks(b'/')
}

/// The same of eight or more bytes.
fn are_all_digits_or_signs(bytes: &[u8]) -> bool {
    let (eights, _) = bytes.as_chunks::<8>();
    // What is behind the last whole eight is in the last eight.
    let rest = bytes.last_chunk::<8>();
    rest.is_some_and(|rest| eights.iter().chain([rest]).all(|eight| are_digits_or_signs(*eight)))
}

/// Days since 1970-01-01 to a date of the proleptic Gregorian calendar, by eras of 400 years that
/// begin on a first of March.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Result<String, Unfit> {
        OccurredAt::from_postgres(text.as_bytes())
            .map(|moment| String::from_utf8(moment.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn occurred_at_is_rfc_3339_with_an_offset() {
        for (postgres, rfc) in [
            ("2026-11-21 04:38:15.123456+00", "2026-11-21T04:38:15.123456+00:00"),
            ("2026-11-21 04:38:15+05:30", "2026-11-21T04:38:15+05:30"),
            ("2026-11-21 04:38:15.1-03", "2026-11-21T04:38:15.1-03:00"),
            ("2026-11-21 04:38:15", "2026-11-21T04:38:15+00:00"),
        ] {
            assert_eq!(moment(postgres).as_deref(), Ok(rfc));
        }
        for text in [
            "infinity",
            "-infinity",
            "12026-01-01 00:00:00+00",
            "",
            "2026-11-21",
            "0044-03-15 00:00:00+00 BC",
            "2026-11-21 04:38:15 whatever it may be",
        ] {
            assert_eq!(moment(text), Err(Unfit::OccurredAt), "{text}");
        }
    }

    #[test]
    fn each_place_takes_what_it_may_and_nothing_else() {
        let sound = b"2026-11-21 04:38:15.123456+00";
        for (place, byte) in (0..sound.len()).flat_map(|at| (0..=255_u8).map(move |b| (at, b))) {
            let mut text = *sound;
            text[place] = byte;
            let is_fit = match place {
                4 | 7 => byte == b'-',
                10 => byte == b' ',
                0..10 => byte.is_ascii_digit(),
                _ => byte.is_ascii_digit() || b":.+-".contains(&byte),
            };
            assert_eq!(OccurredAt::from_postgres(&text).is_ok(), is_fit, "{byte} at {place}");
        }
    }

    #[test]
    fn the_commit_time_stands_in_for_a_missing_created_at() {
        let text = |micros| {
            let moment = OccurredAt::from_postgres_micros(micros);
            String::from_utf8(moment.as_bytes().to_vec()).unwrap()
        };
        assert_eq!(text(0), "2000-01-01T00:00:00.000000+00:00");
        assert_eq!(text(-1), "1999-12-31T23:59:59.999999+00:00");
        assert_eq!(text(848_588_645_000_001), "2026-11-21T15:04:05.000001+00:00");
        assert!(text(i64::MIN).starts_with('-'), "nonsense, but no panic");
    }
}
