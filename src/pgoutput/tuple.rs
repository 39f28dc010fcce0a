//! TupleData: the values of one row, walked in place.
//!
//! A tuple is checked once, when its message is decoded; walking it afterwards cannot fail.

use std::fmt;

use super::reader::{DecodeError, Fault, Reader};

/// One value of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Column<'a> {
    /// NULL.
    Null,
    /// A large value that an UPDATE did not touch: its bytes are not in the WAL.
    UnchangedToast,
    /// The value as PostgreSQL prints it.
    Text(&'a [u8]),
    /// The value in its binary format (option `binary`, PostgreSQL 14 and later).
    Binary(&'a [u8]),
}

/// Shows lengths only: a value must not reach a log by way of `{:?}`.
impl fmt::Debug for Column<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::UnchangedToast => f.write_str("UnchangedToast"),
            Self::Text(value) => write!(f, "Text({} bytes)", value.len()),
            Self::Binary(value) => write!(f, "Binary({} bytes)", value.len()),
        }
    }
}

/// The values of one row, in the order of the relation's columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    columns: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// Reads and checks a TupleData.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let columns = reader.count16("column count")?;
        let start = reader.rest();
        let mut rest = start;
        for _ in 0..columns {
            match next(rest) {
                Some((_, behind)) => rest = behind,
                None => return Err(fault(reader, columns)),
            }
        }
        let bytes = reader.bytes(start.len() - rest.len(), "columns")?;
        Ok(Self { columns, bytes })
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// Whether there are none: a table without columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// The values, first to last.
    #[must_use]
    pub fn columns(&self) -> Columns<'a> {
        Columns { rest: self.bytes }
    }
}

impl fmt::Debug for Tuple<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.columns()).finish()
    }
}

/// Walks a tuple. It was checked: its bytes end with its last value.
#[derive(Clone)]
pub struct Columns<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Columns<'a> {
    type Item = Column<'a>;

    #[inline]
    fn next(&mut self) -> Option<Column<'a>> {
        let (column, rest) = next(self.rest)?;
        self.rest = rest;
        Some(column)
    }
}

/// The value that these bytes begin with, and the bytes behind it; none where there is none. Each
/// value of each row is read here: what is wrong is found out by [`fault`].
#[inline]
fn next(bytes: &[u8]) -> Option<(Column<'_>, &[u8])> {
    match bytes {
        [b'n', rest @ ..] => Some((Column::Null, rest)),
        [kind @ (b't' | b'b'), a, b, c, d, rest @ ..] => {
            let length = usize::try_from(i32::from_be_bytes([*a, *b, *c, *d])).ok()?;
            let (value, rest) = rest.split_at_checked(length)?;
            let column = if *kind == b't' { Column::Text(value) } else { Column::Binary(value) };
            Some((column, rest))
        }
        [b'u', rest @ ..] => Some((Column::UnchangedToast, rest)),
        _ => None,
    }
}

/// What is wrong with the values that `reader` is at, one of which is not whole.
fn fault(reader: &mut Reader<'_>, columns: u16) -> DecodeError {
    let failed = (0..columns).find_map(|_| step(reader).err());
    failed.unwrap_or_else(|| reader.fault("column value", Fault::Truncated))
}

fn step(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match reader.u8("column kind")? {
        b'n' | b'u' => {}
        b't' | b'b' => {
            let length = reader.count32("column length")?;
            reader.bytes(length, "column value")?;
        }
        other => return Err(reader.fault("column kind", Fault::Unknown(other))),
    }
    Ok(())
}
