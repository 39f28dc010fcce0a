//! From the line to polling: what an earlier line left behind is cleared away.
//!
//! In: settings with mode = poll. Out: no line can write any more, rows that it had published are
//! marked, and its slot is gone. It must stay true that a slot somebody streams from is waited for,
//! and that the slot is dropped last: a crash before begins this again.

use tokio::time::Instant;
use tokio_postgres::Client;

use super::start::Context;
use super::tenure::STANDBY_POLL;
use crate::config::Settings;
use crate::error::{Class, Error, Result};
use crate::postgres::{self, Tenure, quote};
use crate::telemetry::State;

/// Returns when pollers may work on the table. While a line is at work this waits, as a standby;
/// drop the future to stop. To be called before a poller takes the table for itself, and again
/// whenever it starts anew.
pub(super) async fn to_poll(context: &Context) -> Result<()> {
    let Settings { slot_name: name, outbox_table: table, .. } = &*context.settings;
    let client = context.session().await?;
    let (began, mut is_said) = (Instant::now(), false);
    loop {
        let found = postgres::find_slot(&client, name, context.target.database());
        let Some(slot) = context.in_time(found).await? else { return Ok(()) };
        // Whoever streams is not to find the table taken.
        if slot.active_pid.is_none() {
            let taking = postgres::try_lock_table(&client, table, Tenure::Alone);
            if context.in_time(taking).await? {
                return context.clear_away(&client, slot.lost.is_some()).await;
            }
        }
        if let Some(obstacle) = context.obstacle(&client, Some(&slot), false).await? {
            if obstacle.polls {
                tracing::warn!(
                    slot = name,
                    "pollers are at work and the replication slot is there nonetheless: nobody \
                     reads it, and it holds WAL. Drop it: SELECT pg_drop_replication_slot(...)"
                );
                return Ok(());
            }
            context.status.enter(State::Standby);
            context.face(&client, &obstacle, began.elapsed(), &mut is_said).await?;
        }
        tokio::time::sleep(STANDBY_POLL).await;
    }
}

impl Context {
    async fn clear_away(&self, lock: &Client, is_lost: bool) -> Result<()> {
        let Settings { slot_name: name, outbox_table: table, .. } = &*self.settings;
        let standing = async { self.replication().await?.identify().await };
        let standing = standing.await.map_err(|error| match error.class() {
            Class::Definite => Error::definite(format!(
                "mode = poll, and replication slot {name:?} of mode = wal is there: it would hold \
                 WAL for ever, and this role may not clear it away"
            ))
            .because(error)
            .hint(format!(
                "ALTER ROLE ... REPLICATION; or, giving up what it has not sent, as a superuser: \
                 SELECT pg_drop_replication_slot({})",
                quote::literal(name)
            )),
            Class::Transient | Class::SlotInUse | Class::Usage => error,
        })?;
        let selection = self.selection(lock).await?;
        let rows = self.reconcile(&selection, &standing).await?;
        postgres::drop_slot(lock, name).await?;
        tracing::warn!(
            slot = name, table = %table, rows, is_lost,
            "mode = poll: the replication slot of mode = wal is dropped, it would hold WAL for \
             ever; what it had not sent is polled"
        );
        Ok(())
    }
}
