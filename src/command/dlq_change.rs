//! `walrelay dlq retry` and `discard`: dead rows become due again, or are settled for good.
//!
//! Each is one transaction: all that are named are changed, or none. Named rows are locked before
//! they are judged, and `--all` is one statement: who comes second finds nothing left to do.

use std::io::Write;

use tokio_postgres::Transaction;

use super::dlq::{Desk, Filter, Names, say};
use super::dlq_list::{self, Rows, Wanted};
use super::terminal::patiently;
use crate::cli::DlqChoice;
use crate::error::{Error, Result};

const FIND: &str = include_str!("../../sql/queries/dlq_find.sql");
const RETRY: &str = include_str!("../../sql/queries/dlq_retry.sql");
const DISCARD: &str = include_str!("../../sql/queries/dlq_discard.sql");

/// Of rows that cannot be changed, so many are named.
const NAMED_MAX: usize = 20;
/// What would be discarded is shown up to here.
const SHOWN_MAX: u32 = 100;

/// Makes dead events due.
pub(super) async fn retry(
    desk: &mut Desk<'_>,
    chosen: &DlqChoice,
    out: &mut impl Write,
) -> Result<()> {
    let changed = change(desk, chosen, RETRY).await?;
    say(out, &format!("{}: due now\n", events(changed)))
}

/// Settles dead events for good, if that is what is wanted.
pub(super) async fn discard(
    desk: &mut Desk<'_>,
    chosen: &DlqChoice,
    is_sure: bool,
    out: &mut impl Write,
) -> Result<()> {
    if is_sure {
        let changed = change(desk, chosen, DISCARD).await?;
        return say(out, &format!("{}: discarded\n", events(changed)));
    }
    let filter = checked(chosen)?;
    if chosen.all {
        let wanted = Wanted { rows: Rows::Dead, limit: SHOWN_MAX, json: false };
        dlq_list::run(desk, &filter, wanted, out).await?;
    } else {
        let names = desk.names(&chosen.ids)?;
        let (find, table) = (desk.sql(FIND), desk.outbox.table.to_string());
        let failed = |error| crate::postgres::from_sql(&doing(&table), error);
        let transaction = desk.client.transaction().await.map_err(failed)?;
        let ids = find_dead(&transaction, &find, &names, &table).await?;
        say(out, &format!("{} would be discarded\n", events(ids.len())))?;
    }
    Err(Error::usage("nothing was discarded").hint("add --yes to discard for good"))
}

/// Changes what was chosen; how many rows that were.
async fn change(desk: &mut Desk<'_>, chosen: &DlqChoice, template: &str) -> Result<u64> {
    let filter = checked(chosen)?;
    let names = desk.names(&chosen.ids)?;
    let which = if chosen.all { "{filter}" } else { "id = ANY ($1::int8[])" };
    let sql = desk.sql(&template.replace("{which}", which));
    let (find, table, outbox) = (desk.sql(FIND), desk.outbox.table.to_string(), desk.outbox);
    let failed = |error| crate::postgres::from_sql(&doing(&table), error);
    let transaction = desk.client.transaction().await.map_err(failed)?;
    let changing = async {
        if chosen.all {
            return transaction.execute(&sql, &filter.parameters(outbox)).await.map_err(failed);
        }
        let ids = find_dead(&transaction, &find, &names, &table).await?;
        transaction.execute(&sql, &[&ids]).await.map_err(failed)
    };
    let changed = patiently(changing, async || {
        format!("PostgreSQL changes rows of table {table}, or waits for one that is locked")
    });
    let changed = changed.await?;
    transaction.commit().await.map_err(failed)?;
    Ok(changed)
}

fn doing(table: &str) -> String {
    format!("cannot change the dead rows of table {table}")
}

/// Filters choose among all; beside names they would say two things at once.
fn checked(chosen: &DlqChoice) -> Result<Filter<'_>> {
    let filter = Filter::new(&chosen.filter)?;
    if !chosen.all && !filter.is_empty() {
        return Err(Error::usage("filters go with --all, not with ids"));
    }
    Ok(filter)
}

/// The named rows, locked; a complaint that names each one that is unknown or not dead.
async fn find_dead(
    transaction: &Transaction<'_>,
    find: &str,
    names: &Names,
    table: &str,
) -> Result<Vec<i64>> {
    let rows = transaction.query(find, &[&names.ids, &names.event_ids]).await;
    let rows = rows.map_err(|error| crate::postgres::from_sql(&doing(table), error))?;
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

fn events(count: impl TryInto<u64>) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => "1 event".to_owned(),
        count => format!("{count} events"),
    }
}
