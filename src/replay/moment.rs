//! Moments as people type them: RFC 3339 with an offset, or an age.
//!
//! In: text. Out: a [`When`], and by PostgreSQL's clock and calendar a moment in microseconds. It
//! must stay true that nothing gets to PostgreSQL that it would read in a way of its own
//! (`yesterday`, a day in front of a month).

use tokio_postgres::Client;

use crate::config;
use crate::error::{Error, Result};
use crate::postgres::from_sql;

const RESOLVE_MOMENT: &str = include_str!("../../sql/queries/resolve_moment.sql");

/// A moment as it was typed.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// So many seconds ago.
    Age(f64),
    /// RFC 3339.
    At(String),
    /// When it is asked.
    Now,
}

impl When {
    /// Reads it; a usage error names the option.
    pub fn parse(option: &str, text: &str) -> Result<Self> {
        let text = text.trim();
        if is_rfc_3339(text) {
            return Ok(Self::At(text.to_owned()));
        }
        match config::age_seconds(text) {
            Ok(age) => Ok(Self::Age(age)),
            Err(_) => Err(Error::usage(format!("{option} {text:?} is no time")).hint(
                "RFC 3339 with an offset, such as 2026-11-21T04:38:15Z, or an age, such as 2h",
            )),
        }
    }

    /// The moment by PostgreSQL's clock, in UTC to the microsecond.
    pub async fn resolve(&self, client: &Client) -> Result<Moment> {
        let (at, age) = match self {
            Self::Age(seconds) => (None, *seconds),
            Self::At(text) => (Some(text.as_str()), 0.0),
            Self::Now => (None, 0.0),
        };
        let row = client.query_one(RESOLVE_MOMENT, &[&at, &age]).await.map_err(|error| {
            match (at, error.code().map(tokio_postgres::error::SqlState::code)) {
                (Some(at), Some(code)) if code.starts_with("22") => {
                    Error::usage(format!("{at:?} is no time: there is no such day or hour"))
                }
                _ => from_sql("cannot ask for the time", error),
            }
        })?;
        Ok(Moment { text: row.get("text"), millis: row.get("millis") })
    }
}

/// A moment that was asked for.
#[derive(Clone, Debug)]
pub struct Moment {
    /// RFC 3339.
    pub text: String,
    /// Milliseconds of Unix time.
    pub millis: i64,
}

/// Digits in their places, `T` or a blank between day and hour, and an offset behind.
fn is_rfc_3339(text: &str) -> bool {
    let Some((day, time)) = text.split_at_checked(10) else { return false };
    let is = |pattern: &str, text: &str| {
        pattern.len() == text.len()
            && pattern.bytes().zip(text.bytes()).all(|(wanted, byte)| match wanted {
                b'0' => byte.is_ascii_digit(),
                _ => byte == wanted,
            })
    };
    let Some(time) = time.strip_prefix(['T', 't', ' ']) else { return false };
    let Some(at) = time.find(['Z', 'z', '+', '-']) else { return false };
    let (clock, offset) = time.split_at(at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let is_fraction =
        (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let is_offset = matches!(offset, "Z" | "z") || is("+00:00", offset) || is("-00:00", offset);
    is("0000-00-00", day) && is("00:00:00", clock) && is_fraction && is_offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_an_offset_and_an_age_a_unit() {
        for text in [
            "2026-11-21T04:38:15Z",
            "2026-11-21 04:38:15+05:30",
            "2026-11-21T04:38:15.123456-03:00",
        ] {
            assert_eq!(When::parse("--since", text).unwrap(), When::At(text.into()));
        }
        assert_eq!(When::parse("--since", " 2h ").unwrap(), When::Age(7_200.0));
        for text in [
            "yesterday",
            "now",
            "",
            "2026-11-21",
            "2026-11-21T04:38:15",
            "2026-11-21T04:38Z",
            "2026-11-21T04:38:15+05",
            "2026-11-21T04:38:15.Z",
            "21.11.2026 04:38:15Z",
            "ä2026-11-2104:38:15Z",
        ] {
            let error = When::parse("--since", text).unwrap_err();
            assert!(error.to_string().contains("--since"), "{text}: {error}");
        }
    }
}
