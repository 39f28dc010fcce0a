//! What somebody wants to know, and whom to tell how far it has got.

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
