//! `walrelay completions` and `walrelay man`: what shells and readers know of the command line.
//!
//! In: the one definition of the command line. Out: a script, or pages in roff. It must stay true
//! that neither says anything that the definition does not, and that both work without settings.

use std::fs;
use std::io::Write;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::terminal::put;
use crate::cli::{Arguments, CompletionsOptions, ManOptions};
use crate::error::{Error, Result};

const NAME: &str = "walrelay";
const MANUAL: &str = "walrelay";
/// What stands in a help text before its examples.
const EXAMPLES: &str = "Examples:\n";

/// Writes the script for a shell.
pub fn completions(asked: CompletionsOptions, out: &mut impl Write) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(asked.shell, &mut Arguments::command(), NAME, &mut script);
    put(out, &String::from_utf8_lossy(&script)).map(drop)
}

/// Writes the page of the whole, or into a folder a page for each command.
pub fn man(asked: &ManOptions, out: &mut impl Write) -> Result<()> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let Some(dir) = &asked.dir else {
        return put(out, &page(&command)).map(drop);
    };
    let mut written = Vec::new();
    write_pages(&command, dir, &mut written)?;
    put(out, &(written.join("\n") + "\n")).map(drop)
}

fn write_pages(command: &Command, dir: &Path, written: &mut Vec<String>) -> Result<()> {
    let path = dir.join(Man::new(command.clone()).get_filename());
    fs::write(&path, page(command)).map_err(|error| {
        Error::definite(format!("cannot write {}", path.display()))
            .because(error)
            .hint("make the folder first, or choose another --dir")
    })?;
    written.push(path.display().to_string());
    command.get_subcommands().try_for_each(|command| write_pages(command, dir, written))
}

/// One page. What follows the options in a help text is rendered here: its lines are laid out, and
/// the usual way would fill them.
fn page(command: &Command) -> String {
    let version = format!("walrelay {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(version).manual(MANUAL);
    let mut page = Vec::new();
    let sections = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ];
    // Writing into memory cannot fail.
    for section in sections {
        let _infallible = section(&man, &mut page);
    }
    if command.has_subcommands() {
        let _infallible = man.render_subcommands_section(&mut page);
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (notes, examples) = help.split_once(EXAMPLES).unwrap_or((&help, ""));
    let mut roff = Roff::default();
    for (heading, text) in [("NOTES", notes), ("EXAMPLES", examples)] {
        if !text.trim().is_empty() {
            roff.control("SH", [heading]).control("nf", []);
            for line in text.trim_end().lines() {
                roff.text([roman(line)]);
            }
            roff.control("fi", []);
        }
    }
    let _infallible = roff.to_writer(&mut page);
    String::from_utf8_lossy(&page).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use clap_complete::Shell;

    #[test]
    fn every_shell_is_told_of_every_command() {
        for &shell in Shell::value_variants() {
            let mut script = Vec::new();
            completions(CompletionsOptions { shell }, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for command in Arguments::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{} of {shell}", command.get_name());
            }
        }
    }

    #[test]
    fn a_page_has_the_options_and_the_examples_line_by_line() {
        let mut page = Vec::new();
        man(&ManOptions::default(), &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for text in [".SH NAME", ".SH OPTIONS", ".SH EXAMPLES\n.nf\n", "walrelay\\-teardown(1)"] {
            assert!(page.contains(text), "{text} is not in\n{page}");
        }
    }
}
