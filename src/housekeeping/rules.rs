//! What may go, as SQL for one outbox: the columns that it lacks are filled in as absent.

use std::collections::HashMap;

use tokio_postgres::Client;

use crate::config::{AfterPublish, TableName};
use crate::error::{Error, Result};
use crate::postgres::{from_sql, quote};

const FIND_TABLE: &str = include_str!("../../sql/queries/find_table.sql");
const RIPE: &str = include_str!("../../sql/queries/retention_ripe.sql");
const SETTLED: &str = include_str!("../../sql/queries/retention_settled.sql");

/// timestamp, timestamptz: what can be compared with a clock.
const MOMENT_OIDS: [u32; 2] = [1114, 1184];
const BOOL_OID: u32 = 16;

/// The conditions.
pub(super) struct Rules {
    ripe: String,
    settled: String,
}

impl Rules {
    /// Made for the columns that `table` has now.
    pub async fn read(
        client: &Client,
        table: &TableName,
        after_publish: AfterPublish,
    ) -> Result<Self> {
        let doing = format!("cannot read the columns of table {table}");
        let rows = client
            .query(FIND_TABLE, &[&table.schema, &table.name])
            .await
            .map_err(|error| from_sql(&doing, error))?;
        if rows.is_empty() {
            return Err(Error::definite(format!("table {table} does not exist")));
        }
        if !rows.iter().any(|row| row.get("may_delete")) {
            let quoted = quote::qualified(&table.schema, &table.name);
            return Err(Error::definite(format!("this role may not delete from table {table}"))
                .hint(format!("GRANT DELETE ON {quoted} TO the role, or set retention to off")));
        }
        let columns = rows.iter().map(|row| (row.get("column_name"), row.get("type_oid")));
        Ok(Self::new(&columns.collect(), after_publish))
    }

    fn new(columns: &HashMap<String, u32>, after_publish: AfterPublish) -> Self {
        let has = |name: &str, types: &[u32]| {
            columns.get(name).is_some_and(|type_oid| types.contains(type_oid))
        };
        let moment = |name: &'static str| {
            if has(name, &MOMENT_OIDS) { name } else { "NULL::timestamptz" }
        };
        let published = if has("published", &[BOOL_OID]) { "published" } else { "false" };
        let is_kept = if after_publish == AfterPublish::Keep { "true" } else { "false" };
        let fill = |text: &str| {
            text.replace("{published}", published)
                .replace("{is_kept}", is_kept)
                .replace("{published_at}", moment("published_at"))
                .replace("{created_at}", moment("created_at"))
                .replace("{next_attempt_at}", moment("next_attempt_at"))
                .replace("{dead_lettered_at}", moment("dead_lettered_at"))
        };
        Self { ripe: fill(RIPE), settled: fill(SETTLED) }
    }

    /// A statement on `table`, a quoted name, with the conditions filled in.
    pub fn sql(&self, template: &str, table: &str) -> String {
        template
            .replace("{ripe}", &format!("\n{}", self.ripe))
            .replace("{settled}", &format!("\n{}", self.settled))
            .replace("{table}", table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_an_outbox_lacks_or_has_of_another_type_are_not_asked() {
        let columns = [("published".to_owned(), 25), ("created_at".to_owned(), 20)];
        let rules = Rules::new(&columns.into(), AfterPublish::Keep);
        let sql = rules.sql("{table}: {ripe} {settled}", "\"a\".\"b\"");
        for name in ["published_at", "created_at", "next_attempt_at", "{"] {
            let product = sql.lines().filter(|line| !line.starts_with("--"));
            assert!(product.clone().all(|line| !line.contains(name)), "{name}: {sql}");
        }
        assert!(sql.contains("WHEN false THEN true\n    ELSE true AND"), "{sql}");
    }
}
