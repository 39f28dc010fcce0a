//! A slot for one session, and the snapshot of the database at the point where it begins.
//!
//! In: a replication connection. Out: [`Exported`]: what a transaction that imports the snapshot
//! sees, the slot does not send, and the other way round. It must stay true that the slot goes with
//! its connection, and that the snapshot can be imported until the connection is used again.
//! <https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-CREATE-REPLICATION-SLOT>

use super::quote;
use super::replication::Replication;
use crate::error::{Error, Result};
use crate::lsn::Lsn;

/// The options are a list in parentheses from here on.
const VERSION_OPTION_LIST: i32 = 150_000;

/// A slot and its snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The slot sends what is committed from here on.
    pub consistent: Lsn,
    /// The name by which a transaction imports the snapshot.
    pub snapshot: String,
}

impl Replication {
    /// Creates the temporary slot `name`. Waits, without a bound, for the transactions that are
    /// open.
    pub async fn export_snapshot(&mut self, name: &str, version_num: i32) -> Result<Exported> {
        let doing = "cannot create a temporary replication slot";
        let rows = self.ask_long(&create_sql(name, version_num), doing).await?;
        let mut columns = rows.into_iter().next().unwrap_or_default().into_iter().skip(1);
        let exported = (|| {
            let consistent = columns.next()??.parse().ok()?;
            Some(Exported { consistent, snapshot: columns.next()?? })
        })();
        exported.ok_or_else(|| Error::transient(format!("{doing}: its answer makes no sense")))
    }

    /// Has the slot `name` synchronised to standbys: PostgreSQL 17 and later.
    pub async fn make_failover(&mut self, name: &str) -> Result<()> {
        let sql = format!("ALTER_REPLICATION_SLOT {} (FAILOVER true)", quote::ident(name));
        let doing = format!("cannot make a failover slot of replication slot {name:?}");
        self.ask(&sql, &doing).await.map(drop)
    }
}

fn create_sql(name: &str, version_num: i32) -> String {
    let export =
        if version_num >= VERSION_OPTION_LIST { "(SNAPSHOT 'export')" } else { "EXPORT_SNAPSHOT" };
    let name = quote::ident(name);
    format!("CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput {export}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_spelled_as_each_version_wants_it() {
        let old = "CREATE_REPLICATION_SLOT \"w_1\" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT";
        assert_eq!(create_sql("w_1", 140_011), old);
        let new = "CREATE_REPLICATION_SLOT \"w_1\" TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')";
        assert_eq!(create_sql("w_1", 150_000), new);
    }
}
