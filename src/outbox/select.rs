//! A row of the outbox read by SQL, as the decoder would see it: the same [`Row`], so that it is
//! the same event, to the byte, whichever way it comes.
//!
//! In: the columns of the table, and the values of a SELECT. Out: the list for that SELECT, and
//! rows. The session must print as a replication session does: `datestyle = ISO`, `timezone = UTC`.

use super::row::{COLUMNS, Nature, PAYLOAD, Row};
use crate::config::{Outbox, Parts};
use crate::error::Result;

/// Values that [`Selection::list`] selects, one for each field of a [`Row`].
pub const FIELDS: usize = COLUMNS.len();

/// Each part holds where the table has the column. A row whose flag is NULL is not published.
const UNPUBLISHED: [(&str, &str); 3] = [
    ("published", "o.published IS NOT TRUE"),
    ("next_attempt_at", "o.next_attempt_at IS NULL"),
    ("dead_lettered_at", "o.dead_lettered_at IS NULL"),
];
/// What parking a row changes or asks for.
const PARKING: [&str; 7] = [
    "published",
    "attempts",
    "started_attempts",
    "next_attempt_at",
    "dead_lettered_at",
    "error_message",
    "wal_position",
];

/// How rows of one table are selected.
#[derive(Clone, Debug)]
pub struct Selection {
    list: Vec<String>,
    event_id: String,
    topic: String,
    unpublished: String,
    has_flag: bool,
    can_park: bool,
    nature: Nature,
    parts: Parts,
}

impl Selection {
    /// From the names and types of the table's columns. One that an event needs and that is missing
    /// is a definite error.
    pub fn from_columns(outbox: &Outbox, columns: &[(String, u32)]) -> Result<Self> {
        let parts = outbox.parts(columns);
        let nature = Nature::new(outbox, &parts)?;
        let has = |part: &str| parts.has(part);
        let field = |part: &str| {
            let part = if has(part) { outbox.sql(&format!("o.{part}")) } else { "NULL".to_owned() };
            format!("{part}::text")
        };
        let list: Vec<String> = COLUMNS.iter().map(|name| field(name)).collect();
        let unpublished: Vec<&str> = UNPUBLISHED
            .into_iter()
            .filter(|(name, _)| has(name))
            .map(|(_, condition)| condition)
            .collect();
        Ok(Self {
            list,
            event_id: outbox.sql("o.id::int8 AS id, o.event_id::text AS event_id"),
            topic: format!("coalesce({}, {})", field("topic"), outbox.sql("{own_stream}")),
            unpublished: if unpublished.is_empty() {
                "true".to_owned()
            } else {
                outbox.sql(&unpublished.join(" AND "))
            },
            has_flag: has("published"),
            can_park: PARKING.into_iter().all(has),
            nature,
            parts,
        })
    }

    /// The parts that the table has a column for.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The same for those rows only that meet this condition as well.
    #[must_use]
    pub fn restricted_to(mut self, condition: &str) -> Self {
        self.unpublished = format!("{} AND {condition}", self.unpublished);
        self
    }

    /// What stands behind SELECT for id and event_id alone.
    #[must_use]
    pub fn identities(&self) -> &str {
        &self.event_id
    }

    /// The expression for the stream that a row names; NULL where it names none.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The condition for a row that nobody has published, parked or given up. True for every row of
    /// a table that does not tell.
    #[must_use]
    pub fn unpublished(&self) -> &str {
        &self.unpublished
    }

    /// Whether the table tells which rows are published.
    #[must_use]
    pub fn has_flag(&self) -> bool {
        self.has_flag
    }

    /// Whether the table has the columns for parking a row.
    #[must_use]
    pub fn can_park(&self) -> bool {
        self.can_park
    }

    /// What stands behind SELECT, [`FIELDS`] values of type text. The table's alias is `o`.
    #[must_use]
    pub fn list(&self) -> String {
        self.list.join(", ")
    }

    /// The same with NULL for the payload, for rows whose payload is not to be met.
    #[must_use]
    pub fn list_without_payload(&self) -> String {
        self.list_with_payload(|_| "NULL::text".to_owned())
    }

    /// The same with another expression for the payload, made of the one that it is.
    #[must_use]
    pub fn list_with_payload(&self, other: impl FnOnce(&str) -> String) -> String {
        let mut list = self.list.clone();
        if let Some(payload) = list.get_mut(PAYLOAD) {
            *payload = other(payload);
        }
        list.join(", ")
    }

    /// The row with these values; `value` is asked for each field by its place in the list.
    pub fn read<'a>(&self, value: impl Fn(usize) -> Option<&'a str>) -> Row<'a> {
        let mut values = [None; FIELDS];
        for (place, field) in values.iter_mut().enumerate() {
            *field = value(place).map(str::as_bytes);
        }
        Row::of(values, self.nature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TableName;

    #[test]
    fn a_table_without_optional_columns_selects_nulls_in_their_places() {
        let outbox = Outbox::from(TableName { schema: "a".into(), name: "b".into() });
        let columns = [
            ("payload", 3802),
            ("id", 20),
            ("event_id", 2950),
            ("event_type", 25),
            ("aggregate_id", 2950),
        ];
        let named = columns.map(|(name, oid)| (name.to_owned(), oid));
        let selection = Selection::from_columns(&outbox, &named).unwrap();
        assert!(selection.list().starts_with("o.id::text, o.event_id::text, o.event_type::text, "));
        assert_eq!(selection.list().matches("::text").count(), FIELDS);
        assert_eq!(selection.list().matches("NULL::text").count(), FIELDS - columns.len());
        assert_eq!(selection.unpublished(), "true");
        assert!(!selection.has_flag() && !selection.can_park());
        assert_eq!(selection.topic(), "coalesce(NULL::text, NULL::text)");
        let row = selection.read(|place| (place == 0).then_some("7"));
        assert_eq!(row.id(), Some(7));
        assert!(!row.is_born_settled_or_parked());
    }
}
