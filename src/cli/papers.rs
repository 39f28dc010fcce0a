//! `walrelay completions` and `walrelay man`: what may be typed behind them.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

pub(super) const COMPLETIONS_HELP: &str = "\
Examples:
  walrelay completions bash > /etc/bash_completion.d/walrelay
  walrelay completions zsh > /usr/local/share/zsh/site-functions/_walrelay
  walrelay completions fish > ~/.config/fish/completions/walrelay.fish";

pub(super) const MAN_HELP: &str = "\
Examples:
  walrelay man | man -l -
  walrelay man --dir /usr/local/share/man/man1";

/// For which shell `walrelay completions` writes.
#[derive(Args, Clone, Copy, Debug)]
pub struct CompletionsOptions {
    /// Whose language
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Where `walrelay man` writes to.
#[derive(Args, Clone, Debug, Default)]
pub struct ManOptions {
    /// Write a page for each command into this folder, which must be there
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
