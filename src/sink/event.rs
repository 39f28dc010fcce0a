//! What an entry says, whichever way it is written: fields, JSON, CloudEvents, a dead letter, or
//! something of somebody else's.
//!
//! In: an entry. Out: an [`Event`] whose parts bear the names of format `fields`. It must stay true
//! that nothing of an entry is left out, that JSON in it stays as it is written, and that any bytes
//! are an event: an entry may come from anybody.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::stored::Entry;

/// What CloudEvents calls the fields (`entry.rs` writes them).
const CLOUDEVENTS: [(&str, &str); 9] = [
    ("id", "event_id"),
    ("type", "event_type"),
    ("subject", "aggregate_id"),
    ("time", "occurred_at"),
    ("schemaversion", "schema_version"),
    ("tenantid", "tenant_id"),
    ("aggregatetype", "aggregate_type"),
    ("correlationid", "correlation_id"),
    ("data", "payload"),
];

/// A part of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// JSON as it is written.
    Json(String),
}

impl Part {
    /// Text as it is, or JSON as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Json(text) => text,
        }
    }
}

/// An entry that was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Names and parts, in their order.
    pub parts: Vec<(String, Part)>,
}

impl Event {
    /// Never fails: what is not understood is there under its own names.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        if let [(name, value)] = entry.fields.as_slice()
            && name == b"data"
            && let Some(event) = Self::of_json(value)
        {
            return event;
        }
        let part = |(name, value): &(Vec<u8>, Vec<u8>)| {
            let name = String::from_utf8_lossy(name).into_owned();
            let is_json = name == "payload" && serde_json::from_slice::<&RawValue>(value).is_ok();
            let text = String::from_utf8_lossy(value).into_owned();
            (name, if is_json { Part::Json(text) } else { Part::Text(text) })
        };
        Self { parts: entry.fields.iter().map(part).collect() }
    }

    /// Of one JSON object.
    fn of_json(text: &[u8]) -> Option<Self> {
        let mut members = serde_json::Deserializer::from_slice(text);
        let members = members.deserialize_map(Members).ok()?;
        let is_cloudevent = members.iter().any(|(name, _)| name == "specversion");
        let part = |(name, json): (String, Box<RawValue>)| {
            let known = CLOUDEVENTS.iter().find(|(theirs, _)| is_cloudevent && *theirs == name);
            let name = known.map_or(name, |(_, ours)| (*ours).to_owned());
            let part = match serde_json::from_str(json.get()) {
                Ok(text) if name != "payload" => Part::Text(text),
                Ok(_) | Err(_) => Part::Json(json.get().to_owned()),
            };
            (name, part)
        };
        Some(Self { parts: members.into_iter().map(part).collect() })
    }

    /// The part of this name; the first of several.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parts.iter().find(|(known, _)| known == name).map(|(_, part)| part.as_str())
    }

    /// The event's id; that of a dead letter is the event's that died.
    #[must_use]
    pub fn event_id(&self) -> &str {
        self.get("event_id").or_else(|| self.get("original_event_id")).unwrap_or_default()
    }
}

/// The members of an object in their order, each as it is written.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EntryFormat;
    use crate::outbox::Envelope;
    use crate::sink::EntryWriter;

    fn entry(fields: &[(&str, &[u8])]) -> Entry {
        let owned = |(name, value): &(&str, &[u8])| (name.as_bytes().to_vec(), value.to_vec());
        Entry { fields: fields.iter().map(owned).collect(), ..Entry::default() }
    }

    #[test]
    fn every_format_says_the_same() {
        let payload: &[u8] = br#"{"n": 1.10,  "big": 12345678901234567890123}"#;
        let envelope = Envelope { payload: payload.into(), ..Envelope::sample() };
        let occurred_at = envelope.occurred_at.as_bytes().to_vec();
        let plain = Event::of(&entry(&[
            ("event_id", envelope.event_id),
            ("event_type", envelope.event_type),
            ("occurred_at", &occurred_at),
            ("aggregate_id", envelope.aggregate_id),
            ("payload", payload),
        ]));
        for format in [EntryFormat::Json, EntryFormat::Cloudevents] {
            let mut writer = EntryWriter::new(format, "/outbox".to_owned());
            let event = Event::of(&entry(&[("data", writer.data(&envelope))]));
            for name in ["event_id", "event_type", "occurred_at", "aggregate_id", "payload"] {
                assert_eq!(event.get(name), plain.get(name), "{name} of {format:?}");
                assert!(event.get(name).is_some_and(|part| !part.is_empty()), "{name}");
            }
            let payload_at = event.parts.iter().find(|(name, _)| name == "payload");
            assert!(matches!(payload_at, Some((_, Part::Json(_)))), "{event:?}");
        }
    }

    #[test]
    fn anything_is_an_event() {
        for fields in [
            &[][..],
            &[("data", &b"{not json"[..])],
            &[("data", b"[1]")],
            &[("data", b"{\"a\":1}"), ("b", b"\xff\xfe")],
            &[("\u{1b}[2J", b"\0")],
            &[("payload", b"no json")],
        ] {
            let event = Event::of(&entry(fields));
            assert_eq!(event.parts.len(), fields.len(), "{event:?}");
            assert!(event.parts.iter().all(|(_, part)| matches!(part, Part::Text(_))));
            assert_eq!(event.event_id(), "");
        }
        let letter = Event::of(&entry(&[("original_event_id", b"7")]));
        assert_eq!(letter.event_id(), "7");
    }
}
