//! `walrelay bookmark`: pins positions of the WAL, to replay from them later.
//!
//! In: settings, and what was asked. Out: a slot more or less, or a list. It must stay true that
//! nothing is dropped that is no bookmark, and that no slot of a line is moved. Redis has no part
//! in this.

use std::fmt::Write as _;
use std::io::{Write, stderr};
use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;

use super::dlq::say;
use super::table::{Table, width};
use super::terminal::clock;
use crate::cli::Bookmark;
use crate::config::{self, DatabaseUrl, Outbox, Shards};
use crate::error::{Error, Result};
use crate::postgres::{self, Standpoint, Target};

const HEADS: [&str; 6] = ["NAME", "LSN", "HOLDS", "SINCE", "WAL STATUS", "LOST AFTER"];

/// What bookmarks are made of: the line whose events they are about.
pub struct Line {
    /// The outbox.
    pub table: Outbox,
    /// What `publication_name` is set to.
    pub publication: String,
    /// What `slot_name` is set to.
    pub slot: String,
    /// Its lines.
    pub shards: Shards,
}

/// Does what was asked, and writes the answer to `out`.
pub async fn run(
    url: &DatabaseUrl,
    timeout: Duration,
    line: &Line,
    asked: &Bookmark,
    out: &mut impl Write,
) -> Result<()> {
    let name = match asked {
        Bookmark::Create { name, .. } | Bookmark::Drop { name } => check(name)?,
        Bookmark::List { .. } => "",
    };
    let target = Target::new(url, timeout)?;
    let client = target.sql().await?;
    postgres::set_up_session(&client).await?;
    match asked {
        Bookmark::Create { now, .. } => {
            let stands = create(&client, line, name, *now).await?;
            tell(&format!(
                "PostgreSQL keeps the WAL behind it until `walrelay bookmark drop {name}`\n"
            ));
            say(out, &created(name, &stands, *now))
        }
        Bookmark::List { json } => list(&client, *json, out).await,
        Bookmark::Drop { .. } => {
            postgres::need_bookmark(&client, name, target.database()).await?;
            postgres::drop_slot(&client, &postgres::bookmark_slot(name)).await?;
            say(out, &format!("bookmark {name}: dropped\n"))
        }
    }
}

/// The name, which may be typed as the slot's too.
fn check(typed: &str) -> Result<&str> {
    let name = typed.strip_prefix(config::BOOKMARK_PREFIX).unwrap_or(typed);
    config::bookmark_name(name)
        .map_err(|reason| Error::usage(format!("{name:?} {reason}")))
        .map(|_| name)
}

async fn create(client: &Client, line: &Line, name: &str, is_now: bool) -> Result<Standpoint> {
    let slot = postgres::bookmark_slot(name);
    let all = postgres::standpoints(client).await?;
    if all.iter().any(|known| known.slot == slot) {
        return Err(Error::definite(format!("bookmark {name:?} is there already"))
            .hint("choose another name, or drop that one first"));
    }
    need_publications(client, line).await?;
    postgres::need_free_slot(client, "a bookmark").await?;
    if is_now {
        tell("waiting for the transactions that are open\n");
        postgres::create_bookmark_now(client, &slot).await?;
    } else {
        postgres::copy_slot(client, &source(&all, line)?.slot, &slot).await?;
    }
    let all = postgres::standpoints(client).await?;
    let made = all.into_iter().find(|known| known.slot == slot);
    made.ok_or_else(|| Error::transient(format!("bookmark {name:?} was dropped just now")))
}

/// Decoding looks for a publication as of the time of the change: one that is made later is none.
async fn need_publications(client: &Client, line: &Line) -> Result<()> {
    for shard in line.shards.all() {
        let publication = shard.name(&line.publication);
        if !postgres::find_publication(client, &publication, &line.table, shard).await? {
            return Err(Error::definite(format!(
                "publication {publication:?} does not exist: nothing could be replayed from a \
                 bookmark that is older than its publication"
            ))
            .hint("`walrelay setup` creates it"));
        }
    }
    Ok(())
}

/// Of the slots of the line the one that stands furthest back: all that any of its shards has not
/// confirmed is to be replayed.
fn source<'a>(all: &'a [Standpoint], line: &Line) -> Result<&'a Standpoint> {
    let mut furthest: Option<&Standpoint> = None;
    for shard in line.shards.all() {
        let name = shard.name(&line.slot);
        let Some(slot) = all.iter().find(|slot| slot.slot == name) else {
            return Err(Error::definite(format!(
                "replication slot {name:?} does not exist: there is no position to pin"
            ))
            .hint("start the relay or run `walrelay setup`, or pin the present with --now"));
        };
        if slot.is_lost {
            return Err(Error::definite(format!(
                "replication slot {name:?} is lost: its WAL is gone"
            ))
            .hint("pin the present with --now; the relay replaces its slot when it starts"));
        }
        if furthest.is_none_or(|before| slot.confirmed < before.confirmed) {
            furthest = Some(slot);
        }
    }
    furthest.ok_or_else(|| Error::definite("the line has no shards"))
}

fn created(name: &str, stands: &Standpoint, is_now: bool) -> String {
    let lsn = stands.confirmed;
    if is_now {
        return format!("bookmark {name}: at {lsn}; a replay begins with what is committed now\n");
    }
    format!(
        "bookmark {name}: at {lsn}; a replay begins with the first event that the relay had not \
         confirmed (--dry-run shows it)\n"
    )
}

async fn list(client: &Client, is_json: bool, out: &mut impl Write) -> Result<()> {
    let mut found = postgres::standpoints(client).await?;
    found.retain(|slot| slot.bookmark().is_some());
    let positions: Vec<_> = found.iter().map(|slot| slot.confirmed).collect();
    let ages = postgres::wal_ages(client, &positions).await;
    let rows: Vec<(&Standpoint, Option<f64>)> =
        found.iter().map(|slot| (slot, ages.get(&slot.confirmed).copied())).collect();
    say(out, &if is_json { lines(&rows) } else { table(&rows, width()) })
}

fn lines(rows: &[(&Standpoint, Option<f64>)]) -> String {
    let mut text = String::new();
    for (slot, age) in rows {
        let line = json!({
            "name": slot.bookmark(),
            "slot": slot.slot,
            "lsn": slot.confirmed.to_string(),
            "restart_lsn": slot.restart.map(|lsn| lsn.to_string()),
            "retained_bytes": slot.retained_bytes,
            "age_seconds": age.map(f64::round),
            "wal_status": slot.wal_status,
            "safe_wal_size": slot.safe_bytes,
            "lost": slot.is_lost,
            "active": slot.is_active,
        });
        // A String takes everything.
        let _always = writeln!(text, "{line}");
    }
    text
}

fn table(rows: &[(&Standpoint, Option<f64>)], width: usize) -> String {
    if rows.is_empty() {
        return "no bookmarks\n".to_owned();
    }
    let mut table = Table::new(&HEADS, &[(0, 12)]);
    for (slot, age) in rows {
        let safe = slot.safe_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let (lost_after, status) = match (slot.is_lost, safe) {
            (true, _) => ("lost".to_owned(), "lost"),
            (false, Some(bytes)) => (size(bytes), slot.wal_status.as_deref().unwrap_or("")),
            (false, None) => ("never".to_owned(), slot.wal_status.as_deref().unwrap_or("")),
        };
        table.add(&[
            slot.bookmark().unwrap_or_default(),
            &slot.confirmed.to_string(),
            &slot.retained_bytes.map_or_else(|| "?".to_owned(), size),
            &age.map_or_else(|| "?".to_owned(), ago),
            status,
            &lost_after,
        ]);
    }
    table.text(width)
}

/// The WAL there was written so long ago, or longer.
fn ago(seconds: f64) -> String {
    let age = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    format!("{} ago", clock(age.as_secs()))
}

/// Bytes with the unit that leaves few digits.
fn size(bytes: u64) -> String {
    let mut unit = "B";
    let (mut whole, mut rest) = (bytes, 0);
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (rest, whole, unit) = (whole % 1024 * 10 / 1024, whole / 1024, next);
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{rest} {unit}") }
}

/// A word about the work.
pub(super) fn tell(text: &str) {
    // Nobody looks: the work goes on all the same.
    let _unseen = stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_is_named_by_its_name_or_by_its_slot() {
        assert_eq!(check("before_deploy").unwrap(), "before_deploy");
        assert_eq!(check("walrelay_bookmark_x").unwrap(), "x");
        for name in ["", "walrelay_bookmark_", "Before", "a-b", "ü", &"x".repeat(46)] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn sizes_have_few_digits() {
        let sizes = [0, 1023, 1024, 1536, 16 << 20, u64::MAX].map(size);
        assert_eq!(sizes[..5], ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "16.0 MiB"]);
        assert_eq!(sizes[5], "16777215.9 TiB");
    }
}
