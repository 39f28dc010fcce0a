//! `walrelay dlq retry` and `discard`: what was chosen, what is asked first, and what is said.

use std::io::Write;

use super::dlq::{filter, say};
use super::dlq_list::{self, Wanted};
use super::terminal::patiently;
use crate::cli::DlqChoice;
use crate::deadletters::{Change, Choice, Desk, Filter, Rows, change, find};
use crate::error::{Error, Result};

/// What would be discarded is shown up to here.
const SHOWN_MAX: u32 = 100;

/// Makes dead events due.
pub(super) async fn retry(
    desk: &mut Desk<'_>,
    chosen: &DlqChoice,
    out: &mut impl Write,
) -> Result<()> {
    let filter = checked(chosen)?;
    let changed = changed(desk, Change::Retry, choice(chosen, &filter)).await?;
    say(out, &format!("{}: due now\n", events(changed)))
}

/// Settles dead events for good, if that is what is wanted.
pub(super) async fn discard(
    desk: &mut Desk<'_>,
    chosen: &DlqChoice,
    is_sure: bool,
    out: &mut impl Write,
) -> Result<()> {
    let filter = checked(chosen)?;
    if is_sure {
        let changed = changed(desk, Change::Discard, choice(chosen, &filter)).await?;
        return say(out, &format!("{}: discarded\n", events(changed)));
    }
    if chosen.all {
        let wanted = Wanted { rows: Rows::Dead, limit: SHOWN_MAX, json: false };
        dlq_list::run(desk, &filter, wanted, out).await?;
    } else {
        let found = find(desk, &chosen.ids).await?;
        say(out, &format!("{} would be discarded\n", events(found)))?;
    }
    Err(Error::usage("nothing was discarded").hint("add --yes to discard for good"))
}

/// Changes what was chosen; how many rows that were.
async fn changed(desk: &mut Desk<'_>, what: Change, chosen: Choice<'_>) -> Result<u64> {
    let table = desk.outbox.table.to_string();
    patiently(change(desk, what, chosen), async || {
        format!("PostgreSQL changes rows of table {table}, or waits for one that is locked")
    })
    .await
}

/// Filters choose among all; beside names they would say two things at once.
fn checked(chosen: &DlqChoice) -> Result<Filter> {
    let filter = filter(&chosen.filter)?;
    if !chosen.all && !filter.is_empty() {
        return Err(Error::usage("filters go with --all, not with ids"));
    }
    Ok(filter)
}

fn choice<'a>(chosen: &'a DlqChoice, filter: &'a Filter) -> Choice<'a> {
    if chosen.all { Choice::All(filter) } else { Choice::Named(&chosen.ids) }
}

fn events(count: impl TryInto<u64>) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => "1 event".to_owned(),
        count => format!("{count} events"),
    }
}
