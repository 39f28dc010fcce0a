//! `walrelay status`: what may be typed behind it.

use clap::Args;

pub(super) const HELP: &str = "\
From the running relay, over HTTP. Where none answers, from PostgreSQL and Redis themselves: that is
said, for then nobody knows what has been received and not confirmed. PostgreSQL's current LSN and
what its slot keeps come from PostgreSQL in both cases (not with --url, which may name a relay of
other servers). Rows are counted for two seconds at most; what takes longer is left out.

Exit codes:
  0    it streams, polls or stands by; with --watch: ended by SIGINT or SIGTERM
  1    it does not, or nobody can tell
  2    the command line or a setting is wrong

Examples:
  walrelay status
  walrelay status --watch
  walrelay status --watch 10 --json
  walrelay status --url http://relay-2:8080
  walrelay status --json | jq .lag";

/// What `walrelay status` shows, and how.
#[derive(Args, Clone, Debug, Default)]
pub struct StatusOptions {
    /// Ask the relay there, such as http://relay:8080; else the one at http_address and http_port
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// As JSON: one object; with --watch an object a line
    #[arg(long)]
    pub json: bool,
    /// Look again every so many seconds [2]: redrawn on a terminal, a line a look elsewhere
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    pub watch: Option<String>,
}
