//! Logs on stderr: text on a terminal, one JSON object a line otherwise.
//!
//! In: the settings. Out: a subscriber for the whole process. The libraries underneath speak only
//! from
//! `warn` up: what they have to say at `info` is theirs, not the operator's.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
    let (ours, others) = match level {
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::INFO),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::WARN),
    };
    let filter = Targets::new().with_default(others).with_target("walrelay", ours);
    let base = tracing_subscriber::fmt::layer().with_writer(stderr).with_target(false);
    // A second subscriber is refused; the first goes on.
    let _already = if is_text {
        let colours =
            is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let layer = base.with_ansi(colours).with_filter(filter);
        tracing_subscriber::registry().with(layer).try_init()
    } else {
        // One of several lines stands in `span`, once.
        let layer = base.json().flatten_event(true).with_span_list(false).with_filter(filter);
        tracing_subscriber::registry().with(layer).try_init()
    };
    is_text
}
