//! What `walrelay setup` does to the outbox: our own is created, another one completed.
//!
//! In: the table's columns. Out: SQL, and the names of what was added. It must stay true that no
//! row is rewritten, and that nothing is added which the table has by another name.

use std::collections::BTreeSet;

use tokio_postgres::{Client, Row};

use super::setup_numbers::Numbers;
use crate::config::Outbox;
use crate::error::{Error, Result};
use crate::postgres::{self, from_sql, quote};
use crate::relay::PARKING_COLUMNS;

const IDENTITY: &str = include_str!("../../sql/migrations/0001_identity.sql");
const OUTBOX_COLUMNS: &str = include_str!("../../sql/migrations/0002_outbox_columns.sql");

/// Before each column that 0002 adds.
const ADD: &str = "ADD COLUMN IF NOT EXISTS ";

/// Our own table is created; another outbox is somebody else's, and only completed.
pub(super) fn is_own(outbox: &Outbox) -> bool {
    outbox.schema == "identity" && outbox.name == "outbox"
}

/// All of it for a table that nobody has looked at, in order, each to be run by itself.
pub(super) fn script(outbox: &Outbox) -> Vec<String> {
    let mut statements = vec![columns_sql(outbox)];
    if is_own(outbox) {
        statements.insert(0, IDENTITY.to_owned());
    }
    statements.extend(Numbers::of(outbox, false).into_iter().flat_map(Numbers::script));
    statements
}

/// Columns, under the names that the table has for their parts. A part that is no column of this
/// table is not added.
fn columns_sql(outbox: &Outbox) -> String {
    let mut added: Vec<String> = Vec::new();
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    for line in OUTBOX_COLUMNS.lines() {
        let Some((part, definition)) = added_by(line) else {
            let part = if added.is_empty() { &mut head } else { &mut tail };
            part.push(line);
            continue;
        };
        if let Some(column) = outbox.columns.column(part) {
            let name = if column == part { part.to_owned() } else { quote::ident(column) };
            added.push(format!("    {ADD}{name} {}", definition.trim_end_matches([',', ';'])));
        }
    }
    // What is named already is not to be read for places.
    format!("{}\n{};\n{}\n", outbox.sql(&head.join("\n")), added.join(",\n"), tail.join("\n"))
}

/// The part that a line of 0002 is about, and its definition.
fn added_by(line: &str) -> Option<(&str, &str)> {
    line.trim().strip_prefix(ADD)?.split_once(' ')
}

/// The columns that a table gets, where it lacks them.
fn added_columns(outbox: &Outbox) -> Vec<&str> {
    let parts = OUTBOX_COLUMNS.lines().filter_map(added_by).map(|(part, _)| part);
    parts.chain(["id"]).filter_map(|part| outbox.columns.column(part)).collect()
}

/// The columns that the relay writes, for a GRANT.
pub(super) fn written(outbox: &Outbox) -> String {
    let parking = PARKING_COLUMNS.iter().filter_map(|part| outbox.columns.column(part));
    let names = outbox.marks().into_iter().chain(parking).map(|name| {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if is_plain { name.to_owned() } else { quote::ident(name) }
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Creates or completes the table; what was done, in words.
pub(super) async fn set_up(client: &Client, outbox: &Outbox) -> Result<String> {
    let before = names(&postgres::describe_table(client, outbox).await?);
    if is_own(outbox) {
        let doing = "cannot create schema identity";
        client.batch_execute(IDENTITY).await.map_err(|error| from_sql(doing, error))?;
    } else if before.is_empty() {
        return Err(Error::definite(format!("table {outbox} does not exist")).hint(
            "walrelay creates identity.outbox only; create your own outbox, or correct \
                 outbox_table",
        ));
    }
    let rows = postgres::describe_table(client, outbox).await?;
    let between = names(&rows);
    // ADD COLUMN IF NOT EXISTS locks the table even where it adds nothing: only when something is
    // missing.
    if added_columns(outbox).iter().any(|column| !between.contains(*column)) {
        let doing = format!("cannot add columns to table {outbox}");
        let done = client.batch_execute(&columns_sql(outbox)).await;
        done.map_err(|error| from_sql(&doing, error))?;
    }
    let is_partitioned = rows.first().is_some_and(|row| row.get("is_partitioned"));
    let numbered = match Numbers::of(outbox, is_partitioned) {
        Some(numbers) => numbers.set_up(client).await?,
        None => Vec::new(),
    };
    if before.is_empty() {
        return Ok("created".to_owned());
    }
    let after = names(&postgres::describe_table(client, outbox).await?);
    let new: Vec<&str> = after.difference(&before).map(String::as_str).collect();
    let columns =
        if new.is_empty() { "found".to_owned() } else { format!("added {}", new.join(", ")) };
    Ok(std::iter::once(columns).chain(numbered).collect::<Vec<_>>().join(", "))
}

fn names(rows: &[Row]) -> BTreeSet<String> {
    rows.iter().map(|row| row.get("column_name")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Columns, Preset, TableName};

    fn outbox(preset: Preset, list: &str) -> Outbox {
        let table = TableName { schema: "app".into(), name: "events".into() };
        Outbox { columns: Columns::new(preset, list).unwrap(), ..Outbox::from(table) }
    }

    #[test]
    fn our_own_columns_are_added_as_the_file_says() {
        let own = outbox(Preset::Identity, "");
        assert_eq!(columns_sql(&own), own.sql(OUTBOX_COLUMNS));
        assert_eq!(added_columns(&own).len(), 14);
        assert_eq!(script(&own).len(), 1);
    }

    #[test]
    fn another_table_keeps_its_names_and_gets_no_part_that_it_does_without() {
        let other = outbox(Preset::OutboxEvents, "error_message = \"Last Error\"");
        let sql = columns_sql(&other);
        assert!(sql.contains("IF NOT EXISTS \"processed_at\" timestamptz,"), "{sql}");
        assert!(sql.contains("IF NOT EXISTS \"Last Error\" text,"), "{sql}");
        for part in ["published boolean", "topic", "tenant_id", "traceparent"] {
            assert!(!sql.contains(part), "{part}: {sql}");
        }
        assert!(sql.trim_end().ends_with("RESET lock_timeout;"), "{sql}");
        assert_eq!(
            written(&other),
            "processed_at, retry_count, started_attempts, next_attempt_at, \"Last Error\", \
             wal_position, dead_lettered_at"
        );
    }
}
