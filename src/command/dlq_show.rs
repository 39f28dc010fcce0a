//! `walrelay dlq show`: one row, every column of it. The one place that shows a payload: whoever
//! looks into a dead event needs it, and has asked for it by name.

use std::fmt::Write as _;
use std::io::Write;

use super::dlq::say;
use super::table::printable;
use crate::deadletters::Desk;
use crate::error::{Error, Result};

const SHOW: &str = include_str!("../../sql/queries/dlq_show.sql");
const SHOW_JSON: &str = include_str!("../../sql/queries/dlq_show_json.sql");

/// Writes the row.
pub(super) async fn run(desk: &Desk<'_>, id: &str, json: bool, out: &mut impl Write) -> Result<()> {
    let names = desk.names(&[id.to_owned()])?;
    let sql = desk.sql(if json { SHOW_JSON } else { SHOW });
    let rows = desk.client.query(&sql, &[&names.ids, &names.event_ids]).await;
    let rows = rows.map_err(|error| desk.failed("cannot read a row", error))?;
    if rows.is_empty() {
        let what = format!("no row of table {} has the id or event id {id:?}", desk.outbox.table);
        return Err(Error::definite(what).hint("`walrelay dlq list` shows what is dead"));
    }
    let mut text = String::new();
    let mut last = String::new();
    for row in &rows {
        if json {
            text += row.get("document");
            text.push('\n');
            continue;
        }
        // Event ids need not be unique in every outbox.
        let id: &str = row.get("id");
        if !last.is_empty() && last != id {
            text.push('\n');
        }
        id.clone_into(&mut last);
        let value = row.get::<_, Option<&str>>("value").map_or("NULL".into(), printable);
        // A String takes everything.
        let _always = writeln!(text, "{:<18} {value}", printable(row.get("name")));
    }
    say(out, &text)
}
