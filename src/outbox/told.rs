//! What a payload tells of its event, and what is the same for every row: for tables that have no
//! column for it.
//!
//! In: a payload, and the settings of the outbox. Out: values, or none. It must stay true that a
//! payload is read only where it may hold what is asked for, and that it is never built: what is
//! not asked for is stepped over.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::Defaults;
use super::row::Row;
use crate::config::Source;

/// The tenant of an event that names none.
const NIL_UUID: &[u8] = b"00000000-0000-0000-0000-000000000000";

impl<'a> Defaults<'a> {
    /// What a part is for every row, where the settings say so.
    pub(super) fn constant(&self, part: &str) -> Option<&'a [u8]> {
        if self.outbox.columns.is_plain() {
            return None;
        }
        match self.outbox.columns.source(part)? {
            Source::Constant(text) => Some(text.as_bytes()),
            Source::Column(_) | Source::Path(_) | Source::Nothing => None,
        }
    }

    /// What the payload tells of a part, where the settings say so.
    pub(super) fn told(&self, part: &str, payload: &[u8]) -> Option<Cow<'a, [u8]>> {
        if self.outbox.columns.is_plain() {
            return None;
        }
        let Source::Path(keys) = self.outbox.columns.source(part)? else { return None };
        let value = at(payload, keys)?;
        let told = text(&value).or_else(|| number(&value))?;
        (!told.is_empty()).then(|| Cow::Owned(told.into_bytes()))
    }

    /// Whose the event is, where no column says it.
    pub(super) fn tenant_of(&self, payload: &[u8]) -> Cow<'a, [u8]> {
        self.told("tenant_id", payload).unwrap_or_else(|| tenant_of(payload))
    }

    /// The stream that a row names or, where it names none, the settings do; empty where they ask
    /// for what the row does not have.
    #[must_use]
    pub fn stream_named(&self, row: &Row<'a>) -> Cow<'a, [u8]> {
        if let Some(topic) = row.topic() {
            return Cow::Borrowed(topic);
        }
        let Some(template) = &self.outbox.template else { return Cow::Borrowed(self.stream) };
        let value = |part: &str| {
            let column = if part == "event_type" { row.event_type() } else { row.aggregate_type() };
            column.or_else(|| self.constant(part))
        };
        Cow::Owned(template.fill(value).unwrap_or_default())
    }
}

/// The tenant that a payload names: a string `tenant_id` at its top level, else the nil UUID.
///
/// The payload is only read when those bytes occur in it at all.
pub(super) fn tenant_of(payload: &[u8]) -> Cow<'static, [u8]> {
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"tenant_id\""));
    let is_named = KEY.find(payload).is_some();
    let named = is_named.then(|| value_of(payload, "tenant_id")).flatten();
    match named.and_then(|value| text(&value)) {
        Some(tenant) => Cow::Owned(tenant.into_bytes()),
        None => Cow::Borrowed(NIL_UUID),
    }
}

/// The JSON value behind `keys`, one inside the other.
fn at(payload: &[u8], keys: &[String]) -> Option<String> {
    let (first, rest) = keys.split_first()?;
    rest.iter().try_fold(value_of(payload, first)?, |value, key| value_of(value.as_bytes(), key))
}

/// A string's text.
fn text(value: &str) -> Option<String> {
    serde_json::from_str(value).ok()
}

/// A number as it stands there.
fn number(value: &str) -> Option<String> {
    value.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then(|| value.to_owned())
}

/// The JSON value of a key at the top level of an object.
fn value_of(payload: &[u8], key: &str) -> Option<String> {
    serde_json::Deserializer::from_slice(payload).deserialize_any(KeyVisitor { key }).ok()?
}

struct KeyVisitor<'k> {
    key: &'k str,
}

impl<'de> Visitor<'de> for KeyVisitor<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// Of a key that `json` holds twice the last one counts, as it does for PostgreSQL.
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == self.key {
                found = Some(map.next_value::<&RawValue>()?.get().to_owned());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Columns, Outbox, Preset, TableName, Template};
    use crate::outbox::{Envelope, Selection};

    #[test]
    fn the_tenant_is_the_payloads_else_nil() {
        let tenant = |payload: &str| String::from_utf8(tenant_of(payload.as_bytes()).into_owned());
        let nil = String::from_utf8(NIL_UUID.to_vec());
        assert_eq!(tenant(r#"{"a": 1, "tenant_id": "t-1"}"#), Ok("t-1".into()));
        assert_eq!(tenant(r#"{"tenant_id": "caf\u00e9 \"x\""}"#), Ok("café \"x\"".into()));
        assert_eq!(tenant(r#"{"tenant_id": "a", "tenant_id": "b"}"#), Ok("b".into()));
        for payload in [
            r#"{"a": {"tenant_id": "inner"}}"#,
            r#"{"a": "\"tenant_id\""}"#,
            r#"{"tenant_id": 7}"#,
            r#"{"tenant_id": null}"#,
            r#"["tenant_id"]"#,
            r#""tenant_id""#,
            "null",
            "",
        ] {
            assert_eq!(tenant(payload), nil, "{payload}");
        }
    }

    /// An outbox, and the parts of a row of it that are no column of its own.
    fn event(list: &str, template: Option<&str>, payload: &str) -> Result<[String; 5], String> {
        let table = TableName { schema: "app".into(), name: "events".into() };
        let columns = Columns::new(Preset::Identity, list).unwrap();
        let template = template.map(|text| Template::parse(text).unwrap());
        let outbox = Outbox { table, columns, template };
        let columns = ["id", "event_id", "event_type", "aggregate_id", "payload"];
        let columns = columns.map(|name| (name.to_owned(), if name == "id" { 20 } else { 3802 }));
        let selection = Selection::from_columns(&outbox, &columns).unwrap();
        let values = ["7", "e", "Created", "", "a", payload];
        let row =
            selection.read(|place| values.get(place).copied().filter(|text| !text.is_empty()));
        let (stream, event_bytes_max, contract) = (&b"s"[..], 1_000, None);
        let defaults =
            Defaults { stream, outbox: &outbox, commit_time: 0, event_bytes_max, contract };
        let event = Envelope::new(&row, &defaults).map_err(|unfit| unfit.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok([
            text(&event.tenant_id),
            text(event.aggregate_type),
            text(event.schema_version),
            event.correlation_id.as_deref().map(text).unwrap_or_default(),
            text(&event.stream),
        ])
    }

    #[test]
    fn what_no_column_says_the_settings_or_the_payload_do() {
        let list = "tenant_id = $.tenant.id, correlation_id = $.request, \
                    aggregate_type = 'user', schema_version = '3'";
        let payload = r#"{"tenant": {"id": "a", "x": [], "id": 12}, "request": "r-1"}"#;
        let told = event(list, Some("{aggregate_type}.v{event_type}"), payload).unwrap();
        assert_eq!(told, ["12", "user", "3", "r-1", "user.vCreated"]);
        let told = event(list, None, r#"{"tenant": {"id": {}}, "request": null}"#).unwrap();
        let nil = String::from_utf8(NIL_UUID.to_vec()).unwrap();
        assert_eq!(told, [&nil, "user", "3", "", "s"]);
    }

    #[test]
    fn a_stream_that_lacks_a_part_is_no_stream() {
        let error = event("", Some("{aggregate_type}.v1"), "{}").unwrap_err();
        assert!(error.contains("stream name is empty"), "{error}");
    }
}
