//! Who the server is: its system, its timeline, and the timelines that one came from.
//!
//! In: a connection that does not stream yet. Out: [`Standing`], and where each ancestor timeline
//! was left. A promoted standby goes on with a timeline of its own; what was written on the old one
//! past the point where it was left never happened.
//! <https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-TIMELINE-HISTORY>

use super::replication::Replication;
use crate::error::{Error, Result};
use crate::lsn::Lsn;

/// What IDENTIFY_SYSTEM says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The cluster's identifier, the same on its standbys.
    pub system_id: String,
    /// The timeline that the server writes.
    pub timeline: u32,
    /// The end of the WAL that is flushed.
    pub wal_end: Lsn,
}

impl Replication {
    /// Who the server is and where it stands.
    pub async fn identify(&mut self) -> Result<Standing> {
        let doing = "cannot identify the PostgreSQL server";
        let rows = self.ask("IDENTIFY_SYSTEM", doing).await?;
        let mut columns = rows.into_iter().next().unwrap_or_default().into_iter();
        let standing = (|| {
            let system_id = columns.next()??;
            let timeline = columns.next()??.parse().ok()?;
            let wal_end = columns.next()??.parse().ok()?;
            Some(Standing { system_id, timeline, wal_end })
        })();
        standing.ok_or_else(|| Error::transient(format!("{doing}: its answer makes no sense")))
    }

    /// Each ancestor of `timeline`, oldest first, with the position at which it was left.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<Vec<(u32, Lsn)>> {
        // The first timeline has no ancestors, and no history file.
        if timeline <= 1 {
            return Ok(Vec::new());
        }
        let doing = format!("cannot read the history of timeline {timeline}");
        let rows = self.ask(&format!("TIMELINE_HISTORY {timeline}"), &doing).await?;
        let content = rows.into_iter().next().and_then(|row| row.into_iter().nth(1)?);
        content.as_deref().and_then(parse_history).ok_or_else(|| {
            Error::transient(format!("{doing}: what the server sent is no timeline history"))
        })
    }
}

/// A history file: a line for each ancestor, `timeline LSN reason`; `#` begins a comment. `None`
/// when a line is something else: a wrong guess about a timeline loses events.
fn parse_history(content: &str) -> Option<Vec<(u32, Lsn)>> {
    let mut ancestors: Vec<(u32, Lsn)> = Vec::new();
    for line in content.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let timeline: u32 = words.next()?.parse().ok()?;
        let left: Lsn = words.next()?.parse().ok()?;
        // The server's own reader asks for rising ids, too.
        if ancestors.last().is_some_and(|(before, _)| *before >= timeline) {
            return None;
        }
        ancestors.push((timeline, left));
    }
    Some(ancestors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_names_each_ancestor_and_where_it_was_left() {
        let content = "1\t0/3000060\tno recovery target specified\n\n\
                       # written by hand\n  \n\
                       2\t16/B374D848\tbefore 2000-01-01 00:00:00+00\r\n";
        let ancestors = parse_history(content).unwrap();
        assert_eq!(ancestors, [(1, Lsn::new(0x300_0060)), (2, Lsn::new(0x16_B374_D848))]);
        assert_eq!(parse_history(""), Some(Vec::new()));
        assert_eq!(parse_history("7 0/1"), Some(vec![(7, Lsn::new(1))]));
    }

    #[test]
    fn nonsense_is_no_history() {
        for content in [
            "nonsense",
            "1",
            "1\tnowhere\treason",
            "-1\t0/1\tx",
            "4294967296\t0/1\tx",
            "1\t0/1FFFFFFFF\tx",
            "2\t0/2\tx\n1\t0/1\tx",
            "1\t0/1\tx\n1\t0/2\tx",
            "\\x310930",
            "\u{fffd}\u{fffd}",
        ] {
            assert_eq!(parse_history(content), None, "{content:?}");
        }
    }
}
