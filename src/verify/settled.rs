//! When a row's entry must be there: by what the row says, and by what the slots have confirmed.
//!
//! In: the table's columns, and what happens to published rows. Out: SQL for a row's [`State`], and
//! the wait for the slots. It must stay true that a row counts as settled only when its entry was
//! safe in Redis before the streams are read.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::config::{AfterPublish, Mode, Settings};
use crate::error::{Error, Result};
use crate::postgres::from_sql;

const WAL_END: &str = include_str!("../../sql/queries/verify_wal_end.sql");
const CONFIRMED: &str = include_str!("../../sql/queries/verify_confirmed.sql");

/// A relay that is there confirms within a second or two, `durability = fsync` on an old Redis
/// within four.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// What has become of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Settled,
    Waiting,
    Parked,
    Dead,
    Discarded,
    Imported,
}

impl State {
    /// As [`Ground::state`] names it.
    pub fn of(name: &str) -> Self {
        match name {
            "settled" => Self::Settled,
            "parked" => Self::Parked,
            "dead" => Self::Dead,
            "discarded" => Self::Discarded,
            "imported" => Self::Imported,
            _ => Self::Waiting,
        }
    }
}

/// How the table tells.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// The expression for a [`State`]. The table's alias is `o`.
    pub state: String,
    /// The condition for a row that went another way than the line's.
    pub retried: String,
}

impl Ground {
    pub fn new(has: &impl Fn(&str) -> bool, after: AfterPublish) -> Self {
        let part = |column: &str, condition: &'static str| {
            if has(column) { condition } else { "false" }
        };
        let published = part("published", "o.published IS TRUE");
        let dead = part("dead_lettered_at", "o.dead_lettered_at IS NOT NULL");
        let parked = part("next_attempt_at", "o.next_attempt_at IS NOT NULL");
        // The relay says when; whoever imports history or marks by hand mostly does not.
        let imported = part("published_at", "o.published_at IS NULL");
        let rest = if after == AfterPublish::Keep { "settled" } else { "waiting" };
        let state = format!(
            "CASE WHEN {dead} AND {published} THEN 'discarded' WHEN {dead} THEN 'dead' \
             WHEN {published} AND {imported} THEN 'imported' WHEN {published} THEN 'settled' \
             WHEN {parked} THEN 'parked' ELSE '{rest}' END"
        );
        let retried = [
            part("wal_position", "o.wal_position IS NOT NULL"),
            part("started_attempts", "o.started_attempts > 0"),
            part("attempts", "o.attempts > 0"),
        ];
        Self { state, retried: retried.join(" OR ") }
    }

    /// The condition for a row whose entry must be there.
    pub fn settled(&self) -> String {
        format!("({}) = 'settled'", self.state)
    }
}

/// Whether the slots have confirmed all that was committed by the time of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Confirmed {
    /// They have: none of it will be sent again.
    All,
    /// There is no slot: nothing is sent by one.
    NoSlot,
    /// This one has not.
    NotYet { slot: String, is_held: bool },
}

/// Waits for the slots, for as long as somebody holds those that lag.
pub(super) async fn until_confirmed(client: &Client, settings: &Settings) -> Result<Confirmed> {
    if settings.mode == Mode::Poll {
        return Ok(Confirmed::NoSlot);
    }
    let failed = |error| from_sql("cannot read the replication slots", error);
    let shards = settings.shards.all();
    let slots: Vec<String> = shards.map(|shard| shard.name(&settings.slot_base)).collect();
    let row = client.query_one(WAL_END, &[]).await.map_err(failed)?;
    let end: String = row.get("lsn");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = client.query(CONFIRMED, &[&slots, &end]).await.map_err(failed)?;
        if rows.is_empty() {
            return Ok(Confirmed::NoSlot);
        }
        let Some(late) = rows.iter().find(|row| !row.get::<_, bool>("has_confirmed")) else {
            return Ok(Confirmed::All);
        };
        let is_held: bool = late.get("is_held");
        if !is_held || Instant::now() >= deadline {
            return Ok(Confirmed::NotYet { slot: late.get("slot_name"), is_held });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Confirmed {
    /// The complaint where nothing else than a slot could tell what is published, or is safe from
    /// being sent again.
    pub fn required(&self, why: &str) -> Result<()> {
        match self {
            Self::All | Self::NoSlot => Ok(()),
            Self::NotYet { slot, is_held: true } => Err(Error::transient(format!(
                "{why}: replication slot {slot:?} has not confirmed what was committed {} s ago",
                PATIENCE.as_secs()
            ))
            .hint("the relay is behind: `walrelay status` and its log say why; then try again")),
            Self::NotYet { slot, is_held: false } => Err(Error::definite(format!(
                "{why}: replication slot {slot:?} holds events that are not sent, and no relay \
                 runs on it"
            ))
            .hint("start `walrelay run`, then try again")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_does_not_tell_has_settled_rows_with_keep_only() {
        let bare = |after| Ground::new(&|_| false, after);
        assert!(bare(AfterPublish::Keep).state.ends_with("ELSE 'settled' END"));
        assert!(bare(AfterPublish::Mark).state.ends_with("ELSE 'waiting' END"));
        assert_eq!(bare(AfterPublish::Mark).retried, "false OR false OR false");
        let full = Ground::new(&|_| true, AfterPublish::Mark);
        assert!(full.state.contains("WHEN o.published IS TRUE AND o.published_at IS NULL"));
        for state in ["settled", "parked", "dead", "discarded", "imported", "waiting"] {
            assert!(full.state.contains(&format!("'{state}'")), "{state}");
        }
    }

    #[test]
    fn a_slot_that_lags_is_named_with_what_to_do() {
        Confirmed::All.required("x").unwrap();
        Confirmed::NoSlot.required("x").unwrap();
        let late = |is_held| Confirmed::NotYet { slot: "walrelay".into(), is_held };
        let error = late(false).required("cannot repair").unwrap_err();
        assert!(error.to_string().starts_with("cannot repair: replication slot \"walrelay\""));
        assert!(error.next_step().unwrap().contains("walrelay run"));
        assert!(late(true).required("x").unwrap_err().next_step().unwrap().contains("status"));
    }
}
