//! When an entry counts as safe: the setting `durability`.

use std::fmt;
use std::num::NonZeroU8;

/// When an entry counts as safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When Redis has answered.
    Memory,
    /// When its append-only file is on disk.
    Fsync,
    /// When so many replicas have it too, and the append-only file, where it is on, is on disk.
    Replica(NonZeroU8),
}

impl Durability {
    /// `memory`, `fsync` or `replica:N`; in any case of letters.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "memory" => Ok(Self::Memory),
            "fsync" => Ok(Self::Fsync),
            other => {
                let count = other.strip_prefix("replica:").ok_or("is none of the words")?;
                let is_plain = count.bytes().all(|byte| byte.is_ascii_digit());
                let count = if is_plain { count.parse().ok() } else { None };
                count.map(Self::Replica).ok_or("names no number of replicas")
            }
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Fsync => f.write_str("fsync"),
            Self::Replica(count) => write!(f, "replica:{count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["memory", "fsync", "replica:1", "replica:255"] {
            assert_eq!(Durability::parse(text).map(|level| level.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Durability::parse(" FSYNC "), Ok(Durability::Fsync));
    }

    #[test]
    fn a_level_that_means_nothing_is_refused() {
        for text in ["", "disk", "replica", "replica:", "replica:0", "replica:+1", "replica:256"] {
            assert!(Durability::parse(text).is_err(), "{text:?}");
        }
    }
}
