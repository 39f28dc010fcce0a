//! A row of the outbox read by SQL, as the decoder would see it: the same [`Row`], so that it is
//! the same event, to the byte, whichever way it comes.
//!
//! In: the columns of the table, and the values of a SELECT. Out: the list for that SELECT, and
//! rows. The session must print as a replication session does: `datestyle = ISO`, `timezone = UTC`.

use super::row::{COLUMNS, Plan, Row};
use crate::config::TableName;
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
    list: String,
    event_id: String,
    topic: String,
    unpublished: String,
    has_flag: bool,
    can_park: bool,
    payload_is_json: bool,
}

impl Selection {
    /// From the names and types of the table's columns. One that an event needs and that is missing
    /// is a definite error.
    pub fn from_columns<'a>(
        outbox: &TableName,
        columns: &(impl Iterator<Item = (&'a str, u32)> + Clone),
    ) -> Result<Self> {
        let plan = Plan::from_columns(outbox, columns)?;
        let has = |wanted: &str| columns.clone().any(|(name, _)| name == wanted);
        // Names of ours, in lower case and without anything that needs quoting.
        let field = |name: &str| {
            if has(name) { format!("o.{name}::text") } else { "NULL::text".to_owned() }
        };
        let list: Vec<String> = COLUMNS.iter().map(|name| field(name)).collect();
        let unpublished: Vec<&str> = UNPUBLISHED
            .into_iter()
            .filter(|(name, _)| has(name))
            .map(|(_, condition)| condition)
            .collect();
        Ok(Self {
            list: list.join(", "),
            event_id: format!("o.id::int8 AS id, {} AS event_id", field("event_id")),
            topic: field("topic"),
            unpublished: if unpublished.is_empty() {
                "true".to_owned()
            } else {
                unpublished.join(" AND ")
            },
            has_flag: has("published"),
            can_park: PARKING.into_iter().all(has),
            payload_is_json: plan.payload_is_json(),
        })
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
    pub fn list(&self) -> &str {
        &self.list
    }

    /// The same with NULL for the payload, for rows whose payload is not to be met.
    #[must_use]
    pub fn list_without_payload(&self) -> String {
        self.list.replace("o.payload::text", "NULL::text")
    }

    /// The row with these values; `value` is asked for each field by its place in the list.
    pub fn read<'a>(&self, value: impl Fn(usize) -> Option<&'a str>) -> Row<'a> {
        let mut values = [None; FIELDS];
        for (place, field) in values.iter_mut().enumerate() {
            *field = value(place).map(str::as_bytes);
        }
        Row::of(values, self.payload_is_json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_optional_columns_selects_nulls_in_their_places() {
        let outbox = TableName { schema: "a".into(), name: "b".into() };
        let columns = [
            ("payload", 3802),
            ("id", 20),
            ("event_id", 2950),
            ("event_type", 25),
            ("aggregate_id", 2950),
        ];
        let selection = Selection::from_columns(&outbox, &columns.into_iter()).unwrap();
        assert!(selection.list().starts_with("o.id::text, o.event_id::text, o.event_type::text, "));
        assert_eq!(selection.list().matches("::text").count(), FIELDS);
        assert_eq!(selection.list().matches("NULL::text").count(), FIELDS - columns.len());
        assert_eq!(selection.unpublished(), "true");
        assert!(!selection.has_flag() && !selection.can_park());
        assert_eq!(selection.topic(), "NULL::text");
        let row = selection.read(|place| (place == 0).then_some("7"));
        assert_eq!(row.id(), Some(7));
        assert!(!row.is_born_settled_or_parked());
    }
}
