//! Holding: Redis takes no writes, so nothing is read, and the replication connection is kept.
//!
//! In: the connection, and how far it is. Out: Redis takes writes again, or the connection broke,
//! or it is time to stop. It must stay true that the server hears from us well inside
//! wal_sender_timeout for as long as the outage lasts, and that nothing grows meanwhile.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::heart::watch_slot;
use super::start::Context;
use crate::backoff::Backoff;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::postgres::Replication;
use crate::shutdown::Shutdown;
use crate::sink::{self, Sink};
use crate::telemetry::LastSaid;

/// What is kept while Redis is away.
pub(super) struct Held {
    pub replication: Replication,
    pub received: Lsn,
    pub confirmed: Lsn,
    pub feedback_interval: Duration,
    pub probe_key: String,
}

/// Returns once Redis takes writes again, or a stop is asked for. An error is PostgreSQL's.
pub(super) async fn wait(context: &Context, held: Held, shutdown: &mut Shutdown) -> Result<()> {
    let Held { mut replication, received, confirmed, feedback_interval, probe_key } = held;
    let mut ticks = interval(feedback_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut writable = std::pin::pin!(until_writable(context, &probe_key));
    let mut watching = Box::pin(watch_slot(context));
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            () = &mut writable => return Ok(()),
            // No reply is asked for: it would stay unread.
            _ = ticks.tick() => replication.queue_status(received, confirmed, false),
            broken = replication.pump(false) => return broken,
            never = &mut watching => match never {},
        }
    }
}

/// Returns once Redis takes writes to that key, or one like it.
pub(super) async fn until_writable(context: &Context, probe_key: &str) {
    let mut backoff = Backoff::new(context.settings.reconnect_delay_max);
    let label = sink::label(&context.settings.redis_url);
    let mut said = LastSaid::default();
    loop {
        tokio::time::sleep(backoff.next_delay()).await;
        let failure = match Sink::connect(&context.settings.redis_url, context.timeouts()).await {
            Ok(sink) => match sink.probe(probe_key).await {
                Ok(()) => return,
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        // The same complaint every few seconds helps nobody.
        let text = failure.to_string();
        if said.is_news(&text) {
            tracing::warn!(redis = label, error = text, "holding: Redis takes no writes");
        }
    }
}
