//! A session on PostgreSQL that can only look: read-only, and no statement without a bound.
//!
//! In: SQL. Out: rows, or why there are none. It must stay true that no statement of `check` can
//! change anything, not even by a trigger or a function that somebody planted, and that a server
//! that falls silent is given up.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::finding::{Finding, on_postgres};
use crate::error::{Class, Error, Result};
use crate::postgres::{self, Target, from_sql};

const SESSION: &str = include_str!("../../sql/queries/check_session.sql");

/// A session of one pass.
pub(super) struct Session {
    client: Client,
    bound: Duration,
}

impl Session {
    pub async fn open(target: &Target, bound: Duration) -> Result<Self> {
        // Bounded by itself, host by host.
        let client = target.sql().await?;
        let milliseconds = bound.as_millis().to_string();
        let restrict = SESSION.replace("{milliseconds}", &milliseconds);
        let prepare = async {
            postgres::set_up_session(&client).await?;
            let done = client.batch_execute(&restrict).await;
            done.map_err(|error| from_sql("cannot make the session read-only", error))
        };
        in_time(bound, prepare).await?;
        Ok(Self { client, bound })
    }

    /// For statements of other rooms; the bound is the caller's business.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub async fn within<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        in_time(self.bound, asked).await
    }

    pub async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let asked = async {
            let rows = self.client.query(sql, parameters).await;
            rows.map_err(|error| from_sql("PostgreSQL does not say", error))
        };
        self.within(asked).await
    }

    pub async fn row(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let rows = self.rows(sql, parameters).await?;
        rows.into_iter().next().ok_or_else(|| Error::definite("PostgreSQL gave no row"))
    }
}

async fn in_time<T>(bound: Duration, asked: impl Future<Output = Result<T>>) -> Result<T> {
    let silent = |_| Err(Error::transient(format!("no answer within {bound:?}")));
    tokio::time::timeout(bound, asked).await.unwrap_or_else(silent)
}

/// What is told about something that could not be asked. The rest of the pass goes on.
pub(super) fn unknown(object: &str, error: &Error) -> Finding {
    let why = match error.class() {
        Class::Transient => "it is not known whether a relay could work with it",
        Class::SlotInUse | Class::Definite | Class::Usage => {
            "the relay's role asks the same when it starts"
        }
    };
    let fix = error.next_step().unwrap_or("walrelay check   # again, once PostgreSQL answers");
    on_postgres(object).failure(format!("unknown: {error}"), why, fix)
}
