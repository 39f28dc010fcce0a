//! The subcommands, and the options that all of them take.
//!
//! In: arguments. Out: [`Arguments`]. It must stay true that every example in a help text is a
//! command line that parses: the tests below try each.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::bookmark::{self, Bookmark};
use super::check::{self, Check};
use super::dlq::{self, Dlq};
use super::papers::{self, CompletionsOptions, ManOptions};
use super::replay::{self, Replay};
use super::schema::{self, Schema};
use super::status::{self, StatusOptions};
use super::tail::{self, TailOptions};
use super::teardown::{self, TeardownOptions};
use super::verify::{self, Verify};

const EXIT_CODES: &str = "\
Settings come from defaults, a TOML file (--config), the environment (RELAY_<NAME>, or
RELAY_<NAME>_FILE for a file that holds the value) and flags; later ones win.
`walrelay config` shows them all. In the file a section [tables.NAME] for each of several tables
changes what differs; --table NAME says which one is meant.

Exit codes:
  0    done; for `run`: drained after SIGTERM or SIGINT
  1    something outside must be changed first: the message says what
  2    the command line or a setting is wrong
  `check` answers as monitoring plugins do: 0 OK, 1 a warning, 2 a failure
  130  a second signal ended `run` at once, or one ended `tail` or `status --watch` while
       nobody took what they printed

Examples:
  walrelay setup --print | psql
  RELAY_DATABASE_URL_FILE=/run/secrets/db RELAY_REDIS_URL=redis://cache walrelay run
  walrelay run --config /etc/walrelay.toml --set after_publish=delete";

const RUN_HELP: &str = "\
The first SIGTERM or SIGINT has it finish what is in flight (shutdown_grace at most) and exit with
0; the second ends it at once. Whatever ends it, the next one goes on from the slot.
With several tables (sections [tables.NAME] in the file) a line runs for each: one that stops for
good is said and tried again, and the others go on.

Examples:
  walrelay run --config /etc/walrelay.toml
  walrelay run --config /etc/walrelay.toml --table orders
  walrelay run --set mode=poll --log-level debug";

const SETUP_HELP: &str = "\
Repeating it changes nothing. A slot can be created only once the transactions that are open have
ended: who is waited for is said.

Examples:
  walrelay setup --print | less
  walrelay setup --role relay
  walrelay setup --config /etc/walrelay.toml --table orders
  walrelay setup --notify --set mode=poll";

const CONFIG_HELP: &str = "\
Examples:
  walrelay config
  walrelay config --json | jq .slot_name
  walrelay config --config /etc/walrelay.toml --set shards=4";

const HEALTH_HELP: &str = "\
Asks /readyz at http_address and http_port: 0 when the relay streams, polls or stands by, else 1.

Examples:
  walrelay health
  walrelay health --set http_port=9090";

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
    /// The section [tables.NAME] of the file that is meant, where there are several
    #[arg(long, global = true, value_name = "NAME")]
    pub table: Option<String>,
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
    #[command(after_help = RUN_HELP)]
    Run,
    /// Create schema, publication and slot where they are missing; safe to repeat
    #[command(after_help = SETUP_HELP)]
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
    #[command(after_help = CONFIG_HELP)]
    Config {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at both servers: is everything there, and what will hurt one day? Changes nothing
    #[command(after_help = check::HELP)]
    Check(Check),
    /// List, show, retry or discard the events that could not be delivered
    #[command(after_help = dlq::HELP)]
    Dlq {
        /// What to do with them.
        #[command(subcommand)]
        command: Dlq,
    },
    /// Pin positions of the WAL, to replay from them later
    #[command(after_help = bookmark::HELP)]
    Bookmark {
        /// What to do with them.
        #[command(subcommand)]
        command: Bookmark,
    },
    /// Send events again: from the WAL, from the table or from the dead letters
    #[command(after_help = replay::HELP)]
    Replay {
        /// Which, and where to.
        #[command(flatten)]
        replay: Box<Replay>,
    },
    /// Prove that the streams hold what the outbox says, on a live system; repair what is missing
    #[command(after_help = verify::HELP)]
    Verify(Verify),
    /// Hold rows and entries against the schemas of their payloads
    #[command(after_help = schema::HELP)]
    Schema {
        /// What to do with them.
        #[command(subcommand)]
        command: Schema,
    },
    /// Ask the running relay on this machine whether it is ready, for container health checks
    #[command(after_help = HEALTH_HELP)]
    Health,
    /// Show what the relay does and how far it is, or what the servers say where none answers
    #[command(after_help = status::HELP)]
    Status(StatusOptions),
    /// Print entries of the streams as they arrive
    #[command(after_help = tail::HELP)]
    Tail(TailOptions),
    /// Drop the slots, publications and trigger of this configuration, after showing and asking
    #[command(after_help = teardown::HELP)]
    Teardown(TeardownOptions),
    /// Print the completions for a shell
    #[command(after_help = papers::COMPLETIONS_HELP)]
    Completions(CompletionsOptions),
    /// Print the manual page, or write one for each command
    #[command(after_help = papers::MAN_HELP)]
    Man(ManOptions),
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
    fn every_command_has_examples_of_itself() {
        fn look(command: &clap::Command, name: &str) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (_, examples) = help.split_once("Examples:\n").unwrap_or_default();
            assert!(examples.contains(name), "`{name}` has no Examples: of itself in its --help");
            for command in command.get_subcommands() {
                look(command, &format!("{name} {}", command.get_name()));
            }
        }
        look(&Arguments::command(), "walrelay");
    }

    #[test]
    fn the_examples_in_the_help_are_command_lines_that_work() {
        let mut command = Arguments::command();
        let mut commands = vec![&mut command];
        let mut examples = String::new();
        while let Some(command) = commands.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            examples.push_str(help.split_once("Examples:").map_or("", |(_, examples)| examples));
            commands.extend(command.get_subcommands_mut());
        }
        assert!(examples.contains("walrelay dlq retry 4711"), "{examples}");
        for line in examples.lines().filter(|line| line.contains("walrelay ")) {
            let (_, rest) = line.split_once("walrelay ").unwrap();
            let words = rest.split_whitespace().take_while(|word| !["|", ">"].contains(word));
            let line: Vec<&str> = std::iter::once("walrelay").chain(words).collect();
            let parsed = Arguments::try_parse_from(&line);
            let arguments = parsed.unwrap_or_else(|error| panic!("{}: {error}", line.join(" ")));
            arguments.common.flags().unwrap();
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
