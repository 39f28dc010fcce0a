//! What consumers see of a row: the event envelope, borrowed from the row's own bytes.
//!
//! In: a [`Row`]. Out: an [`Envelope`], or [`Unfit`] when no event can be made of it. It must stay
//! true that the payload's bytes are passed on as PostgreSQL printed them (large numbers keep their
//! digits, keys their order), and that they never reach a log: `Unfit` names the fault, not the
//! value.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use super::fault::Fault;
use super::occurred_at::OccurredAt;
use super::row::Row;
use crate::config::Outbox;
use crate::contract::{Contract, Subject, Violation};

/// The schema version of an event that names none.
pub(super) const SCHEMA_VERSION_DEFAULT: &[u8] = b"1";
/// A stream's name is a Redis key that people type; more is an accident.
const STREAM_NAME_BYTES_MAX: usize = 512;

/// Why a row cannot become an event. Permanent: trying again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A column did not arrive as text.
    NotText,
    /// The named column is NULL.
    Null(&'static str),
    /// The named column is not UTF-8.
    NotUtf8(&'static str),
    /// `id` is no integer.
    Id,
    /// The payload is not JSON.
    NotJson,
    /// `created_at` is infinite, before Christ or after the year 9999: RFC 3339 cannot say it.
    OccurredAt,
    /// The stream's name is empty, over 512 bytes, or has control characters.
    StreamName,
    /// The event is larger than `max_event_bytes`.
    TooLarge {
        /// Bytes of all its values.
        bytes: usize,
        /// The setting.
        limit: usize,
    },
    /// Publishing it has ended the process so often.
    Deadly(u64),
    /// Its payload breaks its schema.
    Violation(Box<Violation>),
    /// It is a message in the WAL, and this is wrong with it.
    Message(Fault),
}

impl Unfit {
    /// What is wrong with the name of a stream.
    #[must_use]
    pub fn of_stream(name: &str) -> Option<Self> {
        let is_unfit = name.is_empty()
            || name.len() > STREAM_NAME_BYTES_MAX
            || name.chars().any(char::is_control);
        is_unfit.then(|| Fault::of_topic(name).map_or(Self::StreamName, Self::Message))
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => f.write_str("a column did not arrive as text"),
            Self::Null(column) => write!(f, "{column} is NULL"),
            Self::NotUtf8(column) => write!(f, "{column} is not UTF-8"),
            Self::Id => f.write_str("id is not an integer"),
            Self::Deadly(times) => write!(f, "publishing it ended the process {times} times"),
            Self::Message(fault) => f.write_str(fault.text()),
            Self::NotJson => f.write_str("payload is not JSON"),
            Self::Violation(violation) => violation.fmt(f),
            Self::OccurredAt => f.write_str("created_at is not between the years 0000 and 9999"),
            Self::StreamName => write!(
                f,
                "the stream name is empty, longer than {STREAM_NAME_BYTES_MAX} bytes or has \
                 control characters"
            ),
            Self::TooLarge { bytes, limit } => {
                write!(f, "the event has {bytes} bytes, max_event_bytes is {limit}")
            }
        }
    }
}

impl std::error::Error for Unfit {}

/// An event as consumers receive it. All values borrow from the row.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// The event's identity, the same in every repetition.
    pub event_id: &'a [u8],
    /// What happened.
    pub event_type: &'a [u8],
    /// The stream it goes to.
    pub stream: Cow<'a, [u8]>,
    /// Version of the payload's schema.
    pub schema_version: &'a [u8],
    /// When.
    pub occurred_at: OccurredAt,
    /// Whose.
    pub tenant_id: Cow<'a, [u8]>,
    /// To which aggregate; the ordering key.
    pub aggregate_id: &'a [u8],
    /// Of which kind that is.
    pub aggregate_type: &'a [u8],
    /// JSON text, as PostgreSQL printed it.
    pub payload: Cow<'a, [u8]>,
    /// The request behind it, where the row has it.
    pub correlation_id: Option<Cow<'a, [u8]>>,
    /// W3C trace context, where the row has it.
    pub traceparent: Option<Cow<'a, [u8]>>,
}

/// What the row itself does not say.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// The stream of a row without a topic.
    pub stream: &'a [u8],
    /// What is the same for every row, or told by its payload.
    pub outbox: &'a Outbox,
    /// Microseconds since 2000-01-01 of the commit, for a table without created_at.
    pub commit_time: i64,
    /// `max_event_bytes`.
    pub event_bytes_max: usize,
    /// What payloads are held against.
    pub contract: Option<&'a Contract>,
}

impl<'a> Envelope<'a> {
    /// The event of `row`.
    pub fn new(row: &Row<'a>, defaults: &Defaults<'a>) -> Result<Self, Unfit> {
        let payload = row.payload().unwrap_or(Cow::Borrowed(b"null"));
        if !row.payload_is_json() && serde_json::from_slice::<&RawValue>(&payload).is_err() {
            return Err(Unfit::NotJson);
        }
        let constant = |part, value: Option<&'a [u8]>| value.or_else(|| defaults.constant(part));
        let told = |part, value: Option<&'a [u8]>| match value.filter(|value| !value.is_empty()) {
            Some(value) => Some(Cow::Borrowed(value)),
            None => defaults.told(part, &payload),
        };
        let envelope = Self {
            event_id: row.event_id().ok_or(Unfit::Null("event_id"))?,
            event_type: constant("event_type", row.event_type()).unwrap_or_default(),
            stream: Self::stream_of(row, defaults)?,
            schema_version: constant("schema_version", row.schema_version())
                .unwrap_or(SCHEMA_VERSION_DEFAULT),
            occurred_at: match row.created_at() {
                Some(text) => OccurredAt::from_postgres(text)?,
                None => OccurredAt::from_postgres_micros(defaults.commit_time),
            },
            tenant_id: match constant("tenant_id", row.tenant_id()) {
                Some(tenant) => Cow::Borrowed(tenant),
                None => defaults.tenant_of(&payload),
            },
            aggregate_id: row.aggregate_id().unwrap_or_default(),
            aggregate_type: constant("aggregate_type", row.aggregate_type()).unwrap_or_default(),
            correlation_id: told("correlation_id", row.correlation_id()),
            traceparent: told("traceparent", row.traceparent()),
            payload,
        };
        envelope.check(defaults)?;
        Ok(envelope)
    }

    /// An event for tests, which change what they are about.
    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        Self {
            event_id: b"id",
            event_type: b"t",
            stream: Cow::Borrowed(b"s"),
            schema_version: b"1",
            occurred_at: OccurredAt::from_postgres_micros(0),
            tenant_id: Cow::Borrowed(b""),
            aggregate_id: b"a",
            aggregate_type: b"",
            payload: Cow::Borrowed(b"{}"),
            correlation_id: None,
            traceparent: None,
        }
    }

    /// The stream that the event of `row` goes to, should it be one.
    pub fn stream_of(row: &Row<'a>, defaults: &Defaults<'a>) -> Result<Cow<'a, [u8]>, Unfit> {
        let name = defaults.stream_named(row);
        // Most rows name the stream that was checked when the settings were read.
        if *name == *defaults.stream {
            return Ok(name);
        }
        let stream = std::str::from_utf8(&name).map_err(|_| Unfit::NotUtf8("topic"))?;
        if let Some(unfit) = Unfit::of_stream(stream) {
            return Err(unfit);
        }
        Ok(name)
    }

    /// What is so whatever it was made of.
    #[inline]
    pub(super) fn check(&self, defaults: &Defaults<'_>) -> Result<(), Unfit> {
        let (bytes, limit) = (self.bytes(), defaults.event_bytes_max);
        if bytes > limit {
            return Err(Unfit::TooLarge { bytes, limit });
        }
        let Some(contract) = defaults.contract else { return Ok(()) };
        let admitted = contract.admit(&self.subject(), &self.payload);
        admitted.map_err(|violation| Unfit::Violation(Box::new(violation)))
    }

    /// The names by which its schema is found.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            topic: &self.stream,
            event_type: self.event_type,
            version: self.schema_version,
            event_id: self.event_id,
        }
    }

    /// Bytes of all values together.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.event_id.len()
            + self.event_type.len()
            + self.stream.len()
            + self.schema_version.len()
            + self.occurred_at.as_bytes().len()
            + self.tenant_id.len()
            + self.aggregate_id.len()
            + self.aggregate_type.len()
            + self.payload.len()
            + self.correlation_id.as_ref().map_or(0, |id| id.len())
            + self.traceparent.as_ref().map_or(0, |id| id.len())
    }
}
