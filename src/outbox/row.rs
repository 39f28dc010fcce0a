//! Named columns to a row: the only file that knows the column names of an outbox.
//!
//! In: a Relation message, once, and then its tuples. Out: [`Plan`] (which column is which) and
//! [`Row`] (the values, borrowed). Columns are found by name, so that adding, dropping or
//! reordering them is harmless; unknown ones are stepped over.

use std::fmt;
use std::sync::Arc;

use crate::config::TableName;
use crate::error::{Error, Result};
use crate::outbox::envelope::Unfit;
use crate::pgoutput::{Column, Relation, Tuple};

/// The columns that mean something to us, by name; the constants below are places in this list.
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
const PAYLOAD: usize = 5;
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
/// smallint, integer, bigint: what `id` may be.
const INTEGER_TYPES: [u32; 3] = [21, 23, 20];

/// Which column of a relation is which field; made once per Relation message.
#[derive(Clone, Debug)]
pub struct Plan {
    /// By column number: the place of its field, [`UNKNOWN`] for a column that means nothing to us.
    columns: Vec<usize>,
    /// By column number.
    names: Arc<[String]>,
    payload_is_json: bool,
}

impl Plan {
    /// The plan for `relation`, or `None` when it is another table. An outbox that lacks a column
    /// is a definite error: the event could not be told.
    pub fn new(relation: &Relation, outbox: &TableName) -> Result<Option<Self>> {
        if relation.schema != outbox.schema || relation.name != outbox.name {
            return Ok(None);
        }
        let columns = relation.columns.iter().map(|column| (column.name.as_str(), column.type_oid));
        Self::from_columns(outbox, &columns).map(Some)
    }

    /// The same from names and types, for the check before streaming.
    pub fn from_columns<'a>(
        outbox: &TableName,
        columns: &(impl Iterator<Item = (&'a str, u32)> + Clone),
    ) -> Result<Self> {
        let table = format!("{}.{}", outbox.schema, outbox.name);
        let missing: Vec<&str> = REQUIRED
            .into_iter()
            .filter(|required| !columns.clone().any(|(name, _)| name == *required))
            .collect();
        if !missing.is_empty() {
            return Err(Error::definite(format!(
                "table {table} lacks the column{} {}",
                if missing.len() == 1 { "" } else { "s" },
                missing.join(", ")
            ))
            .hint("add what is missing; `walrelay setup` adds the optional columns by itself"));
        }
        let type_of = |wanted: &str| {
            columns.clone().find(|(name, _)| *name == wanted).map_or(0, |(_, oid)| oid)
        };
        if !INTEGER_TYPES.contains(&type_of("id")) {
            return Err(Error::definite(format!("column id of table {table} is not an integer"))
                .hint("rows are marked by an id of type smallint, integer or bigint"));
        }
        let place = |name| COLUMNS.iter().position(|known| *known == name).unwrap_or(UNKNOWN);
        Ok(Self {
            columns: columns.clone().map(|(name, _)| place(name)).collect(),
            names: columns.clone().map(|(name, _)| name.to_owned()).collect(),
            payload_is_json: JSON_TYPES.contains(&type_of("payload")),
        })
    }

    pub(super) fn payload_is_json(&self) -> bool {
        self.payload_is_json
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
        Ok(Row { values, payload_is_json: self.payload_is_json })
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
    pub(super) payload_is_json: bool,
}

impl<'a> Row<'a> {
    pub(super) fn of(values: [Option<&'a [u8]>; COLUMNS.len()], payload_is_json: bool) -> Self {
        Self { values, payload_is_json }
    }

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
        self.value(PUBLISHED) == Some(b"t")
            || self.value(NEXT_ATTEMPT_AT).is_some()
            || self.value(DEAD_LETTERED_AT).is_some()
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

    /// JSON text, as PostgreSQL printed it.
    #[must_use]
    pub fn payload(&self) -> Option<&'a [u8]> {
        self.value(PAYLOAD)
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
