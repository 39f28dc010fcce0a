//! What somebody wants to know, and whom to tell how far it has got.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The range, and how to go about it.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Rows from this moment or age on.
    pub since: Option<String>,
    /// Rows before this moment or age.
    pub until: Option<String>,
    /// Rows from this id on.
    pub from_id: Option<i64>,
    /// Rows up to this id.
    pub to_id: Option<i64>,
    /// Only these streams; none: all that rows of the range name.
    pub streams: Vec<String>,
    /// Report what cannot be told, and every entry without a row.
    pub is_strict: bool,
    /// Rows and entries per second.
    pub rate: Option<u32>,
    /// Make missing rows due.
    pub repair: Option<Repair>,
}

/// That missing rows are to be made due.
#[derive(Clone, Copy, Debug)]
pub struct Repair {
    /// However many there are.
    pub is_sure: bool,
}

impl Asked {
    /// Whether rows outside the range may have entries.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.is_dated() || self.has_ids()
    }

    /// Whether the range is one of time.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    /// Whether the range is one of ids.
    #[must_use]
    pub fn has_ids(&self) -> bool {
        self.from_id.is_some() || self.to_id.is_some()
    }

    /// Complains about a range in which nothing can be.
    pub(super) fn check(&self) -> Result<()> {
        match (self.from_id, self.to_id) {
            (Some(from), Some(to)) if from > to => {
                Err(Error::usage(format!("--from-id {from} is behind --to-id {to}")))
            }
            _ => Ok(()),
        }
    }
}

/// Is told how far it has got.
pub trait Watch {
    /// Something else begins: what is counted, and how many there are where that is known.
    fn begin(&mut self, what: &'static str, total: Option<u64>);
    /// So many are done.
    fn reach(&mut self, done: u64);
}

/// Keeps to a rate.
pub(super) struct Pace {
    per_second: Option<u32>,
    began: Instant,
    done: u64,
}

impl Pace {
    pub fn new(per_second: Option<u32>) -> Self {
        Self { per_second, began: Instant::now(), done: 0 }
    }

    /// So many more were read: returns when the next may be.
    pub async fn after(&mut self, more: usize) {
        self.done = self.done.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        let Some(per_second) = self.per_second else { return };
        let millis = self.done.saturating_mul(1_000) / u64::from(per_second.max(1));
        let due = Duration::from_millis(millis);
        tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
    }
}
