//! Room 2, the decoder: pgoutput's messages, from bytes to types and nothing more.
//!
//! In: the bytes of one XLogData. Out: one [`Message`] that borrows them, or a [`DecodeError`]. It
//! must stay true that any byte string is one or the other, never a panic; that nothing is
//! allocated for an INSERT; and that no value of a row gets into an error. Not here: what a row
//! means, I/O, positions.
//!
//! protocol version 1:
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

#[cfg(test)]
pub(crate) mod encode;
#[cfg(test)]
mod golden;
mod message;
mod reader;
mod relation;
#[cfg(test)]
mod tests;
mod tuple;

pub use message::{
    Begin, ColumnInfo, Commit, Delete, Insert, LogicalMessage, Message, Origin, Relation,
    Timestamp, Truncate, Type, Update, decode,
};
pub use reader::DecodeError;
pub use relation::RelationCache;
pub use tuple::{Column, Columns, Tuple};
