//! Several tables in one process: each in a thread of its own, and none in the way of another.
//!
//! In: settings for each, the wish to stop. Out: all drained, or the error that somebody must
//! mend. It must stay true that trouble of one table stops no other: not an outage, and neither
//! what a person must mend. That is said (log, /readyz, /status, numbers) and tried again, seldom,
//! so that the table goes on by itself once it is mended. The process ends by itself only when
//! nothing works any more, each table having stopped for good, or when a setting is wrong: whoever
//! starts processes again would else end and start the tables that work, again and again, because
//! of one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alone::Alone;
use super::crew::{self, Work};
use super::mode;
use crate::backoff::Backoff;
use crate::config::Settings;
use crate::error::{Class, Error, Result};
use crate::event_loop::event_loop;
use crate::shutdown::Shutdown;
use crate::telemetry::{LastSaid, State, Status};

/// Longest pause before a table that stopped is tried again. A person mends it, so there is no
/// hurry; and who has mended it waits.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// What one thread gets.
struct Table {
    settings: Arc<Settings>,
    status: Arc<Status>,
    wish: Shutdown,
    alone: Alone,
    /// Of all tables, this one too.
    all: Arc<[Arc<Status>]>,
}

/// Relays until the wish to stop is fulfilled. An error is definite: time does not end it.
pub async fn run(tables: Vec<(Arc<Settings>, Arc<Status>)>, shutdown: Shutdown) -> Result<()> {
    let ((stop, wish), alone) = (Shutdown::by_hand(), Alone::default());
    let all: Arc<[Arc<Status>]> = tables.iter().map(|(_, status)| Arc::clone(status)).collect();
    let work = |(settings, status): (Arc<Settings>, Arc<Status>)| {
        let name = settings.table.clone().unwrap_or_default();
        let (wish, alone, all) = (wish.clone(), alone.clone(), Arc::clone(&all));
        let table = Table { settings, status, wish, alone, all };
        Work { name, work: Box::new(move || table.run()) }
    };
    crew::run(tables.into_iter().map(work).collect(), stop, shutdown).await
}

impl Table {
    /// From its first start to its last end.
    fn run(self) -> Result<()> {
        let name = self.settings.table.clone().unwrap_or_default();
        // At this level it is there whatever `log_level` is.
        let span = tracing::error_span!("line", table = name);
        let _inside = span.enter();
        event_loop()?.block_on(Box::pin(self.keep())).map_err(|error| error.of_table(Some(&name)))
    }

    async fn keep(self) -> Result<()> {
        let (mut backoff, mut said) = (Backoff::new(AGAIN_MAX), LastSaid::default());
        let mut shutdown = self.wish.clone();
        loop {
            let began = Instant::now();
            let error = match self.once().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.class() == Class::Usage || self.wish.is_requested() {
                return Err(error);
            }
            self.status.stops(&error);
            if nothing_works(&self.all) {
                return Err(error);
            }
            if began.elapsed() > AGAIN_MAX {
                backoff.reset();
                said.forget();
            }
            let pause = backoff.next_delay();
            tell(&error, pause, &mut said);
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn once(&self) -> Result<()> {
        let (settings, status) = (Arc::clone(&self.settings), Arc::clone(&self.status));
        let running = mode::run_beside(settings, self.wish.clone(), status, self.alone.clone());
        Box::pin(running).await
    }
}

/// Said once, until it is another one.
fn tell(error: &Error, pause: Duration, said: &mut LastSaid) {
    let text = error.to_string();
    if !said.is_news(&text) {
        tracing::debug!(error = text, retry_in = ?pause, "still stopped");
        return;
    }
    tracing::error!(
        error = text,
        hint = error.next_step(),
        "the table stops, the others go on; it is tried again until this is mended"
    );
}

/// Whether every table has stopped, and none is up again.
fn nothing_works(all: &[Arc<Status>]) -> bool {
    all.iter().all(|status| status.state() == State::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_works_when_the_last_stops_while_no_other_has_come_up_since_it_did() {
        let all: Vec<Arc<Status>> = (0..3).map(|_| Arc::default()).collect();
        let is_last = |number: usize| {
            all[number].stops(&Error::definite("x"));
            nothing_works(&all)
        };
        assert!(!is_last(0));
        assert!(!is_last(0), "the others may come up yet");
        assert!(!is_last(2));
        all[0].enter(State::Connecting);
        all[0].enter(State::Streaming);
        assert!(!is_last(1), "the first works again");
        all[2].enter(State::Connecting);
        assert!(is_last(0), "to be tried again is not to work");
        let alone = [Arc::<Status>::default()];
        alone[0].stops(&Error::definite("x"));
        assert!(nothing_works(&alone));
    }
}
