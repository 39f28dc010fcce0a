//! Several threads of one process, each with an event loop of its own, and one end for all.
//!
//! In: what each is to do, and the wish to stop. Out: all of them ended, or the first error. It
//! must stay true that a thread shares nothing with the others but the wish; and that when one
//! ends, for whatever reason, the others are told to, and waited for.

use std::thread::{self, JoinHandle};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::shutdown::{Shutdown, Stop};

/// What one thread does, from its first start to its last end; and its name.
pub(super) struct Work {
    pub name: String,
    pub work: Box<dyn FnOnce() -> Result<()> + Send>,
}

/// Until all have ended. `stop` raises the wish that they were given.
pub(super) async fn run(works: Vec<Work>, stop: Stop, mut shutdown: Shutdown) -> Result<()> {
    let (mut threads, running) = (Vec::with_capacity(works.len()), FuturesUnordered::new());
    for Work { name, work } in works {
        let (sender, ended) = oneshot::channel();
        let work = move || {
            // Nobody listens only where the whole process ends.
            let _unheard = sender.send(work());
        };
        threads.push(spawn(name, work)?);
        running.push(ended);
    }
    let (mut running, mut is_stopping, mut failure) = (running, false, None);
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

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let what = format!("cannot start a thread for {name}");
    let spawned = thread::Builder::new().name(name).spawn(work);
    spawned.map_err(|error| Error::definite(what).because(error))
}
