//! What is missing is made due, so that a relay publishes it: the way of parked events, which
//! doubles nothing.
//!
//! In: the ids of missing rows, lowest first. Out: rows that are due, and, while a relay takes
//! them, the wait until they are out. It must stay true that nothing is made due that a slot may
//! send again, that nothing is written to a stream from here, and that rows become due in the order
//! of their ids: that is the order in which those of an aggregate go out.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::asked::{Repair, Watch};
use super::findings::Repaired;
use super::outbox::Outbox;
use super::settled::Confirmed;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::postgres::from_sql;

const REPAIR: &str = include_str!("../../sql/queries/verify_repair.sql");
const WAITING: &str = include_str!("../../sql/queries/verify_waiting.sql");
const REPUBLISHED: &str = include_str!("../../sql/queries/verify_republished.sql");

/// By this the rows are known until they are published, or refused.
const REASON: &str = "entry was missing: published again by walrelay verify --repair";
/// Rows of one statement.
const BATCH: usize = 1_000;
/// More than this takes a --yes.
const UNASKED_MAX: usize = 1_000;
/// Between two looks, and how long nothing may happen: a relay looks every `poll_interval`.
const PAUSE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(20);

/// What is to be repaired, and what is known of it.
pub(super) struct Case<'a> {
    pub outbox: &'a Outbox,
    pub settings: &'a Settings,
    pub confirmed: &'a Confirmed,
    /// What the clock of PostgreSQL said before anything was read.
    pub began: &'a str,
    /// Of the missing rows so many may have been trimmed.
    pub doubtful: u64,
}

impl Case<'_> {
    /// Refuses what would double something, or what nobody has agreed to.
    pub fn check(&self, ids: &[i64], repair: Repair) -> Result<()> {
        self.confirmed.required("nothing was repaired")?;
        if !self.outbox.selection.can_park() {
            let table = &self.settings.outbox_table;
            let what = format!("table {table} lacks what parking takes: nothing was repaired");
            return Err(Error::definite(what).hint("run `walrelay setup`: it adds the columns"));
        }
        if repair.is_sure {
            return Ok(());
        }
        if self.doubtful > 0 {
            return Err(Error::usage(format!(
                "nothing was repaired: up to {} of the missing entries may have been trimmed on \
                 purpose, and consumers would get them again",
                self.doubtful
            ))
            .hint("--from-id or --since leave them out; --yes publishes all of them"));
        }
        if ids.len() > UNASKED_MAX {
            let what = format!("nothing was repaired: {} rows would be published", ids.len());
            return Err(Error::usage(what).hint("add --yes to publish them"));
        }
        Ok(())
    }

    /// Makes the rows due, and waits for a relay to publish them.
    pub async fn repair(&self, ids: &[i64], watch: &mut impl Watch) -> Result<Repaired> {
        let client = &self.outbox.client;
        let failed = |error| from_sql("cannot make rows due", error);
        let sql = self.fill(REPAIR).replace("{settled}", &self.outbox.ground.settled());
        let total = u64::try_from(ids.len()).ok();
        watch.begin("rows made due", total);
        let mut repaired = Repaired::default();
        for batch in ids.chunks(BATCH) {
            repaired.due +=
                client.execute(&sql, &[&batch, &self.began, &REASON]).await.map_err(failed)?;
            watch.reach(repaired.due);
        }
        self.wait(client, repaired.due, watch).await?;
        let sql = self.fill(REPUBLISHED);
        for batch in ids.chunks(BATCH) {
            let row = client.query_one(&sql, &[&batch, &self.began]).await.map_err(failed)?;
            let published: i64 = row.get("republished");
            repaired.published += u64::try_from(published).unwrap_or(0);
        }
        Ok(repaired)
    }

    fn fill(&self, sql: &str) -> String {
        let table = &self.settings.outbox_table;
        table.sql(sql)
    }

    /// Returns when none waits any more, or when nobody takes them.
    async fn wait(&self, client: &Client, due: u64, watch: &mut impl Watch) -> Result<()> {
        let sql = self.fill(WAITING);
        watch.begin("events published again", Some(due));
        let (mut least, mut moved) = (i64::MAX, Instant::now());
        let patience = PATIENCE.max(self.settings.poll_interval.saturating_mul(3));
        loop {
            let row = client.query_one(&sql, &[&REASON]).await;
            let row = row.map_err(|error| from_sql("cannot count rows that are due", error))?;
            let waiting: i64 = row.get("waiting");
            if waiting == 0 {
                return Ok(());
            }
            watch.reach(due.saturating_sub(u64::try_from(waiting).unwrap_or(0)));
            if waiting < least {
                (least, moved) = (waiting, Instant::now());
            } else if moved.elapsed() > patience {
                return Err(Error::transient(format!(
                    "{waiting} rows are due, and no relay has published one for {} s",
                    patience.as_secs()
                ))
                .hint(
                    "start `walrelay run`: it publishes them; `walrelay dlq list --parked` shows \
                     them",
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
