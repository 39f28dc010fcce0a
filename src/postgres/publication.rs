//! The publication: find it, create it, refuse one that would hide events.
//!
//! In: an SQL client, names, and the shard it is for. Out: nothing, or the complaint. It must stay
//! true that an existing publication is never changed from here: it may serve others; and that a
//! shard's lets through that shard's rows and no others.

use tokio_postgres::{Client, Row};

use super::failure::from_sql;
use super::quote;
use super::shard::{condition, is_filter};
use crate::config::{Outbox, Shard};
use crate::error::{Error, Result};

const FIND_PUBLICATION: &str = include_str!("../../sql/queries/find_publication.sql");
const WATCH_TABLE: &str = include_str!("../../sql/queries/watch_table.sql");
const CREATE_PUBLICATION: &str = include_str!("../../sql/publication.sql");
const CREATE_SHARD: &str = include_str!("../../sql/publication_shard.sql");

/// From here on publications have row filters.
const VERSION_ROW_FILTER: i32 = 150_000;

/// Shards need publications with row filters: a definite error where the server has none.
pub fn check_version(shard: Shard, version: &str, version_num: i32) -> Result<()> {
    if shard.is_whole() || version_num >= VERSION_ROW_FILTER {
        return Ok(());
    }
    Err(Error::definite(format!(
        "shards = {}, but PostgreSQL {version} has no row filters for publications",
        shard.of
    ))
    .hint("set shards = 1, or upgrade PostgreSQL to 15 or later"))
}

/// Whether the publication exists. One that lacks the table or its INSERTs is a definite error, and
/// so is one that does not filter for its shard. For one line that takes all rows a filter is only
/// warned of: it may be wanted.
pub async fn find(client: &Client, name: &str, table: &Outbox, shard: Shard) -> Result<bool> {
    let Some(row) = look_up(client, name, table).await? else { return Ok(false) };
    let (publication, quoted) = (quote::ident(name), table.quoted());
    if !row.get::<_, bool>("publishes_insert") {
        return Err(Error::definite(format!("publication {name:?} does not publish INSERTs"))
            .hint(format!("ALTER PUBLICATION {publication} SET (publish = 'insert')")));
    }
    if !row.get::<_, bool>("is_covered") {
        let partitioned: bool = row.get("is_partitioned");
        let has_root: bool = row.get("via_root");
        let alter = if partitioned && !has_root {
            format!("{}, and add the table if it is not in there", by_root(name))
        } else {
            add_table(name, table, shard)
        };
        let what = format!("publication {name:?} does not cover table {table}");
        return Err(Error::definite(what).hint(format!(
            "{alter}; and drop its replication slot if there is one (SELECT \
             pg_drop_replication_slot(...)): the relay makes a new one, and publishes what the \
             table holds unpublished. Where they are of a relay for another table, choose another \
             publication_name and slot_name"
        )));
    }
    let filter: Option<&str> = row.get("row_filter");
    if !shard.is_whole() && !filter.is_some_and(|filter| is_filter(shard, table, filter)) {
        let filter = filter.unwrap_or("none");
        return Err(Error::definite(format!(
            "publication {name:?} is to let through shard {shard} of table {table}, and its row \
             filter is another one: {filter}"
        ))
        .hint(format!(
            "ALTER PUBLICATION {publication} SET TABLE {quoted} WHERE ({}); and drop its \
             replication slot if there is one (SELECT pg_drop_replication_slot(...)): the relay \
             makes a new one, and publishes what the filter had left out",
            condition(shard, table)
        )));
    }
    if shard.is_whole() && filter.is_some() {
        tracing::warn!(
            publication = name,
            table = %table,
            "the publication has a row filter: rows that it leaves out are never published"
        );
    }
    Ok(true)
}

/// Whether the publication exists and lacks the table: whatever is named after it is another's.
pub async fn is_of_others(client: &Client, name: &str, table: &Outbox) -> Result<bool> {
    let found = look_up(client, name, table).await?;
    Ok(found.is_some_and(|row| !row.get::<_, bool>("is_covered")))
}

async fn look_up(client: &Client, name: &str, table: &Outbox) -> Result<Option<Row>> {
    let doing = format!("cannot read publication {name:?}");
    client
        .query_opt(FIND_PUBLICATION, &[&name, &table.schema, &table.name])
        .await
        .map_err(|error| from_sql(&doing, error))
}

/// Why a line that streams misses what is written to the table, if it does. `first` is the table's
/// oid at the start, and is set by the first call. What goes into a table before its publication
/// covers it is never decoded, however soon it does.
pub async fn changed(
    client: &Client,
    name: &str,
    (table, shard): (&Outbox, Shard),
    first: &mut Option<u32>,
) -> Result<Option<Error>> {
    let doing = format!("cannot look whether publication {name:?} covers table {table}");
    let row = client
        .query_one(WATCH_TABLE, &[&name, &table.schema, &table.name, &first.unwrap_or_default()])
        .await
        .map_err(|error| from_sql(&doing, error))?;
    let is = |column| row.get::<_, bool>(column);
    let oid: Option<u32> = row.get("table_oid");
    let is_same = oid == Some(*first.get_or_insert(oid.unwrap_or_default()));
    // One that covers whatever there is has missed nothing.
    if is("is_covered") && (is_same || !is("is_listed")) {
        return Ok(None);
    }
    let former: Option<String> = row.get("former_name");
    let what = match oid {
        _ if !is("is_there") => format!("publication {name:?} is gone"),
        None => format!("table {table} is gone"),
        Some(_) if is("is_covered") => format!("table {table} is another one than at the start"),
        Some(_) => format!("publication {name:?} does not cover table {table} any more"),
    };
    let fate = match &former {
        _ if is_same => String::new(),
        Some(former) => format!(": the one at the start was renamed to {former}"),
        None => ": the one at the start was dropped".to_owned(),
    };
    let error = Error::definite(format!("{what}{fate}"));
    if oid.is_none() && former.is_some() {
        return Ok(Some(
            error.hint("set outbox_table to the new name, and its events since then are published"),
        ));
    }
    let mut steps = String::new();
    if let Some(former) = former.filter(|_| !is_same) {
        steps = format!("move what {former} holds unpublished into {table}; ");
    }
    if is("is_there") && !is("is_covered") {
        let alter = if is("is_listed") { by_root(name) } else { add_table(name, table, shard) };
        steps = format!("{steps}{alter}; ");
    }
    Ok(Some(error.hint(format!(
        "what is written there since then is in nothing that the slot sends: {steps}and drop the \
         slot (SELECT pg_drop_replication_slot(...)): the relay makes a new one, and publishes \
         what the table holds unpublished"
    ))))
}

fn by_root(name: &str) -> String {
    format!("ALTER PUBLICATION {} SET (publish_via_partition_root = true)", quote::ident(name))
}

fn add_table(name: &str, table: &Outbox, shard: Shard) -> String {
    let filter = if shard.is_whole() {
        String::new()
    } else {
        format!(" WHERE ({})", condition(shard, table))
    };
    format!("ALTER PUBLICATION {} ADD TABLE {}{filter}", quote::ident(name), table.quoted())
}

/// Creates the publication for INSERTs on `table`, unless it is there.
pub async fn create(client: &Client, name: &str, table: &Outbox, shard: Shard) -> Result<()> {
    let doing = format!("cannot create publication {name:?}");
    let sql = create_sql(name, table, shard);
    client.batch_execute(&sql).await.map_err(|error| from_sql(&doing, error))
}

/// What [`create`] runs.
#[must_use]
pub fn create_sql(name: &str, table: &Outbox, shard: Shard) -> String {
    let sql = if shard.is_whole() { CREATE_PUBLICATION } else { CREATE_SHARD };
    table
        .sql(sql)
        .replace("{condition}", &condition(shard, table))
        .replace("{publication_text}", &quote::literal(name))
        .replace("{publication}", &quote::ident(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_need_a_server_that_filters_rows() {
        let shard = Shard { number: 2, of: 2 };
        assert!(check_version(shard, "15.0", 150_000).is_ok());
        assert!(check_version(Shard::WHOLE, "13.1", 130_001).is_ok());
        let error = check_version(shard, "14.12", 140_012).unwrap_err();
        assert!(error.to_string().contains("shards = 2, but PostgreSQL 14.12"), "{error}");
        assert!(error.next_step().unwrap().contains("set shards = 1"));
    }
}
