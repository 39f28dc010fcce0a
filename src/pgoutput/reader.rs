//! A cursor over the bytes of one message: the only file that touches raw bytes.
//!
//! Every read names what it reads, so that an error says where a message went wrong, by its offset,
//! and never shows the bytes themselves: they are somebody's data.

use std::fmt;

use crate::lsn::Lsn;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    pub(super) message: &'static str,
    pub(super) reading: &'static str,
    pub(super) offset: usize,
    pub(super) fault: Fault,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The message ends before its field does.
    Truncated,
    /// The message goes on after its last field.
    Trailing,
    /// A byte that the protocol does not have there.
    Unknown(u8),
    /// A count or length below zero.
    Negative,
    /// A name that is not UTF-8.
    NotUtf8,
    /// An INSERT for a relation that was never announced.
    Unannounced(u32),
    /// More relations than anybody publishes.
    TooMany(usize),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, reading, offset, fault } = self;
        match fault {
            Fault::Truncated => write!(f, "{message} ends inside its {reading}, at byte {offset}"),
            Fault::Trailing => write!(f, "{message} goes on after its end, at byte {offset}"),
            Fault::Unknown(byte) => {
                write!(f, "{message}: unknown {reading} 0x{byte:02x} at byte {offset}")
            }
            Fault::Negative => write!(f, "{message}: negative {reading} at byte {offset}"),
            Fault::NotUtf8 => write!(
                f,
                "{message}: {reading} at byte {offset} is not UTF-8, client_encoding must be UTF8"
            ),
            Fault::Unannounced(oid) => {
                write!(f, "{message} names relation {oid}, which no Relation message has described")
            }
            Fault::TooMany(limit) => write!(f, "more than {limit} tables are published"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The unread rest of a message.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
    length: usize,
    /// Where the field that was read last starts: what a fault points at.
    field: usize,
}

impl<'a> Reader<'a> {
    pub fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        Self { message, rest: bytes, length: bytes.len(), field: 0 }
    }

    /// From here on errors name this message.
    pub fn name(&mut self, message: &'static str) {
        self.message = message;
    }

    #[inline]
    fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    /// What is wrong with the field that was read last.
    pub fn fault(&self, reading: &'static str, fault: Fault) -> DecodeError {
        DecodeError { message: self.message, reading, offset: self.field, fault }
    }

    #[inline]
    pub fn bytes(&mut self, length: usize, reading: &'static str) -> Result<&'a [u8], DecodeError> {
        self.field = self.offset();
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.fault(reading, Fault::Truncated));
        };
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self, reading: &'static str) -> Result<[u8; N], DecodeError> {
        self.field = self.offset();
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.fault(reading, Fault::Truncated));
        };
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub fn u8(&mut self, reading: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(reading).map(|[byte]| byte)
    }

    #[inline]
    pub fn u32(&mut self, reading: &'static str) -> Result<u32, DecodeError> {
        self.array(reading).map(u32::from_be_bytes)
    }

    pub fn i32(&mut self, reading: &'static str) -> Result<i32, DecodeError> {
        self.array(reading).map(i32::from_be_bytes)
    }

    pub fn i64(&mut self, reading: &'static str) -> Result<i64, DecodeError> {
        self.array(reading).map(i64::from_be_bytes)
    }

    pub fn lsn(&mut self, reading: &'static str) -> Result<Lsn, DecodeError> {
        self.array(reading).map(|bytes| Lsn::new(u64::from_be_bytes(bytes)))
    }

    /// A number of columns: an Int16 that is never negative.
    pub fn count16(&mut self, reading: &'static str) -> Result<u16, DecodeError> {
        let count = i16::from_be_bytes(self.array(reading)?);
        u16::try_from(count).map_err(|_| self.fault(reading, Fault::Negative))
    }

    /// A length or a number of relations: an Int32 that is never negative.
    pub fn count32(&mut self, reading: &'static str) -> Result<usize, DecodeError> {
        let count = self.i32(reading)?;
        usize::try_from(count).map_err(|_| self.fault(reading, Fault::Negative))
    }

    /// A String: bytes up to a NUL. The server converts names to our client_encoding, UTF-8.
    pub fn string(&mut self, reading: &'static str) -> Result<&'a str, DecodeError> {
        self.field = self.offset();
        let Some(end) = memchr::memchr(0, self.rest) else {
            return Err(self.fault(reading, Fault::Truncated));
        };
        let (text, _) = self.rest.split_at_checked(end).unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| self.fault(reading, Fault::NotUtf8))?;
        self.bytes(end + 1, reading)?;
        Ok(text)
    }

    /// What is unread, without reading it.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The message must end here.
    pub fn end(&mut self) -> Result<(), DecodeError> {
        self.field = self.offset();
        if self.rest.is_empty() { Ok(()) } else { Err(self.fault("end", Fault::Trailing)) }
    }
}
