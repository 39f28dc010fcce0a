//! What Redis is to forget of the backlog: ids of events whose rows are settled for long enough
//! that nobody can write them any more.
//!
//! In: ids by key, when their rows are settled. Out: they are gone from Redis a lease later. It
//! must stay true that nothing is forgotten earlier; what is never forgotten here, for a crash came
//! first, the pollers sweep.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::sink::{Delivery, Failure, LEASE, uuid_text};

/// Beyond the lease: the clocks of two machines are compared.
const SLACK: Duration = Duration::from_secs(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// Names in one call.
const NAMES_MAX: usize = 500;

struct Waiting {
    due: Instant,
    key: String,
    /// UUIDs of events: 16 bytes each, some hundreds of thousands at the most.
    ids: Vec<u128>,
}

/// Ids that wait to be forgotten, in the order of time.
#[derive(Default)]
pub(super) struct Forgetting {
    waiting: RefCell<VecDeque<Waiting>>,
}

impl Forgetting {
    /// The rows of these events were settled just now.
    pub fn add(&self, remembered: HashMap<String, Vec<u128>>) {
        let due = Instant::now() + LEASE + SLACK;
        let new = remembered.into_iter().map(|(key, ids)| Waiting { due, key, ids });
        self.waiting.borrow_mut().extend(new);
    }

    /// Forgets what is due, until it fails.
    pub async fn go_on(&self, delivery: &Delivery) -> Failure {
        loop {
            if let Err(failure) = self.forget_due(delivery).await {
                return failure;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Forgets the rest, if Redis lets us.
    pub async fn finish(self, delivery: Delivery) {
        while !self.waiting.borrow().is_empty() {
            tokio::time::sleep(PAUSE).await;
            if let Err(failure) = self.forget_due(&delivery).await {
                tracing::debug!(error = %failure, "ids of settled events are left in Redis");
                return;
            }
        }
    }

    async fn forget_due(&self, delivery: &Delivery) -> Result<(), Failure> {
        while let Some((key, names)) = self.next_due() {
            delivery.forget(&key, &names).await?;
            if let Some(first) = self.waiting.borrow_mut().front_mut() {
                first.ids.truncate(first.ids.len() - names.len());
            }
        }
        Ok(())
    }

    fn next_due(&self) -> Option<(String, Vec<String>)> {
        let mut waiting = self.waiting.borrow_mut();
        while waiting.front().is_some_and(|first| first.ids.is_empty()) {
            waiting.pop_front();
        }
        let first = waiting.front().filter(|first| first.due <= Instant::now())?;
        let names = first.ids.iter().rev().take(NAMES_MAX).copied().map(uuid_text);
        Some((first.key.clone(), names.collect()))
    }
}
