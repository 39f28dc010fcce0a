//! What real servers sent, as recorded by `tests/golden/pgoutput/record.sh`.
//!
//! In: `<major version>/<scenario>.hex`, one message per line. Beside it, `<scenario>.txt` tells in
//! words what the decoder makes of it; `UPDATE_GOLDEN=1` rewrites these, and their diff is read
//! like code. It must stay true that each message decodes, and encodes to the same bytes again.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::encode::encode;
use super::{Column, Message, RelationCache, Tuple, decode};

/// Every recorded stream, by the file it lies in.
fn scenarios() -> Vec<(PathBuf, Vec<Vec<u8>>)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pgoutput");
    let mut found = Vec::new();
    for version in fs::read_dir(&golden).unwrap().map(|entry| entry.unwrap().path()) {
        if !version.is_dir() {
            continue;
        }
        for file in fs::read_dir(&version).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "hex") {
                let lines = fs::read_to_string(&file).unwrap();
                let messages = lines.lines().map(from_hex).collect();
                found.push((file, messages));
            }
        }
    }
    assert!(found.len() >= 20, "only {} scenarios in {}", found.len(), golden.display());
    found.sort();
    found
}

fn from_hex(line: &str) -> Vec<u8> {
    let digits: Vec<u32> = line.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// Every recorded message, with where it stands.
fn messages() -> impl Iterator<Item = (String, Vec<u8>)> {
    scenarios().into_iter().flat_map(|(file, messages)| {
        let numbered = messages.into_iter().zip(1..);
        numbered.map(move |(bytes, line)| (format!("{}:{line}", file.display()), bytes))
    })
}

#[test]
fn a_recorded_stream_decodes_to_what_stands_beside_it() {
    for (file, messages) in scenarios() {
        let told: String = messages.iter().map(|bytes| tell(&decode(bytes).unwrap())).collect();
        let beside = file.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&beside, &told).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        assert!(told == expected, "{} is now told as:\n{told}", file.display());
    }
}

#[test]
fn a_recorded_message_encodes_to_the_same_bytes_again() {
    for (place, bytes) in messages() {
        let message = decode(&bytes).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(encode(&message), bytes, "{place}");
    }
}

#[test]
fn a_recorded_message_that_is_cut_off_or_too_long_is_an_error() {
    for (place, mut bytes) in messages() {
        // Cuts inside 3000 equal bytes of one value teach nothing new: the ends are enough.
        let len = bytes.len();
        for cut in (0..len).filter(|cut| *cut < 300 || len - cut < 300) {
            assert!(decode(&bytes[..cut]).is_err(), "{place}: taken when cut off at {cut}");
        }
        bytes.push(0);
        assert!(decode(&bytes).is_err(), "{place}: taken with a byte too many");
    }
}

#[test]
fn a_recorded_message_with_any_one_bit_flipped_does_no_harm() {
    for (_, mut bytes) in messages() {
        for at in 0..bytes.len().min(300) {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                if let Ok(message) = decode(&bytes) {
                    tell(&message);
                }
                bytes[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn a_row_has_as_many_columns_as_its_relation_had_when_last_announced() {
    for (file, messages) in scenarios() {
        let mut relations = RelationCache::default();
        for bytes in &messages {
            let (oid, tuple) = match decode(bytes).unwrap() {
                Message::Relation(relation) => {
                    relations.insert(relation.oid, relation.columns.len()).unwrap();
                    continue;
                }
                Message::Insert(insert) => (insert.relation_oid, insert.tuple),
                Message::Update(update) => (update.relation_oid, update.new),
                Message::Begin(_)
                | Message::Commit(_)
                | Message::Delete(_)
                | Message::Truncate(_)
                | Message::Origin(_)
                | Message::Type(_)
                | Message::Logical(_) => continue,
            };
            assert_eq!(relations.get(oid), Ok(&tuple.len()), "{}", file.display());
            assert_eq!(tuple.columns().count(), tuple.len(), "{}", file.display());
        }
    }
}

/// One message in words; these bytes are ours, so their content may be shown.
fn tell(message: &Message<'_>) -> String {
    let mut text = match message {
        Message::Begin(begin) => {
            let (lsn, time) = (begin.commit_lsn, begin.commit_time.micros());
            format!("begin xid={} commit_lsn={lsn} commit_time={time}", begin.xid)
        }
        Message::Commit(commit) => {
            let (lsn, end, time) = (commit.commit_lsn, commit.end_lsn, commit.commit_time.micros());
            format!("commit commit_lsn={lsn} end_lsn={end} commit_time={time}")
        }
        Message::Relation(relation) => {
            let mut text =
                format!("relation {} {:?}.{:?}", relation.oid, relation.schema, relation.name);
            for column in &relation.columns {
                let (name, type_oid) = (&column.name, column.type_oid);
                let key = if column.is_key { " key" } else { "" };
                write!(text, "\n  {name:?} type={type_oid}({}){key}", column.type_modifier)
                    .unwrap();
            }
            text
        }
        Message::Insert(insert) => {
            format!("insert into {}{}", insert.relation_oid, tell_tuple(&insert.tuple))
        }
        Message::Update(update) => {
            let old = if update.old.is_some() { "with" } else { "without" };
            format!("update {}, {old} old{}", update.relation_oid, tell_tuple(&update.new))
        }
        Message::Delete(delete) => format!("delete from {}", delete.relation_oid),
        Message::Truncate(truncate) => format!("truncate {:?}", truncate.relation_oids),
        Message::Origin(origin) => format!("origin {:?} at {}", origin.name, origin.commit_lsn),
        Message::Type(it) => format!("type {} {:?}.{:?}", it.oid, it.schema, it.name),
        Message::Logical(logical) => format!(
            "logical message at {}, transactional={}, prefix={:?}: {}",
            logical.lsn,
            logical.is_transactional,
            logical.prefix,
            logical.content.escape_ascii()
        ),
    };
    text.push('\n');
    text
}

fn tell_tuple(tuple: &Tuple<'_>) -> String {
    let mut text = String::new();
    for column in tuple.columns() {
        match column {
            Column::Null => text.push_str("\n  null"),
            Column::UnchangedToast => text.push_str("\n  unchanged toast"),
            Column::Text(value) => {
                write!(text, "\n  text {:?}", String::from_utf8_lossy(value)).unwrap();
            }
            Column::Binary(value) => write!(text, "\n  binary {}", value.escape_ascii()).unwrap(),
        }
    }
    text
}
