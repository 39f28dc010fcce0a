//! Polling: an outbox without a slot. Lanes take turns: while one waits until Redis has its entries
//! on disk and marks the rows, the next one claims and delivers.
//!
//! In: connections that were checked. Out: rows published and settled, until the wish to stop. It
//! must stay true that rows are marked only when their entries are safe, and that any failure ends
//! every lane: their sessions go, their claims with them, and whoever claims the rows next finds in
//! Redis which of them are there. So what the lanes have under way is bounded: [`LANES`] lots.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::assurance::Assurance;
use super::claimer::{Claimer, Lot};
use super::courier::{Courier, Terms};
use super::kept::Kept;
use super::lane::{Lane, set_up};
use super::memory::{Memory, Names, forget};
use super::table::Table;
use super::trouble::Trouble;
use super::wake::{Found, Wake};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::postgres::{self, Target, Tenure, from_sql};
use crate::shutdown::Shutdown;
use crate::sink::{Delivery, Durable, Facts, Sink};
use crate::telemetry::{Status, Where};

/// Lanes where entries need time to be safe: with lots of a second and a wait of two, one is always
/// free.
const LANES: usize = 4;
/// Lanes where they are safe at once: one claims, one marks.
const LANES_AT_ONCE: usize = 2;

/// What a poller stands on.
pub struct Ground<'a> {
    /// All settings.
    pub settings: &'a Arc<Settings>,
    /// The way to PostgreSQL.
    pub target: &'a Target,
    /// What operators see.
    pub status: &'a Arc<Status>,
    /// The connection to Redis, and what it is.
    pub sink: Sink,
    /// The same.
    pub facts: Facts,
    /// When entries are safe there.
    pub durable: Durable,
    /// To be rung when a round has parked something.
    pub parked: Arc<Notify>,
    /// The process's memory.
    pub kept: Kept,
}

/// The session that holds the table for pollers, and hears of new rows.
pub struct Watch {
    client: Client,
    bell: Arc<Notify>,
}

impl Watch {
    /// Opens the session; none while a line works on the table.
    pub async fn open(target: &Target, settings: &Settings) -> Result<Option<Self>> {
        let bell = Arc::new(Notify::new());
        let client = target.sql_listening(Arc::clone(&bell)).await?;
        set_up(&client).await?;
        let is_ours = postgres::try_lock_table(&client, &settings.outbox_table, Tenure::Shared);
        Ok(is_ours.await?.then_some(Self { client, bell }))
    }

    /// The session.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// A poller that is ready to go.
pub struct Bulk {
    claimer: Claimer,
    idle: Vec<Lane>,
    settling: FuturesUnordered<LocalBoxFuture<'static, Result<Settled, Trouble>>>,
    /// Rows in lanes that are settling.
    outstanding: usize,
    memory: Memory,
    delivery: Delivery,
    assurance: Arc<Assurance>,
    wake: Wake,
    watch: Watch,
    status: Arc<Status>,
    is_notified: bool,
    parked: Arc<Notify>,
    /// How often both servers are looked at whatever else is done, and when next.
    heartbeat: Option<Duration>,
    next_heartbeat: Option<Instant>,
}

/// A lot that is committed.
struct Settled {
    lane: Lane,
    rows: usize,
    marked: u64,
    names: Names,
}

impl Bulk {
    /// Opens the lanes.
    pub async fn open(ground: Ground<'_>, watch: Watch) -> Result<Self, Trouble> {
        let Ground { settings, target, status, sink, facts, durable, parked, kept } = ground;
        let table = Table::find(&watch.client, settings, facts.run()).await?;
        if table.has_trigger {
            postgres::listen(&watch.client, &settings.outbox_table).await?;
        }
        let terms = Terms::new(settings, facts.bulk_bytes_max, &table.system_id);
        let assurance = Assurance::connect(settings, sink.clone(), durable, &terms.source).await?;
        let delivery = Delivery::load(sink).await?;
        let selection = table.selection.clone();
        let courier = Courier::new(delivery.clone(), terms, selection, Arc::clone(status));
        let is_at_once = durable.barrier.is_none() && durable.hold.is_zero();
        let mut idle = Vec::new();
        for _ in 0..if is_at_once { LANES_AT_ONCE } else { LANES } {
            idle.push(Lane::open(target, settings, &table).await?);
        }
        let heartbeat = settings.heartbeat_interval;
        if let Some(interval) = heartbeat {
            status.heartbeat.begin(interval);
        }
        Ok(Self {
            heartbeat,
            next_heartbeat: heartbeat.map(|_| Instant::now()),
            claimer: Claimer::new(courier, settings, kept, Instant::now()),
            idle,
            settling: FuturesUnordered::new(),
            outstanding: 0,
            memory: Memory::default(),
            delivery,
            assurance: Arc::new(assurance),
            wake: Wake::new(Arc::clone(&watch.bell), table.has_trigger, settings.poll_interval),
            watch,
            status: Arc::clone(status),
            is_notified: table.has_trigger,
            parked,
        })
    }

    /// Whether it is woken by our trigger.
    #[must_use]
    pub fn is_notified(&self) -> bool {
        self.is_notified
    }

    /// Polls until the wish to stop, and then settles what is under way, within `grace`.
    pub async fn run(mut self, shutdown: &Shutdown, grace: Duration) -> Result<(), Trouble> {
        let mut wish = shutdown.clone();
        let over = async {
            wish.requested().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            biased;
            done = self.work(shutdown.clone()) => done,
            () = over => {
                tracing::warn!(
                    "stopped before everything was settled: the next poller finds in Redis what \
                     is there"
                );
                Ok(())
            }
        }
    }

    async fn work(&mut self, mut shutdown: Shutdown) -> Result<(), Trouble> {
        while !shutdown.is_requested() {
            if self.watch.client.is_closed() {
                return Err(Error::transient("the session that holds the outbox has ended").into());
            }
            self.look_at_both().await?;
            let Some(mut lane) = self.idle.pop() else {
                tokio::select! {
                    biased;
                    () = shutdown.requested() => break,
                    Some(settled) = self.settling.next() => self.settled(settled?),
                }
                continue;
            };
            match self.claim(&mut lane).await? {
                Ok(lot) => {
                    self.wake.active();
                    self.settle(lane, lot);
                }
                Err(found) => {
                    self.idle.push(lane);
                    self.pause(found, &mut shutdown).await?;
                }
            }
        }
        while let Some(settled) = self.settling.next().await {
            self.settled(settled?);
        }
        Ok(())
    }

    /// Whether both servers answer, when it is time for that: what is done besides may go without
    /// one of them for long.
    async fn look_at_both(&mut self) -> Result<(), Trouble> {
        let now = Instant::now();
        if self.next_heartbeat.is_none_or(|due| due > now) {
            return Ok(());
        }
        self.next_heartbeat = self.heartbeat.map(|interval| now + interval);
        let heartbeat = &self.status.heartbeat;
        let number = heartbeat.ask();
        let looked = self.watch.client.batch_execute("").await;
        looked.map_err(|error| from_sql("PostgreSQL gives no sign of life", error))?;
        heartbeat.committed(number);
        heartbeat.came(number);
        self.delivery.deadline().await?;
        if let Some(took) = heartbeat.returned(number) {
            self.status.metrics.histograms.heartbeat(took);
        }
        Ok(())
    }

    /// Claims, while other lanes settle.
    async fn claim(&mut self, lane: &mut Lane) -> Result<Result<Lot, Found>, Trouble> {
        let mut done = Vec::new();
        let claimed = {
            let mut claiming = std::pin::pin!(self.claimer.round(lane));
            loop {
                tokio::select! {
                    biased;
                    claimed = &mut claiming => break claimed?,
                    Some(settled) = self.settling.next() => done.push(settled?),
                }
            }
        };
        for settled in done {
            self.settled(Ok::<_, Trouble>(settled)?);
        }
        Ok(claimed)
    }

    fn settle(&mut self, mut lane: Lane, lot: Lot) {
        let rows = lot.delivered.len();
        self.outstanding += rows;
        self.status.metrics.published.inc_by(u64::try_from(rows).unwrap_or_default());
        self.status.metrics.batches.inc();
        self.tell();
        let (assurance, delivery) = (Arc::clone(&self.assurance), self.delivery.clone());
        let parked = Arc::clone(&self.parked);
        let due = self.memory.due(Instant::now());
        self.settling.push(Box::pin(async move {
            forget(&delivery, due).await?;
            if lot.has_written() {
                assurance.wait().await?;
            }
            let marked = lane.settle(&lot.delivered, &lot.others).await?;
            if lot.others.parked() > 0 {
                parked.notify_one();
            }
            Ok(Settled { lane, rows, marked, names: lot.names })
        }));
    }

    fn settled(&mut self, settled: Settled) {
        let Settled { lane, rows, marked, names } = settled;
        self.idle.push(lane);
        self.outstanding -= rows;
        self.status.metrics.marked.inc_by(marked);
        self.memory.settled(names, Instant::now());
        self.tell();
    }

    fn tell(&self) {
        let outstanding = u64::try_from(self.outstanding).unwrap_or_default();
        self.status.stand(Where { outstanding, ..Where::default() });
    }

    /// Until the next look. Lanes go on settling.
    async fn pause(&mut self, found: Found, shutdown: &mut Shutdown) -> Result<(), Trouble> {
        if found == Found::Nothing {
            self.status.caught_up();
        }
        let mut done = None;
        {
            let due = self.memory.next_due().into_iter().chain(self.next_heartbeat).min();
            let mut pause = std::pin::pin!(self.wake.pause(found));
            tokio::select! {
                biased;
                () = shutdown.requested() => {}
                Some(settled) = self.settling.next() => done = Some(settled?),
                () = until(due) => {}
                () = &mut pause => {}
            }
        }
        if let Some(settled) = done {
            self.settled(settled);
        }
        forget(&self.delivery, self.memory.due(Instant::now())).await?;
        Ok(())
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
