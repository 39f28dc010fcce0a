//! `walrelay schema`: what may be typed behind it.

use clap::{Args, Subcommand, ValueEnum};

use super::range::Range;

pub(super) const HELP: &str = "\
Examples:
  walrelay schema check --set schema_dir=schemas
  walrelay schema check --type UserCreated --since 1d --json";

const CHECK_HELP: &str = "\
Holds every row of the table and every entry of its streams against the schemas of `schema_dir`,
whatever schema_validation says: ask it before that is set to reject. It only reads, in short
steps, beside whatever runs. What no schema speaks of is listed and passes, unless --strict is
given or schema_strict is set. A violation names the event, the place in its payload and the rule,
never a value.

TIME is \"2026-07-01 10:00\" (UTC), the same with an offset, or an age such as 2h: rows by
created_at, entries by when they were added. --from-id and --to-id are about rows only. Entries of
a dead letter stream are read where --stream names it. The Redis user needs +xrange.

Exit codes: 0 nothing breaks its schema, 1 something does, or a server cannot be reached, 2 wrong
arguments, or a schema that is none.

Examples:
  walrelay schema check
  walrelay schema check --set schema_dir=schemas --only rows
  walrelay schema check --since 2h --type UserCreated --type UserUpdated
  walrelay schema check --from-id 1 --to-id 500000 --rate 5000 --limit 100
  walrelay schema check --stream identity.user.v1 --strict --json";

/// What `walrelay schema` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Schema {
    /// Would the table and its streams pass? Hold all of it against the schemas; only reads
    #[command(after_help = CHECK_HELP)]
    Check(Box<SchemaCheck>),
}

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// The table
    Rows,
    /// The streams
    Entries,
}

/// Which rows and entries, and how it is told.
#[derive(Args, Clone, Debug, Default)]
pub struct SchemaCheck {
    /// Which.
    #[command(flatten)]
    pub range: Range,
    /// Only events of this type; may be repeated
    #[arg(long = "type", value_name = "NAME")]
    pub types: Vec<String>,
    /// Only one side; with rows Redis is not asked at all
    #[arg(long, value_name = "SIDE")]
    pub only: Option<Side>,
    /// Types without a schema are violations too
    #[arg(long)]
    pub strict: bool,
    /// Show at most so many violations; all are counted
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Arguments;

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in ["schema", "schema check --limit 0", "schema check --only both", "schema x"] {
            let words = std::iter::once("walrelay").chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_err(), "{line}");
        }
    }
}
