//! The messages of pgoutput, protocol version 1, one type each.
//!
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

use std::fmt;

use super::reader::{DecodeError, Fault, Reader};
use super::tuple::Tuple;
use crate::lsn::Lsn;

/// Microseconds since 2000-01-01 UTC, as PostgreSQL counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From that count.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The count.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }
}

/// A committed transaction begins. Its changes follow, then its [`Commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Where its commit record starts.
    pub commit_lsn: Lsn,
    /// When it was committed.
    pub commit_time: Timestamp,
    /// The low 32 bits of its id.
    pub xid: u32,
}

/// The transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where the commit record starts.
    pub commit_lsn: Lsn,
    /// Where it ends: what the slot is told once all of it is settled.
    pub end_lsn: Lsn,
    /// When it was committed.
    pub commit_time: Timestamp,
}

/// Where the following changes came from first, if not from this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The commit's LSN there.
    pub commit_lsn: Lsn,
    /// The origin's name.
    pub name: &'a str,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: u32,
    /// The type's modifier, -1 for none.
    pub type_modifier: i32,
    /// Whether it is part of the replica identity.
    pub is_key: bool,
}

/// A table is described: before its first row, and again when it has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its oid; rows refer to it.
    pub oid: u32,
    /// Its schema; pgoutput leaves pg_catalog empty.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `d`, `n`, `f` or `i`, as in pg_class.relreplident.
    pub replica_identity: u8,
    /// Its columns, in the order of the values in a tuple.
    pub columns: Vec<ColumnInfo>,
}

/// A type that is not built in is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type<'a> {
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// A row was inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insert<'a> {
    /// Into which relation.
    pub relation_oid: u32,
    /// Its values.
    pub tuple: Tuple<'a>,
}

/// A row was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// In which relation.
    pub relation_oid: u32,
    /// What identified it before: the key (`K`) or the whole row (`O`), where that was logged.
    pub old: Option<(u8, Tuple<'a>)>,
    /// Its values now.
    pub new: Tuple<'a>,
}

/// A row was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delete<'a> {
    /// From which relation.
    pub relation_oid: u32,
    /// What identified it: the key (`K`) or the whole row (`O`).
    pub old: (u8, Tuple<'a>),
}

/// Tables were emptied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// 1: CASCADE; 2: RESTART IDENTITY.
    pub options: u8,
    /// Which.
    pub relation_oids: Vec<u32>,
}

/// A message of pg_logical_emit_message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// Whether it is part of a transaction.
    pub is_transactional: bool,
    /// Where it is in the WAL.
    pub lsn: Lsn,
    /// Whose it is.
    pub prefix: &'a str,
    /// What it says.
    pub content: &'a [u8],
}

/// Shows the content's length only: it must not reach a log by way of `{:?}`.
impl fmt::Debug for LogicalMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_transactional, lsn, prefix, content } = self;
        f.debug_struct("LogicalMessage")
            .field("is_transactional", is_transactional)
            .field("lsn", lsn)
            .field("prefix", prefix)
            .field("content", &format_args!("{} bytes", content.len()))
            .finish()
    }
}

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// `B`
    Begin(Begin),
    /// `C`
    Commit(Commit),
    /// `O`
    Origin(Origin<'a>),
    /// `R`
    Relation(Relation),
    /// `Y`
    Type(Type<'a>),
    /// `I`
    Insert(Insert<'a>),
    /// `U`
    Update(Update<'a>),
    /// `D`
    Delete(Delete<'a>),
    /// `T`
    Truncate(Truncate),
    /// `M`
    Logical(LogicalMessage<'a>),
}

/// Decodes one whole message. Bytes left over are an error, as is a tag that version 1 does not
/// have.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader::new("message", bytes);
    let reader = &mut reader;
    let message = match reader.u8("tag")? {
        b'I' => Message::Insert(insert(reader)?),
        b'B' => Message::Begin(begin(reader)?),
        b'C' => Message::Commit(commit(reader)?),
        b'R' => Message::Relation(relation(reader)?),
        b'O' => Message::Origin(origin(reader)?),
        b'Y' => Message::Type(type_(reader)?),
        b'U' => Message::Update(update(reader)?),
        b'D' => Message::Delete(delete(reader)?),
        b'T' => Message::Truncate(truncate(reader)?),
        b'M' => Message::Logical(logical(reader)?),
        other => return Err(reader.fault("tag", Fault::Unknown(other))),
    };
    reader.end()?;
    Ok(message)
}

fn begin(reader: &mut Reader<'_>) -> Result<Begin, DecodeError> {
    reader.name("Begin");
    Ok(Begin {
        commit_lsn: reader.lsn("commit LSN")?,
        commit_time: Timestamp(reader.i64("commit time")?),
        xid: reader.u32("transaction id")?,
    })
}

fn commit(reader: &mut Reader<'_>) -> Result<Commit, DecodeError> {
    reader.name("Commit");
    // Version 1 has no flag, and PostgreSQL's own subscriber refuses any too
    // (logicalrep_read_commit in proto.c): a flag would change what a commit is.
    match reader.u8("flags")? {
        0 => {}
        other => return Err(reader.fault("flags", Fault::Unknown(other))),
    }
    Ok(Commit {
        commit_lsn: reader.lsn("commit LSN")?,
        end_lsn: reader.lsn("end LSN")?,
        commit_time: Timestamp(reader.i64("commit time")?),
    })
}

fn origin<'a>(reader: &mut Reader<'a>) -> Result<Origin<'a>, DecodeError> {
    reader.name("Origin");
    Ok(Origin { commit_lsn: reader.lsn("commit LSN")?, name: reader.string("name")? })
}

fn relation(reader: &mut Reader<'_>) -> Result<Relation, DecodeError> {
    reader.name("Relation");
    let oid = reader.u32("oid")?;
    let schema = reader.string("schema")?.to_owned();
    let name = reader.string("name")?.to_owned();
    let replica_identity = reader.u8("replica identity")?;
    let count = reader.count16("column count")?;
    // Grown as they come: a count alone must not reserve memory.
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push(ColumnInfo {
            is_key: reader.u8("column flags")? & 1 != 0,
            name: reader.string("column name")?.to_owned(),
            type_oid: reader.u32("column type")?,
            type_modifier: reader.i32("column type modifier")?,
        });
    }
    Ok(Relation { oid, schema, name, replica_identity, columns })
}

fn type_<'a>(reader: &mut Reader<'a>) -> Result<Type<'a>, DecodeError> {
    reader.name("Type");
    Ok(Type {
        oid: reader.u32("oid")?,
        schema: reader.string("schema")?,
        name: reader.string("name")?,
    })
}

#[inline]
fn insert<'a>(reader: &mut Reader<'a>) -> Result<Insert<'a>, DecodeError> {
    reader.name("Insert");
    let relation_oid = reader.u32("relation oid")?;
    marker(reader, b'N')?;
    Ok(Insert { relation_oid, tuple: Tuple::read(reader)? })
}

fn update<'a>(reader: &mut Reader<'a>) -> Result<Update<'a>, DecodeError> {
    reader.name("Update");
    let relation_oid = reader.u32("relation oid")?;
    let old = match reader.u8("tuple kind")? {
        b'N' => None,
        kind @ (b'K' | b'O') => {
            let old = Tuple::read(reader)?;
            marker(reader, b'N')?;
            Some((kind, old))
        }
        other => return Err(reader.fault("tuple kind", Fault::Unknown(other))),
    };
    Ok(Update { relation_oid, old, new: Tuple::read(reader)? })
}

fn delete<'a>(reader: &mut Reader<'a>) -> Result<Delete<'a>, DecodeError> {
    reader.name("Delete");
    let relation_oid = reader.u32("relation oid")?;
    match reader.u8("tuple kind")? {
        kind @ (b'K' | b'O') => Ok(Delete { relation_oid, old: (kind, Tuple::read(reader)?) }),
        other => Err(reader.fault("tuple kind", Fault::Unknown(other))),
    }
}

fn truncate(reader: &mut Reader<'_>) -> Result<Truncate, DecodeError> {
    reader.name("Truncate");
    let count = reader.count32("relation count")?;
    let options = reader.u8("options")?;
    let mut relation_oids = Vec::new();
    for _ in 0..count {
        relation_oids.push(reader.u32("relation oid")?);
    }
    Ok(Truncate { options, relation_oids })
}

fn logical<'a>(reader: &mut Reader<'a>) -> Result<LogicalMessage<'a>, DecodeError> {
    reader.name("Message");
    let is_transactional = reader.u8("flags")? & 1 != 0;
    let lsn = reader.lsn("LSN")?;
    let prefix = reader.string("prefix")?;
    let length = reader.count32("content length")?;
    let content = reader.bytes(length, "content")?;
    Ok(LogicalMessage { is_transactional, lsn, prefix, content })
}

/// The byte before a new tuple.
#[inline]
fn marker(reader: &mut Reader<'_>, expected: u8) -> Result<(), DecodeError> {
    match reader.u8("tuple kind")? {
        byte if byte == expected => Ok(()),
        other => Err(reader.fault("tuple kind", Fault::Unknown(other))),
    }
}
