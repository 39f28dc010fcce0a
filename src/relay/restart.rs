//! The relay: brings the line up, and brings it up again whenever it ends.
//!
//! In: settings, the wish to stop. Out: a drained end, or the error that somebody must mend. It
//! must stay true that an outage of either server ends in another try, for ever, and that a line
//! begins with START_REPLICATION, never with a reconnect to Redis alone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alone::{Alone, Turn};
use super::desk::Bells;
use super::forget::Forgetting;
use super::heart::Heart;
use super::hold::{self, Held};
use super::memory::Memory;
use super::session::{End, Session};
use super::start::{Context, Start};
use super::watch;
use crate::backoff::Backoff;
use crate::config::Settings;
use crate::error::{Class, Error, Result};
use crate::housekeeping::{Bound, Keeper};
use crate::poller::{self, Kept, Slot, Workplace};
use crate::shutdown::Shutdown;
use crate::sink::{Delivery, Failure, Sink};
use crate::telemetry::{LastSaid, Server, State, Status};

/// How long Redis may take to hear that a line ended in good order: a process that is told to stop
/// must not wait for one that does not answer.
const CLEAR_TIMEOUT: Duration = Duration::from_millis(500);
/// A line that lasted this long was a good one: the next trouble is a new one.
const GOOD_LINE: Duration = Duration::from_secs(5);

enum Next {
    Stop,
    /// Redis takes writes again: a new line, from the slot.
    Again,
}

/// Relays until the wish to stop is fulfilled. An error is definite: time does not end it.
pub async fn run(
    settings: Arc<Settings>,
    mut shutdown: Shutdown,
    status: Arc<Status>,
    alone: Alone,
) -> Result<()> {
    let backoff = Backoff::new(settings.reconnect_delay_max);
    let context = Context::new(settings, status)?;
    let memory = Memory::new(Turn::new(alone));
    let said = LastSaid::default();
    let (kept, bells) = (Kept::default(), Bells::default());
    let mut relay = Relay { context, backoff, memory, said, has_begun: false, kept, bells };
    loop {
        let delay = match Box::pin(relay.line(&mut shutdown)).await {
            Ok(Next::Stop) => return Ok(()),
            // Not at once: a batch that Redis cannot stand would be tried without end.
            Ok(Next::Again) => relay.backoff.next_delay(),
            Err(error) => relay.failed(error)?,
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(delay) => {}
        }
    }
}

/// What outlives a line.
struct Relay {
    context: Context,
    backoff: Backoff,
    memory: Memory,
    /// The failure that was told last.
    said: LastSaid,
    /// Whether a line came up in this process.
    has_begun: bool,
    /// What the retry poller remembers.
    kept: Kept,
    bells: Bells,
}

impl Relay {
    /// One line, from its start to its end.
    async fn line(&mut self, shutdown: &mut Shutdown) -> Result<Next> {
        self.context.status.enter(State::Connecting);
        let starting = self.context.start(!self.has_begun, &mut self.memory, &self.bells);
        let mut start = tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(Next::Stop),
            start = starting => start?,
        };
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        announce(&self.context, &start, is_first);
        let (began, settings) = (Instant::now(), Arc::clone(&self.context.settings));
        let status = Arc::clone(&self.context.status);
        let forgetting = Box::pin(forget(&self.context, start.forgetting.take()));
        let retrying = Box::pin(poller::retry(self.workplace()));
        let keeper = self.keeper();
        // Works as long as this line leads.
        let _keeping = keeper.map(Keeper::start);
        watch::begin(&mut self.memory.watch, &mut start).await;
        if self.memory.watch.is_careful() && !self.memory.turn.take() {
            // Nobody is kept from the slot meanwhile.
            drop(start);
            self.context.status.enter(State::Connecting);
            tracing::info!("waits until another line of this process has shown that it lives");
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(Next::Stop),
                () = self.memory.turn.wait() => return Ok(Next::Again),
            }
        }
        let (sink, key) = (start.sink.clone(), start.probe_key.clone());
        let beating = start.heart.take().map(Heart::start);
        let session = Session::new(start, settings.after_publish, status, &mut self.memory);
        let session = Box::pin(session.run(shutdown, settings.shutdown_grace));
        // What is parked is tried beside the line, and no longer: any step of it may be the last.
        let ((ended, _), retrying) = beside(beside(session, forgetting), retrying).await;
        drop(beating);
        self.memory.turn.pass();
        // An outage is no end: this process goes on, and is not counted anew.
        let is_holding = matches!(ended, Ok(End::Hold(..)));
        if !is_holding && self.memory.watch.end() {
            // Left as it is, the count may have the next line go carefully for a while.
            let _uncleared = tokio::time::timeout(CLEAR_TIMEOUT, sink.clear_starts(&key)).await;
        }
        if began.elapsed() > GOOD_LINE {
            self.backoff.reset();
            self.said.forget();
        }
        match ended? {
            End::Drained => Ok(Next::Stop),
            End::Hold(held, failure) => {
                beside(Box::pin(self.hold(*held, &failure, shutdown)), retrying).await.0
            }
        }
    }

    /// The line of the first shard keeps house for all, so that no row is looked at twice.
    fn keeper(&self) -> Option<Keeper> {
        let Context { settings, target, status } = &self.context;
        let slots = settings.shards.all().map(|shard| shard.name(&settings.slot_base)).collect();
        let bound = Bound::Slots(slots);
        if settings.shard.number > 1 {
            return None;
        }
        Keeper::new(settings, target, status, bound)
    }

    fn workplace(&self) -> Workplace {
        Workplace {
            settings: Arc::clone(&self.context.settings),
            target: self.context.target.clone(),
            status: Arc::clone(&self.context.status),
            slot: Slot::Replays,
            kept: self.kept.clone(),
            parked: Arc::clone(&self.bells.parked),
            released: Arc::clone(&self.bells.released),
        }
    }

    /// Waits until Redis takes writes again.
    async fn hold(
        &mut self,
        held: Held,
        failure: &Failure,
        shutdown: &mut Shutdown,
    ) -> Result<Next> {
        let status = &self.context.status;
        status.metrics.redis_outages.inc();
        status.reconnects.lost(Server::Redis);
        status.failed(&Error::transient(format!("Redis takes no writes: {failure}")));
        if shutdown.is_requested() {
            tracing::warn!(
                error = %failure,
                "stopped while Redis is away: the slot sends the rest again"
            );
            return Ok(Next::Stop);
        }
        status.enter(State::Holding);
        tell_holding(failure, &mut self.said);
        hold::wait(&self.context, held, shutdown).await?;
        Ok(if shutdown.is_requested() { Next::Stop } else { Next::Again })
    }

    /// Counts and tells a failure; how long to wait before the next try. A definite one is handed
    /// back.
    fn failed(&mut self, error: Error) -> Result<Duration> {
        let status = &self.context.status;
        status.failed(&error);
        match error.class() {
            Class::Definite | Class::Usage => return Err(error),
            // What Redis did has been told by now.
            Class::Transient => status.reconnects.lost_unless_known(Server::Postgres),
            Class::SlotInUse => {}
        }
        status.metrics.restarts.inc();
        let delay = self.backoff.next_delay();
        tell(&error, delay, &mut self.said);
        Ok(delay)
    }
}

/// Has Redis forget what it remembers of a backlog. What fails is left to the pollers' sweep.
async fn forget(context: &Context, forgetting: Option<Forgetting>) -> Infallible {
    if let Some(forgetting) = forgetting
        && let Ok(sink) = Sink::connect(&context.settings.redis_url, context.timeouts()).await
        && let Ok(delivery) = Delivery::load(sink).await
    {
        forgetting.finish(delivery).await;
    }
    std::future::pending().await
}

/// Runs `work` to its end, and what never ends beside it.
async fn beside<T, N: Future<Output = Infallible> + Unpin>(
    work: impl Future<Output = T>,
    mut never: N,
) -> (T, N) {
    let done = tokio::select! {
        biased;
        done = work => done,
        ended = &mut never => match ended {},
    };
    (done, never)
}

/// Says what runs where: in full for the first line, in one line for the others.
fn announce(context: &Context, start: &Start, is_first: bool) {
    let Context { settings, status, .. } = context;
    let endpoints = &start.endpoints;
    let confirmed = start.line.positions().confirmed;
    if is_first {
        tracing::info!(version = env!("CARGO_PKG_VERSION"), mode = "wal", "walrelay");
        tracing::info!(server = endpoints.postgres, timeline = start.line.timeline(), "source");
        tracing::info!(server = endpoints.redis, "sink");
        tracing::info!(
            slot = endpoints.slot,
            confirmed = %confirmed,
            publication = endpoints.publication,
            table = endpoints.table,
            "slot taken"
        );
        tracing::info!(
            stream = endpoints.stream,
            entry_format = settings.entry_format.name(),
            after_publish = endpoints.after_publish,
            durability = endpoints.durability,
            max_rate = endpoints.max_rate,
            "streaming"
        );
    } else {
        tracing::info!(slot = endpoints.slot, confirmed = %confirmed, "streaming again");
    }
    status.metrics.lines.inc();
    status.reconnects.back(is_first);
    status.connected(endpoints.clone());
    status.enter(State::Streaming);
}

/// The same outage again and again is said once.
fn tell_holding(failure: &Failure, said: &mut LastSaid) {
    let text = failure.to_string();
    if !said.is_news(&text) {
        tracing::debug!(error = text, "holding again");
        return;
    }
    tracing::warn!(error = text, "holding: Redis takes no writes; the slot keeps what comes");
}

/// A failure that repeats is said once, so that the log shows when it changes.
fn tell(error: &Error, delay: Duration, said: &mut LastSaid) {
    let text = error.to_string();
    if !said.is_news(&text) {
        tracing::debug!(error = text, retry_in = ?delay, "still failing");
        return;
    }
    let hint = error.next_step();
    tracing::warn!(error = text, hint, retry_in = ?delay, "line is down: trying again");
}
