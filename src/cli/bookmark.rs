//! `walrelay bookmark`: what may be typed behind it.

use clap::Subcommand;

pub(super) const HELP: &str = "\
A bookmark is a replication slot that nobody streams from: PostgreSQL keeps the WAL behind it, on
its disk, until the bookmark is dropped. `walrelay replay --bookmark NAME` sends again what was
committed since, as often as you like. It takes one of the server's max_replication_slots, and a
replay one more while it runs. Needs PostgreSQL only, not Redis.

Without --now it stands where the relay's slot stands: the first event of a replay is the first one
that the relay had not confirmed when the bookmark was made. That may be a few events before the
last ones in the stream, never one later; `walrelay replay --bookmark NAME --dry-run` shows it.

Examples:
  walrelay bookmark create before_deploy
  walrelay bookmark create exactly_here --now
  walrelay bookmark list
  walrelay bookmark list --json | jq .retained_bytes
  walrelay bookmark drop before_deploy";

const CREATE_HELP: &str = "\
Examples:
  walrelay bookmark create before_deploy
  walrelay bookmark create exactly_here --now";

const LIST_HELP: &str = "\
Examples:
  walrelay bookmark list
  walrelay bookmark list --json | jq .retained_bytes";

const DROP_HELP: &str = "\
Examples:
  walrelay bookmark drop before_deploy";

/// What `walrelay bookmark` does.
#[derive(Debug, Subcommand)]
pub enum Bookmark {
    /// Pin the position of the relay's slot, whether the relay runs or not
    #[command(after_help = CREATE_HELP)]
    Create {
        /// 1 to 45 of a-z, 0-9 and _
        name: String,
        /// Pin the present end of the WAL instead: exact, but it waits for the transactions that
        /// are open, and needs no slot of a relay
        #[arg(long)]
        now: bool,
    },
    /// List all bookmarks: where each stands, and how much WAL it holds
    #[command(after_help = LIST_HELP)]
    List {
        /// As JSON, an object a line
        #[arg(long)]
        json: bool,
    },
    /// Drop a bookmark: PostgreSQL may remove the WAL that only it held
    #[command(after_help = DROP_HELP)]
    Drop {
        /// The bookmark's name
        name: String,
    },
}
