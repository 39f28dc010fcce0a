//! The outbox: its columns and their types, and what the relay's role may do with them.
//!
//! In: the columns of the table with this role's privileges. Out: findings. It must stay true that
//! what an event needs is said by `outbox` and what parking needs by `relay`: it is asked there.

use super::finding::{Finding, on_postgres};
use super::fix::{name_text, table_text};
use super::session::Session;
use crate::config::{AfterPublish, Columns, Outbox, ROW_NUMBER, Settings};
use crate::error::Result;
use crate::outbox::Plan;
use crate::relay::PARKING_COLUMNS;

const TABLE: &str = include_str!("../../sql/queries/check_table.sql");

/// What a missing column is to be, as `walrelay setup` makes it.
const DEFINITIONS: [(&str, &str); 13] = [
    ("id", "bigserial PRIMARY KEY"),
    ("event_id", "uuid NOT NULL DEFAULT gen_random_uuid()"),
    ("event_type", "text"),
    ("aggregate_id", "uuid"),
    ("payload", "jsonb"),
    ("published", "boolean NOT NULL DEFAULT false"),
    ("published_at", "timestamptz"),
    ("attempts", "integer NOT NULL DEFAULT 0"),
    ("next_attempt_at", "timestamptz"),
    ("error_message", "text"),
    ("dead_lettered_at", "timestamptz"),
    ("started_attempts", "integer NOT NULL DEFAULT 0"),
    ("wal_position", "text COLLATE \"C\""),
];
/// Without these there is no event.
const EVENT: [&str; 5] = ["id", "event_id", "event_type", "aggregate_id", "payload"];

const INTEGERS: [&str; 3] = ["smallint", "integer", "bigint"];
/// The types that a column of ours may have: by the names that PostgreSQL prints.
const TYPES: [(&[&str], &str, &[&str]); 5] = [
    (&["id"], "bigint", &INTEGERS),
    (&["attempts", "started_attempts"], "integer", &INTEGERS),
    (&["published"], "boolean", &["boolean"]),
    (
        &["published_at", "next_attempt_at", "dead_lettered_at"],
        "timestamptz",
        &["timestamp with time zone", "timestamp without time zone"],
    ),
    (&["error_message", "wal_position"], "text", &["text", "character varying"]),
];

/// A column, and what this role may do with it.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    pub type_oid: u32,
    pub type_name: String,
    pub is_generated: bool,
    pub may_select: bool,
    pub may_update: bool,
}

/// The outbox.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts, each by itself, not a state")]
pub(super) struct Table {
    pub columns: Vec<Column>,
    /// Which of them plays which part.
    pub parts: Columns,
    pub may_insert: bool,
    pub may_delete: bool,
    pub is_owner: bool,
    pub has_row_security: bool,
    pub is_partitioned: bool,
    pub is_unlogged: bool,
}

pub(super) async fn ask(session: &Session, table: &Outbox) -> Result<Option<Table>> {
    let rows = session.rows(TABLE, &[&table.schema, &table.name]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let column = |row: &tokio_postgres::Row| Column {
        name: row.get("column_name"),
        type_oid: row.get("type_oid"),
        type_name: row.get("type_name"),
        is_generated: row.get("is_generated"),
        may_select: row.get("may_select"),
        may_update: row.get("may_update"),
    };
    Ok(Some(Table {
        columns: rows.iter().map(column).collect(),
        parts: table.columns.clone(),
        may_insert: first.get("may_insert"),
        may_delete: first.get("may_delete"),
        is_owner: first.get("is_owner"),
        has_row_security: first.get("has_row_security"),
        is_partitioned: first.get("is_partitioned"),
        is_unlogged: first.get("is_unlogged"),
    }))
}

/// What is told of a table that is not there, or not to be seen.
pub(super) fn missing(table: &Outbox) -> Finding {
    on_postgres(format!("table {table}")).failure(
        "not there",
        "there is nothing to relay; or outbox_table names another one than the application writes",
        "walrelay setup",
    )
}

impl Table {
    /// The column that plays a part.
    pub fn column(&self, part: &str) -> Option<&Column> {
        let name = self.parts.column(part)?;
        self.columns.iter().find(|column| column.name == name)
    }

    pub fn has(&self, part: &str) -> bool {
        self.column(part).is_some()
    }

    /// Names and types, as other rooms read them.
    pub fn described(&self) -> Vec<(String, u32)> {
        self.columns.iter().map(|column| (column.name.clone(), column.type_oid)).collect()
    }

    pub fn judge(&self, settings: &Settings, role: &str) -> Vec<Finding> {
        let table = &settings.outbox_table;
        let mut findings = vec![self.event(table)];
        findings.extend(self.settling(settings));
        findings.push(self.parking(table));
        findings.extend(self.types(table));
        findings.extend(self.hazards(table, role));
        findings
    }

    fn event(&self, table: &Outbox) -> Finding {
        let subject = on_postgres(format!("columns of {table}"));
        let missing = self.missing(&EVENT);
        if !missing.is_empty() {
            let found = self.without(&missing);
            let why = "without them a row is no event, and the relay does not start";
            return subject.failure(found, why, self.add(table, &missing));
        }
        match Plan::from_columns(table, &self.described()) {
            Ok(_) => subject.ok("all that an event needs"),
            // The type of id: told with the other types.
            Err(_) => subject.ok("all that an event needs, by their names"),
        }
    }

    /// Parts whose columns are not there; what the settings say is no column is not missed.
    fn missing(&self, wanted: &[&'static str]) -> Vec<&'static str> {
        let is_column = |part: &str| self.parts.column(part).is_some();
        wanted.iter().copied().filter(|part| is_column(part) && !self.has(part)).collect()
    }

    fn without(&self, missing: &[&str]) -> String {
        let names: Vec<&str> = missing.iter().filter_map(|part| self.parts.column(part)).collect();
        format!("without {}", names.join(", "))
    }

    fn add(&self, table: &Outbox, missing: &[&str]) -> String {
        if missing.contains(&"id") && self.parts.column("id") == Some(ROW_NUMBER) {
            return "walrelay setup".to_owned();
        }
        let definition = |part: &&str| {
            let known = DEFINITIONS.iter().find(|(known, _)| known == part);
            let name = self.parts.column(part)?;
            let name = if name == *part { name.to_owned() } else { name_text(name) };
            let definition = known.map_or("text", |(_, definition)| definition);
            Some(format!("ADD COLUMN IF NOT EXISTS {name} {definition}"))
        };
        let added: Vec<String> = missing.iter().filter_map(definition).collect();
        format!("ALTER TABLE {} {};", table_text(table), added.join(", "))
    }

    fn settling(&self, settings: &Settings) -> Option<Finding> {
        if settings.after_publish != AfterPublish::Mark {
            return None;
        }
        let table = &settings.outbox_table;
        let missing = self.missing(&["published", "published_at"]);
        let subject = on_postgres(format!("columns to mark rows of {table}"));
        if table.marks().is_empty() {
            let why = "after_publish = mark has nothing to set, and the relay does not start";
            let fix = "set after_publish to delete or keep, or say in columns which column is \
                       published_at";
            return Some(subject.failure("none", why, fix.to_owned()));
        }
        if missing.is_empty() {
            return None;
        }
        Some(subject.failure(
            self.without(&missing),
            "after_publish = mark sets them once an event is safe, and the relay does not start \
             without; if rows were published by something else, set published = true for those",
            self.add(table, &missing),
        ))
    }

    fn parking(&self, table: &Outbox) -> Finding {
        let subject = on_postgres(format!("columns to park rows of {table}"));
        let mut wanted = PARKING_COLUMNS.to_vec();
        wanted.push("published");
        let missing = self.missing(&wanted);
        if missing.is_empty() {
            return subject.ok("there");
        }
        subject.warning(
            self.without(&missing),
            "an event that Redis refuses cannot be set aside: it stops the relay instead",
            self.add(table, &missing),
        )
    }

    fn types(&self, table: &Outbox) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (names, wanted, allowed) in TYPES {
            for (part, column) in names.iter().filter_map(|part| Some((part, self.column(part)?))) {
                let base = column.type_name.split('(').next().unwrap_or_default();
                // timestamp(3) with time zone
                let base = match column.type_name.rsplit_once(')') {
                    Some((_, behind)) => format!("{base}{behind}"),
                    None => base.to_owned(),
                };
                if !allowed.contains(&base.as_str()) {
                    findings.push(wrong_type(table, (part, column), wanted));
                }
            }
        }
        let json = ["json", "jsonb", "text", "character varying", "bytea"];
        let payload = self.column("payload");
        let is_json = |column: &&Column| json.iter().any(|name| column.type_name.starts_with(name));
        if let Some(column) = payload.filter(|column| !is_json(column)) {
            findings.push(wrong_type(table, ("payload", column), "jsonb"));
        }
        let marks = table.marks();
        let ours = self.columns.iter().filter(|column| marks.contains(&column.name.as_str()));
        for column in ours.filter(|column| column.is_generated) {
            let name = name_text(&column.name);
            findings.push(on_postgres(format!("column {} of {table}", column.name)).failure(
                "generated",
                "the relay cannot set it, so no row can be marked",
                format!("ALTER TABLE {} ALTER COLUMN {name} DROP EXPRESSION;", table_text(table)),
            ));
        }
        findings
    }

    fn hazards(&self, table: &Outbox, role: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.is_unlogged {
            findings.push(on_postgres(format!("table {table}")).failure(
                "unlogged",
                "its rows are not in the WAL: none is streamed, and a crash empties it",
                format!("ALTER TABLE {} SET LOGGED;", table_text(table)),
            ));
        }
        if self.has_row_security {
            findings.push(on_postgres(format!("row security of {table}")).warning(
                "holds for this role",
                "rows that a policy hides are streamed and never marked: the relay waits for them",
                format!("ALTER ROLE {} BYPASSRLS;", name_text(role)),
            ));
        }
        findings
    }
}

fn wrong_type(table: &Outbox, (part, column): (&str, &Column), wanted: &str) -> Finding {
    let (name, alter) = (name_text(&column.name), format!("ALTER TABLE {}", table_text(table)));
    let fix = if part == "id" {
        // Nothing makes a number of a uuid.
        format!(
            "set columns = \"id = {ROW_NUMBER}\", and run `walrelay setup`: it adds that column"
        )
    } else {
        let known = DEFINITIONS.iter().find(|(known, _)| *known == part);
        let default = known.and_then(|(_, definition)| definition.split_once(" DEFAULT "));
        let default =
            default.map(|(_, value)| format!(", ALTER COLUMN {name} SET DEFAULT {value}"));
        format!(
            "{alter} ALTER COLUMN {name} DROP DEFAULT, ALTER COLUMN {name} TYPE {wanted} USING \
             {name}::text::{wanted}{};",
            default.unwrap_or_default()
        )
    };
    on_postgres(format!("column {} of {table}", column.name)).failure(
        column.type_name.clone(),
        format!("the relay reads or writes it as {wanted}"),
        fix,
    )
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
