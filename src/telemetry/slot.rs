//! The slot as PostgreSQL sees it, and where its WAL ends: looked up every few seconds.
//!
//! In: a row of pg_replication_slots. Out: the member `slot` of /status, and numbers. Nothing here
//! asks a server.

use serde_json::{Value, json};

use crate::lsn::Lsn;

/// What a slot's `wal_status` may be, the worse the later.
/// <https://www.postgresql.org/docs/current/view-pg-replication-slots.html>
pub(super) const WAL_STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

/// What PostgreSQL said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotFacts {
    /// Whether the WAL that the slot needs is there; none without a slot.
    pub wal_status: Option<String>,
    /// Bytes that may still be written before the slot is in danger; none without a bound.
    pub safe_wal_size: Option<i64>,
    /// Bytes of WAL that are kept for it.
    pub retained_bytes: Option<i64>,
    /// The end of PostgreSQL's WAL.
    pub current: Lsn,
}

impl SlotFacts {
    /// Of several, what is worst of each.
    pub(super) fn worst(self, other: Self) -> Self {
        let badness = |status: &Option<String>| {
            WAL_STATUSES.iter().position(|known| status.as_deref() == Some(known))
        };
        let is_worse = badness(&other.wal_status) > badness(&self.wal_status);
        let least = [self.safe_wal_size, other.safe_wal_size].into_iter().flatten().min();
        Self {
            wal_status: if is_worse { other.wal_status } else { self.wal_status },
            safe_wal_size: least,
            retained_bytes: self.retained_bytes.max(other.retained_bytes),
            current: self.current.max(other.current),
        }
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "safe_wal_size": self.safe_wal_size,
            "wal_status": self.wal_status,
            "retained_bytes": self.retained_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_two_is_that_of_each_fact() {
        let facts = |status: Option<&str>, safe, retained| SlotFacts {
            wal_status: status.map(str::to_owned),
            safe_wal_size: safe,
            retained_bytes: retained,
            current: Lsn::NONE,
        };
        let worst =
            facts(Some("reserved"), None, Some(5)).worst(facts(Some("lost"), Some(3), None));
        assert_eq!(worst, facts(Some("lost"), Some(3), Some(5)));
        let worst = worst.worst(facts(None, Some(7), Some(6)));
        assert_eq!(worst, facts(Some("lost"), Some(3), Some(6)));
    }
}
