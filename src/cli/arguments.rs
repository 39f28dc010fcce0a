//! The subcommands, and the options that all of them take.
//!
//! In: arguments. Out: [`Arguments`]. It must stay true that every example in a help text is a
//! command line that parses: the tests below try each.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::dlq::{self, Dlq};
use super::verify::{self, Verify};

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
    #[command(after_help = dlq::HELP)]
    Dlq {
        /// What to do with them.
        #[command(subcommand)]
        command: Dlq,
    },
    /// Prove that the streams hold what the outbox says, on a live system; repair what is missing
    #[command(after_help = verify::HELP)]
    Verify(Verify),
    /// Ask the running relay on this machine whether it is ready, for container health checks
    Health,
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
            let words = rest.split_whitespace().take_while(|word| *word != "|");
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
