//! Dead rows become due again, or are settled for good.
//!
//! Each change is one transaction: all that are named are changed, or none. Named rows are locked
//! before they are judged, and all of a filter are one statement: who comes second finds nothing
//! left to do.

use tokio_postgres::Transaction;

use super::desk::{Desk, Filter, Names};
use crate::error::{Error, Result};
use crate::postgres::from_sql;

const FIND: &str = include_str!("../../sql/queries/dlq_find.sql");
const RETRY: &str = include_str!("../../sql/queries/dlq_retry.sql");
const DISCARD: &str = include_str!("../../sql/queries/dlq_discard.sql");

/// Of rows that cannot be changed, so many are named.
const NAMED_MAX: usize = 20;

/// What becomes of dead events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They are due now, with all attempts to come.
    Retry,
    /// They are settled.
    Discard,
}

/// Which dead events.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// Those with these row ids or event ids.
    Named(&'a [String]),
    /// All that the filter leaves.
    All(&'a Filter),
}

/// Changes what was chosen; how many rows that were.
pub async fn change(desk: &mut Desk<'_>, what: Change, choice: Choice<'_>) -> Result<u64> {
    let template = match what {
        Change::Retry => RETRY,
        Change::Discard => DISCARD,
    };
    let which = match choice {
        Choice::All(_) => "{filter}",
        Choice::Named(_) => "o.id = ANY ($1::int8[])",
    };
    let sql = desk.sql(&template.replace("{which}", which));
    let (find, table, outbox) = (desk.sql(FIND), desk.outbox.table.to_string(), desk.outbox);
    let names = match choice {
        Choice::All(_) => Names::default(),
        Choice::Named(typed) => desk.names(typed)?,
    };
    let failed = |error| from_sql(&doing(&table), error);
    let transaction = desk.client.transaction().await.map_err(failed)?;
    let changed = match choice {
        Choice::All(filter) => {
            transaction.execute(&sql, &filter.parameters(outbox)).await.map_err(failed)?
        }
        Choice::Named(_) => {
            let ids = find_dead(&transaction, &find, &names, &table).await?;
            transaction.execute(&sql, &[&ids]).await.map_err(failed)?
        }
    };
    transaction.commit().await.map_err(failed)?;
    Ok(changed)
}

/// How many rows the names mean, all of which must be dead. Changes nothing.
pub async fn find(desk: &mut Desk<'_>, typed: &[String]) -> Result<usize> {
    let names = desk.names(typed)?;
    let (find, table) = (desk.sql(FIND), desk.outbox.table.to_string());
    let failed = |error| from_sql(&doing(&table), error);
    let transaction = desk.client.transaction().await.map_err(failed)?;
    Ok(find_dead(&transaction, &find, &names, &table).await?.len())
}

fn doing(table: &str) -> String {
    format!("cannot change the dead rows of table {table}")
}

/// The named rows, locked; a complaint that names each one that is unknown or not dead.
async fn find_dead(
    transaction: &Transaction<'_>,
    find: &str,
    names: &Names,
    table: &str,
) -> Result<Vec<i64>> {
    let rows = transaction.query(find, &[&names.ids, &names.event_ids]).await;
    let rows = rows.map_err(|error| from_sql(&doing(table), error))?;
    let rows: Vec<(i64, Option<String>, String)> =
        rows.iter().map(|row| (row.get("id"), row.get("event_id"), row.get("state"))).collect();
    let mut wrong: Vec<String> = names
        .ids
        .iter()
        .filter(|id| !rows.iter().any(|(known, ..)| known == *id))
        .map(|id| format!("{id} (no such row)"))
        .collect();
    let unknown = names
        .event_ids
        .iter()
        .filter(|id| !rows.iter().any(|(_, known, _)| known.as_ref() == Some(*id)));
    wrong.extend(unknown.map(|id| format!("{id} (no such event)")));
    let living = rows.iter().filter(|(.., state)| state != "dead");
    wrong.extend(living.map(|(id, _, state)| format!("{id} ({state})")));
    if wrong.is_empty() {
        return Ok(rows.into_iter().map(|(id, ..)| id).collect());
    }
    let more = wrong.len().saturating_sub(NAMED_MAX);
    wrong.truncate(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = format!("not dead in table {table}: {}{more}", wrong.join(", "));
    Err(Error::definite(what).hint("nothing was changed; `walrelay dlq list` shows what is dead"))
}
