//! Getting a line going: connect, check, create what is missing, take the slot.
//!
//! In: settings. Out: [`Start`], everything a line stands on, with START_REPLICATION done. It must
//! stay true that each precondition is checked here, with an error that names the object and the
//! next step, before anything is published; and that what may change while we are away is read
//! again at every start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_postgres::Client;

use super::desk::{Bells, Desk};
use super::forget::Forgetting;
use super::handover::to_shards;
use super::heart::Heart;
use super::held::Found;
use super::history::History;
use super::line::{Limits, Line};
use super::memory::Memory;
use super::parker::{self, Place};
use super::preflight::{check_messages, check_table, refuse_synchronous, selection, tell_hazards};
use super::settle::{Marker, Settler};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::outbox::{Selection, message_prefix};
use crate::postgres::{self, Replication, Standing, Target};
use crate::rate::Valve;
use crate::sink::{self, Durable, Facts, Failure, Gate, Sink, Timeouts};
use crate::telemetry::{Endpoints, Server, Status};

/// What is parked is read in so much time: a table with very many such rows, or a frozen server.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// A frame carries one row of the WAL: an event with its column names and PostgreSQL's own bytes,
/// and other columns.
const FRAME_SLACK_BYTES: usize = 64 * 1024 * 1024;
/// What an entry may have besides the values of its event.
const ENTRY_SLACK_BYTES: usize = 16 * 1024;
/// Status updates leave at least this many times within wal_sender_timeout.
const FEEDBACK_PER_TIMEOUT: u32 = 4;

/// Everything a line stands on.
pub(super) struct Start {
    pub line: Line,
    pub replication: Replication,
    pub sink: Sink,
    /// What Redis is to forget of a backlog, beside the line.
    pub forgetting: Option<Forgetting>,
    /// How Redis is asked whether its entries are safe, where that needs asking.
    pub gate: Option<Gate>,
    pub settler: Settler,
    pub marker: Marker,
    /// To be started with the line.
    pub heart: Option<Heart>,
    /// Why the line is to end, if the heart finds a reason.
    pub astray: mpsc::Receiver<Error>,
    pub desk: Desk,
    /// That the slot is ours.
    pub claim: Arc<Claim>,
    /// How often the server is told where we stand.
    pub feedback_interval: Duration,
    /// What holds it to `max_rate`.
    pub valve: Valve,
    /// A checkpoint's key, for trying writes.
    pub probe_key: String,
    /// What runs where, for people.
    pub endpoints: Endpoints,
}

/// That the slot is held by our replication connection: to be asked again.
pub(super) struct Claim {
    target: Target,
    slot: String,
    pid: i32,
    timeout: Duration,
    /// How often PostgreSQL was asked.
    asked: AtomicU64,
    /// The last time that it said yes.
    proven: Mutex<u64>,
}

impl Claim {
    /// Asks PostgreSQL, on a connection of its own, one at a time: after a promotion all streams
    /// want to know at once. An answer is good for everybody who wanted it before it was asked for.
    pub async fn prove(&self) -> Result<()> {
        let before = self.asked.load(Ordering::SeqCst);
        let mut proven = self.proven.lock().await;
        if *proven > before {
            return Ok(());
        }
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let client = self.target.sql().await?;
        let asking = postgres::holds_slot(&client, &self.slot, self.pid);
        in_time(self.timeout, asking).await?;
        *proven = number;
        Ok(())
    }
}

/// The settings, and the way to PostgreSQL made of them.
pub(super) struct Context {
    pub settings: Arc<Settings>,
    pub target: Target,
    pub status: Arc<Status>,
}

impl Context {
    /// Fails only for a wrong URL or unreadable certificates.
    pub fn new(settings: Arc<Settings>, status: Arc<Status>) -> Result<Self> {
        let target = Target::new(&settings.database_url, settings.connect_timeout)?;
        Ok(Self { settings, target, status })
    }

    pub fn timeouts(&self) -> Timeouts {
        Timeouts { connect: self.settings.connect_timeout, reply: self.settings.redis_timeout }
    }

    /// Brings a line up. While another relay is at work this waits, as a standby; where the slot is
    /// missing or lost the rows from before a new one go out first. `is_first` says that no line of
    /// this process came up before.
    pub async fn start(&self, is_first: bool, memory: &mut Memory, bells: &Bells) -> Result<Start> {
        let settings = &*self.settings;
        let (client, facts, parks) = self.connect_postgres(is_first).await?;
        let (mut sink, mut redis, mut durable) = self.connect_redis().await?;

        self.in_time(self.prepare_publication(&client)).await?;
        let mut forgetting = None;
        let slot = self.take_turn(&client).await?;
        to_shards(self, &client).await?;
        if slot.as_ref().is_none_or(|slot| slot.lost.is_some()) {
            // Seldom, and large.
            forgetting = Some(Box::pin(self.heal(&client, &facts, slot.as_ref())).await?);
            // That may have taken hours.
            (sink, redis, durable) = self.connect_redis().await?;
        }

        let mut replication = self.replication().await?;
        let standing = replication.identify().await?;
        let (source, checkpoint) = self.checkpoint(&standing);
        let forks = forks(&mut replication, standing.timeline).await;
        let marker = Marker::new(client, &settings.outbox_table, settings.after_publish);
        let marker = self.in_time(marker).await?;
        let prefix = facts.has_messages.then(|| message_prefix(&settings.outbox_table));
        replication.want_messages(prefix);
        replication.start(&settings.slot_name, &settings.publication_name).await?;
        // Only now is the slot ours, and what it says of itself cannot change behind our back.
        let walsender = postgres::walsender(marker.client(), &settings.slot_name, &mut replication);
        let walsender = self.in_time(walsender).await?;
        refuse_synchronous(walsender.sync_state.as_deref())?;
        let history = History {
            timeline: standing.timeline,
            forks,
            wal_end: walsender.wal_end,
            confirmed: walsender.confirmed,
        };
        let (found, place) =
            self.parked(&marker, (replication.pid(), walsender.confirmed), parks).await?;
        let gate = self.connect_gate(durable, &checkpoint).await?;
        let mut limits = limits(settings, &sink, redis.bulk_bytes_max, source);
        (limits.parks, limits.traces) = (parks, self.status.spans.is_on());
        let (heart, astray) = Heart::new(self, marker.shared(), &facts);
        limits.heartbeat = heart.name();
        let longest = facts.wal_sender_timeout.map(|timeout| timeout / FEEDBACK_PER_TIMEOUT);
        let feedback_interval =
            longest.map_or(settings.feedback_interval, |max| max.min(settings.feedback_interval));
        Ok(Start {
            desk: Desk::new(self.target.clone(), place, found.is_any, bells.clone()),
            line: Line::new(limits, history, found, memory.wanted(walsender.confirmed)),
            endpoints: self.endpoints(
                format!("PostgreSQL {} at {}", facts.version, replication.label()),
                &redis.version,
                durable,
            ),
            claim: Arc::new(Claim {
                target: self.target.clone(),
                slot: settings.slot_name.clone(),
                pid: replication.pid(),
                timeout: settings.connect_timeout,
                asked: AtomicU64::new(0),
                proven: Mutex::new(0),
            }),
            forgetting,
            replication,
            probe_key: checkpoint,
            sink,
            gate,
            settler: Settler::new(durable, settings.after_publish, Instant::now()),
            marker,
            heart: Some(heart),
            astray,
            feedback_interval,
            valve: Valve::new(settings.max_rate.clone()),
        })
    }

    fn endpoints(&self, postgres: String, redis: &str, durable: Durable) -> Endpoints {
        let settings = &*self.settings;
        Endpoints {
            postgres,
            redis: format!("{redis} at {}", sink::label(&settings.redis_url)),
            slot: settings.slot_name.clone(),
            publication: settings.publication_name.clone(),
            table: settings.outbox_table.to_string(),
            stream: settings.stream_name.clone(),
            after_publish: settings.after_publish.name(),
            durability: describe(settings, durable),
            max_rate: settings.max_rate.per_second(),
        }
    }

    /// What is parked, and how to park more, in the name of the walsender `pid` that is ours.
    async fn parked(
        &self,
        marker: &Marker,
        (pid, confirmed): (i32, Lsn),
        parks: bool,
    ) -> Result<(Found, Place)> {
        let settings = &*self.settings;
        let (mut found, mut key) = (Found::default(), 0);
        if parks {
            let mine = self.mine();
            let loading = parker::load(marker.client(), &settings.outbox_table, &mine, confirmed);
            (found, key) = in_time(LOAD_TIMEOUT, loading).await?;
        }
        let place = Place {
            table: settings.outbox_table.clone(),
            mine: self.mine(),
            slot: settings.slot_name.clone(),
            pid,
            key,
            retry: settings.retry,
            refresh_interval: settings.poll_interval,
            after_publish: settings.after_publish,
        };
        Ok((found, place))
    }

    pub(super) async fn in_time<T>(&self, statement: impl Future<Output = Result<T>>) -> Result<T> {
        in_time(self.settings.connect_timeout, statement).await
    }

    /// A session that is set up and checked.
    async fn connect_postgres(&self, is_first: bool) -> Result<(Client, postgres::Facts, bool)> {
        let client = self.session().await?;
        let checks = async {
            let facts = postgres::facts(&client).await?;
            if !facts.may_replicate {
                return Err(postgres::missing_replication_right(&facts.role));
            }
            let Settings { shard, .. } = &*self.settings;
            postgres::check_version(*shard, &facts.version, facts.version_num)?;
            let lacks = check_table(&client, &self.settings).await?;
            check_messages(&client, &self.settings, &facts, lacks.as_ref()).await?;
            Ok((facts, lacks))
        };
        let (facts, lacks) = self.in_time(checks).await?;
        if let (Some(lacks), true) = (&lacks, is_first) {
            tracing::warn!(
                hint = lacks.hint,
                "{}: what cannot be published stops the relay instead of being set aside",
                lacks.what
            );
        }
        Ok((client, facts, lacks.is_none()))
    }

    /// An SQL session, set up.
    pub(super) async fn session(&self) -> Result<Client> {
        let client = self.target.sql().await?;
        // First of all: a timeout or a mode that is set for the role must not cut the rest short.
        self.in_time(postgres::set_up_session(&client)).await?;
        Ok(client)
    }

    /// The condition for the rows of this line.
    pub(super) fn mine(&self) -> String {
        postgres::shard_condition(self.settings.shard, &self.settings.outbox_table)
    }

    /// How rows of the outbox are read by SQL, whosoever they are.
    pub(super) async fn selection(&self, client: &Client) -> Result<Selection> {
        self.in_time(selection(client, &self.settings.outbox_table)).await
    }

    pub(super) async fn replication(&self) -> Result<Replication> {
        let bytes_max = self.settings.max_event_bytes.saturating_add(FRAME_SLACK_BYTES);
        self.target.replication(bytes_max).await
    }

    /// What names slot and system in checkpoint keys, and the key of the default stream's.
    pub(super) fn checkpoint(&self, standing: &Standing) -> (String, String) {
        self.checkpoint_of(&self.settings.slot_name, standing)
    }

    /// The same for the line of another slot.
    pub(super) fn checkpoint_of(&self, slot: &str, standing: &Standing) -> (String, String) {
        let source = format!("{slot}@{}", standing.system_id);
        let key = sink::checkpoint_key(&self.settings.stream_name, &source);
        (source, key)
    }

    /// The publication, which must not be younger than the slot: decoding looks for it as of the
    /// time of the change
    /// (<https://www.postgresql.org/docs/current/logical-replication-publication.html>).
    async fn prepare_publication(&self, client: &Client) -> Result<()> {
        let Settings {
            publication_name: name,
            outbox_table: table,
            slot_name,
            auto_create,
            shard,
            ..
        } = &*self.settings;
        if postgres::find_publication(client, name, table, *shard).await? {
            return Ok(());
        }
        if !auto_create {
            return Err(missing(&format!("publication {name:?}")));
        }
        if postgres::find_slot(client, slot_name, self.target.database()).await?.is_some() {
            return Err(Error::definite(format!(
                "publication {name:?} is gone, but replication slot {slot_name:?} is there: the \
                 slot cannot read the WAL from before a new publication"
            ))
            .hint(
                "drop the slot (SELECT pg_drop_replication_slot(...)): the relay then creates \
                 both, and publishes what the table still holds unpublished",
            ));
        }
        postgres::create_publication(client, name, table, *shard).await?;
        tracing::info!(publication = name, table = %table, "publication created");
        Ok(())
    }

    pub(super) async fn connect_gate(
        &self,
        durable: Durable,
        checkpoint: &str,
    ) -> Result<Option<Gate>> {
        let Some(barrier) = durable.barrier else { return Ok(None) };
        let url = &self.settings.redis_url;
        let key = format!("{checkpoint}:watermark");
        let gate = Gate::connect(url, self.timeouts(), barrier, key).await;
        gate.map(Some).map_err(|failure| {
            self.status.reconnects.lost(Server::Redis);
            failure.into_error(&format!("cannot use Redis at {}", sink::label(url)))
        })
    }

    pub(super) async fn connect_redis(&self) -> Result<(Sink, Facts, Durable)> {
        let (sink, facts, durable) = self.redis().await?;
        tell_hazards(&facts, durable);
        Ok((sink, facts, durable))
    }

    pub(super) async fn redis(&self) -> Result<(Sink, Facts, Durable)> {
        let settings = &*self.settings;
        let doing = format!("cannot use Redis at {}", sink::label(&settings.redis_url));
        let failed = |failure: Failure| {
            self.status.reconnects.lost(Server::Redis);
            failure.into_error(&doing)
        };
        let sink = Sink::connect(&settings.redis_url, self.timeouts()).await.map_err(failed)?;
        let facts = sink.facts().await.map_err(failed)?;
        let durable = Durable::of(settings.durability, &facts)?;
        Ok((sink, facts, durable))
    }
}

/// A statement that waits for nobody has an answer in time, or the server is frozen.
async fn in_time<T>(timeout: Duration, statement: impl Future<Output = Result<T>>) -> Result<T> {
    let silent = |_| Err(Error::transient(format!("PostgreSQL gave no answer in {timeout:?}")));
    tokio::time::timeout(timeout, statement).await.unwrap_or_else(silent)
}

/// Where each earlier timeline was left. A server that cannot tell (its history file is gone) is
/// no reason to stop: the event at a stream's checkpoint shows as well whether history holds.
async fn forks(replication: &mut Replication, timeline: u32) -> Vec<(u32, Lsn)> {
    match replication.timeline_history(timeline).await {
        Ok(forks) => forks,
        Err(error) => {
            tracing::warn!(timeline, error = %error, "the timeline's history is not known");
            Vec::new()
        }
    }
}

fn limits(
    settings: &Settings,
    sink: &Sink,
    bulk_bytes_max: Option<usize>,
    source: String,
) -> Limits {
    Limits {
        outbox: settings.outbox_table.clone(),
        stream: settings.stream_name.clone(),
        slot: settings.slot_name.clone(),
        source,
        format: settings.entry_format,
        batch_events: settings.batch_size.get(),
        batch_bytes: settings.batch_bytes,
        batches_in_flight: settings.batches_in_flight.get(),
        // What the server would cut the connection for is refused here, by its row. An event in one
        // piece has names and quotes besides its values.
        event_bytes_max: bulk_bytes_max.map_or(settings.max_event_bytes, |max| {
            max.saturating_sub(ENTRY_SLACK_BYTES).min(settings.max_event_bytes)
        }),
        maxlen: settings.stream_maxlen.map_or(0, std::num::NonZeroU64::get),
        publish_sha: sink.publish_sha(),
        ordering: settings.ordering,
        heartbeat: None,
        parks: false,
        messages: settings.messages,
        traces: false,
        contract: settings.contract.clone(),
    }
}

fn missing(what: &str) -> Error {
    Error::definite(format!("{what} does not exist, and auto_create is off"))
        .hint("create it with `walrelay setup`")
}

pub(super) fn describe(settings: &Settings, durable: Durable) -> String {
    match durable.describe() {
        how if how.is_empty() => settings.durability.to_string(),
        how => format!("{} ({how})", settings.durability),
    }
}
