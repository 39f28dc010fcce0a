//! Logs on stderr: text on a terminal, one JSON object a line otherwise.
//!
//! In: the settings. Out: a subscriber for the whole process. The libraries underneath speak only
//! from
//! `warn` up: what they have to say at `info` is theirs, not the operator's.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{LogFormat, LogLevel};

/// Starts logging. Only the first call in a process has an effect. Says whether lines are text for
/// people.
pub fn start(format: LogFormat, level: LogLevel) -> bool {
    let is_terminal = stderr().is_terminal();
    let is_text = match format {
        LogFormat::Auto => is_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let level = level.name();
    let others = if matches!(level, "debug" | "trace") { "info" } else { "warn" };
    let filter = EnvFilter::new(format!("{others},walrelay={level}"));
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    // A second subscriber is refused; the first goes on.
    let _already = if is_text {
        let colours =
            is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        base.with_ansi(colours).try_init()
    } else {
        // One of several lines stands in `span`, once.
        base.json().flatten_event(true).with_span_list(false).try_init()
    };
    is_text
}
