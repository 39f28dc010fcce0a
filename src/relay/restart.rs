//! The relay: brings the line up, and brings it up again whenever it ends.
//!
//! In: settings, the wish to stop. Out: a drained end, or the error that somebody must mend. It
//! must stay true that an outage of either server ends in another try, for ever, and that a line
//! begins with START_REPLICATION, never with a reconnect to Redis alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::hold;
use super::session::{End, Session};
use super::start::{Context, Start};
use crate::config::Settings;
use crate::error::{Class, Error, Result};
use crate::shutdown::Shutdown;
use crate::telemetry::{State, Status};

/// A line that lasted this long was a good one: the next trouble is a new one.
const GOOD_LINE: Duration = Duration::from_secs(5);

enum Next {
    Stop,
    Again,
}

/// Relays until the wish to stop is fulfilled. An error is definite: time does not end it.
pub async fn run(
    settings: Arc<Settings>,
    mut shutdown: Shutdown,
    status: Arc<Status>,
) -> Result<()> {
    let context = Context::new(settings, status)?;
    let mut backoff = Backoff::new(context.settings.reconnect_delay_max);
    let mut is_first = true;
    let mut said = String::new();
    loop {
        context.status.enter(State::Connecting);
        let began = Instant::now();
        let ended = line(&context, &mut shutdown, &mut is_first).await;
        if began.elapsed() > GOOD_LINE {
            backoff.reset();
            said.clear();
        }
        let error = match ended {
            Ok(Next::Stop) => return Ok(()),
            Ok(Next::Again) => continue,
            Err(error) => error,
        };
        context.status.failed(&error);
        let delay = match error.class() {
            Class::Definite | Class::Usage => return Err(error),
            Class::Transient | Class::SlotInUse => backoff.next_delay(),
        };
        context.status.metrics.restarts.inc();
        tell(&error, delay, &mut said);
        tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(delay) => {}
        }
    }
}

/// One line, from its start to its end.
async fn line(context: &Context, shutdown: &mut Shutdown, is_first: &mut bool) -> Result<Next> {
    let start = tokio::select! {
        biased;
        () = shutdown.requested() => return Ok(Next::Stop),
        start = context.start() => start?,
    };
    announce(context, &start, std::mem::replace(is_first, false));
    let status = Arc::clone(&context.status);
    let session = Session::new(start, context.settings.after_publish, status);
    match session.run(shutdown, context.settings.shutdown_grace).await? {
        End::Drained => Ok(Next::Stop),
        End::Hold(held, failure) => {
            context.status.metrics.redis_outages.inc();
            context.status.failed(&Error::transient(format!("Redis takes no writes: {failure}")));
            if shutdown.is_requested() {
                tracing::warn!(
                    error = %failure,
                    "stopped while Redis is away: the slot sends the rest again"
                );
                return Ok(Next::Stop);
            }
            context.status.enter(State::Holding);
            tracing::warn!(
                error = %failure,
                "holding: Redis takes no writes; the slot keeps what comes"
            );
            hold::wait(context, *held, shutdown).await?;
            Ok(if shutdown.is_requested() { Next::Stop } else { Next::Again })
        }
    }
}

/// Says what runs where: in full for the first line, in one line for the others.
fn announce(context: &Context, start: &Start, is_first: bool) {
    let Context { settings, status, .. } = context;
    let endpoints = &start.endpoints;
    let confirmed = start.line.positions().confirmed;
    if is_first {
        tracing::info!(version = env!("CARGO_PKG_VERSION"), mode = "wal", "walrelay");
        tracing::info!(server = endpoints.postgres, timeline = start.timeline, "source");
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
            "streaming"
        );
    } else {
        tracing::info!(slot = endpoints.slot, confirmed = %confirmed, "streaming again");
    }
    status.metrics.lines.inc();
    status.connected(endpoints.clone());
    status.enter(State::Streaming);
}

/// A failure that repeats is said once, so that the log shows when it changes.
fn tell(error: &Error, delay: Duration, said: &mut String) {
    let text = error.to_string();
    if text == *said {
        tracing::debug!(error = text, retry_in = ?delay, "still failing");
        return;
    }
    let hint = error.next_step();
    tracing::warn!(error = text, hint, retry_in = ?delay, "line is down: trying again");
    *said = text;
}
