//! Numbers for the rows of an outbox whose key is none: the column with its sequence, the rows that
//! were there before it, and an index.
//!
//! In: an outbox. Out: SQL, and what was done by it, in words. It must stay true that what an
//! earlier setup has left half done is finished, whichever step it ended in, and that where there
//! is nothing to be done nothing is locked.

use tokio_postgres::Client;

use crate::config::{Outbox, ROW_NUMBER};
use crate::error::Result;
use crate::postgres::{from_sql, quote};

const STATE: &str = include_str!("../../sql/queries/row_number_state.sql");
const MISSING: &str = include_str!("../../sql/queries/row_number_missing.sql");
const ROW_NUMBERS: &str = include_str!("../../sql/row_number.sql");
const OLD_ROWS: &str = include_str!("../../sql/row_number_old.sql");
const INDEX: &str = include_str!("../../sql/row_number_index.sql");
const DROP_INDEX: &str = include_str!("../../sql/row_number_drop_index.sql");

/// The statements for one table, each to be run by itself.
pub(super) struct Numbers<'a> {
    outbox: &'a Outbox,
    is_partitioned: bool,
    /// Of the index, and the beginning of the sequence's.
    name: String,
}

impl<'a> Numbers<'a> {
    /// None where the table has numbers of its own.
    pub fn of(outbox: &'a Outbox, is_partitioned: bool) -> Option<Self> {
        if outbox.columns.column("id") != Some(ROW_NUMBER) {
            return None;
        }
        let name = format!("{}_{ROW_NUMBER}", outbox.name);
        // PostgreSQL would cut it, and two tables might end with one.
        let name = if name.len() > 63 { ROW_NUMBER.to_owned() } else { name };
        Some(Self { outbox, is_partitioned, name })
    }

    fn fill(&self, sql: &str) -> String {
        let schema = &self.outbox.schema;
        let sequence = quote::qualified(schema, &format!("{}_seq", self.name));
        self.outbox
            .sql(sql)
            .replace("{sequence_text}", &quote::literal(&sequence))
            .replace("{sequence}", &sequence)
            .replace("{index}", &quote::ident(&self.name))
            .replace("{index_of_table}", &quote::qualified(schema, &self.name))
            .replace("{concurrently}", if self.is_partitioned { "" } else { "CONCURRENTLY " })
    }

    /// All of it for a table that nobody has looked at, in order.
    pub fn script(self) -> Vec<String> {
        [ROW_NUMBERS, OLD_ROWS, INDEX].map(|sql| self.fill(sql)).to_vec()
    }

    /// Does what is left to be done, and says what that was.
    pub async fn set_up(&self, client: &Client) -> Result<Vec<String>> {
        let doing = format!("cannot number the rows of table {}", self.outbox);
        let failed = |error| from_sql(&doing, error);
        let run = async |sql: &str| client.batch_execute(&self.fill(sql)).await.map_err(failed);
        let mut done = Vec::new();
        let state = client.query_one(&self.fill(STATE), &[&ROW_NUMBER, &self.name]).await;
        let state = state.map_err(failed)?;
        // What comes last of that file.
        if !state.get::<_, bool>("has_default") {
            run(ROW_NUMBERS).await?;
        }
        let missing = client.query_one(&self.fill(MISSING), &[]).await.map_err(failed)?;
        if missing.get("is_any") {
            let rows = client.execute(&self.fill(OLD_ROWS), &[]).await.map_err(failed)?;
            done.push(format!("numbered {rows} {}", if rows == 1 { "row" } else { "rows" }));
        }
        if !state.get::<_, bool>("has_index") {
            let is_unfinished: bool = state.get("is_unfinished");
            if is_unfinished {
                run(DROP_INDEX).await?;
            }
            run(INDEX).await?;
            let anew = if is_unfinished { " anew" } else { "" };
            done.push(format!("created the index on {ROW_NUMBER}{anew}"));
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Columns, Preset, TableName};

    fn outbox(preset: Preset) -> Outbox {
        let table = TableName { schema: "app".into(), name: "events".into() };
        Outbox { columns: Columns::new(preset, "").unwrap(), ..Outbox::from(table) }
    }

    #[test]
    fn only_a_table_without_numbers_gets_them() {
        assert!(Numbers::of(&outbox(Preset::Identity), false).is_none());
        let other = outbox(Preset::OutboxEvents);
        let script = |is_partitioned| {
            Numbers::of(&other, is_partitioned).expect("numbers").script().concat()
        };
        let numbers = script(true);
        assert!(numbers.contains("nextval('\"app\".\"events_walrelay_id_seq\"')"), "{numbers}");
        assert!(numbers.contains("o.\"walrelay_id\" IS NULL AND (o.\"processed_at\" IS NOT NULL)"));
        assert!(numbers.contains("CREATE INDEX IF NOT EXISTS \"events_walrelay_id\""), "{numbers}");
        assert!(script(false).contains("CREATE INDEX CONCURRENTLY IF NOT"));
        let drop = Numbers::of(&other, false).expect("numbers").fill(DROP_INDEX);
        assert!(drop.contains("IF EXISTS \"app\".\"events_walrelay_id\";"), "{drop}");
    }
}
