//! What it costs to mark a row, and to find one: indexes and room in the pages.
//!
//! In: the indexes of the outbox, and its fillfactor. Out: findings. A mark that touches no index
//! and finds room in its page is HOT: 7 us a row where others take 18 to 28
//! (<https://www.postgresql.org/docs/current/storage-hot.html>).

use super::finding::{Finding, on_postgres};
use super::fix::{self, NewIndex, name_text, table_text};
use super::session::Session;
use super::table::Table;
use crate::config::{AfterPublish, Settings, TableName};
use crate::error::Result;

const INDEXES: &str = include_str!("../../sql/queries/check_indexes.sql");
const FILLFACTOR: &str = include_str!("../../sql/queries/check_fillfactor.sql");

/// Each row needs a second version in its page.
const FILLFACTOR_MAX: i32 = 90;
/// From here on an index that only summarises (BRIN) is no hindrance.
const VERSION_SUMMARISING: i32 = 160_000;
/// Tables with pages that are too full, named one by one.
const NAMED_MAX: usize = 3;

/// An index of the outbox.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub schema: String,
    pub name: String,
    pub method: String,
    pub is_valid: bool,
    pub has_expression: bool,
    pub constraint: Option<String>,
    pub keys: Vec<String>,
    pub columns: Vec<String>,
}

/// A table that holds rows, and how full its pages are filled.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub table: TableName,
    pub fillfactor: i32,
}

pub(super) async fn ask(session: &Session, table: &TableName) -> Result<(Vec<Index>, Vec<Leaf>)> {
    let named: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&table.schema, &table.name];
    let rows = session.rows(INDEXES, &named).await?;
    let index = |row: &tokio_postgres::Row| Index {
        schema: row.get("schema_name"),
        name: row.get("index_name"),
        method: row.get("method"),
        is_valid: row.get("is_valid"),
        has_expression: row.get("has_expression"),
        constraint: row.get("constraint_name"),
        keys: row.get("keys"),
        columns: row.get("columns"),
    };
    let indexes = rows.iter().map(index).collect();
    let rows = session.rows(FILLFACTOR, &named).await?;
    let leaf = |row: &tokio_postgres::Row| Leaf {
        table: TableName { schema: row.get("schema_name"), name: row.get("table_name") },
        fillfactor: row.get("fillfactor"),
    };
    Ok((indexes, rows.iter().map(leaf).collect()))
}

/// What is asked of the indexes.
pub(super) struct Indexes<'a> {
    pub settings: &'a Settings,
    pub table: &'a Table,
    pub version_num: i32,
    pub all: &'a [Index],
}

impl Indexes<'_> {
    pub fn judge(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.settings.after_publish == AfterPublish::Mark {
            let costly = self.all.iter().filter(|index| self.is_costly(index));
            findings.extend(costly.map(|index| self.costly(index)));
        }
        if findings.is_empty() {
            let subject = on_postgres(format!("indexes of {}", self.settings.outbox_table));
            findings.push(subject.ok("none that makes a mark expensive"));
        }
        let columns = &self.settings.outbox_table.columns;
        findings.push(self.wanted(
            columns.column("id").unwrap_or("id"),
            "",
            "a row is marked by its id: without it each mark reads \
                                  the whole table",
        ));
        for part in ["next_attempt_at", "dead_lettered_at"] {
            if let (true, Some(column)) = (self.table.has(part), columns.column(part)) {
                let predicate = format!(" WHERE {} IS NOT NULL", name_text(column));
                let why = "parked and dead rows are looked for every few seconds: without it each \
                           look reads the whole table";
                findings.push(self.wanted(column, &predicate, why));
            }
        }
        findings
    }

    /// The columns that a mark changes.
    fn marked(&self) -> Vec<&str> {
        self.settings.outbox_table.marks()
    }

    fn is_costly(&self, index: &Index) -> bool {
        let is_summary = index.method == "brin" && self.version_num >= VERSION_SUMMARISING;
        !is_summary && self.marked().iter().any(|marked| index.columns.iter().any(|n| n == marked))
    }

    fn costly(&self, index: &Index) -> Finding {
        let table = &self.settings.outbox_table;
        let named: Vec<&str> = self
            .marked()
            .into_iter()
            .filter(|marked| index.columns.iter().any(|name| name == marked))
            .collect();
        on_postgres(format!("index {} on {table}", index.name)).warning(
            format!("hangs on {}", named.join(" and ")),
            "a mark changes that, so it must write to every index of the table (not HOT): 18 to 28 \
             us a row instead of 7, and bloat",
            self.replaced(index),
        )
    }

    /// Away with it, and where it served something else, without what hurts.
    fn replaced(&self, index: &Index) -> String {
        let table = &self.settings.outbox_table;
        let marked = self.marked();
        let rest: Vec<&str> =
            index.keys.iter().map(String::as_str).filter(|name| !marked.contains(name)).collect();
        let drop = if let Some(name) = &index.constraint {
            format!("ALTER TABLE {} DROP CONSTRAINT {};", table_text(table), name_text(name))
        } else {
            let concurrently = if self.table.is_partitioned { "" } else { "CONCURRENTLY " };
            let (schema, name) = (name_text(&index.schema), name_text(&index.name));
            format!("DROP INDEX {concurrently}{schema}.{name};")
        };
        // One that the table has anyway need not be made again.
        let is_there = self.all.iter().any(|other| {
            !self.is_costly(other)
                && other.keys.first().map(String::as_str) == rest.first().copied()
        });
        if rest.is_empty() || is_there || index.has_expression || index.method != "btree" {
            return drop;
        }
        let create = fix::create_index(NewIndex {
            name: &index.name,
            table,
            columns: &rest,
            predicate: "",
            is_partitioned: self.table.is_partitioned,
        });
        format!("{drop}\n{create}")
    }

    fn wanted(&self, column: &str, predicate: &str, why: &str) -> Finding {
        let table = &self.settings.outbox_table;
        let subject = on_postgres(format!("index on {column} of {table}"));
        let is_it = |index: &&Index| index.keys.first().is_some_and(|key| key == column);
        match self.all.iter().filter(is_it).max_by_key(|index| index.is_valid) {
            Some(index) if index.is_valid => return subject.ok(index.name.clone()),
            Some(index) => {
                let name = format!("{}.{}", name_text(&index.schema), name_text(&index.name));
                let found = format!("{} is not valid", index.name);
                let fix = format!("REINDEX INDEX CONCURRENTLY {name};");
                return subject.warning(found, why, fix);
            }
            None => {}
        }
        let name = format!("{}_{column}", table.name);
        let create = fix::create_index(NewIndex {
            name: &name,
            table,
            columns: &[column],
            predicate,
            is_partitioned: self.table.is_partitioned,
        });
        subject.warning("none", why, create)
    }
}

/// Room in the pages, which matters where rows are marked.
pub(super) fn judge_room(settings: &Settings, leaves: &[Leaf]) -> Option<Finding> {
    if settings.after_publish != AfterPublish::Mark || leaves.is_empty() {
        return None;
    }
    let table = &settings.outbox_table;
    let subject = on_postgres(format!("fillfactor of {table}"));
    let full: Vec<&Leaf> = leaves.iter().filter(|leaf| leaf.fillfactor > FILLFACTOR_MAX).collect();
    let Some(first) = full.first() else {
        let most = leaves.iter().map(|leaf| leaf.fillfactor).max().unwrap_or_default();
        return Some(subject.ok(format!("{most}")));
    };
    let found = match full.len() {
        1 => first.fillfactor.to_string(),
        many => format!("{} in {many} of {} partitions", first.fillfactor, leaves.len()),
    };
    let alter =
        |leaf: &&Leaf| format!("ALTER TABLE {} SET (fillfactor = 50);", table_text(&leaf.table));
    let mut fix: Vec<String> = full.iter().take(NAMED_MAX).map(alter).collect();
    if full.len() > NAMED_MAX {
        fix.push("-- and so on".to_owned());
    }
    Some(subject.warning(
        found,
        "a mark makes a second version of its row: without room in the page it goes elsewhere and \
         writes to every index (pages that are full already stay so until VACUUM FULL)",
        fix.join("\n"),
    ))
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
