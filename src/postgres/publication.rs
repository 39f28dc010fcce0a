//! The publication: find it, create it, refuse one that would hide events.
//!
//! In: an SQL client and names. Out: nothing, or the complaint. It must stay true that an existing
//! publication is never changed from here: it may serve others.

use tokio_postgres::Client;

use super::failure::from_sql;
use super::quote;
use crate::config::TableName;
use crate::error::{Error, Result};

const FIND_PUBLICATION: &str = include_str!("../../sql/queries/find_publication.sql");
const CREATE_PUBLICATION: &str = include_str!("../../sql/publication.sql");

/// Whether the publication exists. One that lacks the table or its INSERTs is a definite error; one
/// with a row filter is only warned of, because the filter may be wanted.
pub async fn find(client: &Client, name: &str, table: &TableName) -> Result<bool> {
    let doing = format!("cannot read publication {name:?}");
    let found = client
        .query_opt(FIND_PUBLICATION, &[&name, &table.schema, &table.name])
        .await
        .map_err(|error| from_sql(&doing, error))?;
    let Some(row) = found else { return Ok(false) };
    let (publication, quoted) = (quote::ident(name), quote::qualified(&table.schema, &table.name));
    if !row.get::<_, bool>("publishes_insert") {
        return Err(Error::definite(format!("publication {name:?} does not publish INSERTs"))
            .hint(format!("ALTER PUBLICATION {publication} SET (publish = 'insert')")));
    }
    if !row.get::<_, bool>("is_covered") {
        let partitioned: bool = row.get("is_partitioned");
        let by_root: bool = row.get("via_root");
        let hint = if partitioned && !by_root {
            format!(
                "ALTER PUBLICATION {publication} SET (publish_via_partition_root = true), and \
                     add the table if it is not in there"
            )
        } else {
            format!("ALTER PUBLICATION {publication} ADD TABLE {quoted}")
        };
        let what = format!("publication {name:?} does not cover table {table}");
        return Err(Error::definite(what).hint(hint));
    }
    if row.get("is_filtered") {
        tracing::warn!(
            publication = name,
            table = %table,
            "the publication has a row filter: rows that it leaves out are never published"
        );
    }
    Ok(true)
}

/// Creates the publication for INSERTs on `table`, unless it is there.
pub async fn create(client: &Client, name: &str, table: &TableName) -> Result<()> {
    let doing = format!("cannot create publication {name:?}");
    client.batch_execute(&create_sql(name, table)).await.map_err(|error| from_sql(&doing, error))
}

/// What [`create`] runs.
#[must_use]
pub fn create_sql(name: &str, table: &TableName) -> String {
    CREATE_PUBLICATION
        .replace("{publication_text}", &quote::literal(name))
        .replace("{publication}", &quote::ident(name))
        .replace("{table}", &quote::qualified(&table.schema, &table.name))
}
