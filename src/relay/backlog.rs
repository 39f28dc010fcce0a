//! A slot that is missing or lost: a new one is begun with a snapshot, and the rows that it sees
//! unpublished go out before the slot comes into being.
//!
//! In: the session that holds the table. Out: a slot whose existence means that what was committed
//! before it is settled. It must stay true that a crash at any point begins again with a new
//! snapshot: the marks of the rows and what Redis remembers of deliveries keep that exact and
//! cheap. A temporary slot and its snapshot draw the line between the two: what the snapshot sees
//! the slot does not send. The real slot is its copy, made when all rows are settled.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::Client;

use super::ferry::{Cargo, Vessel, carry, prove};
use super::forget::Forgetting;
use super::hold::until_writable;
use super::park::{self, Parker};
use super::preflight::tell_unpublished;
use super::reader::Reader;
use super::settle::Marker;
use super::start::Context;
use crate::backoff::Backoff;
use crate::config::{AfterPublish, Backlog, Ordering, Settings};
use crate::error::{Class, Error, Result};
use crate::outbox::Selection;
use crate::poller::{Courier, Terms, Trouble};
use crate::postgres::{self, Exported, Facts, Replication, Slot, Standing};
use crate::sink::{Delivery, Failure, Verdict};
use crate::telemetry::State;

/// Between two signs of life to PostgreSQL, and two words about progress.
const PULSE: Duration = Duration::from_secs(3);
/// A Redis that worked for so long had recovered: the next trouble is a new one.
const GOOD_CARRY: Duration = Duration::from_secs(5);
/// From here on slots can be synchronised to standbys.
const VERSION_FAILOVER: i32 = 170_000;
/// Characters of a slot's name.
const SLOT_NAME_MAX: usize = 63;

impl Context {
    /// Brings the slot into being. `found` is the lost one, if there is one. What is handed back is
    /// to be finished beside the line.
    pub(super) async fn heal(
        &self,
        lock: &Client,
        facts: &Facts,
        found: Option<&Slot>,
    ) -> Result<Forgetting> {
        let Settings { slot_name: name, outbox_table: table, auto_create, .. } = &*self.settings;
        if !auto_create {
            return Err(not_allowed(name, found));
        }
        let standing = self.replication().await?.identify().await?;
        self.tell_loss(&standing, found).await?;
        if self.settings.backlog == Backlog::Ignore {
            if found.is_some() {
                postgres::drop_slot(lock, name).await?;
            }
            tracing::info!(slot = name, "creating the slot: waits for open transactions");
            let Settings { slot_base, shard, .. } = &*self.settings;
            postgres::create_slot(lock, (slot_base, *shard), table, Backlog::Ignore).await?;
            tracing::info!(slot = name, "replication slot created: events from now on are sent");
            tell_unpublished(lock, table).await?;
            return Ok(Forgetting::default());
        }
        // The lock is what all of this stands on, and it goes with its session.
        tokio::select! {
            biased;
            healed = self.snapshot_and_stream(lock, facts, &standing, found) => healed,
            ended = self.watch(lock) => Err(ended),
        }
    }

    /// Loud where events were published from this slot before.
    async fn tell_loss(&self, standing: &Standing, found: Option<&Slot>) -> Result<()> {
        let (_, checkpoint) = self.checkpoint(standing);
        let (sink, ..) = self.redis().await?;
        let known = sink.has_checkpoint(&checkpoint).await;
        let is_known =
            known.map_err(|failure| failure.into_error("cannot read the checkpoint in Redis"))?;
        let slot = &self.settings.slot_name;
        let why = match found.and_then(|slot| slot.lost.as_deref()) {
            Some(why) => why,
            None if is_known => "it is not there any more",
            None => {
                tracing::info!(slot, "no replication slot yet: a new one is begun");
                if self.settings.messages {
                    tracing::warn!("messages from before the slot are in no table, and are gone");
                }
                return Ok(());
            }
        };
        self.status.metrics.slots_lost.inc();
        let what = format!("replication slot {slot:?} is lost: {why}");
        self.status.failed(&Error::transient(what));
        if self.settings.messages {
            tracing::error!(
                slot,
                "messages that the slot had not sent are gone: they were in the WAL alone"
            );
        }
        tracing::warn!(
            slot,
            why,
            "the replication slot is lost: what the table still holds unpublished is published, \
             and a new slot goes on from there; rows that were deleted before they were sent are \
             gone"
        );
        Ok(())
    }

    async fn snapshot_and_stream(
        &self,
        lock: &Client,
        facts: &Facts,
        standing: &Standing,
        found: Option<&Slot>,
    ) -> Result<Forgetting> {
        let Settings { slot_name: name, outbox_table: table, .. } = &*self.settings;
        self.status.enter(State::Snapshot);
        check_room(lock, found.is_some()).await?;
        let selection = self.selection(lock).await?.restricted_to(&self.mine());
        let lines = usize::from(self.settings.shards.of());
        self.reconcile(&selection, standing, name, lines).await?;

        let mut replication = self.replication().await?;
        let temporary = temporary_name(name);
        tracing::info!(slot = name, "taking a snapshot: waits for the transactions that are open");
        let exported = replication.export_snapshot(&temporary, facts.version_num).await?;
        let reader = self.session().await?;
        let reader = Reader::begin(reader, table, Some(&exported.snapshot)).await?;
        // The snapshot is imported: the transaction that exported it may end, before a timeout that
        // is set for it does that and takes the slot along.
        replication.identify().await?;

        let mut cargo = self.load(reader, selection, &exported).await?;
        tokio::select! {
            biased;
            carried = self.ferry(&mut cargo, lock, standing) => carried?,
            ended = self.pulse(&mut replication) => return Err(ended),
        }
        // In the session that holds the lock: a relay that has lost it creates no slot.
        if found.is_some() {
            postgres::drop_slot(lock, name).await?;
        }
        postgres::copy_slot(lock, &temporary, name).await?;
        if facts.version_num >= VERSION_FAILOVER
            && let Err(error) = replication.make_failover(name).await
        {
            // As on a primary whose hot standby has no slots: everything else works.
            tracing::warn!(slot = name, error = %error, "the slot is not synchronised to standbys");
        }
        let rows = self.status.backlog().map_or(0, |backlog| backlog.done);
        self.status.backlog_ends();
        tracing::info!(
            slot = name, rows, consistent_point = %exported.consistent,
            "the rows from before the slot are settled: streaming from here on"
        );
        Ok(cargo.forgetting)
    }

    /// What is to be carried: counted, and told.
    async fn load(
        &self,
        reader: Reader,
        selection: Selection,
        exported: &Exported,
    ) -> Result<Cargo> {
        let Settings { outbox_table: table, after_publish, ordering, retry, .. } = &*self.settings;
        let total = reader.count(selection.unpublished()).await?;
        self.status.backlog_begins(total);
        if total > 0 {
            tracing::warn!(
                table = %table, rows = total, consistent_point = %exported.consistent,
                "publishing the unpublished rows from before the slot"
            );
        }
        if total > 0 && (*after_publish == AfterPublish::Keep || !selection.has_flag()) {
            tracing::warn!(
                table = %table, after_publish = after_publish.name(),
                "the table does not tell which rows are published: all of them are, those that \
                 were before once more"
            );
        }
        let marker = Marker::new(self.session().await?, table, *after_publish).await?;
        let client = marker.client();
        let can_park = selection.can_park();
        let parker = Parker::new(client, table, *retry, exported.consistent, can_park).await?;
        let held = match ordering {
            Ordering::PerAggregate if can_park => park::held(client, table, &self.mine()).await?,
            Ordering::PerAggregate | Ordering::None => HashSet::new(),
        };
        Ok(Cargo {
            reader,
            selection,
            marker,
            after_publish: *after_publish,
            parker,
            held,
            settled: None,
            forgetting: Forgetting::default(),
        })
    }

    /// Carries all of it, however often Redis goes away meanwhile.
    async fn ferry(&self, cargo: &mut Cargo, lock: &Client, standing: &Standing) -> Result<()> {
        let mut backoff = Backoff::new(self.settings.reconnect_delay_max);
        loop {
            let began = Instant::now();
            match self.board(&cargo.selection, standing).await {
                Ok(mut vessel) => {
                    self.status.enter(State::Snapshot);
                    match carry(cargo, &mut vessel, lock, &self.status).await {
                        Ok(()) => return Ok(()),
                        Err(Trouble::Other(error)) => return Err(error),
                        Err(Trouble::Redis(failure)) => self.lost_redis(failure)?,
                    }
                }
                Err(error) if error.class() == Class::Transient => self.status.failed(&error),
                Err(error) => return Err(error),
            }
            if began.elapsed() > GOOD_CARRY {
                backoff.reset();
            }
            // The snapshot stays open.
            tokio::time::sleep(backoff.next_delay()).await;
            until_writable(self, &self.checkpoint(standing).1).await;
        }
    }

    /// A new connection to Redis, for what follows an outage as well.
    async fn board(&self, selection: &Selection, standing: &Standing) -> Result<Vessel> {
        let (sink, redis, durable) = self.redis().await?;
        let (_, checkpoint) = self.checkpoint(standing);
        let gate = self.connect_gate(durable, &checkpoint).await?;
        let delivery = Delivery::load(sink.clone()).await;
        let delivery =
            delivery.map_err(|failure| failure.into_error("cannot load the pollers' script"))?;
        let terms = Terms::new(&self.settings, redis.bulk_bytes_max, &standing.system_id);
        let status = Arc::clone(&self.status);
        let courier = Courier::new(delivery, terms, selection.clone(), status);
        Ok(Vessel { sink, courier, durable, gate })
    }

    /// What time ends is told and waited for.
    fn lost_redis(&self, failure: Failure) -> Result<()> {
        match failure.verdict {
            Verdict::Outage => {
                self.status.metrics.redis_outages.inc();
                self.status.enter(State::Holding);
            }
            // A chunk came too late, or the script is gone: again, properly.
            Verdict::Restart => {}
            Verdict::Fenced | Verdict::Rewound | Verdict::Rejected | Verdict::Definite => {
                return Err(failure.into_error("cannot publish the rows from before the slot"));
            }
        }
        tracing::warn!(error = %failure, "the rows from before the slot wait for Redis");
        self.status.failed(&Error::transient(format!("Redis takes no writes: {failure}")));
        Ok(())
    }

    /// Returns when the session is gone.
    async fn watch(&self, lock: &Client) -> Error {
        loop {
            tokio::time::sleep(PULSE).await;
            if let Err(error) = self.in_time(prove(lock)).await {
                return error;
            }
        }
    }

    /// Signs of life to the server, for its session must not seem forgotten, and to people. Returns
    /// when the server is gone, and with it the temporary slot.
    async fn pulse(&self, replication: &mut Replication) -> Error {
        let mut ticks = interval(PULSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if let Err(error) = replication.identify().await {
                return error;
            }
            if let Some(backlog) = self.status.backlog() {
                tracing::info!(
                    rows = backlog.total,
                    done = backlog.done,
                    rows_per_second = backlog.rate().round(),
                    seconds_left = backlog.seconds_left(),
                    "rows from before the slot"
                );
            }
        }
    }
}

fn not_allowed(name: &str, found: Option<&Slot>) -> Error {
    let what = match found.and_then(|slot| slot.lost.as_ref()) {
        Some(why) => format!("is lost ({why})"),
        None => "does not exist".to_owned(),
    };
    Error::definite(format!("replication slot {name:?} {what}, and auto_create is off")).hint(
        "with auto_create = true the relay makes one, and publishes what the table holds \
         unpublished first; `walrelay setup` makes one where there is nothing unpublished",
    )
}

/// Told before anything is published: the temporary slot and the real one exist at one time.
async fn check_room(client: &Client, is_one_replaced: bool) -> Result<()> {
    let wanted = if is_one_replaced { 1 } else { 2 };
    let free = postgres::free_slots(client).await?;
    if free >= wanted {
        return Ok(());
    }
    Err(Error::definite(format!(
        "all replication slots are in use: a new one begins with a snapshot, and that needs \
         {wanted} free, there are {free}"
    ))
    .hint(
        "raise max_replication_slots, drop a slot that nobody uses (see pg_replication_slots), or \
         set backlog = ignore",
    ))
}

/// Of the relay's own family, so that people know whose it is, and of nobody else's.
fn temporary_name(slot: &str) -> String {
    let mark = format!("_{:08x}", fastrand::u32(..));
    let keep: String = slot.chars().take(SLOT_NAME_MAX - mark.len()).collect();
    keep + &mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_slot_has_a_valid_name_of_its_own() {
        let name = temporary_name("walrelay");
        assert!(name.starts_with("walrelay_") && name.len() == 17, "{name}");
        assert_ne!(temporary_name("walrelay"), name);
        assert_eq!(temporary_name(&"x".repeat(63)).len(), 63);
    }
}
