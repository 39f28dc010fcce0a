//! Properties of the decoder, and the messages that a real server sent.

use proptest::prelude::*;

use super::encode::{encode, tuple_data};
use super::reader::Reader;
use super::*;
use crate::lsn::Lsn;

#[derive(Clone, Debug)]
enum Value {
    Null,
    Toast,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let value = prop_oneof![
        Just(Value::Null),
        Just(Value::Toast),
        bytes().prop_map(Value::Text),
        bytes().prop_map(Value::Binary),
    ];
    prop::collection::vec(value, 0..12).prop_map(|values| {
        let columns: Vec<Column<'_>> = values
            .iter()
            .map(|value| match value {
                Value::Null => Column::Null,
                Value::Toast => Column::UnchangedToast,
                Value::Text(bytes) => Column::Text(bytes),
                Value::Binary(bytes) => Column::Binary(bytes),
            })
            .collect();
        tuple_data(&columns)
    })
}

fn tuple(bytes: &[u8]) -> Tuple<'_> {
    Tuple::read(&mut Reader::new("tuple", bytes)).unwrap()
}

fn column() -> impl Strategy<Value = ColumnInfo> {
    ("[^\0]{0,20}", any::<u32>(), any::<i32>(), any::<bool>()).prop_map(
        |(name, type_oid, type_modifier, is_key)| ColumnInfo {
            name,
            type_oid,
            type_modifier,
            is_key,
        },
    )
}

/// Any byte; those that mean something in a tuple more often.
fn byte_of_interest() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0u8), Just(1), Just(b'N'), Just(b't'), any::<u8>()]
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = decode(&bytes) {
            walk(&message);
        }
    }

    #[test]
    fn any_bytes_behind_a_tag_are_a_message_or_an_error(
        tag in prop::sample::select(b"BCORYIUDTM".to_vec()),
        mut bytes in prop::collection::vec(byte_of_interest(), 0..120),
    ) {
        bytes.insert(0, tag);
        if let Ok(message) = decode(&bytes) {
            walk(&message);
        }
    }

    #[test]
    fn rows_decode_to_what_was_encoded(
        oid: u32, old in values(), new in values(),
        kind in prop::sample::select(b"KO".to_vec()), has_old: bool,
    ) {
        let (old, new) = (tuple(&old), tuple(&new));
        round_trip(&Message::Insert(Insert { relation_oid: oid, tuple: new }));
        let before = has_old.then_some((kind, old));
        round_trip(&Message::Update(Update { relation_oid: oid, old: before, new }));
        round_trip(&Message::Delete(Delete { relation_oid: oid, old: (kind, old) }));
    }

    #[test]
    fn the_frame_of_a_transaction_decodes_to_what_was_encoded(
        a: u64, b: u64, micros: i64, xid: u32, name in "[^\0]{0,30}",
    ) {
        let (commit_lsn, end_lsn) = (Lsn::new(a), Lsn::new(b));
        let commit_time = Timestamp::from_micros(micros);
        round_trip(&Message::Begin(Begin { commit_lsn, commit_time, xid }));
        round_trip(&Message::Commit(Commit { commit_lsn, end_lsn, commit_time }));
        round_trip(&Message::Origin(Origin { commit_lsn, name: &name }));
    }

    #[test]
    fn descriptions_and_the_rest_decode_to_what_was_encoded(
        oid: u32, schema in "[^\0]{0,20}", name in "[^\0]{0,20}",
        columns in prop::collection::vec(column(), 0..10),
        oids in prop::collection::vec(any::<u32>(), 0..5), options in 0u8..4,
        content in prop::collection::vec(any::<u8>(), 0..60), is_transactional: bool, lsn: u64,
    ) {
        round_trip(&Message::Type(Type { oid, schema: &schema, name: &name }));
        round_trip(&Message::Truncate(Truncate { options, relation_oids: oids }));
        let lsn = Lsn::new(lsn);
        let logical = LogicalMessage { is_transactional, lsn, prefix: &name, content: &content };
        round_trip(&Message::Logical(logical));
        let relation = Relation { oid, schema, name, replica_identity: b'd', columns };
        round_trip(&Message::Relation(relation));
    }
}

/// Encodes, decodes, and tries every cut and one byte too many.
fn round_trip(message: &Message<'_>) {
    let mut bytes = encode(message);
    assert_eq!(decode(&bytes).as_ref(), Ok(message));
    assert_no_prefix_decodes(&bytes);
    bytes.push(0);
    assert!(decode(&bytes).is_err(), "a byte too many was taken");
}

fn assert_no_prefix_decodes(bytes: &[u8]) {
    for cut in 0..bytes.len() {
        let error = decode(&bytes[..cut]).expect_err("a cut message was taken");
        assert!(error.to_string().contains("ends inside"), "cut at {cut}: {error}");
    }
}

/// Looks at every value, as a caller would.
fn walk(message: &Message<'_>) {
    let tuples = match message {
        Message::Insert(insert) => vec![insert.tuple],
        Message::Update(update) => {
            update.old.map(|(_, old)| old).into_iter().chain([update.new]).collect()
        }
        Message::Delete(delete) => vec![delete.old.1],
        Message::Begin(_)
        | Message::Commit(_)
        | Message::Origin(_)
        | Message::Relation(_)
        | Message::Type(_)
        | Message::Truncate(_)
        | Message::Logical(_) => Vec::new(),
    };
    for tuple in tuples {
        assert_eq!(tuple.columns().count(), tuple.len());
    }
}

#[test]
fn a_count_alone_reserves_no_memory() {
    let mut truncate = vec![b'T'];
    truncate.extend(i32::MAX.to_be_bytes());
    truncate.push(0);
    assert!(decode(&truncate).is_err());
    let mut insert = vec![b'I', 0, 0, 0, 1, b'N', 0, 1, b't'];
    insert.extend(i32::MAX.to_be_bytes());
    assert!(decode(&insert).is_err());
}

#[test]
fn an_error_says_where_and_never_what() {
    let secret = tuple_data(&[Column::Text(b"hunter2")]);
    let mut bytes = [&[b'I', 0, 0, 0, 7, b'N'][..], &secret].concat();
    bytes.truncate(bytes.len() - 1);
    let error = decode(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "Insert ends inside its column value, at byte 13");
    assert!(!format!("{error:?}").contains("hunter"));
    assert_eq!(decode(b"Z").unwrap_err().to_string(), "message: unknown tag 0x5a at byte 0");
    let negative = [&[b'I', 0, 0, 0, 7, b'N'][..], &(-1i16).to_be_bytes()].concat();
    let cases: [(&[u8], &str); 5] = [
        (&negative, "Insert: negative column count at byte 6"),
        (b"I\0\0\0\x07X", "Insert: unknown tuple kind 0x58 at byte 5"),
        (b"C\x01", "Commit: unknown flags 0x01 at byte 1"),
        (b"Y\0\0\0\x07a\0b\0c", "Type goes on after its end, at byte 9"),
        (
            b"Y\0\0\0\x07\xe9\0b\0",
            "Type: schema at byte 5 is not UTF-8, client_encoding must be UTF8",
        ),
    ];
    for (bytes, words) in cases {
        assert_eq!(decode(bytes).unwrap_err().to_string(), words);
    }
}

#[test]
fn debug_shows_lengths_and_never_content() {
    let data = tuple_data(&[Column::Text(b"hunter2"), Column::Binary(b"hunter2")]);
    let insert = Message::Insert(Insert { relation_oid: 7, tuple: tuple(&data) });
    let (lsn, content) = (Lsn::NONE, &b"hunter2"[..]);
    let logical =
        Message::Logical(LogicalMessage { is_transactional: true, lsn, prefix: "p", content });
    for message in [insert, logical] {
        let shown = format!("{message:?}");
        assert!(shown.contains("7 bytes"), "{shown}");
        // Neither as text nor as a list of numbers: 104 is its first letter.
        assert!(!shown.contains("hunter") && !shown.contains("104"), "{shown}");
    }
}

#[test]
fn a_relation_is_replaced_and_an_unknown_one_is_an_error() {
    let mut cache = RelationCache::default();
    assert!(cache.get(7).unwrap_err().to_string().contains("relation 7"));
    cache.insert(7, "before").unwrap();
    cache.insert(3, "other").unwrap();
    cache.insert(7, "after").unwrap();
    assert_eq!((cache.get(7), cache.get(3)), (Ok(&"after"), Ok(&"other")));
}

#[test]
fn relations_are_bounded_in_number() {
    let mut cache = RelationCache::default();
    let refused = (0..20_000).find(|oid| cache.insert(*oid, ()).is_err());
    assert_eq!(refused, Some(16_384));
}
