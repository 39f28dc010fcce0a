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
        self.member("{", "event_id", envelope.event_id);
        self.member(",", "event_type", envelope.event_type);
        self.member(",", "topic", &envelope.stream);
        self.member(",", "schema_version", envelope.schema_version);
        self.member(",", "occurred_at", envelope.occurred_at.as_bytes());
        self.member(",", "tenant_id", &envelope.tenant_id);
        self.member(",", "aggregate_id", envelope.aggregate_id);
        self.member(",", "aggregate_type", envelope.aggregate_type);
        self.optional("correlation_id", envelope.correlation_id.as_deref());
        self.optional("traceparent", envelope.traceparent.as_deref());
        self.replayed();
        self.raw("payload", &envelope.payload);
    }

    /// CloudEvents 1.0 in structured JSON mode; extension names are lower case without separators
    /// (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#attribute-naming-convention>).
    fn cloudevent(&mut self, envelope: &Envelope<'_>) {
        let source = std::mem::take(&mut self.source);
        self.member("{", "specversion", b"1.0");
        self.member(",", "id", envelope.event_id);
        self.member(",", "source", source.as_bytes());
        self.source = source;
        self.member(",", "type", envelope.event_type);
        self.member(",", "subject", envelope.aggregate_id);
        self.member(",", "time", envelope.occurred_at.as_bytes());
        self.member(",", "datacontenttype", b"application/json");
        self.member(",", "topic", &envelope.stream);
        self.member(",", "schemaversion", envelope.schema_version);
        self.member(",", "tenantid", &envelope.tenant_id);
        self.member(",", "aggregatetype", envelope.aggregate_type);
        self.optional("correlationid", envelope.correlation_id.as_deref());
        self.optional("traceparent", envelope.traceparent.as_deref());
        self.replayed();
        self.raw("data", &envelope.payload);
    }

    fn optional(&mut self, name: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.member(",", name, value);
        }
    }

    /// In CloudEvents an extension attribute of type Boolean.
    fn replayed(&mut self) {
        if self.is_replay {
            self.text.extend_from_slice(b",\"replayed\":true");
        }
    }

    fn member(&mut self, before: &str, name: &str, value: &[u8]) {
        // CloudEvents forbids empty attributes: what is empty is left out, except the required
        // ones.
        let is_optional = self.format == EntryFormat::Cloudevents && before == ",";
        if is_optional && value.is_empty() && !matches!(name, "id" | "source" | "type") {
            return;
        }
        self.text.extend_from_slice(before.as_bytes());
        self.text.push(b'"');
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
        // PostgreSQL sends UTF-8 (client_encoding). Writing into memory cannot fail.
        let _infallible = to_writer(&mut self.text, &String::from_utf8_lossy(value));
    }

    fn raw(&mut self, name: &str, json: &[u8]) {
        self.text.extend_from_slice(b",\"");
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
        self.text.extend_from_slice(json);
        self.text.push(b'}');
    }
}
