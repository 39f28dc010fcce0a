//! A position in PostgreSQL's write-ahead log, and the position of one event in the order of
//! commits.
//!
//! In: the two halves that PostgreSQL prints (`16/B374D848`), or the eight bytes of the wire. Out:
//! an ordered, printable value. It must stay true that the order of [`Position`] strings is the
//! order of the positions themselves: the publish script compares strings. No arithmetic beyond a
//! distance in bytes, and no I/O.

use std::fmt;
use std::str::FromStr;

/// A log sequence number: a byte position in the WAL. `0/0` is "none" everywhere in PostgreSQL.
///
/// Printed and parsed as PostgreSQL does: two halves in hexadecimal, separated by a slash
/// (<https://www.postgresql.org/docs/current/datatype-pg-lsn.html>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// `0/0`: no position. `START_REPLICATION` from here means "where the slot stands".
    pub const NONE: Self = Self(0);

    /// The position with this byte offset, as the wire carries it.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The byte offset, as the wire carries it.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Bytes of WAL from `earlier` up to here; zero when `earlier` is not earlier.
    #[must_use]
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not an LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseLsnError;

impl fmt::Display for ParseLsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an LSN: expected two hexadecimal numbers like 16/B374D848")
    }
}

impl std::error::Error for ParseLsnError {}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    /// Each half is at most 32 bits: `0/1FFFFFFFF` is an error, not `1/FFFFFFFF`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (high, low) = text.split_once('/').ok_or(ParseLsnError)?;
        let half = |digits: &str| {
            let plain = (1..=8).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if plain { u32::from_str_radix(digits, 16).ok() } else { None }
        };
        let high = half(high).ok_or(ParseLsnError)?;
        let low = half(low).ok_or(ParseLsnError)?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

/// Where an event stands in the total order of commits: its transaction, then its place in it.
///
/// The transaction is named by the LSN of its commit record (`commit_lsn`), which `Begin` already
/// carries: the end of that record is only known at `Commit`, too late for a transaction that is
/// published row by row as it arrives. Commit records do not overlap, so both give the same order.
/// A row's own LSN is no position: all rows of one COPY share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// LSN of the transaction's commit record.
    pub commit_lsn: Lsn,
    /// The how-manieth INSERT of the outbox in its transaction; the first is 1.
    pub ordinal: u32,
}

impl Position {
    /// Before every event.
    pub const START: Self = Self { commit_lsn: Lsn::NONE, ordinal: 0 };
    /// Length of the text, always.
    pub const TEXT_BYTES: usize = 25;

    /// Writes the text into `room` without allocating: 16 hex digits, `-`, 8 hex digits. Fixed
    /// width, so that strings sort as positions do.
    pub fn write(self, room: &mut [u8; Self::TEXT_BYTES]) -> &[u8] {
        let (lsn, rest) = room.split_at_mut(16);
        let (high, low) = lsn.split_at_mut(8);
        high.copy_from_slice(&hex(self.commit_lsn.0 >> 32));
        low.copy_from_slice(&hex(self.commit_lsn.0 & 0xFFFF_FFFF));
        if let Some((dash, ordinal)) = rest.split_first_mut() {
            *dash = b'-';
            ordinal.copy_from_slice(&hex(self.ordinal.into()));
        }
        room
    }
}

/// The eight digits of a number of 32 bits, all at once: every event has three of these.
fn hex(number: u64) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Each nibble into a byte of its own.
    let halves = (number | (number << 16)) & 0x0000_FFFF_0000_FFFF;
    let bytes = (halves | (halves << 8)) & 0x00FF_00FF_00FF_00FF;
    let nibbles = (bytes | (bytes << 4)) & 0x0F0F_0F0F_0F0F_0F0F;
    // 6 more than ten to fifteen have a fifth bit; `a` comes 39 places behind where `:` stands.
    let are_letters = ((nibbles + 6 * EACH) >> 4) & EACH;
    (nibbles + u64::from(b'0') * EACH + 39 * are_letters).to_be_bytes()
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}", self.commit_lsn.as_u64(), self.ordinal)
    }
}

/// The text is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePositionError;

impl fmt::Display for ParsePositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a position: expected 16 hexadecimal digits, '-', 8 hexadecimal digits")
    }
}

impl std::error::Error for ParsePositionError {}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (lsn, ordinal) = text.split_once('-').ok_or(ParsePositionError)?;
        let hex = |digits: &str, width: usize| {
            digits.len() == width && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if !hex(lsn, 16) || !hex(ordinal, 8) {
            return Err(ParsePositionError);
        }
        let commit_lsn = u64::from_str_radix(lsn, 16).map_err(|_| ParsePositionError)?;
        let ordinal = u32::from_str_radix(ordinal, 16).map_err(|_| ParsePositionError)?;
        Ok(Self { commit_lsn: Lsn(commit_lsn), ordinal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_lsn_prints_as_postgresql_does() {
        assert_eq!(Lsn::new(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Lsn::NONE.to_string(), "0/0");
    }

    #[test]
    fn what_is_no_lsn_is_refused() {
        for text in ["", "/", "1", "1/", "/1", "0/1FFFFFFFF", "+1/2", "1/2/3", "g/1", " 1/2"] {
            assert_eq!(text.parse::<Lsn>(), Err(ParseLsnError), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in ["", "-", "1-1", "00000000000000001-00000001", "0000000000000001-+0000001"] {
            assert_eq!(text.parse::<Position>(), Err(ParsePositionError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_lsn_survives_printing(bytes: u64) {
            let lsn = Lsn::new(bytes);
            prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }

        #[test]
        fn positions_sort_as_their_strings(a: (u64, u32), b: (u64, u32)) {
            let position = |(lsn, ordinal)| Position { commit_lsn: Lsn::new(lsn), ordinal };
            let (a, b) = (position(a), position(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            let (mut room, text) = ([0; Position::TEXT_BYTES], a.to_string());
            prop_assert_eq!(a.write(&mut room), text.as_bytes());
        }
    }
}
