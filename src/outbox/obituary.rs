//! An event by what its dead letter says, for one whose row is gone.
//!
//! In: the letter's values. Out: an [`Envelope`]. A letter does not say of which kind the aggregate
//! is, nor schema version, correlation and trace; the tenant is the payload's, or none.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::envelope::{Defaults, Envelope, SCHEMA_VERSION_DEFAULT, Unfit};
use super::occurred_at::OccurredAt;

/// What a dead letter says of its event.
#[derive(Clone, Copy, Debug)]
pub struct Obituary<'a> {
    /// The event's identity.
    pub event_id: &'a [u8],
    /// What happened.
    pub event_type: &'a [u8],
    /// The stream it was for.
    pub topic: &'a [u8],
    /// To which aggregate it belongs.
    pub aggregate_id: &'a [u8],
    /// JSON text; empty where it was too large for the letter.
    pub payload: &'a [u8],
    /// When it happened, in RFC 3339.
    pub created_at: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// The event of a dead letter.
    pub fn of_dead(letter: &Obituary<'a>, defaults: &Defaults<'a>) -> Result<Self, Unfit> {
        if serde_json::from_slice::<&RawValue>(letter.payload).is_err() {
            return Err(Unfit::NotJson);
        }
        let stream = if letter.topic.is_empty() { defaults.stream } else { letter.topic };
        let name = std::str::from_utf8(stream).map_err(|_| Unfit::NotUtf8("topic"))?;
        if let Some(unfit) = Unfit::of_stream(name) {
            return Err(unfit);
        }
        // As PostgreSQL prints it there is a blank between day and hour.
        let mut created_at = letter.created_at.to_vec();
        if let Some(between) = created_at.get_mut(10).filter(|between| **between == b'T') {
            *between = b' ';
        }
        let envelope = Self {
            event_id: letter.event_id,
            event_type: letter.event_type,
            stream: Cow::Borrowed(stream),
            schema_version: defaults.constant("schema_version").unwrap_or(SCHEMA_VERSION_DEFAULT),
            occurred_at: OccurredAt::from_postgres(&created_at)?,
            tenant_id: match defaults.constant("tenant_id") {
                Some(tenant) => Cow::Borrowed(tenant),
                None => defaults.tenant_of(letter.payload),
            },
            aggregate_id: letter.aggregate_id,
            aggregate_type: defaults.constant("aggregate_type").unwrap_or_default(),
            payload: Cow::Borrowed(letter.payload),
            correlation_id: defaults.told("correlation_id", letter.payload),
            traceparent: defaults.told("traceparent", letter.payload),
        };
        envelope.check(defaults)?;
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Outbox, TableName};

    #[test]
    fn a_letter_becomes_the_event_that_died() {
        let letter = Obituary {
            event_id: b"e",
            event_type: b"UserCreated",
            topic: b"",
            aggregate_id: b"a",
            payload: br#"{"tenant_id": "t-1"}"#,
            created_at: b"2026-11-21T04:38:15.123456+00:00",
        };
        let table = TableName { schema: "a".into(), name: "b".into() };
        let (outbox, event_bytes_max) = (Outbox::from(table), 1_000);
        let (stream, contract) = (&b"s"[..], None);
        let defaults =
            Defaults { stream, outbox: &outbox, commit_time: 0, event_bytes_max, contract };
        let envelope = Envelope::of_dead(&letter, &defaults).unwrap();
        assert_eq!(envelope.occurred_at.as_bytes(), letter.created_at);
        assert_eq!((&*envelope.stream, &*envelope.tenant_id), (&b"s"[..], &b"t-1"[..]));
        let without = Obituary { payload: b"", ..letter };
        assert_eq!(Envelope::of_dead(&without, &defaults).unwrap_err(), Unfit::NotJson);
        let nowhere = Obituary { topic: b"a\nb", ..letter };
        assert_eq!(Envelope::of_dead(&nowhere, &defaults).unwrap_err(), Unfit::StreamName);
    }
}
