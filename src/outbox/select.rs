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

/// How rows of one table are selected.
#[derive(Clone, Debug)]
pub struct Selection {
    list: String,
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
        Ok(Self { list: list.join(", "), payload_is_json: plan.payload_is_json() })
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
        let row = selection.read(|place| (place == 0).then_some("7"));
        assert_eq!(row.id(), Some(7));
        assert!(!row.is_born_settled_or_parked());
    }
}
