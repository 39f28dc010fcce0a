//! `walrelay replay`: what may be typed behind it.

use clap::{ArgGroup, Args};

pub(super) const HELP: &str = "\
The live line is left alone: its slot and checkpoint do not move, and what is replayed says so
(`replayed`), with the event id that it had. From a bookmark or an LSN events come out of the WAL,
in the order of commit, through a temporary copy of a slot that goes with the connection. From the
table (--since, --id, --aggregate) they come in the order of id, whatever has become of the rows.

A replay that was interrupted, in whatever way, goes on where it was when the same command is
typed again: each event is in its target once. Redis remembers that for a week. --again begins
anew.

--dlq sends what the dead letter stream says to the streams that the events were meant for, and
leaves the rows as they are: a copy, for consumers. `walrelay dlq retry` has the relay deliver the
events themselves.

Examples:
  walrelay replay --bookmark before_deploy --stream rebuild --dry-run
  walrelay replay --bookmark before_deploy --stream rebuild --rate 2000/s
  walrelay replay --from-lsn 16/B374D848 --until 16/B4000000 --type UserCreated
  walrelay replay --since 2h --stream rebuild
  walrelay replay --since 2026-11-20T22:00:00Z --until 2026-11-20T23:30:00Z --type UserCreated
  walrelay replay --id 4711 4712
  walrelay replay --aggregate a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 --stream rebuild
  walrelay replay --dlq --stream inspection";

/// What is to be sent again, and where to.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(group(ArgGroup::new("source").required(true).multiple(true)
    .args(["bookmark", "from_lsn", "since", "id", "dlq", "aggregate"])))]
pub struct Replay {
    /// Everything committed since this bookmark
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from_lsn", "since", "id", "dlq"])]
    pub bookmark: Option<String>,
    /// Every transaction whose commit record is at or behind this LSN
    #[arg(long, value_name = "LSN", conflicts_with_all = ["since", "id", "dlq"])]
    pub from_lsn: Option<String>,
    /// Rows of the table created since: RFC 3339 with an offset, or an age such as 2h
    #[arg(long, value_name = "TIME", conflicts_with_all = ["id", "dlq"])]
    pub since: Option<String>,
    /// These rows of the table: row ids or event ids
    #[arg(long, value_name = "ID", num_args = 1.., conflicts_with_all = ["dlq", "aggregate"])]
    pub id: Vec<String>,
    /// What a dead letter stream holds; the one of stream_name unless it is named
    #[arg(long, value_name = "STREAM", num_args = 0..=1, require_equals = true,
        default_missing_value = "")]
    pub dlq: Option<String>,
    /// Only this aggregate; alone: all its rows in the table
    #[arg(long, value_name = "ID")]
    pub aggregate: Option<String>,
    /// Stop there: an LSN behind --bookmark and --from-lsn, else a time; without it now
    #[arg(long, value_name = "LSN|TIME", conflicts_with = "id")]
    pub until: Option<String>,
    /// Only events of this type; may be repeated
    #[arg(long = "type", value_name = "NAME")]
    pub types: Vec<String>,
    /// Write into this stream; without it each event goes to the stream that it belongs to, whose
    /// consumers see it a second time
    #[arg(long, value_name = "TARGET")]
    pub stream: Option<String>,
    /// At most so many events a second, evenly
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub rate: Option<u32>,
    /// Only say how many events, and which are the first and the last
    #[arg(long)]
    pub dry_run: bool,
    /// Begin anew where the same replay was made before
    #[arg(long)]
    pub again: bool,
}

fn rate(text: &str) -> Result<u32, String> {
    let number = text.trim().trim_end_matches("/s");
    match number.parse() {
        Ok(rate @ 1..=10_000_000) => Ok(rate),
        Ok(_) | Err(_) => Err("expected events a second, such as 500/s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Arguments, Command};

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("walrelay").chain(line.split(' ')))
    }

    #[test]
    fn a_replay_has_one_source() {
        for line in [
            "replay",
            "replay --type A",
            "replay --bookmark a --since 1h",
            "replay --from-lsn 0/1 --id 4",
            "replay --dlq --since 1h",
            "replay --id 4 --aggregate a",
            "replay --id 4 --until 1h",
            "replay --bookmark a --rate 0",
            "replay --bookmark a --rate fast",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in [
            "replay --aggregate a",
            "replay --bookmark b --aggregate a --rate 10/s",
            "replay --since 1h --aggregate a --type A --type B",
            "replay --dlq=orders.dlq --until 1h",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn ids_are_several_and_dead_letters_need_no_name() {
        let Command::Replay { replay } = parse("replay --id 4 5 --dry-run").unwrap().command else {
            panic!("no replay");
        };
        assert_eq!(replay.id, ["4", "5"]);
        let Command::Replay { replay } = parse("replay --dlq --rate 7").unwrap().command else {
            panic!("no replay");
        };
        assert_eq!((replay.dlq.as_deref(), replay.rate), (Some(""), Some(7)));
    }
}
