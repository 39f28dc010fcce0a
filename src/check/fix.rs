//! What is printed to be pasted: SQL, made in one place.
//!
//! In: names as the server has them. Out: statements that psql takes as they are. It must stay true
//! that every name in them is quoted where that is needed, and that nothing in here is run by us.

use crate::config::TableName;
use crate::postgres::quote;

const RELOAD: &str = include_str!("../../sql/fixes/reload.sql");
const DROP_SLOT: &str = include_str!("../../sql/fixes/drop_slot.sql");
const CREATE_SLOT: &str = include_str!("../../sql/fixes/create_slot.sql");
const CREATE_STANDBY_SLOT: &str = include_str!("../../sql/fixes/create_standby_slot.sql");
const CREATE_PUBLICATION: &str = include_str!("../../sql/fixes/create_publication.sql");
const REPUBLISH: &str = include_str!("../../sql/fixes/republish.sql");
const CREATE_INDEX: &str = include_str!("../../sql/fixes/create_index.sql");
const TERMINATE: &str = include_str!("../../sql/fixes/terminate.sql");

/// The statements without what the file says about itself at its head.
fn statements(file: &str) -> String {
    let lines = file.lines().skip_while(|line| line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A setting that takes a restart.
pub(super) fn restart(name: &str, value: &str) -> String {
    format!("ALTER SYSTEM SET {name} = {value};   -- then restart PostgreSQL")
}

/// A setting that takes a reload.
pub(super) fn reload(name: &str, value: &str) -> String {
    statements(RELOAD).replace("{name}", name).replace("{value}", value)
}

pub(super) fn drop_slot(slot: &str) -> String {
    statements(DROP_SLOT).replace("{slot}", &quote::literal(slot))
}

pub(super) fn create_slot(slot: &str, is_failover: bool) -> String {
    let failover = if is_failover { ", false, false, true" } else { "" };
    let text = statements(CREATE_SLOT).replace("{slot}", &quote::literal(slot));
    text.replace("{failover}", failover)
}

pub(super) fn create_standby_slot() -> String {
    statements(CREATE_STANDBY_SLOT)
}

pub(super) fn terminate(pid: i32) -> String {
    statements(TERMINATE).replace("{pid}", &pid.to_string())
}

/// With a row filter where there is a condition.
pub(super) fn create_publication(name: &str, table: &TableName, filter: Option<&str>) -> String {
    publication(CREATE_PUBLICATION, name, table, filter)
}

/// The table taken out of a publication and put in again, with all columns.
pub(super) fn republish(name: &str, table: &TableName, filter: Option<&str>) -> String {
    publication(REPUBLISH, name, table, filter)
}

fn publication(file: &str, name: &str, table: &TableName, filter: Option<&str>) -> String {
    let filter = filter.map_or_else(String::new, |filter| format!(" WHERE ({filter})"));
    statements(file)
        .replace("{filter}", &filter)
        .replace("{publication}", &name_text(name))
        .replace("{table}", &table_text(table))
}

/// An index to be made.
#[derive(Clone, Copy)]
pub(super) struct NewIndex<'a> {
    pub name: &'a str,
    pub table: &'a TableName,
    pub columns: &'a [&'a str],
    pub predicate: &'a str,
    /// A partitioned table takes none CONCURRENTLY.
    pub is_partitioned: bool,
}

pub(super) fn create_index(new: NewIndex<'_>) -> String {
    let columns: Vec<String> = new.columns.iter().map(|column| name_text(column)).collect();
    statements(CREATE_INDEX)
        .replace("{concurrently}", if new.is_partitioned { "" } else { "CONCURRENTLY " })
        .replace("{index}", &name_text(new.name))
        .replace("{table}", &table_text(new.table))
        .replace("{columns}", &columns.join(", "))
        .replace("{predicate}", new.predicate)
}

/// A name in quotes only where it needs them: what is printed is read by people.
pub(super) fn name_text(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_plain = name.bytes().all(plain) && name.starts_with(|c: char| c.is_ascii_lowercase());
    // Every word that PostgreSQL reserves has letters only; ours have an underscore, or are known.
    let is_safe = is_plain && (name.contains('_') || KNOWN.contains(&name));
    if is_safe { name.to_owned() } else { quote::ident(name) }
}

/// Names of one word that are none of PostgreSQL's.
const KNOWN: [&str; 6] = ["identity", "outbox", "walrelay", "relay", "id", "published"];

pub(super) fn table_text(table: &TableName) -> String {
    format!("{}.{}", name_text(&table.schema), name_text(&table.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_must_be() {
        for (name, text) in [
            ("walrelay", "walrelay"),
            ("outbox_published_idx", "outbox_published_idx"),
            ("user", "\"user\""),
            ("Outbox", "\"Outbox\""),
            ("1st_one", "\"1st_one\""),
            ("a\"; DROP TABLE x; --", "\"a\"\"; DROP TABLE x; --\""),
        ] {
            assert_eq!(name_text(name), text);
        }
    }

    #[test]
    fn statements_come_without_the_files_own_words() {
        assert_eq!(drop_slot("it's"), "SELECT pg_drop_replication_slot('it''s');");
        assert_eq!(terminate(7), "SELECT pg_terminate_backend(7);");
        let table = TableName { schema: "identity".into(), name: "outbox".into() };
        let made = create_publication("walrelay", &table, Some("id > 1"));
        assert!(made.starts_with("CREATE PUBLICATION walrelay FOR TABLE identity.outbox WHERE ("));
        assert!(create_slot("s", true).ends_with("('s', 'pgoutput', false, false, true);"));
        let index = NewIndex {
            name: "by_id",
            table: &table,
            columns: &["id"],
            predicate: "",
            is_partitioned: false,
        };
        assert_eq!(create_index(index), "CREATE INDEX CONCURRENTLY by_id ON identity.outbox (id);");
    }
}
