//! `walrelay tail`: what may be typed behind it.

use clap::Args;

pub(super) const HELP: &str = "\
A line has the time and the latency of the entry, its stream, type, aggregate, event id and payload.

The time is that in the entry's ID: Redis's clock when the entry was added, in UTC. The latency is
from the event's occurred_at until then, in whole milliseconds. occurred_at is the row's created_at,
which defaults to now(): the BEGIN of its transaction, not its COMMIT, by PostgreSQL's clock. In a
table without created_at it is the time of the COMMIT. So a long transaction counts, and so does the
difference between the clocks of the two servers; an event that was parked or replayed shows how
long that took.

It reads with XREAD and XREVRANGE, belongs to no consumer group and changes nothing. Should Redis go
away it waits, and goes on behind the last entry it has printed.

Examples:
  walrelay tail
  walrelay tail --last 20 --type UserCreated
  walrelay tail --since 10m --aggregate 6f1c2f0e-5b1c-4a57-9a0a-0d4b8a1f7c11 --full
  walrelay tail --stream orders --stream identity.user.v1.dlq --json
  walrelay tail --from-start --count 1000 --json | jq .latency_ms";

/// Which entries `walrelay tail` prints, and how.
#[derive(Args, Clone, Debug, Default)]
pub struct TailOptions {
    /// Read this stream; may be repeated. Without it: stream_name
    #[arg(long, value_name = "NAME")]
    pub stream: Vec<String>,
    /// Begin with the oldest entry, not with those that come from now on
    #[arg(long, conflicts_with_all = ["since", "last"])]
    pub from_start: bool,
    /// Begin with what was added so long ago, such as 10m, by Redis's clock
    #[arg(long, value_name = "AGE", conflicts_with = "last")]
    pub since: Option<String>,
    /// Begin with the last N entries of each stream
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub last: Option<u64>,
    /// End after N entries were printed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Only events of this type; may be repeated
    #[arg(long = "type", value_name = "NAME")]
    pub event_type: Vec<String>,
    /// Only events of this aggregate; may be repeated
    #[arg(long, value_name = "ID")]
    pub aggregate: Vec<String>,
    /// Print every field whole, however wide that is
    #[arg(long, conflicts_with = "json")]
    pub full: bool,
    /// As JSON: an object a line, with all fields
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Arguments;

    #[test]
    fn a_tail_begins_in_one_place_and_prints_in_one_way() {
        for line in [
            "tail --from-start --last 3",
            "tail --since 1m --last 3",
            "tail --from-start --since 1m",
            "tail --full --json",
            "tail --last 0",
            "tail --count 0",
        ] {
            let words = std::iter::once("walrelay").chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_err(), "{line}");
        }
    }
}
