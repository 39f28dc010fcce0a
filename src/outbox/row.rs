//! Columns to a row: which value of a tuple plays which part of an event.
//!
//! In: a Relation message, once, and then its tuples. Out: [`Plan`] (which column is which) and
//! [`Row`] (the values, borrowed). Columns are found by the names that the settings give them, so
//! that adding, dropping or reordering them is harmless; unknown ones are stepped over.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::config::{Outbox, Parts, ROW_NUMBER};
use crate::error::{Error, Result};
use crate::outbox::envelope::Unfit;
use crate::pgoutput::{Column, Relation, Tuple};

/// The parts that are read; the constants below are places in this list.
pub const COLUMNS: [&str; 15] = [
    "id",
    "event_id",
    "event_type",
    "aggregate_type",
    "aggregate_id",
    "payload",
    "created_at",
    "topic",
    "tenant_id",
    "correlation_id",
    "traceparent",
    "schema_version",
    "published",
    "next_attempt_at",
    "dead_lettered_at",
];
const ID: usize = 0;
const EVENT_ID: usize = 1;
const EVENT_TYPE: usize = 2;
const AGGREGATE_TYPE: usize = 3;
const AGGREGATE_ID: usize = 4;
pub(super) const PAYLOAD: usize = 5;
const CREATED_AT: usize = 6;
const TOPIC: usize = 7;
const TENANT_ID: usize = 8;
const CORRELATION_ID: usize = 9;
const TRACEPARENT: usize = 10;
const SCHEMA_VERSION: usize = 11;
const PUBLISHED: usize = 12;
const NEXT_ATTEMPT_AT: usize = 13;
const DEAD_LETTERED_AT: usize = 14;

/// The place of a column that means nothing to us: in no list.
const UNKNOWN: usize = usize::MAX;

/// Without these there is no event.
const REQUIRED: [&str; 5] = ["id", "event_id", "event_type", "aggregate_id", "payload"];

/// Types whose text is valid JSON because PostgreSQL checked it: json and jsonb.
const JSON_TYPES: [u32; 2] = [114, 3802];
/// bytea, printed as `\x` and hexadecimal digits.
const BYTEA: u32 = 17;
/// smallint, integer, bigint: what `id` may be.
const INTEGER_TYPES: [u32; 3] = [21, 23, 20];

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// JSON that PostgreSQL has checked.
    Json,
    /// Any text.
    Text,
    /// Bytes, as PostgreSQL prints them.
    Bytes,
}

/// What is the same for every row of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nature {
    pub payload: Payload,
    /// Whether a row is published when its moment is set: the table has no flag.
    pub is_published_by_moment: bool,
}

impl Nature {
    /// What the types of a table's parts say. A part that an event needs and that is missing, or
    /// rows without a whole number, are a definite error.
    pub fn new(outbox: &Outbox, parts: &Parts) -> Result<Self> {
        // What is no column is the same for every row.
        let missing: Vec<&str> = REQUIRED
            .into_iter()
            .filter(|part| !parts.has(part))
            .filter_map(|part| outbox.columns.column(part))
            .collect();
        if !missing.is_empty() {
            return Err(Error::definite(format!(
                "table {outbox} lacks the column{} {}",
                if missing.len() == 1 { "" } else { "s" },
                missing.join(", ")
            ))
            .hint(
                "add what is missing (`walrelay setup` adds the columns of its own), or say with \
                 outbox_preset and columns what this table has",
            ));
        }
        if !parts.type_of("id").is_some_and(|oid| INTEGER_TYPES.contains(&oid)) {
            let column = outbox.columns.column("id").unwrap_or_default();
            return Err(Error::definite(format!(
                "column {column} of table {outbox} is not an integer"
            ))
            .hint(format!(
                "rows are marked by a whole number: set columns = \"id = {ROW_NUMBER}\", which \
                     `walrelay setup` adds to the table"
            )));
        }
        let payload = match parts.type_of("payload") {
            Some(oid) if JSON_TYPES.contains(&oid) => Payload::Json,
            Some(BYTEA) => Payload::Bytes,
            Some(_) | None => Payload::Text,
        };
        let is_published_by_moment = outbox.columns.column("published").is_none();
        Ok(Self { payload, is_published_by_moment })
    }
}

/// Which column of a relation is which field; made once per Relation message.
#[derive(Clone, Debug)]
pub struct Plan {
    /// By column number: the place of its field, [`UNKNOWN`] for a column that means nothing to us.
    columns: Vec<usize>,
    /// Columns that are a second field as well: the place of the first, and that one's.
    twice: Vec<(usize, usize)>,
    /// By column number.
    names: Arc<[String]>,
    nature: Nature,
}

impl Plan {
    /// The plan for `relation`, or `None` when it is another table. An outbox that lacks a column
    /// is a definite error: the event could not be told.
    pub fn new(relation: &Relation, outbox: &Outbox) -> Result<Option<Self>> {
        if relation.schema != outbox.schema || relation.name != outbox.name {
            return Ok(None);
        }
        let columns = relation.columns.iter().map(|column| (column.name.clone(), column.type_oid));
        Self::from_columns(outbox, &columns.collect::<Vec<_>>()).map(Some)
    }

    /// The same from names and types, for the check before streaming.
    pub fn from_columns(outbox: &Outbox, columns: &[(String, u32)]) -> Result<Self> {
        let nature = Nature::new(outbox, &outbox.parts(columns))?;
        let flag = if nature.is_published_by_moment { "published_at" } else { "published" };
        let column_of =
            |part: &str| outbox.columns.column(if part == "published" { flag } else { part });
        let (mut first, mut twice) = (Vec::with_capacity(columns.len()), Vec::new());
        for (name, _) in columns {
            let plays = |(_, part): &(usize, &str)| column_of(part) == Some(name.as_str());
            let mut places = (0..).zip(COLUMNS).filter(plays).map(|(place, _)| place);
            let place = places.next().unwrap_or(UNKNOWN);
            twice.extend(places.map(|other| (place, other)));
            first.push(place);
        }
        let names = columns.iter().map(|(name, _)| name.clone()).collect();
        Ok(Self { columns: first, twice, names, nature })
    }

    /// All values of a tuple that is read by this plan, to be kept.
    #[must_use]
    pub fn copy(&self, tuple: &Tuple<'_>) -> Copied {
        let text = |column| match column {
            Column::Text(bytes) => Some(bytes.into()),
            // Of an INSERT all values are there, and none is binary: that was not asked for.
            Column::Null | Column::Binary(_) | Column::UnchangedToast => None,
        };
        Copied { names: Arc::clone(&self.names), values: tuple.columns().map(text).collect() }
    }

    /// Reads one tuple by this plan.
    pub fn read<'a>(&self, tuple: &Tuple<'a>) -> std::result::Result<Row<'a>, Unfit> {
        let mut values = [None; COLUMNS.len()];
        for (column, place) in tuple.columns().zip(&self.columns) {
            // Most columns of most rows are NULL, and so are the values before they are read.
            let bytes = match column {
                Column::Null => continue,
                Column::Text(bytes) => Some(bytes),
                Column::Binary(_) | Column::UnchangedToast => None,
            };
            let Some(value) = values.get_mut(*place) else { continue };
            *value = Some(bytes.ok_or(Unfit::NotText)?);
        }
        for (from, to) in &self.twice {
            let value = values.get(*from).copied().flatten();
            if let Some(other) = values.get_mut(*to) {
                *other = value;
            }
        }
        Ok(Row { values, nature: self.nature })
    }
}

/// A whole row that outlives its message, with the columns that mean nothing to us.
#[derive(Clone)]
pub struct Copied {
    names: Arc<[String]>,
    values: Vec<Option<Box<[u8]>>>,
}

impl Copied {
    /// Name and value of each column.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.names.iter().map(String::as_str).zip(self.values.iter().map(Option::as_deref))
    }

    /// Bytes of its values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.iter().flatten().map(|value| value.len()).sum()
    }
}

/// Shows its size only: a value must not reach a log by way of `{:?}`.
impl fmt::Debug for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Copied({} bytes)", self.bytes())
    }
}

/// The values of one outbox row, as PostgreSQL prints them; `None` is NULL or "no such column".
#[derive(Clone, Debug)]
pub struct Row<'a> {
    values: [Option<&'a [u8]>; COLUMNS.len()],
    nature: Nature,
}

impl<'a> Row<'a> {
    pub(super) fn of(values: [Option<&'a [u8]>; COLUMNS.len()], nature: Nature) -> Self {
        Self { values, nature }
    }

    pub(super) fn payload_is_json(&self) -> bool {
        self.nature.payload == Payload::Json
    }

    #[inline]
    fn value(&self, column: usize) -> Option<&'a [u8]> {
        self.values.get(column).copied().flatten()
    }

    /// The row's number, by which it is marked.
    #[must_use]
    pub fn id(&self) -> Option<i64> {
        std::str::from_utf8(self.value(ID)?).ok()?.parse().ok()
    }

    /// Whether the row was born settled or parked: `published` is true, or `next_attempt_at` or
    /// `dead_lettered_at` is set. Such a row is history that was imported, an event for later, or
    /// one set aside by a relay: no news.
    #[must_use]
    pub fn is_born_settled_or_parked(&self) -> bool {
        self.is_published()
            || self.value(NEXT_ATTEMPT_AT).is_some()
            || self.value(DEAD_LETTERED_AT).is_some()
    }

    fn is_published(&self) -> bool {
        match self.value(PUBLISHED) {
            Some(_) if self.nature.is_published_by_moment => true,
            flag => flag == Some(b"t"),
        }
    }

    /// When it is due, where it is parked.
    #[must_use]
    pub fn next_attempt_at(&self) -> Option<&'a [u8]> {
        self.value(NEXT_ATTEMPT_AT)
    }

    /// The event's identity.
    #[must_use]
    pub fn event_id(&self) -> Option<&'a [u8]> {
        self.value(EVENT_ID)
    }

    /// What happened.
    #[must_use]
    pub fn event_type(&self) -> Option<&'a [u8]> {
        self.value(EVENT_TYPE)
    }

    pub(super) fn aggregate_type(&self) -> Option<&'a [u8]> {
        self.value(AGGREGATE_TYPE)
    }

    /// To which aggregate the event belongs: the ordering key.
    #[must_use]
    pub fn aggregate_id(&self) -> Option<&'a [u8]> {
        self.value(AGGREGATE_ID)
    }

    /// JSON text, as PostgreSQL printed it, or as its bytes are.
    #[must_use]
    pub fn payload(&self) -> Option<Cow<'a, [u8]>> {
        let printed = self.value(PAYLOAD)?;
        match self.nature.payload {
            Payload::Json | Payload::Text => Some(Cow::Borrowed(printed)),
            Payload::Bytes => Some(Cow::Owned(bytes(printed).unwrap_or_default())),
        }
    }

    /// When it was written, as PostgreSQL prints it.
    #[must_use]
    pub fn created_at(&self) -> Option<&'a [u8]> {
        self.value(CREATED_AT)
    }

    /// The stream that the row names.
    #[must_use]
    pub fn topic(&self) -> Option<&'a [u8]> {
        self.value(TOPIC)
    }

    pub(super) fn tenant_id(&self) -> Option<&'a [u8]> {
        self.value(TENANT_ID)
    }

    pub(super) fn correlation_id(&self) -> Option<&'a [u8]> {
        self.value(CORRELATION_ID)
    }

    pub(super) fn traceparent(&self) -> Option<&'a [u8]> {
        self.value(TRACEPARENT)
    }

    pub(super) fn schema_version(&self) -> Option<&'a [u8]> {
        self.value(SCHEMA_VERSION)
    }
}

/// The bytes that `bytea_output = hex` prints as `\x` and two digits each.
fn bytes(printed: &[u8]) -> Option<Vec<u8>> {
    let digits = printed.strip_prefix(b"\\x")?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Columns, Preset, TableName};

    #[test]
    fn bytes_are_read_as_they_are_printed() {
        assert_eq!(bytes(b"\\x7b22c3a9227D"), Some(b"{\"\xc3\xa9\"}".to_vec()));
        assert_eq!(bytes(b"\\x"), Some(Vec::new()));
        for text in [&b"7b"[..], b"\\x7", b"\\x7g", b""] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }

    fn plan(list: &str, columns: &[(&'static str, u32)]) -> Result<Plan> {
        let table = TableName { schema: "app".into(), name: "events".into() };
        let mut outbox = Outbox::from(table);
        outbox.columns = Columns::new(Preset::OutboxEvents, list).unwrap();
        let columns = columns.iter().map(|(name, oid)| ((*name).to_owned(), *oid));
        Plan::from_columns(&outbox, &columns.collect::<Vec<_>>())
    }

    #[test]
    fn a_column_plays_each_part_that_it_is_named_for() {
        let columns =
            [("x", 25), ("id", 20), ("event_data", 17), ("event_type", 25), ("aggregate_id", 25)];
        let plan = plan("id = id", &columns).unwrap();
        assert_eq!(plan.columns, [UNKNOWN, ID, PAYLOAD, EVENT_TYPE, AGGREGATE_ID]);
        assert_eq!(plan.twice, [(ID, EVENT_ID)]);
        assert_eq!(plan.nature.payload, Payload::Bytes);
        assert!(plan.nature.is_published_by_moment);
    }

    #[test]
    fn what_an_event_needs_is_asked_for_by_the_names_of_the_table() {
        let error = plan("", &[("id", 2950), ("event_data", 114)]).unwrap_err().to_string();
        assert!(error.ends_with("the columns walrelay_id, event_type, aggregate_id"), "{error}");
        let columns = [("id", 2950), ("event_data", 114), ("aggregate_id", 25)];
        let error = plan("id = id, event_type = 'x'", &columns).unwrap_err().to_string();
        assert!(error.ends_with("column id of table app.events is not an integer"), "{error}");
    }
}
