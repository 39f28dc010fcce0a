//! A row or an entry, reduced to what comparing takes: 56 bytes, whatever the payload.
//!
//! In: values. Out: records of one size, as bytes and back. It must stay true that a record holds
//! no payload: it may lie in a file.

use std::hash::{DefaultHasher, Hasher};

use crate::sink::EntryId;

/// Of one record.
pub(super) const RECORD_BYTES: usize = 56;
/// Stands for a moment that is not known.
pub(super) const NEVER: u64 = u64::MAX;

/// `flags`: the record is an entry, not a row.
pub(super) const ENTRY: u32 = 1;
/// The row is settled: its entry must be there.
pub(super) const SETTLED: u32 = 2;
/// The row was parked before, or written by an operator's wish: it may stand behind later ones.
pub(super) const RETRIED: u32 = 4;
/// No event can be made of the row as it is now.
pub(super) const UNFIT: u32 = 8;

/// One of either side. What `a` to `d` are, the side tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// The event's id, or the aggregate's.
    pub key: u128,
    pub a: u64,
    pub b: u64,
    pub c: u64,
    pub d: u64,
    /// The number of the stream.
    pub stream: u32,
    pub flags: u32,
}

impl Record {
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Of an entry: where it stands.
    pub fn entry(&self) -> EntryId {
        EntryId { millis: self.a, number: self.b }
    }

    /// Of a row: its number.
    pub fn row(&self) -> i64 {
        self.a.cast_signed()
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.to_le_bytes());
        for word in [self.a, self.b, self.c, self.d] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.stream.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
    }

    pub fn read(mut bytes: &[u8]) -> Self {
        Self {
            key: u128::from_le_bytes(take(&mut bytes)),
            a: u64::from_le_bytes(take(&mut bytes)),
            b: u64::from_le_bytes(take(&mut bytes)),
            c: u64::from_le_bytes(take(&mut bytes)),
            d: u64::from_le_bytes(take(&mut bytes)),
            stream: u32::from_le_bytes(take(&mut bytes)),
            flags: u32::from_le_bytes(take(&mut bytes)),
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let Some((head, rest)) = bytes.split_first_chunk::<N>() else { return [0; N] };
    *bytes = rest;
    *head
}

/// A text as a number. Two that meet are told apart before anything is said of them.
pub(super) fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_being_bytes() {
        let record = Record { key: u128::MAX - 7, a: 1, b: 2, c: 3, d: NEVER, stream: 9, flags: 5 };
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        assert_eq!(bytes.len(), RECORD_BYTES);
        assert_eq!(Record::read(&bytes), record);
        assert_eq!(Record { a: (-3i64).cast_unsigned(), ..record }.row(), -3);
    }
}
