//! Which events the newest entries of a stream are.
//!
//! In: a stream. Out: [`EventIds`], 16 bytes an event. It must stay true that only `recent.lua`
//! looks into entries, that a stream is read in steps that hold the server up for a few
//! milliseconds, and that an id is forgotten rather than another taken for it.

use std::hash::{DefaultHasher, Hash, Hasher};

use redis::Value;

use super::connect::Sink;
use super::failure::{Failure, Verdict};

const RECENT: &str = include_str!("recent.lua");

/// Entries of one call.
const STEP: usize = 2_000;

/// Ids of events, in any order; 16 bytes each.
#[derive(Clone, Debug, Default)]
pub struct EventIds {
    ids: Vec<u128>,
    is_sorted: bool,
}

impl EventIds {
    /// How many there are; one that was added twice counts twice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Adds one.
    pub fn insert(&mut self, id: &[u8]) {
        self.ids.push(compact(id));
        self.is_sorted = false;
    }

    /// Whether it is among them.
    pub fn contains(&mut self, id: &[u8]) -> bool {
        if !std::mem::replace(&mut self.is_sorted, true) {
            self.ids.sort_unstable();
        }
        self.ids.binary_search(&compact(id)).is_ok()
    }

    /// Forgets them, and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// An id as a number: a UUID is itself, anything else is hashed.
#[must_use]
pub fn compact(id: &[u8]) -> u128 {
    uuid(id).unwrap_or_else(|| {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, id).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    })
}

/// The number that a UUID is, as PostgreSQL prints it.
#[must_use]
pub fn uuid(text: &[u8]) -> Option<u128> {
    if text.len() != 36 {
        return None;
    }
    let mut number = 0u128;
    for (place, letter) in text.iter().enumerate() {
        match (place, letter) {
            (8 | 13 | 18 | 23, b'-') => {}
            (8 | 13 | 18 | 23, _) => return None,
            (_, b'0'..=b'9') => number = number << 4 | u128::from(letter - b'0'),
            (_, b'a'..=b'f') => number = number << 4 | u128::from(letter - b'a' + 10),
            _ => return None,
        }
    }
    Some(number)
}

/// The text that was read by [`uuid`].
#[must_use]
pub fn uuid_text(number: u128) -> String {
    let digits = format!("{number:032x}");
    let mut text = String::with_capacity(36);
    for (place, digit) in digits.chars().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

impl Sink {
    /// Adds the events of the newest `entries_max` entries of `stream` to `ids`. A key that is no
    /// stream, or that we may not read, has none.
    pub async fn recent(
        &self,
        stream: &str,
        entries_max: usize,
        ids: &mut EventIds,
    ) -> Result<(), Failure> {
        let (mut from, mut left) = ("+".to_owned(), entries_max);
        loop {
            let mut command = redis::cmd("EVAL");
            command.arg(RECENT).arg(1).arg(stream).arg(&from).arg(left.min(STEP));
            let reply = match self.send(&command).await {
                Ok(reply) => reply,
                Err(failure) if failure.verdict == Verdict::Rejected => return Ok(()),
                Err(failure) => return Err(failure),
            };
            let nonsense = || Failure::nonsense("the script that reads a stream answered nonsense");
            let Value::Array(values) = reply else { return Err(nonsense()) };
            let mut values = values.into_iter();
            let (Some(Value::BulkString(next)), Some(Value::Int(read))) =
                (values.next(), values.next())
            else {
                return Err(nonsense());
            };
            for value in values {
                let Value::BulkString(id) = value else { return Err(nonsense()) };
                ids.insert(&id);
            }
            left = left.saturating_sub(usize::try_from(read).unwrap_or(usize::MAX));
            if next.is_empty() || left == 0 {
                return Ok(());
            }
            from = String::from_utf8(next).map_err(|_| nonsense())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_again_and_no_others() {
        let mut ids = EventIds::default();
        let one = b"0f8fad5b-d9cb-469f-a165-70867728950e";
        ids.insert(one);
        ids.insert(b"order-7");
        assert!(ids.contains(one) && ids.contains(b"order-7"));
        assert!(!ids.contains(b"0f8fad5b-d9cb-469f-a165-70867728950f"));
        assert!(!ids.contains(b"order-8") && !ids.contains(b""));
        ids.clear();
        assert!(ids.is_empty() && !ids.contains(one));
    }

    #[test]
    fn a_uuid_survives_being_a_number() {
        for text in ["00000000-0000-0000-0000-000000000000", "ffffffff-0123-4567-89ab-cdef01234567"]
        {
            assert_eq!(uuid_text(uuid(text.as_bytes()).unwrap()), text);
        }
        for text in ["", "FFFFFFFF-0123-4567-89ab-cdef01234567", "x".repeat(36).as_str()] {
            assert_eq!(uuid(text.as_bytes()), None, "{text}");
        }
    }
}
