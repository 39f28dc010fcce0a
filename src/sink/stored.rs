//! Entries as Redis hands them out: their ids, their fields, and the replies that hold them, in
//! either protocol. It must stay true that a reply of another shape is an error and never a panic.

use std::fmt;
use std::str::FromStr;

use redis::Value;

use super::failure::Failure;

/// The id of an entry: Redis's clock in milliseconds when it was added, and a number among those of
/// one millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Unix milliseconds.
    pub millis: u64,
    /// From 0.
    pub number: u64,
}

impl EntryId {
    /// Before every entry.
    pub const START: Self = Self { millis: 0, number: 0 };

    /// The first that could stand behind it.
    #[must_use]
    pub fn next(self) -> Self {
        match self.number.checked_add(1) {
            Some(number) => Self { number, ..self },
            None => Self { millis: self.millis.saturating_add(1), number: 0 },
        }
    }

    /// The last id that is not of `millis` or later.
    #[must_use]
    pub fn before(millis: u64) -> Self {
        millis.checked_sub(1).map_or(Self::START, |millis| Self { millis, number: u64::MAX })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

impl FromStr for EntryId {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let parts = text.split_once('-').map(|(millis, number)| (millis.parse(), number.parse()));
        match parts {
            Some((Ok(millis), Ok(number))) => Ok(Self { millis, number }),
            _ => Err(Failure::nonsense("an entry has an id that is none")),
        }
    }
}

/// One entry as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// Names and values, in their order.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// About what it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Unix milliseconds of what TIME answers.
pub(super) fn clock_ms((seconds, micros): (u64, u64)) -> u64 {
    seconds.saturating_mul(1_000).saturating_add(micros / 1_000)
}

pub(super) fn nonsense() -> Failure {
    Failure::nonsense("Redis answered something else than entries")
}

pub(super) fn text(value: &Value) -> Result<String, Failure> {
    if let Value::SimpleString(text) = value {
        return Ok(text.clone());
    }
    let Value::BulkString(bytes) = value else { return Err(nonsense()) };
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Of a map, or of an array: of pairs, or in which names and values take turns.
pub(super) fn pairs(value: Value) -> Result<Vec<(Value, Value)>, Failure> {
    if let Value::Map(pairs) = value {
        return Ok(pairs);
    }
    let Value::Array(values) = value else { return Err(nonsense()) };
    let mut pairs = Vec::new();
    let mut values = values.into_iter();
    while let Some(first) = values.next() {
        if let Value::Array(pair) = first {
            let [name, value] = <[Value; 2]>::try_from(pair).map_err(|_| nonsense())?;
            pairs.push((name, value));
        } else {
            pairs.push((first, values.next().ok_or_else(nonsense)?));
        }
    }
    Ok(pairs)
}

pub(super) fn entries(value: Value) -> Result<Vec<Entry>, Failure> {
    let Value::Array(values) = value else { return Err(nonsense()) };
    values.into_iter().map(entry).collect()
}

pub(super) fn entry(value: Value) -> Result<Entry, Failure> {
    let Value::Array(parts) = value else { return Err(nonsense()) };
    let [id, fields] = <[Value; 2]>::try_from(parts).map_err(|_| nonsense())?;
    // The fields of an entry that was deleted meanwhile are nil.
    let Value::Array(values) = fields else {
        return Ok(Entry { id: text(&id)?.parse()?, fields: Vec::new() });
    };
    let mut values = values.into_iter();
    let mut fields = Vec::new();
    while let Some(name) = values.next() {
        let (Value::BulkString(name), Some(Value::BulkString(value))) = (name, values.next())
        else {
            return Err(nonsense());
        };
        fields.push((name, value));
    }
    Ok(Entry { id: text(&id)?.parse()?, fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn ids_are_in_the_order_of_numbers_and_not_of_letters() {
        let id = |text: &str| text.parse::<EntryId>().unwrap();
        assert!(id("9-0") < id("10-0") && id("10-9") < id("10-10"));
        assert_eq!(id("1732-5").to_string(), "1732-5");
        assert_eq!(EntryId::before(10), id("9-18446744073709551615"));
        assert_eq!(EntryId::before(0), EntryId::START);
        assert_eq!((id("1700-3").next(), EntryId::before(6).next()), (id("1700-4"), id("6-0")));
        for text in ["", "1", "-", "1-", "a-b", "1-2-3"] {
            assert!(text.parse::<EntryId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_reply_is_entries_or_an_error_in_either_protocol() {
        let entry = Value::Array(vec![bulk("1-0"), Value::Array(vec![bulk("n"), bulk("v")])]);
        let found = entries(Value::Array(vec![entry.clone()])).unwrap();
        assert_eq!(found[0].fields, [(b"n".to_vec(), b"v".to_vec())]);
        assert_eq!(found[0].bytes(), 2);
        let of_stream = Value::Array(vec![entry]);
        let old = Value::Array(vec![Value::Array(vec![bulk("s"), of_stream.clone()])]);
        let new = Value::Map(vec![(bulk("s"), of_stream)]);
        assert_eq!(pairs(old).unwrap(), pairs(new).unwrap());
        for nonsense in [
            Value::Nil,
            Value::Int(1),
            Value::Array(vec![bulk("1-0")]),
            Value::Array(vec![Value::Array(vec![bulk("1-0")])]),
            Value::Array(vec![Value::Array(vec![bulk("x"), Value::Array(vec![])])]),
            Value::Array(vec![Value::Array(vec![bulk("1-0"), Value::Array(vec![bulk("n")])])]),
        ] {
            assert!(entries(nonsense.clone()).is_err(), "{nonsense:?}");
        }
    }
}
