//! The wish to stop: raised once by a signal, seen by everything that waits.
//!
//! The first SIGTERM or SIGINT asks for a drain; the second ends the process at once, because
//! whoever sends it does not want to wait. Nothing is lost by that: the line is crash-only.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Error, Result};

/// What a shell reports for a process that SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;

/// SIGTERM and SIGINT for a command that has nothing to finish: it ends where it stands, and well.
#[derive(Debug)]
pub struct Interrupt {
    terminate: Signal,
    interrupt: Signal,
}

impl Interrupt {
    /// Listens from now on; neither ends the process by itself any more.
    pub fn listen() -> Result<Self> {
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
    wish: watch::Receiver<bool>,
}

/// Raises a wish by hand.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// From now on it is raised.
    pub fn raise(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// A wish that is raised by nothing but what is returned with it.
    #[must_use]
    pub fn by_hand() -> (Stop, Self) {
        let (sender, wish) = watch::channel(false);
        (Stop(sender), Self { wish })
    }

    /// Listens for SIGTERM and SIGINT from now on.
    pub fn on_signals() -> Result<Self> {
        let failed = |error| Error::definite("cannot listen for signals").because(error);
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let (sender, wish) = watch::channel(false);
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping: finishing what is in flight");
            sender.send_replace(true);
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
        *self.wish.borrow()
    }

    /// Returns once it is raised.
    pub async fn requested(&mut self) {
        // The sender lives as long as the task that listens; were it gone, no signal can come.
        if self.wish.wait_for(|wish| *wish).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
