//! `walrelay dlq`: what may be typed behind it.

use clap::{Args, Subcommand};

pub(super) const HELP: &str = "\
ID is a row's id or an event id. A retried event keeps its event id; its attempts begin anew. The
entries in the dead letter stream stay. Needs PostgreSQL only, not Redis.

Examples:
  walrelay dlq list --stream identity.user.v1 --older-than 2h
  walrelay dlq list --json | jq .error
  walrelay dlq show 4711
  walrelay dlq retry 4711 4712
  walrelay dlq retry --all --type UserCreated --newer-than 1d
  walrelay dlq discard 4711 --yes";

const LIST_HELP: &str = "\
Examples:
  walrelay dlq list
  walrelay dlq list --type UserCreated --older-than 2h
  walrelay dlq list --parked
  walrelay dlq list --json --limit 1000 | jq .error";

const SHOW_HELP: &str = "\
Examples:
  walrelay dlq show 4711
  walrelay dlq show 0f8fad5b-d9cb-469f-a165-70867728950e --json";

const RETRY_HELP: &str = "\
Examples:
  walrelay dlq retry 4711 4712
  walrelay dlq retry --all --stream identity.user.v1 --newer-than 1d";

const DISCARD_HELP: &str = "\
Examples:
  walrelay dlq discard 4711
  walrelay dlq discard 4711 --yes
  walrelay dlq discard --all --older-than 30d --yes";

/// What `walrelay dlq` does.
#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// List dead events, those that died first at the head; never their payloads
    #[command(after_help = LIST_HELP)]
    List {
        /// Which.
        #[command(flatten)]
        filter: DlqFilter,
        /// List instead what is parked and will be tried again, and when
        #[arg(long, conflicts_with_all = ["older_than", "newer_than"])]
        parked: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100,
            value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// As JSON, an object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one row whole, in whatever state it is: the payload too, in plain text
    #[command(after_help = SHOW_HELP)]
    Show {
        /// The row's id, or the event id
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Try dead events again, now: all that are named, or none if one of them is not dead
    #[command(after_help = RETRY_HELP)]
    Retry {
        /// Which.
        #[command(flatten)]
        chosen: DlqChoice,
    },
    /// Give dead events up for good; the rows stay, as settled
    #[command(after_help = DISCARD_HELP)]
    Discard {
        /// Which.
        #[command(flatten)]
        chosen: DlqChoice,
        /// Do it; without this only show what would be discarded
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead events.
#[derive(Args, Clone, Debug, Default)]
pub struct DlqFilter {
    /// Only those of this stream
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// Only those of this event type
    #[arg(long = "type", value_name = "NAME")]
    pub event_type: Option<String>,
    /// Only those of this aggregate
    #[arg(long, value_name = "ID")]
    pub aggregate: Option<String>,
    /// Only those that have been dead for longer, such as 2h
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<String>,
    /// Only those that died within this time, such as 1d
    #[arg(long, value_name = "AGE")]
    pub newer_than: Option<String>,
}

/// Dead events by name, or by filter.
#[derive(Args, Clone, Debug)]
pub struct DlqChoice {
    /// Row ids or event ids
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// All dead events that the filters leave
    #[arg(long)]
    pub all: bool,
    /// Filters.
    #[command(flatten)]
    pub filter: DlqFilter,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Arguments;

    #[test]
    fn dead_events_are_named_or_filtered_and_never_neither() {
        for line in [
            "dlq retry",
            "dlq discard --yes",
            "dlq retry --all 1",
            "dlq show",
            "dlq list --parked --older-than 1h",
            "dlq list --limit 0",
        ] {
            let words = std::iter::once("walrelay").chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_err(), "{line}");
        }
    }
}
