//! Any payload, generated: out of the stream come the bytes that PostgreSQL prints.
//!
//! `PAYLOAD_SEED=…` repeats a run; a failed one says its own.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_postgres::Client;

use crate::harness::consumer::Entry;
use crate::harness::world::World;

/// Of each type, in each format.
const PAYLOADS: usize = 150;

/// In one statement, so that they travel in as many batches as they like, in this order.
const INSERT: &str = "INSERT INTO identity.outbox (event_type, aggregate_id, topic, payload)
    SELECT 'Any', gen_random_uuid(), $2, p::TYPE
    FROM unnest($1::text[]) WITH ORDINALITY AS rows (p, n) ORDER BY n";
const PRINTED: &str = "SELECT event_id::text, payload::text FROM identity.outbox WHERE topic = $1
    ORDER BY id";

/// An event's id and its payload.
type Printed = (String, String);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Parsed and printed anew: keys sorted, one of each, numbers written out.
    Jsonb,
    /// Kept as it was written: spaces, doubled keys, and escapes that jsonb refuses.
    Json,
}

/// One escape: `\u` and four digits, with small letters or with capitals.
fn escaped(code: u32, is_upper: bool) -> String {
    if is_upper { format!("\\u{code:04X}") } else { format!("\\u{code:04x}") }
}

/// A character as itself or as an escape, whichever JSON allows.
fn written(c: char, is_escaped: bool, is_upper: bool) -> String {
    let code = u32::from(c);
    match c {
        '\0' => String::new(),
        _ if is_escaped && code > 0xFFFF => {
            let high = 0xD800 + ((code - 0x1_0000) >> 10);
            let low = 0xDC00 + ((code - 0x1_0000) & 0x3FF);
            escaped(high, is_upper) + &escaped(low, is_upper)
        }
        '"' | '\\' => escaped(code, is_upper),
        _ if is_escaped || code < 0x20 => escaped(code, is_upper),
        _ => c.to_string(),
    }
}

fn text(kind: Kind) -> BoxedStrategy<String> {
    let short = prop::sample::select(vec!["\\n", "\\t", "\\/", "\\\"", "\\\\", "\\b", "\\f", "é"]);
    let any = (any::<char>(), any::<bool>(), any::<bool>());
    let any = any.prop_map(|(c, is_escaped, is_upper)| written(c, is_escaped, is_upper));
    let plain = "[ -!#-\\[\\]-~]{1,12}";
    let piece = prop_oneof![6 => any, 2 => plain, 1 => short.prop_map(str::to_owned)];
    let odd = prop::sample::select(vec!["\\u0000", "\\ud800", "\\uDFFF\\ud800"]);
    let piece = match kind {
        Kind::Jsonb => piece.boxed(),
        Kind::Json => prop_oneof![20 => piece, 1 => odd.prop_map(str::to_owned)].boxed(),
    };
    let pieces = prop::collection::vec(piece, 0..12);
    pieces.prop_map(|pieces| format!("\"{}\"", pieces.concat())).boxed()
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,18})",
        "-?[1-9][0-9]{19,400}",
        "-?(0|[1-9][0-9]{0,40})\\.[0-9]{1,200}",
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,5})?[eE][+-]?[0-9]{1,3}",
    ]
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 2 => Just(" "), 1 => Just("\n\t "), 1 => Just(" \r\n")]
}

/// Items between brackets, with spaces of some kind around them.
fn joined(open: char, items: &[String], close: char, space: &str) -> String {
    format!("{open}{space}{}{space}{close}", items.join(&format!("{space},{space}")))
}

fn payload(kind: Kind) -> BoxedStrategy<String> {
    let word = prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned);
    let leaf = prop_oneof![number(), text(kind), word];
    let tree = leaf.prop_recursive(6, 60, 8, move |inner| {
        // Few names, so that some come twice; and those that mean something to the relay.
        let named = vec!["\"a\"", "\"b\"", "\"\"", "\"tenant_id\"", "\"payload\"", "\"data\""];
        let named = prop::sample::select(named).prop_map(str::to_owned);
        let key = prop_oneof![named, text(kind)];
        let member = (key, space(), inner.clone());
        let member = member.prop_map(|(key, space, value)| format!("{key}{space}:{space}{value}"));
        let object = (prop::collection::vec(member, 0..8), space());
        let array = (prop::collection::vec(inner, 0..8), space());
        prop_oneof![
            2 => object.prop_map(|(items, space)| joined('{', &items, '}', space)),
            1 => array.prop_map(|(items, space)| joined('[', &items, ']', space)),
        ]
    });
    let depth = prop_oneof![9 => Just(0), 1 => 1..1_200_usize];
    let deep = (tree, depth, any::<bool>());
    deep.prop_map(|(tree, depth, is_array)| {
        let (open, close) = if is_array { ("[", "]") } else { ("{\"in\": ", "}") };
        format!("{}{tree}{}", open.repeat(depth), close.repeat(depth))
    })
    .boxed()
}

/// The seed, and what draws by it.
fn runner() -> (u64, TestRunner) {
    let given = std::env::var("PAYLOAD_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |text| text.parse().expect("a number"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    (seed, TestRunner::new_with_rng(Config::default(), rng))
}

/// An entry's event and the bytes of its payload.
fn shown(format: &str, entry: &Entry) -> Printed {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(alias = "id")]
        event_id: String,
        #[serde(alias = "data", borrow)]
        payload: &'a RawValue,
    }
    if format == "fields" {
        return (entry.event_id().to_owned(), entry.get("payload").to_owned());
    }
    let object: Object<'_> = serde_json::from_str(entry.get("data")).expect("an object");
    (object.event_id, object.payload.get().to_owned())
}

/// Writes them into an empty outbox; the events, with their payloads as PostgreSQL prints them.
async fn write(client: &Client, kind: Kind, stream: &str, payloads: &[String]) -> Vec<Printed> {
    let name = if kind == Kind::Json { "json" } else { "jsonb" };
    // Without what json had taken, for jsonb would refuse some of it.
    let alter = format!(
        "TRUNCATE identity.outbox;
         ALTER TABLE identity.outbox ALTER payload TYPE {name} USING payload::text::{name}"
    );
    client.batch_execute(&alter).await.unwrap();
    client.execute(&INSERT.replace("TYPE", name), &[&payloads, &stream]).await.unwrap();
    let rows = client.query(PRINTED, &[&stream]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn any_payload_comes_out_of_the_stream_byte_for_byte_as_postgres_prints_it() {
    let (seed, mut runner) = runner();
    eprintln!("PAYLOAD_SEED={seed} repeats it");
    let world = World::new().await;
    let client = world.postgres.client().await;
    let runs = [("wal", "fields"), ("wal", "json"), ("wal", "cloudevents"), ("poll", "fields")];
    for (mode, format) in runs {
        let settings = world.settings.clone().with("mode", mode).with("entry_format", format);
        let settings = settings.with("durability", "memory");
        let mut relay = settings.start_ready().await;
        for kind in [Kind::Jsonb, Kind::Json] {
            let stream = format!("{mode}.{format}.{}", u8::from(kind == Kind::Json));
            let draw = |_| payload(kind).new_tree(&mut runner).unwrap().current();
            let payloads: Vec<String> = (0..PAYLOADS).map(draw).collect();
            let printed = write(&client, kind, &stream, &payloads).await;
            let entries = world.consumer_of(&stream).read(PAYLOADS).await;
            assert_eq!(entries.len(), PAYLOADS);
            for (n, entry) in entries.iter().enumerate() {
                let is_same = shown(format, entry) == printed[n];
                assert!(is_same, "{stream}, PAYLOAD_SEED={seed}: not as printed: {:?}", printed[n]);
                let is_kept = kind == Kind::Jsonb || printed[n].1 == payloads[n];
                assert!(is_kept, "{stream}: json keeps {:?}", payloads[n]);
            }
            world.until_marked().await;
        }
        relay.drain().await;
    }
}
