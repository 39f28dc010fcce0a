//! Mode `poll`: brings a poller up, and brings it up again whenever it ends.
//!
//! In: settings, the wish to stop. Out: a drained end, or the error that somebody must mend. It
//! must stay true that an outage of either server ends in another try, for ever, and that nothing
//! of replication is asked for: no slot, no publication, no right to stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::handover::to_poll;
use super::hold;
use super::preflight::check_table;
use super::start::{Context, describe};
use crate::backoff::Backoff;
use crate::config::{AfterPublish, Settings};
use crate::error::{Class, Error, Result};
use crate::housekeeping::{Bound, Keeper};
use crate::poller::{self, Bulk, Ground, Kept, Slot, Trouble, Watch, Workplace};
use crate::postgres;
use crate::shutdown::Shutdown;
use crate::sink::{self, Failure, Verdict};
use crate::telemetry::{Endpoints, LastSaid, Server, State, Status};

/// A poller that lasted this long was a good one: the next trouble is a new one.
const GOOD: Duration = Duration::from_secs(5);
/// How often a poller looks whether a line still works on the table.
const STANDBY_POLL: Duration = Duration::from_millis(500);

/// Polls until the wish to stop is fulfilled. An error is definite: time does not end it.
pub(super) async fn run(
    settings: Arc<Settings>,
    mut shutdown: Shutdown,
    status: Arc<Status>,
) -> Result<()> {
    if settings.after_publish == AfterPublish::Keep {
        return Err(Error::usage(
            "after_publish = keep does not go with mode = poll: a row that is not marked would \
             be published again and again",
        )
        .hint("set after_publish to mark or delete, or mode to wal"));
    }
    let mut backoff = Backoff::new(settings.reconnect_delay_max);
    let mut poll = Poll {
        context: Context::new(settings, status)?,
        kept: Kept::default(),
        parked: Arc::default(),
        said: LastSaid::default(),
        runs: 0,
    };
    loop {
        let began = Instant::now();
        let ended = Box::pin(poll.once(&mut shutdown)).await;
        if began.elapsed() > GOOD {
            backoff.reset();
            poll.said.forget();
        }
        match ended {
            Ok(()) => return Ok(()),
            Err(trouble) if shutdown.is_requested() => {
                give_up(&trouble);
                return Ok(());
            }
            Err(trouble) => poll.failed(trouble, &mut shutdown).await?,
        }
        tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}

/// What outlives a poller.
struct Poll {
    context: Context,
    kept: Kept,
    /// Rung when a round has parked something.
    parked: Arc<Notify>,
    /// The failure that was told last.
    said: LastSaid,
    runs: u64,
}

impl Poll {
    /// One poller, from its start to its end.
    async fn once(&mut self, shutdown: &mut Shutdown) -> Result<(), Trouble> {
        self.context.status.enter(State::Connecting);
        let bulk = tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            bulk = self.start() => bulk?,
        };
        let status = &self.context.status;
        status.enter(State::Polling);
        let Context { settings, target, .. } = &self.context;
        let _keeping = Keeper::new(settings, target, status, Bound::Mark).map(Keeper::start);
        let mut wish = shutdown.clone();
        let mut running = std::pin::pin!(bulk.run(shutdown, self.context.settings.shutdown_grace));
        // What is parked is tried beside it, and no longer: each of its steps may be the last.
        let mut retrying = Box::pin(poller::retry(self.workplace()));
        tokio::select! {
            biased;
            () = wish.requested() => status.enter(State::Draining),
            ended = &mut running => return ended,
            never = &mut retrying => match never {},
        }
        drop(retrying);
        running.await
    }

    fn workplace(&self) -> Workplace {
        Workplace {
            settings: Arc::clone(&self.context.settings),
            target: self.context.target.clone(),
            status: Arc::clone(&self.context.status),
            slot: Slot::None,
            kept: self.kept.clone(),
            parked: Arc::clone(&self.parked),
            released: Arc::default(),
        }
    }

    async fn start(&mut self) -> Result<Bulk, Trouble> {
        let Context { settings, target, status } = &self.context;
        // What a line left behind comes first.
        Box::pin(to_poll(&self.context)).await?;
        let watch = self.watch().await?;
        let checks = async {
            let facts = postgres::facts_without_wal(watch.client()).await?;
            check_table(watch.client(), settings).await?;
            Ok(facts)
        };
        let server = self.context.in_time(checks).await?;
        let (sink, facts, durable) = self.context.connect_redis().await?;
        let endpoints = Endpoints {
            postgres: format!("PostgreSQL {} at {}", server.version, target.label()),
            redis: format!("{} at {}", facts.version, sink::label(&settings.redis_url)),
            slot: String::new(),
            publication: String::new(),
            table: settings.outbox_table.to_string(),
            stream: settings.stream_name.clone(),
            after_publish: settings.after_publish.name(),
            durability: describe(settings, durable),
            max_rate: settings.max_rate.per_second(),
        };
        let (parked, kept) = (Arc::clone(&self.parked), self.kept.clone());
        let ground = Ground { settings, target, status, sink, facts, durable, parked, kept };
        let bulk = Bulk::open(ground, watch).await?;
        announce(&self.context, &endpoints, bulk.is_notified(), self.runs == 0);
        status.metrics.lines.inc();
        status.reconnects.back(self.runs == 0);
        status.connected(endpoints);
        self.runs += 1;
        Ok(bulk)
    }

    /// The table is ours, with other pollers; while a line works on it, this waits.
    async fn watch(&self) -> Result<Watch> {
        let Context { settings, target, status } = &self.context;
        let mut is_said = false;
        loop {
            if let Some(watch) = self.context.in_time(Watch::open(target, settings)).await? {
                return Ok(watch);
            }
            status.enter(State::Standby);
            if !std::mem::replace(&mut is_said, true) {
                tracing::info!(
                    table = %settings.outbox_table,
                    "standby: a relay with mode = wal works on the table; polling once it is gone"
                );
            }
            tokio::time::sleep(STANDBY_POLL).await;
        }
    }

    /// Counts and tells a failure, and waits for Redis where it is away. A definite one is handed
    /// back.
    async fn failed(&mut self, trouble: Trouble, shutdown: &mut Shutdown) -> Result<()> {
        let status = &self.context.status;
        let error = match trouble {
            Trouble::Redis(failure) if failure.verdict == Verdict::Outage => {
                return self.hold(&failure, shutdown).await;
            }
            Trouble::Redis(failure) => {
                status.reconnects.lost(Server::Redis);
                failure.into_error("cannot deliver claimed rows")
            }
            Trouble::Other(error) => error,
        };
        status.failed(&error);
        match error.class() {
            Class::Definite | Class::Usage => return Err(error),
            Class::Transient | Class::SlotInUse => {}
        }
        // What Redis did has been told by now.
        status.reconnects.lost_unless_known(Server::Postgres);
        status.metrics.restarts.inc();
        let text = error.to_string();
        if self.said.is_news(&text) {
            tracing::warn!(error = text, hint = error.next_step(), "polling stopped: trying again");
        }
        Ok(())
    }

    async fn hold(&mut self, failure: &Failure, shutdown: &mut Shutdown) -> Result<()> {
        let status = &self.context.status;
        status.metrics.redis_outages.inc();
        status.reconnects.lost(Server::Redis);
        status.failed(&Error::transient(format!("Redis takes no writes: {failure}")));
        status.enter(State::Holding);
        let text = failure.to_string();
        if self.said.is_news(&text) {
            tracing::warn!(error = text, "holding: Redis takes no writes; rows stay unpublished");
        }
        let probe = sink::delivered_key(&self.context.settings.stream_name, "probe");
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = hold::until_writable(&self.context, &probe) => {}
        }
        Ok(())
    }
}

fn give_up(trouble: &Trouble) {
    let error = match trouble {
        Trouble::Redis(failure) => failure.to_string(),
        Trouble::Other(error) => error.to_string(),
    };
    tracing::warn!(error, "stopped in an outage: what was not settled stays unpublished");
}

/// Says what runs where: in full for the first time, in one line then.
fn announce(context: &Context, endpoints: &Endpoints, is_notified: bool, is_first: bool) {
    let settings: &Settings = &context.settings;
    if !is_first {
        tracing::info!(table = endpoints.table, "polling again");
        return;
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), mode = "poll", "walrelay");
    tracing::info!(server = endpoints.postgres, "source");
    tracing::info!(server = endpoints.redis, "sink");
    let woken_by = if is_notified { "notification" } else { "interval" };
    tracing::info!(
        table = endpoints.table,
        woken_by,
        poll_interval = ?settings.poll_interval,
        ordering = settings.ordering.name(),
        stream = endpoints.stream,
        entry_format = settings.entry_format.name(),
        after_publish = endpoints.after_publish,
        durability = endpoints.durability,
        max_rate = endpoints.max_rate,
        "polling"
    );
}
