//! The other direction, for tests: messages to bytes, as the documentation lays them out.

use super::{Column, Message, Relation, Tuple};

pub(crate) fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match message {
        Message::Begin(begin) => {
            out.push(b'B');
            out.extend(begin.commit_lsn.as_u64().to_be_bytes());
            out.extend(begin.commit_time.micros().to_be_bytes());
            out.extend(begin.xid.to_be_bytes());
        }
        Message::Commit(commit) => {
            out.extend([b'C', 0]);
            out.extend(commit.commit_lsn.as_u64().to_be_bytes());
            out.extend(commit.end_lsn.as_u64().to_be_bytes());
            out.extend(commit.commit_time.micros().to_be_bytes());
        }
        Message::Origin(origin) => {
            out.push(b'O');
            out.extend(origin.commit_lsn.as_u64().to_be_bytes());
            string(&mut out, origin.name);
        }
        Message::Relation(relation) => describe(&mut out, relation),
        Message::Type(described) => {
            out.push(b'Y');
            out.extend(described.oid.to_be_bytes());
            string(&mut out, described.schema);
            string(&mut out, described.name);
        }
        Message::Insert(insert) => {
            out.push(b'I');
            out.extend(insert.relation_oid.to_be_bytes());
            tuple(&mut out, b'N', &insert.tuple);
        }
        Message::Update(update) => {
            out.push(b'U');
            out.extend(update.relation_oid.to_be_bytes());
            if let Some((kind, old)) = &update.old {
                tuple(&mut out, *kind, old);
            }
            tuple(&mut out, b'N', &update.new);
        }
        Message::Delete(delete) => {
            out.push(b'D');
            out.extend(delete.relation_oid.to_be_bytes());
            tuple(&mut out, delete.old.0, &delete.old.1);
        }
        Message::Truncate(truncate) => {
            out.push(b'T');
            out.extend(i32::try_from(truncate.relation_oids.len()).unwrap().to_be_bytes());
            out.push(truncate.options);
            truncate.relation_oids.iter().for_each(|oid| out.extend(oid.to_be_bytes()));
        }
        Message::Logical(message) => {
            out.extend([b'M', u8::from(message.is_transactional)]);
            out.extend(message.lsn.as_u64().to_be_bytes());
            string(&mut out, message.prefix);
            out.extend(i32::try_from(message.content.len()).unwrap().to_be_bytes());
            out.extend(message.content);
        }
    }
    out
}

fn describe(out: &mut Vec<u8>, relation: &Relation) {
    out.push(b'R');
    out.extend(relation.oid.to_be_bytes());
    string(out, &relation.schema);
    string(out, &relation.name);
    out.push(relation.replica_identity);
    out.extend(i16::try_from(relation.columns.len()).unwrap().to_be_bytes());
    for column in &relation.columns {
        out.push(u8::from(column.is_key));
        string(out, &column.name);
        out.extend(column.type_oid.to_be_bytes());
        out.extend(column.type_modifier.to_be_bytes());
    }
}

/// An Insert of a row that does not exist as a [`Tuple`] yet.
pub(crate) fn insert(relation_oid: u32, columns: &[Column<'_>]) -> Vec<u8> {
    let mut out = vec![b'I'];
    out.extend(relation_oid.to_be_bytes());
    out.push(b'N');
    out.extend(tuple_data(columns));
    out
}

/// A TupleData of these columns.
pub(super) fn tuple_data(columns: &[Column<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(i16::try_from(columns.len()).unwrap().to_be_bytes());
    for column in columns {
        match column {
            Column::Null => out.push(b'n'),
            Column::UnchangedToast => out.push(b'u'),
            Column::Text(value) => valued(&mut out, b't', value),
            Column::Binary(value) => valued(&mut out, b'b', value),
        }
    }
    out
}

fn tuple(out: &mut Vec<u8>, kind: u8, tuple: &Tuple<'_>) {
    out.push(kind);
    out.extend(tuple_data(&tuple.columns().collect::<Vec<_>>()));
}

fn valued(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    out.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
    out.extend(value);
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend(text.as_bytes());
    out.push(0);
}
