//! The publication: is it there, and does it let through every event and every column of it?
//!
//! In: the publication as PostgreSQL shows it. Out: findings. It must stay true that what the relay
//! refuses at its start is a failure here.

use super::finding::{Finding, on_postgres};
use super::fix::{self, name_text, table_text};
use super::role::Role;
use super::session::Session;
use super::table::Table;
use crate::config::{Settings, Shard, TableName};
use crate::error::Result;
use crate::outbox::COLUMNS;
use crate::postgres::{is_shard_filter, shard_condition};

const PUBLICATION: &str = include_str!("../../sql/queries/check_publication.sql");

/// A publication and the outbox in it.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts, each by itself, not a state")]
pub(super) struct Publication {
    pub publishes_insert: bool,
    pub via_root: bool,
    pub is_covered: bool,
    /// The table itself is named in it.
    pub is_listed: bool,
    pub row_filter: Option<String>,
    pub columns: Vec<String>,
}

pub(super) async fn ask(
    session: &Session,
    name: &str,
    table: &TableName,
) -> Result<Option<Publication>> {
    let rows = session.rows(PUBLICATION, &[&name, &table.schema, &table.name]).await?;
    Ok(rows.first().map(|row| Publication {
        publishes_insert: row.get("publishes_insert"),
        via_root: row.get("via_root"),
        is_covered: row.get("is_covered"),
        is_listed: row.get("is_listed"),
        row_filter: row.get("row_filter"),
        columns: row.get("columns"),
    }))
}

/// What a publication is judged by.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub settings: &'a Settings,
    pub shard: Shard,
    pub table: &'a Table,
    pub role: &'a Role,
    /// The shard's slot is there.
    pub has_slot: bool,
}

impl Expected<'_> {
    fn name(&self) -> String {
        self.shard.name(&self.settings.publication_base)
    }

    fn filter(&self) -> Option<String> {
        (!self.shard.is_whole()).then(|| shard_condition(self.shard, &self.settings.outbox_table))
    }

    pub fn judge(&self, found: Option<&Publication>) -> Finding {
        let name = self.name();
        let table = &self.settings.outbox_table;
        let subject = on_postgres(format!("publication {name}"));
        let alter = format!("ALTER PUBLICATION {}", name_text(&name));
        let Some(publication) = found else { return self.missing() };
        if !publication.publishes_insert {
            let why = "no event is in what the slot sends, and no error tells";
            let fix = format!("{alter} SET (publish = 'insert');");
            return subject.failure("publishes no INSERT", why, fix);
        }
        if !publication.is_covered {
            return self.uncovered(publication);
        }
        let missing = self.left_out(publication);
        if !missing.is_empty() {
            return subject.failure(
                format!("its column list leaves out {}", missing.join(", ")),
                "the relay reads these of every event: it would publish without, or not at all",
                self.republish(),
            );
        }
        if let Some(finding) = self.filtered(publication) {
            return finding;
        }
        let how = if self.shard.is_whole() { "INSERTs" } else { "INSERTs of its shard" };
        subject.ok(format!("{how} of {table}"))
    }

    fn missing(&self) -> Finding {
        let name = self.name();
        let subject = on_postgres(format!("publication {name}"));
        if self.has_slot {
            let slot = self.shard.name(&self.settings.slot_base);
            return subject.failure(
                "not there, and its slot is",
                "a slot cannot read the WAL from before its publication was made; without the slot \
                 the relay makes both, and publishes what the table holds unpublished",
                fix::drop_slot(&slot),
            );
        }
        let (table, may_create) = (self.table, self.role.may_create);
        if self.settings.auto_create && may_create && table.is_owner {
            return subject.ok("not there yet: `walrelay run` makes it");
        }
        let why = if self.settings.auto_create {
            "the relay's role may not make it: that takes CREATE on the database and the ownership \
             of the table"
        } else {
            "auto_create is off, so the relay does not start without it"
        };
        let filter = self.filter();
        let fix = fix::create_publication(&name, &self.settings.outbox_table, filter.as_deref());
        subject.failure("not there", why, fix)
    }

    fn uncovered(&self, publication: &Publication) -> Finding {
        let (name, table) = (self.name(), &self.settings.outbox_table);
        let subject = on_postgres(format!("publication {name}"));
        let alter = format!("ALTER PUBLICATION {}", name_text(&name));
        let why = "no event is in what the slot sends, and the relay refuses to start; a new slot \
                   begins with what the table holds unpublished. Where publication and slot are of \
                   a relay for another table, choose other names";
        let mut drop = String::new();
        if self.has_slot {
            drop = format!("\n{}", fix::drop_slot(&self.shard.name(&self.settings.slot_base)));
        }
        if self.table.is_partitioned && !publication.via_root {
            let add = if publication.is_listed {
                String::new()
            } else {
                format!("\n{alter} ADD TABLE {};", table_text(table))
            };
            let fix = format!("{alter} SET (publish_via_partition_root = true);{add}{drop}");
            let found = "publishes the partitions by their own names, not by the table's";
            return subject.failure(found, why, fix);
        }
        let filter = self.filter().map(|filter| format!(" WHERE ({filter})")).unwrap_or_default();
        let fix = format!("{alter} ADD TABLE {}{filter};{drop}", table_text(table));
        subject.failure(format!("does not cover {table}"), why, fix)
    }

    /// Columns that the relay knows and the table has, and the list has not.
    fn left_out(&self, publication: &Publication) -> Vec<&str> {
        // Before PostgreSQL 15 there are no lists.
        if publication.columns.is_empty() {
            return Vec::new();
        }
        let is_listed = |name: &str| publication.columns.iter().any(|listed| listed == name);
        COLUMNS
            .into_iter()
            .filter_map(|part| self.table.column(part))
            .filter(|column| !column.is_generated && !is_listed(&column.name))
            .map(|column| column.name.as_str())
            .collect()
    }

    fn filtered(&self, publication: &Publication) -> Option<Finding> {
        let subject = on_postgres(format!("publication {}", self.name()));
        let filter = publication.row_filter.as_deref();
        if self.shard.is_whole() {
            let filter = filter?;
            return Some(subject.warning(
                format!("filters rows: {filter}"),
                "rows that it leaves out are never published, and no error tells",
                self.republish(),
            ));
        }
        if filter
            .is_some_and(|filter| is_shard_filter(self.shard, &self.settings.outbox_table, filter))
        {
            return None;
        }
        let mut fix = self.republish();
        if self.has_slot {
            fix = format!("{fix}\n{}", fix::drop_slot(&self.shard.name(&self.settings.slot_base)));
        }
        Some(subject.failure(
            format!(
                "its row filter is not that of shard {}: {}",
                self.shard,
                filter.unwrap_or("none")
            ),
            "events would be missed or come twice, so the relay refuses it; a new slot begins with \
             what the filter had left out",
            fix,
        ))
    }

    fn republish(&self) -> String {
        let filter = self.filter();
        fix::republish(&self.name(), &self.settings.outbox_table, filter.as_deref())
    }
}
