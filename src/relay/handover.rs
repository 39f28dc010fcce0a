//! From one way of working on the table to another: what earlier lines left behind is cleared away.
//!
//! In: settings with mode = poll, or with another number of shards than before. Out: no earlier
//! line can write any more, rows that it had published are marked, and its slot is gone. It must
//! stay true that a slot somebody streams from is waited for, that a slot is dropped last (a crash
//! before begins this again), and that none is dropped where the table does not tell what it had
//! still to send, nor one that is of a relay for another table.

use tokio::time::Instant;
use tokio_postgres::Client;

use super::start::Context;
use super::tenure::STANDBY_POLL;
use crate::config::{AfterPublish, Backlog, Settings, Shard};
use crate::error::{Class, Error, Result};
use crate::postgres::{self, Slot, Tenure, quote};
use crate::telemetry::State;

/// A slot of a line that is no more.
struct Left {
    name: String,
    slot: Slot,
}

/// Returns when pollers may work on the table. While a line is at work this waits, as a standby;
/// drop the future to stop. To be called before a poller takes the table for itself, and again
/// whenever it starts anew.
pub(super) async fn to_poll(context: &Context) -> Result<()> {
    let table = &context.settings.outbox_table;
    let client = context.session().await?;
    let (began, mut is_said) = (Instant::now(), false);
    loop {
        let left = context.left_behind(&client, 0).await?;
        if left.is_empty() {
            return Ok(());
        }
        // Whoever streams is not to find the table taken.
        let active = left.iter().find(|left| left.slot.active_pid.is_some());
        if active.is_none() {
            let taking = postgres::try_lock_table(&client, table, Tenure::Line(Shard::WHOLE));
            if context.in_time(taking).await? {
                return context.clear_away(&client, &left, "mode = poll").await;
            }
        }
        let slot = active.map(|left| &left.slot);
        if let Some(obstacle) = context.obstacle(&client, slot, false).await? {
            if obstacle.polls {
                tracing::warn!(
                    slots = names(&left),
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

/// Returns when nothing is left of lines of another number of shards. To be called by a line whose
/// turn it is: no other division works on the table then.
pub(super) async fn to_shards(context: &Context, client: &Client) -> Result<()> {
    let (began, mut is_said) = (Instant::now(), false);
    let of = context.settings.shards.of();
    loop {
        let left = context.left_behind(client, of).await?;
        if left.is_empty() {
            return Ok(());
        }
        refuse_to_clear(&context.settings, &left)?;
        let active = left.iter().find(|left| left.slot.active_pid.is_some());
        if let Some(active) = active {
            if let Some(obstacle) = context.obstacle(client, Some(&active.slot), true).await? {
                context.status.enter(State::Standby);
                context.face(client, &obstacle, began.elapsed(), &mut is_said).await?;
            }
        } else {
            // Not in the session of the line: the next one to clear need not wait for its end.
            let clearing = context.session().await?;
            let table = &context.settings.outbox_table;
            let taking = postgres::try_lock_clearing(&clearing, table);
            if context.in_time(taking).await? {
                let why = format!("shards = {of}");
                // Another shard may have done it in between.
                let left = context.left_behind(&clearing, of).await?;
                return context.clear_away(&clearing, &left, &why).await;
            }
        }
        tokio::time::sleep(STANDBY_POLL).await;
    }
}

/// Only what the table tells to be unpublished is published again.
fn refuse_to_clear(settings: &Settings, left: &[Left]) -> Result<()> {
    let reason = if !settings.auto_create {
        "auto_create is off"
    } else if settings.backlog == Backlog::Ignore {
        "backlog = ignore: what they have not sent would not be sent any more"
    } else if settings.after_publish == AfterPublish::Keep {
        "after_publish = keep: nothing tells which rows they have sent"
    } else {
        return Ok(());
    };
    Err(Error::definite(format!(
        "replication slots of another number of shards are there, they hold WAL, and are not \
         cleared away because {reason}: {}",
        names(left)
    ))
    .hint(format!(
        "set `shards` as it was and let its lines send what is left; or, giving that up: {}",
        drops(left.iter().map(|left| left.name.as_str()))
    )))
}

fn names(left: &[Left]) -> String {
    left.iter().map(|left| left.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The statement that drops them, for people.
fn drops<'a>(slots: impl Iterator<Item = &'a str>) -> String {
    let slots = slots.map(quote::literal).collect::<Vec<_>>().join(", ");
    let from = format!("FROM pg_replication_slots WHERE slot_name IN ({slots})");
    ["SELECT", "pg_drop_replication_slot(slot_name)", &from].join(" ")
}

impl Context {
    /// The slots that earlier lines of this relay left, but for those of `of` shards in all. A slot
    /// whose publication is there without the table is of a relay for another table: pollers, who
    /// make no slot, leave it alone (`of` is 0), and a line refuses to work beside it.
    async fn left_behind(&self, client: &Client, of: u8) -> Result<Vec<Left>> {
        let Settings { slot_base, publication_base, outbox_table: table, .. } = &*self.settings;
        let siblings = self.in_time(postgres::sibling_slots(client, slot_base, of)).await?;
        let mut left = Vec::with_capacity(siblings.len());
        for (name, shard) in siblings {
            let publication = shard.name(publication_base);
            if of != 0 {
                let found = postgres::find_publication(client, &publication, table, shard);
                self.in_time(found).await.map_err(|error| not_ours(&name, error))?;
            } else if self.in_time(postgres::is_of_others(client, &publication, table)).await? {
                tracing::debug!(slot = name, publication, "of a relay for another table");
                continue;
            }
            let found = postgres::find_slot(client, &name, self.target.database());
            left.extend(self.in_time(found).await?.map(|slot| Left { name, slot }));
        }
        Ok(left)
    }

    async fn clear_away(&self, lock: &Client, left: &[Left], why: &str) -> Result<()> {
        let table = &self.settings.outbox_table;
        let standing = async { self.replication().await?.identify().await };
        let standing = standing.await.map_err(|error| may_not_clear(error, left, why))?;
        let selection = self.selection(lock).await?;
        for Left { name, .. } in left {
            let rows = self.reconcile(&selection, &standing, name, left.len()).await?;
            tracing::info!(slot = name, rows, "what its line had published is marked");
        }
        for Left { name, slot } in left {
            postgres::drop_slot(lock, name).await?;
            tracing::warn!(
                slot = name, table = %table, is_lost = slot.lost.is_some(),
                "{why}: the replication slot of mode = wal is dropped, it would hold WAL for \
                 ever; what it had not sent is found in the table"
            );
        }
        Ok(())
    }
}

fn not_ours(slot: &str, error: Error) -> Error {
    if error.class() != Class::Definite {
        return error;
    }
    let what = format!(
        "replication slot {slot:?} looks like one of this relay with another number of shards, \
         and its publication does not"
    );
    Error::definite(what).because(error).hint(format!(
        "choose another slot_name, if that slot is of a relay for another table; else {}",
        drops(std::iter::once(slot))
    ))
}

fn may_not_clear(error: Error, left: &[Left], why: &str) -> Error {
    if error.class() != Class::Definite {
        return error;
    }
    Error::definite(format!(
        "{why}, and replication slots of mode = wal are there ({}): they would hold WAL for ever, \
         and this role may not clear them away",
        names(left)
    ))
    .because(error)
    .hint(format!(
        "ALTER ROLE ... REPLICATION; or, giving up what they have not sent, as a superuser: {}",
        drops(left.iter().map(|left| left.name.as_str()))
    ))
}
