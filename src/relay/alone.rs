//! Careful lines of one process, one after the other: what ends the process must not be taken for
//! the doing of a line that happened to be at work beside it.
//!
//! In: lines that have reason to be careful. Out: one of them at a time. It must stay true that a
//! line goes by itself from before it says what it tries until it has shown that it lives, and that
//! a line that is not careful waits for nothing.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the lines of a process share.
#[derive(Clone, Debug)]
pub(super) struct Alone(Arc<Semaphore>);

impl Default for Alone {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// What one line has of it.
#[derive(Debug, Default)]
pub(super) struct Turn {
    alone: Alone,
    held: Option<OwnedSemaphorePermit>,
}

impl Turn {
    pub fn new(alone: Alone) -> Self {
        Self { alone, held: None }
    }

    /// Whether it is this line's turn, or can be at once.
    pub fn take(&mut self) -> bool {
        if self.held.is_none() {
            self.held = Arc::clone(&self.alone.0).try_acquire_owned().ok();
        }
        self.held.is_some()
    }

    /// Returns when it is this line's turn.
    pub async fn wait(&mut self) {
        // It is never closed.
        self.held = Arc::clone(&self.alone.0).acquire_owned().await.ok();
    }

    /// Others may.
    pub fn pass(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let alone = Alone::default();
        let (mut one, mut other) = (Turn::new(alone.clone()), Turn::new(alone));
        assert!(one.take() && one.take() && !other.take());
        one.pass();
        assert!(other.take() && !one.take());
        drop(other);
        assert!(one.take());
    }
}
