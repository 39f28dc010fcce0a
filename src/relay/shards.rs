//! Several lines in one process: each shard's in a thread of its own, with its own event loop.
//!
//! In: settings with more than one shard, the wish to stop. Out: all lines drained, or the first
//! error that somebody must mend. It must stay true that lines share nothing but numbers for
//! people, that what time ends for one line (an outage, another leader) stops no other, and that
//! when one ends for good the others drain before the process ends.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;

use super::alone::Alone;
use super::restart;
use crate::config::{Settings, Shard};
use crate::error::{Error, Result};
use crate::shutdown::Shutdown;
use crate::telemetry::Status;

/// What one thread gets.
struct Line {
    settings: Arc<Settings>,
    wish: Shutdown,
    status: Arc<Status>,
    alone: Alone,
}

/// Relays until the wish to stop is fulfilled. An error is definite: time does not end it.
pub(super) async fn run(
    settings: Arc<Settings>,
    mut shutdown: Shutdown,
    status: Arc<Status>,
) -> Result<()> {
    let ((stop, wish), alone) = (Shutdown::by_hand(), Alone::default());
    let here: Vec<Shard> = settings.shards.here().collect();
    let (mut threads, mut running) = (Vec::with_capacity(here.len()), FuturesUnordered::new());
    for (shard, status) in here.iter().copied().zip(status.split(&here)) {
        let (sender, ended) = oneshot::channel();
        let (settings, wish) = (Arc::new(settings.of_shard(shard)), wish.clone());
        let line = Line { settings, wish, status, alone: alone.clone() };
        let line = move || {
            // Nobody listens only where the whole process ends.
            let _unheard = sender.send(run_line(line));
        };
        threads.push(spawn(shard, line)?);
        running.push(ended);
    }
    let (mut is_stopping, mut failure) = (false, None);
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested(), if !is_stopping => {}
            ended = running.next() => match ended {
                None => break,
                Some(Ok(Err(error))) => failure = failure.or(Some(error)),
                // Drained, or panicked: that is said below.
                Some(Ok(Ok(())) | Err(_)) => {}
            },
        }
        is_stopping = true;
        stop.raise();
    }
    for thread in threads {
        if let Err(panicked) = thread.join() {
            std::panic::resume_unwind(panicked);
        }
    }
    failure.map_or(Ok(()), Err)
}

fn spawn(shard: Shard, line: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let name = format!("shard {}", shard.number);
    let spawned = thread::Builder::new().name(name).spawn(line);
    spawned.map_err(|error| {
        Error::definite(format!("cannot start a thread for shard {shard}")).because(error)
    })
}

/// The line of one shard, from its first start to its last end.
fn run_line(line: Line) -> Result<()> {
    let Line { settings, wish, status, alone } = line;
    // At this level it is there whatever `log_level` is. All that this line does is done in this
    // thread.
    let span = tracing::error_span!("line", shard = settings.shard.number);
    let _inside = span.enter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Error::definite("cannot start the event loop").because(error))?;
    let ended = runtime.block_on(Box::pin(restart::run(settings, wish, status, alone)));
    if let Err(error) = &ended {
        tracing::error!(error = %error, "the line ends for good, and the others with it");
    }
    ended
}
