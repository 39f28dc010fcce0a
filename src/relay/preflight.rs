//! What must be so before a line may start, and what is worth a warning.
//!
//! In: what the servers say. Out: a definite error that names the object and the next step, or a
//! line in the log. It must stay true that nothing is changed from here.

use tokio_postgres::{Client, Row};

use super::parker::PARKING_COLUMNS;
use crate::config::{AfterPublish, Settings, TableName};
use crate::error::{Error, Result};
use crate::outbox::{Plan, Selection};
use crate::postgres::{self, from_sql, quote};
use crate::sink::{Durable, Facts};

const FIND_TABLE: &str = include_str!("../../sql/queries/find_table.sql");
const COUNT_UNPUBLISHED: &str = include_str!("../../sql/queries/count_unpublished.sql");

/// What keeps a relay from parking events.
pub(super) struct Lacks {
    pub what: String,
    pub hint: String,
}

/// The outbox: there, with the columns an event needs, and with the privileges to settle rows. What
/// is returned keeps us from parking, and from nothing else.
pub(super) async fn check_table(client: &Client, settings: &Settings) -> Result<Option<Lacks>> {
    let table = &settings.outbox_table;
    let doing = format!("cannot read the columns of table {table}");
    let rows = client
        .query(FIND_TABLE, &[&table.schema, &table.name])
        .await
        .map_err(|error| from_sql(&doing, error))?;
    let Some(first) = rows.first() else {
        return Err(Error::definite(format!("table {table} does not exist"))
            .hint("create it with `walrelay setup`, or correct outbox_table"));
    };
    let (may_update, may_delete) = (first.get("may_update"), first.get("may_delete"));
    let columns: Vec<(String, u32)> =
        rows.iter().map(|row| (row.get("column_name"), row.get("type_oid"))).collect();
    let described = columns.iter().map(|(name, oid)| (name.as_str(), *oid));
    Plan::from_columns(table, &described)?;
    let quoted = quote::qualified(&table.schema, &table.name);
    let (is_allowed, grant) = match settings.after_publish {
        AfterPublish::Mark => (may_update, "UPDATE (published, published_at)"),
        AfterPublish::Delete => (may_delete, "DELETE"),
        AfterPublish::Keep => (true, ""),
    };
    if !is_allowed {
        return Err(Error::definite(format!(
            "after_publish = {}, but this role may not do that on table {table}",
            settings.after_publish.name()
        ))
        .hint(format!("GRANT SELECT, {grant} ON {quoted} TO the role in database_url")));
    }
    if settings.after_publish == AfterPublish::Mark {
        let has = |wanted: &str| columns.iter().any(|(name, _)| name == wanted);
        if !has("published") || !has("published_at") {
            return Err(Error::definite(format!(
                "after_publish = mark, but table {table} lacks the column published or published_at"
            ))
            .hint("add them with `walrelay setup`, or set after_publish to delete or keep"));
        }
    }
    Ok(lacks(table, &rows))
}

fn lacks(table: &TableName, rows: &[Row]) -> Option<Lacks> {
    let column = |wanted: &str| rows.iter().find(|row| row.get::<_, &str>("column_name") == wanted);
    let wanted = || PARKING_COLUMNS.into_iter().chain(["published"]);
    let missing: Vec<&str> = wanted().filter(|name| column(name).is_none()).collect();
    if !missing.is_empty() {
        return Some(Lacks {
            what: format!("table {table} lacks what parking takes: {}", missing.join(", ")),
            hint: "add it with `walrelay setup`".to_owned(),
        });
    }
    let may_update = |name: &&str| column(name).is_some_and(|row| row.get("may_update_column"));
    let denied: Vec<&str> = PARKING_COLUMNS.into_iter().filter(|name| !may_update(name)).collect();
    (!denied.is_empty()).then(|| Lacks {
        what: format!("this role may not park events in table {table}"),
        hint: format!(
            "GRANT UPDATE ({}) ON {} TO the role in database_url",
            denied.join(", "),
            quote::qualified(&table.schema, &table.name)
        ),
    })
}

/// How rows of the outbox are read by SQL.
pub(super) async fn selection(client: &Client, table: &TableName) -> Result<Selection> {
    let columns = postgres::columns(client, table).await?;
    let described = columns.iter().map(|(name, oid)| (name.as_str(), *oid));
    Selection::from_columns(table, &described)
}

/// A commit that waits for us would wait for ever: we confirm what is marked, and mark what others
/// can see, which is only after the wait.
pub(super) fn refuse_synchronous(sync_state: Option<&str>) -> Result<()> {
    match sync_state {
        None | Some("async") => Ok(()),
        Some(state) => Err(Error::definite(format!(
            "PostgreSQL treats this relay as a synchronous standby ({state}): its commits would \
             wait for the relay, and the relay for them"
        ))
        .hint(
            "name the standbys in synchronous_standby_names instead of '*' or walrelay, and \
             reload PostgreSQL",
        )),
    }
}

pub(super) fn tell_hazards(facts: &Facts, durable: Durable) {
    if let Some(policy) = facts.maxmemory_policy.as_deref()
        && policy.starts_with("allkeys-")
    {
        tracing::warn!(
            policy,
            "Redis throws any key away when its memory is full, streams too: set \
             maxmemory-policy noeviction"
        );
    }
    if facts.is_rewrite_unsynced && !durable.hold.is_zero() {
        tracing::warn!(
            "Redis does not sync its append-only file while it rewrites it: a power loss then \
             loses confirmed entries; set no-appendfsync-on-rewrite no"
        );
    }
    if let (Some(barrier), Some(replicas)) = (durable.barrier, facts.replicas)
        && replicas < u32::from(barrier.replicas)
    {
        tracing::warn!(
            replicas,
            wanted = barrier.replicas,
            "Redis has fewer replicas than durability asks for: nothing is confirmed until they \
             are there"
        );
    }
}

/// Says how many rows the new slot will not send.
pub(super) async fn tell_unpublished(client: &Client, table: &TableName) -> Result<()> {
    let sql = COUNT_UNPUBLISHED.replace("{table}", &quote::qualified(&table.schema, &table.name));
    let doing = format!("cannot count the unpublished rows of table {table}");
    let row = match client.query_one(&sql, &[]).await {
        Ok(row) => row,
        // A table without the flag has nothing to count.
        Err(error) if postgres::is_undefined_column(&error) => return Ok(()),
        Err(error) => return Err(from_sql(&doing, error)),
    };
    let unpublished: i64 = row.get("unpublished");
    if unpublished > 0 {
        tracing::warn!(
            table = %table,
            rows = unpublished,
            "the table holds unpublished rows from before the slot: the slot does not send them"
        );
    }
    Ok(())
}
