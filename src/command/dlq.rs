//! `walrelay dlq`: what could not be delivered, as the outbox in PostgreSQL knows it.
//!
//! In: settings, and what was asked. Out: a list, a row, or rows that are due again or settled.
//! What is done, and with which promises, is the business of `deadletters`; a payload is shown by
//! `show` only, which was asked for it.

use std::io::Write;
use std::time::Duration;

use super::{dlq_change, dlq_list, dlq_show, terminal};
use crate::cli::{Dlq, DlqFilter};
use crate::config::{self, DatabaseUrl};
use crate::deadletters::{Desk, Filter, Patience, Rows};
use crate::error::{Error, Result};

pub use crate::deadletters::Outbox;

/// Does what was asked, and writes the answer to `out`.
pub async fn run(
    url: &DatabaseUrl,
    timeout: Duration,
    outbox: &Outbox,
    asked: &Dlq,
    out: &mut impl Write,
) -> Result<()> {
    let mut desk = Desk::open(url, timeout, outbox, Patience::Terminal).await?;
    match asked {
        Dlq::List { filter: typed, parked, limit, json } => {
            let rows = if *parked { Rows::Parked } else { Rows::Dead };
            let wanted = dlq_list::Wanted { rows, limit: *limit, json: *json };
            dlq_list::run(&desk, &filter(typed)?, wanted, out).await
        }
        Dlq::Show { id, json } => dlq_show::run(&desk, id, *json, out).await,
        Dlq::Retry { chosen } => dlq_change::retry(&mut desk, chosen, out).await,
        Dlq::Discard { chosen, yes } => dlq_change::discard(&mut desk, chosen, *yes, out).await,
    }
}

/// What was typed, its ages as numbers.
pub(super) fn filter(typed: &DlqFilter) -> Result<Filter> {
    let age = |flag: &str, text: &Option<String>| {
        let Some(text) = text else { return Ok(None) };
        let age = config::age_seconds(text).map_err(|reason| {
            Error::usage(format!("{flag} {text:?} {reason}"))
                .hint("a number with ms, s, m, h or d behind it, such as 2h")
        })?;
        Ok(Some(age))
    };
    Ok(Filter {
        stream: typed.stream.clone(),
        event_type: typed.event_type.clone(),
        aggregate: typed.aggregate.clone(),
        older: age("--older-than", &typed.older_than)?,
        newer: age("--newer-than", &typed.newer_than)?,
    })
}

/// Writes an answer whole. A reader who has seen enough (`| head`) is no failure.
pub(super) fn say(out: &mut impl Write, text: &str) -> Result<()> {
    terminal::put(out, text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn ages_are_durations_and_nonsense_is_named() {
        let typed = DlqFilter { older_than: Some("2h".into()), ..DlqFilter::default() };
        let found = filter(&typed).unwrap();
        assert!(!found.is_empty());
        assert!(found.older.is_some_and(|seconds| (seconds - 7_200.0).abs() < 0.001));
        let typed = DlqFilter { newer_than: Some("soon".into()), ..DlqFilter::default() };
        let error = filter(&typed).unwrap_err();
        assert!(error.to_string().contains("--newer-than \"soon\""), "{error}");
        assert!(filter(&DlqFilter::default()).unwrap().is_empty());
    }

    #[test]
    fn a_reader_who_has_seen_enough_is_no_failure() {
        struct Closed(ErrorKind);
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        say(&mut Closed(ErrorKind::BrokenPipe), "x").unwrap();
        say(&mut Closed(ErrorKind::StorageFull), "x").unwrap_err();
    }
}
