//! `walrelay teardown`: what may be typed behind it.

use clap::Args;

pub(super) const HELP: &str = "\
What it drops: every replication slot of slot_name, those of shards included, whatever their number;
every publication of publication_name that covers the outbox and no other table; the trigger of
`setup --notify`. What stays: the outbox and its rows, streams and dead letters, the checkpoints in
Redis, the role. Slots cannot be brought back: what they had not sent is then only in the outbox.

All of it goes, or nothing, as far as PostgreSQL allows: slots know no transaction, so they go last,
and what was dropped and what was not is said for each. It refuses while a relay is connected; stop
it first. It may be repeated.

Examples:
  walrelay teardown --dry-run
  walrelay teardown
  walrelay teardown --yes --set slot_name=walrelay_old";

/// How `walrelay teardown` goes about it.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct TeardownOptions {
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Only show what would be dropped
    #[arg(long)]
    pub dry_run: bool,
}
