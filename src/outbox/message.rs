//! An event that is a message in the WAL and no row: what `identity.emit_message` writes.
//!
//! In: the content of a logical message, which anybody may have written. Out: a [`Told`], from
//! which the same [`Row`] is made that a row of the outbox would be, or what is wrong with it. It
//! must stay true that any bytes are one or the other, that the payload's bytes are passed through,
//! and that whatever is a [`Told`] fits into a row of our own table, but for its payload: what
//! jsonb does not take only PostgreSQL knows.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::occurred_at::OccurredAt;
use super::row::{COLUMNS, Nature, Payload, Row};
use crate::config::TableName;

/// The parts of a message, in the order of [`Told`]'s values.
const PARTS: [&str; 9] = [
    "event_id",
    "event_type",
    "aggregate_type",
    "aggregate_id",
    "topic",
    "tenant_id",
    "correlation_id",
    "traceparent",
    "schema_version",
];
const EVENT_ID: usize = 0;
const EVENT_TYPE: usize = 1;
const AGGREGATE_TYPE: usize = 2;
const AGGREGATE_ID: usize = 3;
const TENANT_ID: usize = 5;
/// The default of the column in our own table.
const AGGREGATE_TYPE_DEFAULT: &str = "user";

/// The prefix of the messages that belong to a table. Two relays on two tables do not take each
/// other's, and the heartbeats have another.
#[must_use]
pub fn message_prefix(table: &TableName) -> String {
    format!("walrelay:{table}")
}

/// What a message tells.
#[derive(Debug)]
pub struct Told<'a> {
    values: [Option<Cow<'a, str>>; PARTS.len()],
    payload: &'a RawValue,
}

impl<'a> Told<'a> {
    /// Reads the content of a message. Keys that mean nothing to us are stepped over, as such
    /// columns are, and null is as good as absent; of a key that is there twice the last counts.
    pub fn read(content: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(content).map_err(|_| Fault::NotUtf8)?;
        let raw: Raw<'a> = serde_json::from_str(text).map_err(|_| Fault::NotAnObject)?;
        let payload = raw.payload.ok_or(Fault::Payload)?;
        let mut values = [const { None }; PARTS.len()];
        for (value, raw) in values.iter_mut().zip(raw.parts) {
            *value = raw.filter(|raw| raw.get() != "null").map(string).transpose()?;
        }
        let mut told = Self { values, payload };
        told.check()?;
        let kind = told.values.get_mut(AGGREGATE_TYPE);
        if let Some(kind @ None) = kind {
            *kind = Some(Cow::Borrowed(AGGREGATE_TYPE_DEFAULT));
        }
        Ok(told)
    }

    fn check(&self) -> Result<(), Fault> {
        let is_uuid = |place: usize| self.value(place).map(is_uuid);
        if is_uuid(EVENT_ID) != Some(true) {
            return Err(Fault::EventId);
        }
        if self.value(EVENT_TYPE).is_none_or(|kind| kind.trim().is_empty()) {
            return Err(Fault::EventType);
        }
        if is_uuid(AGGREGATE_ID) != Some(true) {
            return Err(Fault::AggregateId);
        }
        if is_uuid(TENANT_ID) == Some(false) {
            return Err(Fault::TenantId);
        }
        let has_nul = |value: &Cow<'_, str>| value.contains('\0');
        if self.values.iter().flatten().any(has_nul) { Err(Fault::Nul) } else { Ok(()) }
    }

    fn value(&self, place: usize) -> Option<&str> {
        self.values.get(place)?.as_deref()
    }

    /// The row that it would be: without an id, and written when it was committed.
    #[must_use]
    pub fn row(&self) -> Row<'_> {
        let mut values = [None; COLUMNS.len()];
        for (column, value) in COLUMNS.iter().zip(&mut values) {
            *value = if *column == "payload" {
                Some(self.payload.get().as_bytes())
            } else {
                let place = PARTS.iter().position(|part| part == column);
                place.and_then(|place| self.value(place)).map(str::as_bytes)
            };
        }
        Row::of(values, Nature { payload: Payload::Json, is_published_by_moment: false })
    }

    /// Each column that it fills, with its value: also those that it leaves out, for the defaults
    /// of the table are not what is published.
    pub fn columns(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        let payload = std::iter::once(("payload", Some(self.payload.get())));
        PARTS.into_iter().zip(self.values.iter().map(Option::as_deref)).chain(payload)
    }
}

/// A message that outlives its frame.
#[derive(Clone)]
pub struct Kept {
    /// None of one that was too large to be read.
    content: Option<Box<[u8]>>,
    /// Microseconds since 2000-01-01.
    commit_time: i64,
}

impl Kept {
    /// A copy.
    #[must_use]
    pub fn new(content: Option<&[u8]>, commit_time: i64) -> Self {
        Self { content: content.map(Into::into), commit_time }
    }

    /// What it tells.
    pub fn told(&self) -> Result<Told<'_>, Fault> {
        Told::read(self.content.as_deref().ok_or(Fault::TooLarge)?)
    }

    /// When it was committed, as PostgreSQL reads it.
    #[must_use]
    pub fn created_at(&self) -> String {
        let moment = OccurredAt::from_postgres_micros(self.commit_time);
        String::from_utf8_lossy(moment.as_bytes()).into_owned()
    }

    /// A payload for the row of one that is no event: what it says, as jsonb takes it.
    #[must_use]
    pub fn evidence(&self, fault: Fault) -> String {
        let content = self.content.as_deref();
        let content = content.map(|bytes| String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}"));
        serde_json::json!({ "reason": fault.text(), "content": content }).to_string()
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.content.as_ref().map_or(0, |content| content.len())
    }
}

/// Shows its size only: a value must not reach a log by way of `{:?}`.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} bytes)", self.bytes())
    }
}

/// A string's text, borrowed where nothing in it is escaped.
fn string(raw: &RawValue) -> Result<Cow<'_, str>, Fault> {
    let inside = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inside.ok_or(Fault::NotAString)? {
        plain if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(raw.get()).map(Cow::Owned).map_err(|_| Fault::NotAString),
    }
}

/// As PostgreSQL prints one: entries must bear the same id whichever way they came.
fn is_uuid(text: &str) -> bool {
    let is_right = |(place, byte): (usize, u8)| match place {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(is_right)
}

/// The values of the keys that are known, unread.
#[derive(Default)]
struct Raw<'a> {
    parts: [Option<&'a RawValue>; PARTS.len()],
    payload: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut raw = Raw::default();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let place = PARTS.iter().position(|part| *part == key);
            let slot = place.and_then(|place| raw.parts.get_mut(place));
            if let Some(slot) = slot {
                *slot = Some(map.next_value()?);
            } else if key == "payload" {
                raw.payload = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(raw)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Outbox;
    use crate::outbox::{Defaults, Envelope, Unfit};

    const ID: &str = "0a0eebc9-9c0b-4ef8-bb6d-6bb9bd380a11";

    fn content(more: &str) -> String {
        let ids = format!(r#""event_id": "{ID}", "aggregate_id": "{ID}""#);
        format!(r#"{{{ids}, "event_type": "A", "payload": {{}}{more}}}"#)
    }

    fn fault(content: &str) -> Fault {
        Told::read(content.as_bytes()).map(drop).unwrap_err()
    }

    fn outbox() -> Outbox {
        TableName { schema: "identity".into(), name: "outbox".into() }.into()
    }

    fn defaults(outbox: &Outbox) -> Defaults<'_> {
        Defaults { stream: b"s", outbox, commit_time: 0, event_bytes_max: 10_000, contract: None }
    }

    #[test]
    fn a_message_is_the_event_that_its_row_would_be() {
        let text = content(
            r#", "topic": "caf\u00e9", "tenant_id": null, "event_type": "B \"x\"",
               "payload": {"n": 1e99, "tenant_id": "t"}, "later": [{}], "correlation_id": "c""#,
        );
        let told = Told::read(text.as_bytes()).unwrap();
        let (outbox, row) = (outbox(), told.row());
        let event = Envelope::new(&row, &defaults(&outbox)).unwrap();
        assert_eq!((event.event_id, event.aggregate_id), (ID.as_bytes(), ID.as_bytes()));
        assert_eq!(event.event_type, b"B \"x\"");
        assert_eq!(event.aggregate_type, b"user");
        assert_eq!(&*event.stream, "café".as_bytes());
        assert_eq!(&*event.payload, br#"{"n": 1e99, "tenant_id": "t"}"#);
        assert_eq!(
            (&*event.tenant_id, event.correlation_id.as_deref()),
            (&b"t"[..], Some(&b"c"[..]))
        );
        assert_eq!(event.occurred_at, OccurredAt::from_postgres_micros(0), "when it was committed");
        assert_eq!(row.id(), None);
        let columns: Vec<_> = told.columns().filter(|(_, value)| value.is_none()).collect();
        assert_eq!(columns.len(), 3, "{columns:?}: written as NULL, whatever the table's default");
    }

    #[test]
    fn what_is_no_event_says_why() {
        assert_eq!(Told::read(b"\xff").map(drop).unwrap_err(), Fault::NotUtf8);
        for text in ["", "null", "[]", "\"x\"", "{", "{} {}", "{\"a\":}"] {
            assert_eq!(fault(text), Fault::NotAnObject, "{text}");
        }
        assert_eq!(fault("{}"), Fault::Payload);
        for (more, why) in [
            (r#", "event_id": null"#, Fault::EventId),
            (r#", "event_id": "0A0EEBC9-9C0B-4EF8-BB6D-6BB9BD380A11""#, Fault::EventId),
            (r#", "event_type": "\n ""#, Fault::EventType),
            (r#", "event_type": 7"#, Fault::NotAString),
            (r#", "aggregate_id": "7""#, Fault::AggregateId),
            (r#", "tenant_id": """#, Fault::TenantId),
            (r#", "topic": ["a"]"#, Fault::NotAString),
            (r#", "topic": "\ud800""#, Fault::NotAString),
            (r#", "correlation_id": "a\u0000b""#, Fault::Nul),
        ] {
            assert_eq!(fault(&content(more)), why, "{more}");
        }
    }

    #[test]
    fn a_row_made_of_what_is_no_event_stays_none_and_says_why() {
        for why in Fault::ALL {
            let topic = serde_json::to_string(&why.topic()).unwrap();
            let text = content(&format!(", \"topic\": {topic}"));
            let told = Told::read(text.as_bytes()).unwrap();
            let (outbox, row) = (outbox(), told.row());
            let unfit = Envelope::new(&row, &defaults(&outbox)).unwrap_err();
            assert_eq!(unfit, Unfit::Message(why));
            assert_eq!(unfit.to_string(), why.text());
        }
        assert_eq!(Unfit::of_stream("\u{7f}"), Some(Unfit::StreamName));
    }

    #[test]
    fn evidence_is_json_whatever_the_content() {
        let kept = Kept::new(Some(b"\xff\0\"{"), 0);
        let evidence: serde_json::Value =
            serde_json::from_str(&kept.evidence(Fault::NotUtf8)).unwrap();
        assert_eq!(evidence["content"], "\u{fffd}\u{fffd}\"{");
        let large = Kept::new(None, 0);
        assert_eq!(large.told().map(drop).unwrap_err(), Fault::TooLarge);
        assert!(large.evidence(Fault::TooLarge).contains("null"));
        assert_eq!(large.created_at(), "2000-01-01T00:00:00.000000+00:00");
    }

    #[test]
    fn a_message_of_any_depth_is_read() {
        let depth = 100_000;
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let text = content(&format!(", \"payload\": {nested}"));
        assert_eq!(Told::read(text.as_bytes()).unwrap().payload.get(), nested);
        assert_eq!(fault(&nested), Fault::NotAnObject);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_a_fault(bytes: Vec<u8>) {
            let _ = Told::read(&bytes);
        }

        #[test]
        fn any_texts_come_out_as_they_went_in(topic: String, kind: String, payload: String) {
            let text = serde_json::json!({
                "event_id": ID, "aggregate_id": ID, "event_type": kind, "topic": topic,
                "payload": payload,
            })
            .to_string();
            match Told::read(text.as_bytes()) {
                Ok(told) => {
                    let row = told.row();
                    prop_assert_eq!(row.event_type(), Some(kind.as_bytes()));
                    prop_assert_eq!(row.topic(), Some(topic.as_bytes()));
                    let payload = serde_json::to_string(&payload).unwrap();
                    let found = row.payload().unwrap();
                    prop_assert_eq!(&*found, payload.as_bytes());
                }
                Err(fault) => prop_assert!(
                    fault == Fault::EventType && kind.trim().is_empty()
                        || fault == Fault::Nul && (topic.contains('\0') || kind.contains('\0'))
                ),
            }
        }
    }
}
