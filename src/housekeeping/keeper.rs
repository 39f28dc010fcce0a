//! The task: looks around every so often, and goes on after every failure.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::partition::{self, Partition};
use super::rules::Rules;
use super::sample::{Sample, Samples};
use super::walk::{Ages, Walk};
use crate::config::{AfterPublish, Outbox, Settings};
use crate::error::{Error, Result};
use crate::postgres::{self, Target, from_sql};
use crate::telemetry::{LastSaid, Status};

const SAMPLE: &str = include_str!("../../sql/queries/retention_sample.sql");

/// Between two rounds: a hundredth of the retention, within these. A row goes so much late at most,
/// and a round that finds nothing costs a few reads of the primary key.
const ROUND_MIN: Duration = Duration::from_secs(1);
const ROUND_MAX: Duration = Duration::from_secs(30);
/// WAL that deleting may write on average; what others write meanwhile counts too, so that a busy
/// server is left alone. Every replica, archive and slot has to read it.
const WAL_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
/// Longest pause for it.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What must be true of a row's WAL before the row may go.
#[derive(Clone, Debug)]
pub enum Bound {
    /// All these slots have confirmed it.
    Slots(Vec<String>),
    /// There is no slot: the mark says it all.
    Mark,
}

/// What is kept tidy, and how.
pub struct Keeper {
    target: Target,
    table: Outbox,
    after_publish: AfterPublish,
    retention: Duration,
    bound: Bound,
    status: Arc<Status>,
}

/// A keeper at work; dropping it ends that. A statement under way is finished by the server, and is
/// whole or nothing like any other.
pub struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    /// A keeper by these settings; `None` when nothing is to be deleted.
    #[must_use]
    pub fn new(
        settings: &Settings,
        target: &Target,
        status: &Arc<Status>,
        bound: Bound,
    ) -> Option<Self> {
        Some(Self {
            target: target.clone(),
            table: settings.outbox_table.clone(),
            after_publish: settings.after_publish,
            retention: settings.retention?,
            bound,
            status: Arc::clone(status),
        })
    }

    /// Begins, beside whatever else runs.
    #[must_use]
    pub fn start(self) -> Running {
        Running(tokio::spawn(async move {
            let mut said = LastSaid::default();
            loop {
                let Err(error) = self.session().await;
                tell(&error, &mut said, "no old row is deleted");
                tokio::time::sleep(ROUND_MAX).await;
            }
        }))
    }

    /// Rounds on one connection, until something breaks. Samples do not outlive it: after a
    /// failover transaction ids may mean something else.
    async fn session(&self) -> Result<Infallible> {
        let client = self.target.sql().await?;
        postgres::set_up_session(&client).await?;
        let (slots, status) = (self.bound.slots(), Arc::clone(&self.status));
        let mut broom = Broom { client, slots, status };
        let mut samples = Samples::new(self.retention);
        let mut memory = Memory::default();
        loop {
            let (sample, confirmed) = broom.look().await?;
            samples.add(sample, confirmed);
            if let Some(xmin) = samples.confirmed() {
                let rules = Rules::read(&broom.client, &self.table, self.after_publish).await?;
                let retention = self.retention.as_secs_f64();
                let ages = Ages { xmin, retention, aged: samples.aged(Instant::now()) };
                let round = Round { table: &self.table, rules: &rules, ages };
                round.go(&mut broom, &mut memory).await?;
            }
            broom.status.metrics.retention_rounds.inc();
            tokio::time::sleep((self.retention / 100).clamp(ROUND_MIN, ROUND_MAX)).await;
        }
    }
}

impl Bound {
    fn slots(&self) -> Option<Vec<String>> {
        match self {
            Self::Slots(names) => Some(names.clone()),
            Self::Mark => None,
        }
    }
}

/// A connection that deletes, and what it counts.
pub(super) struct Broom {
    pub client: Client,
    slots: Option<Vec<String>>,
    pub status: Arc<Status>,
}

impl Broom {
    /// Where the server stands, and what is confirmed; without a slot, everything is.
    async fn look(&self) -> Result<(Sample, i64)> {
        let at = Instant::now();
        let doing = "cannot ask where PostgreSQL stands";
        let row = self.client.query_one(SAMPLE, &[&self.slots]).await;
        let row = row.map_err(|error| from_sql(doing, error))?;
        // A slot that is missing has confirmed nothing.
        let nothing = if self.slots.is_some() { i64::MIN } else { i64::MAX };
        let confirmed = row.get::<_, Option<i64>>("confirmed").unwrap_or(nothing);
        Ok((Sample { at, xmin: row.get("xmin"), lsn: row.get("lsn") }, confirmed))
    }

    /// The position up to which WAL is written.
    pub async fn wal_bytes(&self) -> Result<u64> {
        let (sample, _) = self.look().await?;
        Ok(u64::try_from(sample.lsn).unwrap_or(0))
    }
}

/// How long to rest after that much WAL.
pub(super) fn pause(wal_bytes: u64, least: Duration) -> Duration {
    let micros = wal_bytes.saturating_mul(1_000_000) / WAL_BYTES_PER_SECOND;
    Duration::from_micros(micros).clamp(least, PAUSE_MAX)
}

/// What one round leaves to the next.
#[derive(Default)]
struct Memory {
    walks: HashMap<String, Walk>,
    /// That partitions are not dropped was said.
    has_warned: bool,
    /// What was said of a partition.
    troubles: HashMap<String, LastSaid>,
}

/// One look at the whole outbox.
struct Round<'a> {
    table: &'a Outbox,
    rules: &'a Rules,
    ages: Ages,
}

impl Round<'_> {
    async fn go(&self, broom: &mut Broom, memory: &mut Memory) -> Result<()> {
        let outbox = self.table.quoted();
        let partitions = partition::find(&broom.client, self.table).await?;
        if partitions.is_empty() || !self.may_drop(&partitions, &mut memory.has_warned) {
            return self.walk(broom, memory, outbox).await;
        }
        let is_there = |name: &String| partitions.iter().any(|one| one.quoted() == *name);
        memory.walks.retain(|name, _| is_there(name));
        memory.troubles.retain(|name, _| is_there(name));
        for one in &partitions {
            match self.tidy(one, broom, memory, &outbox).await {
                Ok(()) => drop(memory.troubles.remove(&one.quoted())),
                Err(error) if broom.client.is_closed() => return Err(error),
                // One that fails must not keep the others.
                Err(error) => {
                    let said = memory.troubles.entry(one.quoted()).or_default();
                    tell(&error, said, "old rows of a partition stay");
                }
            }
        }
        Ok(())
    }

    async fn tidy(
        &self,
        one: &Partition,
        broom: &mut Broom,
        memory: &mut Memory,
        outbox: &str,
    ) -> Result<()> {
        if one.must_go_by_rows(broom, outbox, self.rules, &self.ages).await? {
            self.walk(broom, memory, one.quoted()).await?;
        }
        Ok(())
    }

    fn may_drop(&self, partitions: &[Partition], has_warned: &mut bool) -> bool {
        let Err(reason) = partition::droppable(partitions) else { return true };
        if !std::mem::replace(has_warned, true) {
            tracing::warn!(
                table = %self.table,
                reason,
                "old partitions are not dropped: their rows are deleted instead"
            );
        }
        false
    }

    async fn walk(&self, broom: &mut Broom, memory: &mut Memory, table: String) -> Result<()> {
        let sql = self.rules.sql(super::walk::DELETE, &table);
        memory.walks.entry(table).or_default().round(broom, &sql, &self.ages, self.table).await
    }
}

/// A failure that repeats is said once.
fn tell(error: &Error, said: &mut LastSaid, what: &str) {
    let (text, hint) = (error.to_string(), error.next_step());
    if said.is_news(&text) {
        tracing::warn!(error = text, hint, retry_in = ?ROUND_MAX, "{what}");
    } else {
        tracing::debug!(error = text, "still: {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_with_the_wal_and_has_bounds() {
        let least = Duration::from_millis(100);
        assert_eq!(pause(0, least), least);
        assert_eq!(pause(WAL_BYTES_PER_SECOND * 2, least), Duration::from_secs(2));
        assert_eq!(pause(u64::MAX, least), PAUSE_MAX);
    }
}
