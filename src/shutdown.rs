//! The wish to stop: raised once by a signal, seen by everything that waits.
//!
//! The first SIGTERM or SIGINT asks for a drain; the second ends the process at once, because
//! whoever sends it does not want to wait. Nothing is lost by that: the line is crash-only.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::event_loop::event_loop;

/// What a shell reports for a process that SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;

/// So long after the signal a command that has nothing to finish is still given.
const INTERRUPT_GRACE: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT for a command that has nothing to finish: it ends where it stands, and well.
#[derive(Debug)]
pub struct Interrupt {
    terminate: Signal,
    interrupt: Signal,
}

impl Interrupt {
    /// Listens from now on; neither ends the process by itself any more. But a command that stands
    /// in a write to a pipe which nobody reads never comes to look: a thread of its own ends it
    /// then.
    pub fn listen() -> Result<Self> {
        let failed = |error| Error::definite("cannot listen for signals").because(error);
        let runtime = event_loop()?;
        let mut second = {
            let _context = runtime.enter();
            Self::new()?
        };
        let last = std::thread::Builder::new().name("signals".to_owned());
        last.spawn(move || {
            runtime.block_on(async {
                second.came().await;
                tokio::time::sleep(INTERRUPT_GRACE).await;
            });
            std::process::exit(EXIT_INTERRUPTED);
        })
        .map_err(failed)?;
        Self::new()
    }

    fn new() -> Result<Self> {
        let failed = |error| Error::definite("cannot listen for signals").because(error);
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Returns once one has come.
    pub async fn came(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells whether to stop. Clones share the wish.
#[derive(Clone, Debug)]
pub struct Shutdown {
    wish: watch::Receiver<Option<Instant>>,
}

/// Raises a wish by hand.
#[derive(Debug)]
pub struct Stop(watch::Sender<Option<Instant>>);

impl Stop {
    /// From now on it is raised.
    pub fn raise(&self) {
        raise(&self.0);
    }
}

/// The first time counts.
fn raise(sender: &watch::Sender<Option<Instant>>) {
    sender.send_modify(|wish| *wish = wish.or_else(|| Some(Instant::now())));
}

impl Shutdown {
    /// A wish that is raised by nothing but what is returned with it.
    #[must_use]
    pub fn by_hand() -> (Stop, Self) {
        let (sender, wish) = watch::channel(None);
        (Stop(sender), Self { wish })
    }

    /// Listens for SIGTERM and SIGINT from now on.
    pub fn on_signals() -> Result<Self> {
        let failed = |error| Error::definite("cannot listen for signals").because(error);
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let (sender, wish) = watch::channel(None);
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping: finishing what is in flight");
            raise(&sender);
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("second signal: stopped at once");
            std::process::exit(EXIT_INTERRUPTED);
        });
        Ok(Self { wish })
    }

    /// Whether it was raised.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.wish.borrow().is_some()
    }

    /// For how long by now; not at all where it was not raised.
    #[must_use]
    pub fn requested_for(&self) -> Duration {
        self.wish.borrow().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns once it is raised.
    pub async fn requested(&mut self) {
        // The sender lives as long as the task that listens; were it gone, no signal can come.
        if self.wish.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
