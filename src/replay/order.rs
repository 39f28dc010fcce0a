//! What was ordered: a source, a range, filters, a target; and the name by which it is known again.
//!
//! In: what was typed, checked. Out: [`Order`]. It must stay true that orders that would write
//! other events, or elsewhere, have other names ([`Order::identity`]): by its name a replay that
//! was cut off is found again.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::moment::When;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::sink::uuid;

/// Where events are found again.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The WAL since a bookmark.
    Bookmark(String),
    /// The WAL since an LSN.
    Lsn(Lsn),
    /// Rows of the table, by when they were created.
    Since(When),
    /// Rows of the table, by row id or event id.
    Ids(Vec<String>),
    /// All rows of the aggregate that the filter names.
    Aggregate,
    /// The dead letters in this stream.
    Letters(String),
}

impl Source {
    /// Whether it is the WAL.
    #[must_use]
    pub fn is_wal(&self) -> bool {
        matches!(self, Self::Bookmark(_) | Self::Lsn(_))
    }
}

/// Where it ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Range {
    /// Before this LSN.
    Lsn(Lsn),
    /// At this time.
    Time(When),
    /// Where the source ends when the replay begins.
    Now,
}

impl Range {
    /// Reads what was typed for this source.
    pub fn parse(source: &Source, text: Option<&str>) -> Result<Self> {
        let Some(text) = text else { return Ok(Self::Now) };
        if !source.is_wal() {
            return Ok(Self::Time(When::parse("--until", text)?));
        }
        text.trim().parse().map(Self::Lsn).map_err(|error| {
            Error::usage(format!("--until {text:?}"))
                .because(error)
                .hint("out of the WAL events are replayed up to an LSN")
        })
    }
}

/// Which events of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of these types; none for any.
    pub types: Vec<String>,
    /// Of this aggregate.
    pub aggregate: Option<String>,
}

impl Filter {
    /// The same with the aggregate as PostgreSQL prints it: a uuid may be typed in capitals, and is
    /// never printed so. What is no uuid stays as it is.
    #[must_use]
    pub fn as_printed(&self, aggregate_is_uuid: bool) -> Self {
        let mut printed = self.clone();
        let lower = self.aggregate.as_ref().map(|typed| typed.to_ascii_lowercase());
        if aggregate_is_uuid && lower.as_ref().is_some_and(|id| uuid(id.as_bytes()).is_some()) {
            printed.aggregate = lower;
        }
        printed
    }

    /// Whether an event is meant.
    #[must_use]
    pub fn lets(&self, event_type: &[u8], aggregate: &[u8]) -> bool {
        let is_type = |wanted: &String| wanted.as_bytes() == event_type;
        (self.types.is_empty() || self.types.iter().any(is_type))
            && self.aggregate.as_ref().is_none_or(|wanted| wanted.as_bytes() == aggregate)
    }
}

/// A replay.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where from.
    pub source: Source,
    /// Up to where.
    pub until: Range,
    /// Which.
    pub filter: Filter,
    /// The stream for all of them; without it each goes to its own.
    pub target: Option<String>,
    /// Events a second, at most.
    pub rate: Option<u32>,
    /// Whether to begin anew.
    pub is_again: bool,
    /// Whether only to count.
    pub is_dry_run: bool,
}

impl Order {
    /// The name by which Redis knows it. `start` is where a bookmark stands: another one of the
    /// same name is another source.
    #[must_use]
    pub fn identity(&self, settings: &Settings, system_id: &str, start: Option<Lsn>) -> String {
        let mut types = self.filter.types.clone();
        types.sort_unstable();
        types.dedup();
        let mut hash = Sha256::new();
        // As Rust prints them: names are quoted, so that no two orders print alike.
        let order = format!(
            "{system_id} {:?} {:?} {:?} {:?} {types:?} {:?} {:?} {start:?}",
            settings.outbox_table,
            settings.stream_name,
            self.source,
            self.until,
            self.filter.aggregate,
            self.target,
        );
        hash.update(order.as_bytes());
        hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
            // A String takes everything.
            let _always = write!(text, "{byte:02x}");
            text
        })
    }
}
