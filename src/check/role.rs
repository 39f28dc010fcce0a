//! What the role in database_url may do: stream, read, settle, park, delete.
//!
//! In: privileges. Out: findings with the GRANT that is missing. It must stay true that what the
//! settings do not use is not asked for.

use super::finding::{Finding, Level, on_postgres};
use super::fix::{name_text, table_text};
use super::session::Session;
use super::table::Table;
use crate::config::{AfterPublish, Settings, TableName};
use crate::error::Result;
use crate::relay::PARKING_COLUMNS;

const ROLE: &str = include_str!("../../sql/queries/check_role.sql");

/// The role of our session.
#[derive(Clone, Debug, Default)]
pub(super) struct Role {
    pub name: String,
    pub may_replicate: bool,
    /// CREATE on the database: a publication may be made.
    pub may_create: bool,
    pub may_use_schema: bool,
}

pub(super) async fn ask(session: &Session, table: &TableName) -> Result<Role> {
    let row = session.row(ROLE, &[&table.schema]).await?;
    Ok(Role {
        name: row.get("role"),
        may_replicate: row.get("may_replicate"),
        may_create: row.get("may_create"),
        may_use_schema: row.get("may_use_schema"),
    })
}

impl Role {
    pub fn judge_wal(&self) -> Finding {
        let subject = on_postgres(format!("role {}", self.name));
        if self.may_replicate {
            return subject.ok("REPLICATION");
        }
        subject.failure(
            "no REPLICATION",
            "it may not stream the WAL, nor make a slot",
            format!("ALTER ROLE {} REPLICATION;", name_text(&self.name)),
        )
    }

    /// What it may do with the outbox.
    pub fn judge(&self, settings: &Settings, table: &Table) -> Vec<Finding> {
        let grants = Grants { role: &self.name, table: &settings.outbox_table };
        let mut findings = Vec::new();
        if !self.may_use_schema {
            let (schema, role) = (&settings.outbox_table.schema, name_text(&self.name));
            let subject = on_postgres(format!("role {} in schema {schema}", self.name));
            findings.push(subject.failure(
                "no USAGE",
                "it can name no table in there",
                format!("GRANT USAGE ON SCHEMA {} TO {role};", name_text(schema)),
            ));
        }
        findings.push(reading(grants, table));
        findings.extend(settling(grants, settings, table));
        findings.push(parking(grants, table));
        if settings.retention.is_some() && !table.may_delete {
            let why = "retention is set, and settled rows cannot be deleted";
            findings.push(grants.lacking(Level::Warning, "DELETE", why));
        }
        findings
    }
}

/// Who is to be given something on which table.
#[derive(Clone, Copy)]
struct Grants<'a> {
    role: &'a str,
    table: &'a TableName,
}

impl Grants<'_> {
    fn object(self, what: &str) -> String {
        format!("{what} on {} for {}", self.table, self.role)
    }

    fn lacking(self, level: Level, privilege: &str, why: &str) -> Finding {
        let word = privilege.split([' ', ',']).next().unwrap_or(privilege);
        let (table, role) = (table_text(self.table), name_text(self.role));
        let fix = format!("GRANT {privilege} ON {table} TO {role};");
        on_postgres(self.object(word)).bad(level, format!("lacks {privilege}"), why, fix)
    }
}

fn reading(grants: Grants<'_>, table: &Table) -> Finding {
    if table.columns.iter().all(|column| column.may_select) {
        return on_postgres(grants.object("SELECT")).ok("granted");
    }
    let why = "rows are found by their id to be marked, and read where there is no slot yet";
    grants.lacking(Level::Failure, "SELECT", why)
}

fn settling(grants: Grants<'_>, settings: &Settings, table: &Table) -> Option<Finding> {
    let wanted = match settings.after_publish {
        AfterPublish::Keep => return None,
        AfterPublish::Delete if table.may_delete => {
            return Some(on_postgres(grants.object("DELETE")).ok("granted"));
        }
        AfterPublish::Delete => {
            let why = "after_publish = delete, and the relay does not start without it";
            return Some(grants.lacking(Level::Failure, "DELETE", why));
        }
        AfterPublish::Mark => ["published", "published_at"],
    };
    let subject = on_postgres(grants.object("UPDATE"));
    match denied(table, &wanted) {
        denied if denied.is_empty() => Some(subject.ok("granted")),
        denied => {
            let why = "after_publish = mark sets them: no row can be marked, and the slot moves on \
                       past none";
            let privilege = format!("UPDATE ({})", denied.join(", "));
            Some(grants.lacking(Level::Failure, &privilege, why))
        }
    }
}

fn parking(grants: Grants<'_>, table: &Table) -> Finding {
    let mut lacks = Vec::new();
    let denied = denied(table, &PARKING_COLUMNS);
    if !denied.is_empty() {
        lacks.push(format!("UPDATE ({})", denied.join(", ")));
    }
    if !table.may_insert {
        lacks.push("INSERT".to_owned());
    }
    if lacks.is_empty() {
        return on_postgres(grants.object("parking")).ok("granted");
    }
    let why = "an event that Redis refuses cannot be set aside, and stops the relay; INSERT puts a \
               parked row back that was deleted";
    let mut finding = grants.lacking(Level::Warning, &lacks.join(", "), why);
    finding.object = grants.object("parking");
    finding
}

fn denied<'a>(table: &'a Table, wanted: &[&str]) -> Vec<&'a str> {
    let columns = wanted.iter().filter_map(|part| table.column(part));
    columns.filter(|column| !column.may_update).map(|column| column.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::table::Column;

    #[test]
    fn a_grant_names_just_what_is_missing() {
        let column = |name: &str, may_update| Column {
            name: name.to_owned(),
            type_oid: 25,
            type_name: "text".to_owned(),
            is_generated: false,
            may_select: true,
            may_update,
        };
        let columns = vec![column("attempts", true), column("wal_position", false)];
        let table = Table { columns, ..Table::default() };
        let name = TableName { schema: "identity".into(), name: "outbox".into() };
        let finding = parking(Grants { role: "app", table: &name }, &table);
        let fix = &finding.advice.as_ref().unwrap().fix;
        assert_eq!(
            fix, "GRANT UPDATE (wal_position), INSERT ON identity.outbox TO \"app\";",
            "a column that is not there is told elsewhere"
        );
        let full = Table { may_insert: true, columns: vec![column("attempts", true)], ..table };
        assert_eq!(parking(Grants { role: "app", table: &name }, &full).level, Level::Ok);
    }
}
