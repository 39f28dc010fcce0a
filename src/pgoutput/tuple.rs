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
        for _ in 0..columns {
            column(reader)?;
        }
        let length = start.len() - reader.rest().len();
        let bytes = start.get(..length).unwrap_or_default();
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
        Columns { reader: Reader::new("tuple", self.bytes), left: self.columns }
    }
}

impl fmt::Debug for Tuple<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.columns()).finish()
    }
}

/// Walks a tuple.
#[derive(Clone)]
pub struct Columns<'a> {
    reader: Reader<'a>,
    left: u16,
}

impl<'a> Iterator for Columns<'a> {
    type Item = Column<'a>;

    fn next(&mut self) -> Option<Column<'a>> {
        self.left = self.left.checked_sub(1)?;
        // It was read without an error before.
        column(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

fn column<'a>(reader: &mut Reader<'a>) -> Result<Column<'a>, DecodeError> {
    let kind = reader.u8("column kind")?;
    match kind {
        b'n' => Ok(Column::Null),
        b'u' => Ok(Column::UnchangedToast),
        b't' | b'b' => {
            let length = reader.count32("column length")?;
            let value = reader.bytes(length, "column value")?;
            Ok(if kind == b't' { Column::Text(value) } else { Column::Binary(value) })
        }
        other => Err(reader.fault("column kind", Fault::Unknown(other))),
    }
}
