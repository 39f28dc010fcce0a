//! `walrelay check`: what may be typed behind it.

use clap::Args;

pub(super) const HELP: &str = "\
Changes nothing on either server. One pass tells all: what is wrong with one server hides nothing of
the other. Every line that is not OK says why it matters and what to paste: SQL for psql, commands
for redis-cli, or settings of the relay. The role and the user that are checked are the relay's own.

Exit codes, as monitoring plugins have them:
  0    all OK; with --allow-warnings, nothing worse than warnings
  1    a warning: it works, and will hurt one day
  2    a failure: it does not work, or loses something (or the command line is wrong)

As an init container, in a pod's spec:
  initContainers:
    - name: check
      image: walrelay
      args: [check, --allow-warnings]

And in compose.yml:
  relay-check:
    image: walrelay
    command: [check, --allow-warnings]
  relay:
    image: walrelay
    depends_on: { relay-check: { condition: service_completed_successfully } }

Examples:
  walrelay check
  walrelay check --json | jq .level
  walrelay check --allow-warnings --set connect_timeout=3s";

/// How the answer is given.
#[derive(Args, Clone, Copy, Debug)]
pub struct Check {
    /// As JSON: one object with the worst level and all findings
    #[arg(long)]
    pub json: bool,
    /// Exit with 0 where there are warnings but no failure
    #[arg(long)]
    pub allow_warnings: bool,
}
