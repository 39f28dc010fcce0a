//! An event loop for one thread: the line is a single loop, and two servers are always slower than
//! it. It must stay true that each thread has its own.

use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};

/// For the thread that calls it.
pub fn event_loop() -> Result<Runtime> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Error::definite("cannot start the event loop").because(error))
}
