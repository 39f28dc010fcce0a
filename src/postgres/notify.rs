//! How a table says that it has new rows: a trigger that notifies a channel.
//!
//! In: a table. Out: the SQL that installs the trigger, and LISTEN. It must stay true that setup
//! and pollers find the same name by themselves.

use tokio_postgres::Client;

use super::failure::from_sql;
use super::quote;
use crate::config::TableName;
use crate::error::Result;

const NOTIFY: &str = include_str!("../../sql/notify.sql");

/// A channel's name is an identifier: PostgreSQL refuses longer ones.
const NAME_BYTES_MAX: usize = 63;

fn channel(table: &TableName) -> String {
    let name = format!("walrelay:{table}");
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    // FNV-1a: the same name for the same table, now and in later versions.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("walrelay:{hash:016x}")
}

/// Installs the trigger; repeating it changes nothing.
#[must_use]
pub fn sql(table: &TableName) -> String {
    let function = quote::qualified(&table.schema, "walrelay_notify");
    let quoted = table.quoted();
    NOTIFY
        .replace("{channel_text}", &quote::literal(&channel(table)))
        .replace("{channel}", &channel(table))
        .replace("{function}", &function)
        .replace("{table_text}", &quote::literal(&quoted))
        .replace("{table}", &quoted)
}

/// Runs [`sql`].
pub async fn install(client: &Client, table: &TableName) -> Result<()> {
    let doing = format!("cannot install the trigger that announces rows of {table}");
    client.batch_execute(&sql(table)).await.map_err(|error| from_sql(&doing, error))
}

/// Has the session hear of new rows.
pub async fn listen(client: &Client, table: &TableName) -> Result<()> {
    let sql = format!("LISTEN {}", quote::ident(&channel(table)));
    let doing = format!("cannot listen for new rows of {table}");
    client.batch_execute(&sql).await.map_err(|error| from_sql(&doing, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_channel_of_its_own_that_is_short_enough() {
        let table = |name: &str| TableName { schema: "app".into(), name: name.into() };
        assert_eq!(channel(&table("events")), "walrelay:app.events");
        let (one, other) = ("a".repeat(63), "a".repeat(62) + "b");
        assert_ne!(channel(&table(&one)), channel(&table(&other)));
        assert!(channel(&table(&one)).len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn the_sql_has_no_placeholder_left() {
        let sql = sql(&TableName { schema: "a'b".into(), name: "c\"d".into() });
        assert!(!sql.contains("{table") && !sql.contains("{channel") && !sql.contains("{fun"));
    }
}
