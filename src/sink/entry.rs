//! The entry as one JSON text: formats `json` and `cloudevents`.
//!
//! In: an envelope. Out: bytes in a buffer that is used again for the next. The payload is pasted
//! in as it is: it is valid JSON already, and parsing it would cost large numbers their digits.

use serde_json::to_writer;

use crate::config::EntryFormat;
use crate::outbox::Envelope;

/// Writes envelopes as JSON, one at a time.
#[derive(Debug)]
pub struct EntryWriter {
    format: EntryFormat,
    /// CloudEvents `source`: a URI reference that names the outbox.
    source: String,
    /// Whether each entry says that it is replayed.
    is_replay: bool,
    text: Vec<u8>,
}

impl EntryWriter {
    /// A writer for `format`; `source` names the outbox in CloudEvents.
    #[must_use]
    pub fn new(format: EntryFormat, source: String) -> Self {
        Self { format, source, is_replay: false, text: Vec::new() }
    }

    /// The same for entries that say they are replayed.
    #[must_use]
    pub fn replaying(format: EntryFormat, source: String) -> Self {
        Self { is_replay: true, ..Self::new(format, source) }
    }

    /// The entry's one value; valid until the next call.
    pub fn data(&mut self, envelope: &Envelope<'_>) -> &[u8] {
        self.text.clear();
        if self.format == EntryFormat::Cloudevents {
            self.cloudevent(envelope);
        } else {
            self.plain(envelope);
        }
        &self.text
    }

    fn plain(&mut self, envelope: &Envelope<'_>) {
        self.member(r#"{"event_id":"#, envelope.event_id);
        self.member(r#","event_type":"#, envelope.event_type);
        self.member(r#","topic":"#, &envelope.stream);
        self.member(r#","schema_version":"#, envelope.schema_version);
        self.member(r#","occurred_at":"#, envelope.occurred_at.as_bytes());
        self.member(r#","tenant_id":"#, &envelope.tenant_id);
        self.member(r#","aggregate_id":"#, envelope.aggregate_id);
        self.member(r#","aggregate_type":"#, envelope.aggregate_type);
        if let Some(id) = &envelope.correlation_id {
            self.member(r#","correlation_id":"#, id);
        }
        if let Some(parent) = &envelope.traceparent {
            self.member(r#","traceparent":"#, parent);
        }
        self.replayed();
        self.last(r#","payload":"#, &envelope.payload);
    }

    /// CloudEvents 1.0 in structured JSON mode; extension names are lower case without separators
    /// (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#attribute-naming-convention>).
    fn cloudevent(&mut self, envelope: &Envelope<'_>) {
        let source = std::mem::take(&mut self.source);
        self.member(r#"{"specversion":"1.0","id":"#, envelope.event_id);
        self.member(r#","source":"#, source.as_bytes());
        self.source = source;
        self.member(r#","type":"#, envelope.event_type);
        self.attribute(r#","subject":"#, envelope.aggregate_id);
        self.attribute(r#","time":"#, envelope.occurred_at.as_bytes());
        self.text.extend_from_slice(br#","datacontenttype":"application/json""#);
        self.attribute(r#","topic":"#, &envelope.stream);
        self.attribute(r#","schemaversion":"#, envelope.schema_version);
        self.attribute(r#","tenantid":"#, &envelope.tenant_id);
        self.attribute(r#","aggregatetype":"#, envelope.aggregate_type);
        self.attribute(r#","correlationid":"#, envelope.correlation_id.as_deref().unwrap_or(b""));
        self.attribute(r#","traceparent":"#, envelope.traceparent.as_deref().unwrap_or(b""));
        self.replayed();
        self.last(r#","data":"#, &envelope.payload);
    }

    /// In CloudEvents an extension attribute of type Boolean.
    fn replayed(&mut self) {
        if self.is_replay {
            self.text.extend_from_slice(b",\"replayed\":true");
        }
    }

    /// CloudEvents forbids empty attributes: what is empty is left out.
    fn attribute(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.member(name, value);
        }
    }

    /// `name` has its quotes, its colon and what stands before it.
    fn member(&mut self, name: &str, value: &[u8]) {
        self.text.extend_from_slice(name.as_bytes());
        // Writing into memory cannot fail.
        let _infallible = match str::from_utf8(value) {
            Ok(text) => to_writer(&mut self.text, text),
            // PostgreSQL sends UTF-8 (client_encoding).
            Err(_) => to_writer(&mut self.text, &String::from_utf8_lossy(value)),
        };
    }

    /// JSON as it is, and the end of the object.
    fn last(&mut self, name: &str, json: &[u8]) {
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(json);
        self.text.push(b'}');
    }
}
