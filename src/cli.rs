//! The command line: one definition feeds parser and help.
//!
//! In: arguments. Out: [`Arguments`]. No setting has a default here, and none is checked here: that
//! is the business of `config`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Settings come from defaults, a TOML file (--config), the environment (RELAY_<NAME>, or
RELAY_<NAME>_FILE for a file that holds the value) and flags; later ones win.
`walrelay config` shows them all.

Exit codes:
  0    done; for `run`: drained after SIGTERM or SIGINT
  1    something outside must be changed first: the message says what
  2    the command line or a setting is wrong
  130  a second signal ended `run` at once

Examples:
  walrelay setup --print | psql
  RELAY_DATABASE_URL_FILE=/run/secrets/db RELAY_REDIS_URL=redis://cache walrelay run
  walrelay run --config /etc/walrelay.toml --set after_publish=delete";

const DLQ_HELP: &str = "\
ID is a row's id or an event id. A retried event keeps its event id; its attempts begin anew. The
entries in the dead letter stream stay. Needs PostgreSQL only, not Redis.

Examples:
  walrelay dlq list --stream identity.user.v1 --older-than 2h
  walrelay dlq list --json | jq .error
  walrelay dlq show 4711
  walrelay dlq retry 4711 4712
  walrelay dlq retry --all --type UserCreated --newer-than 1d
  walrelay dlq discard 4711 --yes";

/// Relays a PostgreSQL outbox table to Redis Streams: each committed event exactly once.
#[derive(Parser)]
#[command(name = "walrelay", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// Options of every command. No `Debug`: a value of `--set` may be a secret.
#[derive(Args)]
pub struct Common {
    /// Read settings from this TOML file (or name it in RELAY_CONFIG)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one setting; may be repeated. Not for passwords: other users see command lines
    #[arg(long = "set", global = true, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// auto, text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay events until SIGTERM or SIGINT
    Run,
    /// Create schema, publication and slot where they are missing; safe to repeat
    Setup {
        /// Show the SQL instead, ready for psql, and touch nothing
        #[arg(long)]
        print: bool,
        /// Also create this role, with the least that `run` needs
        #[arg(long, value_name = "NAME")]
        role: Option<String>,
        /// Also install a trigger that wakes relays with `mode = poll` when rows are added
        #[arg(long)]
        notify: bool,
    },
    /// Show every setting, its value and where it was set; secrets are hidden
    Config {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List, show, retry or discard the events that could not be delivered
    #[command(after_help = DLQ_HELP)]
    Dlq {
        /// What to do with them.
        #[command(subcommand)]
        command: Dlq,
    },
    /// Ask the running relay on this machine whether it is ready, for container health checks
    Health,
}

/// What `walrelay dlq` does.
#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// List dead events, those that died first at the head; never their payloads
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
    Show {
        /// The row's id, or the event id
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Try dead events again, now: all that are named, or none if one of them is not dead
    Retry {
        /// Which.
        #[command(flatten)]
        chosen: DlqChoice,
    },
    /// Give dead events up for good; the rows stay, as settled
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

impl Common {
    /// The flags as settings: name, value, and how it was written.
    pub fn flags(&self) -> Result<Vec<(String, String, String)>, String> {
        let mut flags = Vec::new();
        for pair in &self.set {
            // What was written is not repeated: it may hold a password.
            let (name, value) = pair.split_once('=').ok_or("--set takes NAME=VALUE")?;
            flags.push((name.trim().to_owned(), value.to_owned(), "--set".to_owned()));
        }
        for (flag, name, value) in [
            ("--log-level", "log_level", &self.log_level),
            ("--log-format", "log_format", &self.log_format),
        ] {
            if let Some(value) = value {
                flags.push((name.to_owned(), value.clone(), flag.to_owned()));
            }
        }
        Ok(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{EXIT_FAILURE, EXIT_OK, EXIT_USAGE};
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_says_every_exit_code_and_a_setting_given_by_every_way() {
        let help = Arguments::command().render_long_help().to_string();
        for code in [EXIT_OK, EXIT_FAILURE, EXIT_USAGE] {
            assert!(help.contains(&format!("\n  {code}    ")), "{help}");
        }
        for text in ["--config", "--set", "RELAY_<NAME>_FILE", "setup", "health", "Examples:"] {
            assert!(help.contains(text), "{help}");
        }
    }

    #[test]
    fn the_examples_in_the_help_are_command_lines_that_work() {
        let examples = [EXIT_CODES, DLQ_HELP].map(|help| help.split_once("Examples:").unwrap().1);
        for line in examples.join("\n").lines().filter(|line| line.contains("walrelay ")) {
            let (_, rest) = line.split_once("walrelay ").unwrap();
            let words = rest.split_whitespace().take_while(|word| *word != "|");
            let line: Vec<&str> = std::iter::once("walrelay").chain(words).collect();
            let parsed = Arguments::try_parse_from(&line);
            let arguments = parsed.unwrap_or_else(|error| panic!("{}: {error}", line.join(" ")));
            arguments.common.flags().unwrap();
        }
    }

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

    #[test]
    fn flags_become_settings() {
        let line = ["walrelay", "run", "--set", "slot_name=a=b", "--log-level", "debug"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        let flags = arguments.common.flags().unwrap();
        assert_eq!(flags[0], ("slot_name".into(), "a=b".into(), "--set".into()));
        assert_eq!(flags[1], ("log_level".into(), "debug".into(), "--log-level".into()));
        let arguments = Arguments::try_parse_from(["walrelay", "run", "--set", "slot"]).unwrap();
        assert!(arguments.common.flags().is_err());
    }
}
