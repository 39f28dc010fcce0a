//! What each of our SQL sessions begins with.
//!
//! In: a new connection. Out: a session that inherits nothing from role or database that would cut
//! a statement short, hide what was committed, or print a value differently. It must stay true that
//! this comes before any other statement.

use tokio_postgres::Client;

use super::failure::from_sql;
use crate::error::Result;

/// The statements, for whoever prints them.
pub const SESSION: &str = include_str!("../../sql/queries/session.sql");

const INDEX_SESSION: &str = include_str!("../../sql/queries/index_session.sql");
const PAGE_SESSION: &str = include_str!("../../sql/queries/page_session.sql");

/// Sets up the session of a new connection.
pub async fn set_up(client: &Client) -> Result<()> {
    set(client, SESSION).await
}

/// Has a session find rows by index only, where there is one.
pub async fn prefer_indexes(client: &Client) -> Result<()> {
    set(client, INDEX_SESSION).await
}

/// Has a session read pages of rows in the order of an index, and never sort what is left.
pub async fn prefer_pages(client: &Client) -> Result<()> {
    set(client, PAGE_SESSION).await
}

async fn set(client: &Client, settings: &str) -> Result<()> {
    let set = client.batch_execute(settings).await;
    set.map_err(|error| from_sql("cannot set the session up", error))
}
