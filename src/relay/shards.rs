//! Several lines in one process: each shard's in a thread of its own, with its own event loop.
//!
//! In: settings with more than one shard, the wish to stop. Out: all lines drained, or the first
//! error that somebody must mend. It must stay true that lines share nothing but numbers for
//! people, that what time ends for one line (an outage, another leader) stops no other, and that
//! when one ends for good the others drain before the process ends.

use std::sync::Arc;

use super::alone::Alone;
use super::crew::{self, Work};
use super::restart;
use crate::config::{Settings, Shard};
use crate::error::Result;
use crate::event_loop::event_loop;
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
    shutdown: Shutdown,
    status: Arc<Status>,
    alone: Alone,
) -> Result<()> {
    let (stop, wish) = Shutdown::by_hand();
    let here: Vec<Shard> = settings.shards.here().collect();
    let work = |(shard, status): (&Shard, Arc<Status>)| {
        let (settings, wish) = (Arc::new(settings.of_shard(*shard)), wish.clone());
        let line = Line { settings, wish, status, alone: alone.clone() };
        let name = format!("shard {}", shard.number);
        Work { name, work: Box::new(move || run_line(line)) }
    };
    let works = here.iter().zip(status.split(&here)).map(work).collect();
    crew::run(works, stop, shutdown).await
}

/// The line of one shard, from its first start to its last end.
fn run_line(line: Line) -> Result<()> {
    let Line { settings, wish, status, alone } = line;
    // At this level it is there whatever `log_level` is. All that this line does is done in this
    // thread.
    let shard = settings.shard.number;
    let span = if let Some(table) = &settings.table {
        tracing::error_span!("line", table, shard)
    } else {
        tracing::error_span!("line", shard)
    };
    let _inside = span.enter();
    let ended = event_loop()?.block_on(Box::pin(restart::run(settings, wish, status, alone)));
    if let Err(error) = &ended {
        tracing::error!(error = %error, "the line ends for good, and the others with it");
    }
    ended
}
