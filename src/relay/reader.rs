//! Rows of the outbox read by SQL in one view of the database, some at a time.
//!
//! In: a session of its own, and perhaps the name of a snapshot. Out: rows in the order of id. It
//! must stay true that the view stays the same until the session ends, and that nothing is
//! buffered beyond what was asked for: the server sends a page as it is read.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, RowStream};

use crate::config::Outbox;
use crate::error::Result;
use crate::postgres::{from_sql, quote};

const READER_SESSION: &str = include_str!("../../sql/queries/reader_session.sql");
const BEGIN_READING: &str = include_str!("../../sql/queries/begin_reading.sql");
const IMPORT_SNAPSHOT: &str = include_str!("../../sql/queries/import_snapshot.sql");
const DECLARE_ROWS: &str = include_str!("../../sql/queries/declare_rows.sql");
const FETCH_ROWS: &str = include_str!("../../sql/queries/fetch_rows.sql");
const CLOSE_ROWS: &str = include_str!("../../sql/queries/close_rows.sql");
const COUNT_ROWS: &str = include_str!("../../sql/queries/count_rows.sql");
const STREAMS_OF_ROWS: &str = include_str!("../../sql/queries/streams_of_rows.sql");

/// Rows of a page; as many as `fetch_rows.sql` fetches.
pub(super) const PAGE_ROWS: usize = 1_000;

/// A session that reads one table in one view.
pub(super) struct Reader {
    client: Client,
    table: Outbox,
    doing: String,
}

impl Reader {
    /// Takes over the session; the view is that of `snapshot`, or of now.
    pub async fn begin(client: Client, table: &Outbox, snapshot: Option<&str>) -> Result<Self> {
        let doing = format!("cannot read the rows of table {table}");
        let this = Self { client, table: table.clone(), doing };
        this.execute(READER_SESSION).await?;
        this.execute(BEGIN_READING).await?;
        if let Some(name) = snapshot {
            this.execute(&IMPORT_SNAPSHOT.replace("{snapshot}", &quote::literal(name))).await?;
        }
        Ok(this)
    }

    /// Whose rows they are: a condition is taken as it is, with the names of its columns.
    pub fn outbox(&self) -> &Outbox {
        &self.table
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        let done = self.client.batch_execute(sql).await;
        done.map_err(|error| from_sql(&self.doing, error))
    }

    fn fill(&self, sql: &str, condition: &str) -> String {
        self.table.sql(sql).replace("{condition}", condition)
    }

    /// How many rows meet the condition.
    pub async fn count(&self, condition: &str) -> Result<u64> {
        let row = self.client.query_one(&self.fill(COUNT_ROWS, condition), &[]).await;
        let found: i64 = row.map_err(|error| from_sql(&self.doing, error))?.get("found");
        Ok(u64::try_from(found).unwrap_or(0))
    }

    /// The streams that those rows name; `stream` is the expression for one row's.
    pub async fn streams(&self, stream: &str, condition: &str) -> Result<Vec<String>> {
        let sql = self.fill(STREAMS_OF_ROWS, condition).replace("{stream}", stream);
        let rows = self.client.query(&sql, &[]).await;
        let rows = rows.map_err(|error| from_sql(&self.doing, error))?;
        Ok(rows.iter().map(|row| row.get("stream")).collect())
    }

    /// The rows that meet the condition, from the first on.
    pub async fn rewind(&self, list: &str, condition: &str) -> Result<()> {
        self.execute(CLOSE_ROWS).await?;
        self.execute(&self.fill(DECLARE_ROWS, condition).replace("{list}", list)).await
    }

    /// The next page; one with fewer than [`PAGE_ROWS`] is the last.
    pub async fn page(&self) -> Result<RowStream> {
        let nothing: [&(dyn ToSql + Sync); 0] = [];
        let rows = self.client.query_raw(FETCH_ROWS, nothing).await;
        rows.map_err(|error| self.failed(error))
    }

    /// An error in the middle of a page.
    pub fn failed(&self, error: tokio_postgres::Error) -> crate::error::Error {
        from_sql(&self.doing, error)
    }
}
