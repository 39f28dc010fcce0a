//! The way back: what event an entry is, in any of our formats.
//!
//! In: an entry, or the envelope that it should have been made of. Out: [`Values`], the same for
//! both. It must stay true that the payload's bytes are compared as they are, and that an entry of
//! somebody else is told from ours, never guessed at.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use serde_json::value::RawValue;

use super::stored::Entry;
use crate::outbox::{Envelope, moment};

/// What is compared: by the names of the format `fields`.
const NAMES: [&str; 9] = [
    "event_id",
    "event_type",
    "schema_version",
    "tenant_id",
    "aggregate_id",
    "aggregate_type",
    "correlation_id",
    "traceparent",
    "payload",
];
const EVENT_ID: usize = 0;
const PAYLOAD: usize = 8;
/// The same in a structured CloudEvent.
const CLOUDEVENTS: [&str; 9] = [
    "id",
    "type",
    "schemaversion",
    "tenantid",
    "subject",
    "aggregatetype",
    "correlationid",
    "traceparent",
    "data",
];
/// Marks what `walrelay replay` has written.
const REPLAYED: &str = "replayed";

/// What an entry is.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and nearly always an event")]
pub enum Seen<'a> {
    /// An event.
    Event(Values<'a>),
    /// One that was there before, replayed on purpose.
    Replayed,
    /// Nothing of ours.
    Foreign,
}

/// The values of an event that row and entry have in common.
#[derive(Debug)]
pub struct Values<'a> {
    values: [Cow<'a, [u8]>; NAMES.len()],
    occurred_at: Cow<'a, [u8]>,
}

impl Entry {
    /// What it is.
    #[must_use]
    pub fn seen(&self) -> Seen<'_> {
        let find = |wanted: &str| {
            let found = self.fields.iter().find(|(name, _)| name == wanted.as_bytes());
            found.map(|(_, value)| value.as_slice())
        };
        if find(REPLAYED).is_some() {
            return Seen::Replayed;
        }
        if let Some(data) = find("data") {
            return seen_in(data);
        }
        if find("event_id").is_none() || find("payload").is_none() {
            return Seen::Foreign;
        }
        let value = |name: &str| Cow::Borrowed(find(name).unwrap_or_default().trim_ascii());
        Seen::Event(Values { values: NAMES.map(value), occurred_at: value("occurred_at") })
    }
}

/// Of the formats that are one JSON text.
fn seen_in(data: &[u8]) -> Seen<'_> {
    let Ok(members) = serde_json::from_slice::<HashMap<String, &RawValue>>(data) else {
        return Seen::Foreign;
    };
    if members.contains_key(REPLAYED) {
        return Seen::Replayed;
    }
    let is_cloudevent = members.contains_key("specversion");
    let names = if is_cloudevent { &CLOUDEVENTS } else { &NAMES };
    let text = |name: &str| {
        let text = members.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        Cow::Owned(text.unwrap_or_default().into_bytes())
    };
    let mut values = names.map(text);
    if let (Some(payload), Some(raw)) =
        (values.get_mut(PAYLOAD), names.get(PAYLOAD).and_then(|name| members.get(*name)))
    {
        *payload = Cow::Borrowed(raw.get().as_bytes());
    }
    let event =
        Values { values, occurred_at: text(if is_cloudevent { "time" } else { "occurred_at" }) };
    if event.event_id().is_empty() { Seen::Foreign } else { Seen::Event(event) }
}

impl<'a> Values<'a> {
    /// Of the event that a row is.
    #[must_use]
    pub fn of(envelope: &'a Envelope<'a>) -> Self {
        let borrowed = |value: &'a [u8]| Cow::Borrowed(value);
        Self {
            values: [
                borrowed(envelope.event_id),
                borrowed(envelope.event_type),
                borrowed(envelope.schema_version),
                borrowed(&envelope.tenant_id),
                borrowed(envelope.aggregate_id),
                borrowed(envelope.aggregate_type),
                borrowed(envelope.correlation_id.as_deref().unwrap_or_default()),
                borrowed(envelope.traceparent.as_deref().unwrap_or_default()),
                // Blanks around a JSON value are nobody's, and the JSON formats lose them.
                borrowed(&envelope.payload),
            ]
            .map(trimmed),
            occurred_at: borrowed(envelope.occurred_at.as_bytes()),
        }
    }

    /// The event's identity.
    #[must_use]
    pub fn event_id(&self) -> &[u8] {
        self.values.get(EVENT_ID).map_or(&[], |value| value)
    }

    /// When it happened: milliseconds since 1970.
    #[must_use]
    pub fn occurred_ms(&self) -> Option<u64> {
        let text = std::str::from_utf8(&self.occurred_at).ok()?;
        u64::try_from(moment::parse(text)?.div_euclid(1_000)).ok()
    }

    /// Equal for equal events, but for when they happened.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for value in &self.values {
            hasher.write_usize(value.len());
            hasher.write(value);
        }
        hasher.finish()
    }

    /// The names of the fields in which two events differ; of `occurred_at` where both say it.
    #[must_use]
    pub fn differences(&self, other: &Self, is_dated: bool) -> Vec<&'static str> {
        let pairs = NAMES.into_iter().zip(self.values.iter().zip(&other.values));
        let mut names: Vec<_> =
            pairs.filter(|(_, (one, two))| one != two).map(|(name, _)| name).collect();
        if is_dated && self.occurred_ms() != other.occurred_ms() {
            names.push("occurred_at");
        }
        names
    }
}

fn trimmed(value: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match value {
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.trim_ascii()),
        Cow::Owned(bytes) => Cow::Owned(bytes.trim_ascii().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EntryFormat;
    use crate::sink::{EntryId, EntryWriter};

    fn entry(fields: &[(&str, &[u8])]) -> Entry {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
        Entry { id: EntryId::default(), fields: fields.collect() }
    }

    #[test]
    fn an_entry_of_any_format_is_the_event_that_it_was_made_of() {
        let envelope = Envelope {
            event_id: b"e-1",
            event_type: b"caf\xc3\xa9 \"x\"",
            payload: b"{\"b\": 1.10, \"a\": 12345678901234567890}"[..].into(),
            correlation_id: Some(b"c"[..].into()),
            ..Envelope::sample()
        };
        let wanted = Values::of(&envelope);
        for format in [EntryFormat::Json, EntryFormat::Cloudevents] {
            let data = EntryWriter::new(format, "urn:x".into()).data(&envelope).to_vec();
            let entry = entry(&[("data", &data)]);
            let Seen::Event(values) = entry.seen() else { panic!("{entry:?}") };
            assert_eq!(values.differences(&wanted, true), Vec::<&str>::new(), "{format:?}");
            assert_eq!(values.digest(), wanted.digest());
        }
        let fields = [
            ("event_id", &b"e-1"[..]),
            ("event_type", b"caf\xc3\xa9 \"x\""),
            ("schema_version", b"1"),
            ("occurred_at", b"2000-01-01T00:00:00.000000+00:00"),
            ("aggregate_id", b"a"),
            ("payload", b"{\"b\": 1.1, \"a\": 12345678901234567890}"),
            ("correlation_id", b"c"),
        ];
        let entry = entry(&fields);
        let Seen::Event(values) = entry.seen() else { panic!("{entry:?}") };
        assert_eq!(values.differences(&wanted, true), ["payload"]);
        assert_ne!(values.digest(), wanted.digest());
    }

    #[test]
    fn what_is_not_ours_or_replayed_is_told_apart() {
        for fields in [&[("a", &b"b"[..])][..], &[("data", b"[]")], &[("data", b"{}")]] {
            assert!(matches!(entry(fields).seen(), Seen::Foreign), "{fields:?}");
        }
        let replayed = [("event_id", &b"e"[..]), ("payload", b"{}"), ("replayed", b"true")];
        assert!(matches!(entry(&replayed).seen(), Seen::Replayed));
        let replayed = [("data", &b"{\"event_id\":\"e\",\"replayed\":true}"[..])];
        assert!(matches!(entry(&replayed).seen(), Seen::Replayed));
    }
}
