//! What ends a poller's work, or a backlog's: Redis or PostgreSQL, which are waited for in
//! different ways.

use crate::error::Error;
use crate::sink::Failure;

/// A failure of either server.
#[derive(Debug)]
pub enum Trouble {
    /// Redis failed; its verdict says what to do.
    Redis(Failure),
    /// Anything else.
    Other(Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Redis(failure)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}
