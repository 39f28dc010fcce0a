//! Whose turn it is: waits until the outbox is ours to work on and nobody streams from the slot.
//!
//! In: an SQL session. Out: the session holds the relay's lock on the table, and the slot, if there
//! is one, is idle. It must stay true that the lock goes with the session, that a standby says whom
//! it waits for, and that a relay that can do nothing any more (frozen, cut off) does not keep the
//! others waiting: PostgreSQL ends its stream by itself, its session with the lock we end.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::start::Context;
use crate::error::{Error, Result};
use crate::postgres::{self, Holder, Slot, Tenure, from_sql};
use crate::telemetry::State;

const END_WALSENDER: &str = include_str!("../../sql/queries/end_walsender.sql");

/// How often a standby looks whether the slot is free: well inside the second or two in which it is
/// to lead.
pub(super) const STANDBY_POLL: Duration = Duration::from_millis(500);
/// A connection of our own whose link is dead is given so long to end by itself.
const OWN_PATIENCE: Duration = Duration::from_secs(5);
/// Whoever holds the table alone streams from the slot, or asks the server something every few
/// seconds. Who does neither for so long is not there any more.
const SILENT_SECONDS: f64 = 10.0;

/// A connection that is in the way.
pub(super) struct Obstacle {
    pid: i32,
    application: String,
    what: &'static str,
    /// It holds the table and does nothing.
    is_dead: bool,
    /// It is a poller, one of many perhaps.
    pub polls: bool,
}

impl Context {
    /// Waits until the rows of the table are ours alone and nobody streams from the slot. The slot,
    /// if there is one.
    pub(super) async fn take_turn(&self, client: &Client) -> Result<Option<Slot>> {
        let (name, table) = (&self.settings.slot_name, &self.settings.outbox_table);
        let (began, mut is_said, mut is_ours) = (Instant::now(), false, false);
        loop {
            if !is_ours {
                let tenure = Tenure::Line(self.settings.shard);
                let taking = postgres::try_lock_table(client, table, tenure);
                is_ours = self.in_time(taking).await?;
            }
            let found = postgres::find_slot(client, name, self.target.database());
            let slot = self.in_time(found).await?;
            let Some(obstacle) = self.obstacle(client, slot.as_ref(), is_ours).await? else {
                if is_ours {
                    return Ok(slot);
                }
                // It has just let go.
                continue;
            };
            self.status.enter(State::Standby);
            self.face(client, &obstacle, began.elapsed(), &mut is_said).await?;
            tokio::time::sleep(STANDBY_POLL).await;
        }
    }

    /// Who is in the way, if anybody is.
    pub(super) async fn obstacle(
        &self,
        client: &Client,
        slot: Option<&Slot>,
        is_ours: bool,
    ) -> Result<Option<Obstacle>> {
        if let Some((slot, pid)) = slot.and_then(|slot| Some((slot, slot.active_pid?))) {
            let application = slot.active_application.clone();
            let application = application.unwrap_or_else(|| "unknown".to_owned());
            let what = "streams from the slot";
            return Ok(Some(Obstacle { pid, application, what, is_dead: false, polls: false }));
        }
        if is_ours {
            return Ok(None);
        }
        let (table, tenure) = (&self.settings.outbox_table, Tenure::Line(self.settings.shard));
        let holder = postgres::table_holder(client, table, tenure, SILENT_SECONDS);
        let holder = self.in_time(holder).await?;
        Ok(holder.map(|Holder { pid, application, polls, is_idle }| Obstacle {
            pid,
            application,
            what: if polls { "polls the table (mode = poll)" } else { "works on the table" },
            is_dead: is_idle && !polls,
            polls,
        }))
    }

    /// Ends what is dead; names what is alive, once.
    pub(super) async fn face(
        &self,
        client: &Client,
        obstacle: &Obstacle,
        waited: Duration,
        is_said: &mut bool,
    ) -> Result<()> {
        let Obstacle { pid, application: holder, what, is_dead, .. } = obstacle;
        if holder == self.target.application_name() {
            return self.in_time(self.end_own(client, *pid, waited)).await;
        }
        let (slot, table) = (&self.settings.slot_name, &self.settings.outbox_table);
        if *is_dead {
            tracing::warn!(
                pid, holder, table = %table,
                "ending the session of a relay that holds the table and has lost the slot: it is \
                 frozen, or its network is gone"
            );
            return self.in_time(end(client, *pid)).await;
        }
        if !std::mem::replace(is_said, true) {
            tracing::info!(
                slot, table = %table, pid, holder, what,
                "standby: another one is at work; taking over once it is gone"
            );
        }
        Ok(())
    }

    /// An earlier connection of this very process is in the way: its link died, and PostgreSQL has
    /// not noticed. It is given time, then ended, then named.
    async fn end_own(&self, client: &Client, pid: i32, waited: Duration) -> Result<()> {
        let slot = &self.settings.slot_name;
        if waited < OWN_PATIENCE {
            return Ok(());
        }
        if waited > OWN_PATIENCE * 3 {
            return Err(Error::transient(format!(
                "replication slot {slot:?} or its table is held by process {pid} of PostgreSQL, \
                 an earlier connection of this relay that does not end"
            ))
            .hint(format!("SELECT pg_terminate_backend({pid})")));
        }
        tracing::warn!(slot, pid, "ending an earlier connection of this relay that is dead");
        end(client, pid).await
    }
}

async fn end(client: &Client, pid: i32) -> Result<()> {
    let ended = client.query_one(END_WALSENDER, &[&pid]).await;
    ended.map(drop).map_err(|error| from_sql("cannot end a session of a relay", error))
}
