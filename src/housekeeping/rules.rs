//! What may go, as SQL for one outbox: the columns that it lacks are filled in as absent.

use tokio_postgres::Client;

use crate::config::{AfterPublish, Outbox};
use crate::error::{Error, Result};
use crate::postgres::{describe_table, names_and_types};

const RIPE: &str = include_str!("../../sql/queries/retention_ripe.sql");
const SETTLED: &str = include_str!("../../sql/queries/retention_settled.sql");

/// timestamp, timestamptz: what can be compared with a clock.
const MOMENT_OIDS: [u32; 2] = [1114, 1184];
const BOOL_OID: u32 = 16;

/// The conditions.
pub(super) struct Rules {
    /// With the parts that it has.
    outbox: Outbox,
    settled: String,
}

impl Rules {
    /// Made for the columns that `table` has now.
    pub async fn read(
        client: &Client,
        table: &Outbox,
        after_publish: AfterPublish,
    ) -> Result<Self> {
        let rows = describe_table(client, table).await?;
        if rows.is_empty() {
            return Err(Error::definite(format!("table {table} does not exist")));
        }
        if !rows.iter().any(|row| row.get("may_delete")) {
            let quoted = table.quoted();
            return Err(Error::definite(format!("this role may not delete from table {table}"))
                .hint(format!("GRANT DELETE ON {quoted} TO the role, or set retention to off")));
        }
        Ok(Self::new(table, &names_and_types(&rows), after_publish))
    }

    fn new(table: &Outbox, columns: &[(String, u32)], after_publish: AfterPublish) -> Self {
        let parts = table.parts(columns);
        let outbox = table.without(|part| {
            parts.type_of(part).is_some_and(|oid| match part {
                "published" => oid == BOOL_OID,
                "id" => true,
                _ => MOMENT_OIDS.contains(&oid),
            })
        });
        let is_kept = if after_publish == AfterPublish::Keep { "true" } else { "false" };
        Self { outbox, settled: SETTLED.replace("{is_kept}", is_kept) }
    }

    /// A statement on `table`, a quoted name, with the conditions filled in.
    pub fn sql(&self, template: &str, table: &str) -> String {
        let sql = template
            .replace("{ripe}", &format!("\n{RIPE}"))
            .replace("{settled}", &format!("\n{}", self.settled))
            .replace("{table}", "{leaf}");
        self.outbox.sql(&sql).replace("{leaf}", table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TableName;

    #[test]
    fn columns_that_an_outbox_lacks_or_has_of_another_type_are_not_asked() {
        let columns = [("published".to_owned(), 25), ("created_at".to_owned(), 20)];
        let outbox = TableName { schema: "a".into(), name: "b".into() }.into();
        let rules = Rules::new(&outbox, &columns, AfterPublish::Keep);
        let sql = rules.sql("{table}: {ripe} {settled}", "\"a\".\"b\"");
        for name in ["published_at", "created_at", "next_attempt_at", "{"] {
            let product = sql.lines().filter(|line| !line.starts_with("--"));
            assert!(product.clone().all(|line| !line.contains(name)), "{name}: {sql}");
        }
        assert!(sql.contains("WHEN false THEN true\n    ELSE true AND"), "{sql}");
    }
}
