//! The Redis side of polling: opened when there is something to publish, closed when all is quiet.
//!
//! In: settings, and how rows are selected. Out: a courier, and the wait until all is safe; names
//! forgotten. It must stay true that an outlet that failed once is never used again: what was under
//! way on its connection may still be written, until its deadline.

use std::sync::Arc;

use tokio::time::Instant;

use super::assurance::Assurance;
use super::claim::Desk;
use super::courier::{Courier, Terms};
use super::kept::Kept;
use super::trouble::Trouble;
use crate::config::Settings;
use crate::error::Result;
use crate::sink::{Delivery, Durable, Failure, Sink, Timeouts};
use crate::telemetry::Status;

/// Names forgotten by one call.
const FORGET_MAX: usize = 1_000;
/// The name of a field that is written to see whether anything can be, and taken away again.
const PROBE: &str = "probed";

/// Connections to Redis.
pub struct Outlet {
    /// Brings rows there.
    pub courier: Courier,
    /// Waits until they are safe.
    pub assurance: Assurance,
}

impl Outlet {
    /// Connects, and tries a write that leaves nothing behind.
    pub async fn open(
        settings: &Settings,
        desk: &Desk,
        status: &Arc<Status>,
    ) -> Result<Self, Trouble> {
        let timeouts =
            Timeouts { connect: settings.connect_timeout, reply: settings.redis_timeout };
        let sink = Sink::connect(&settings.redis_url, timeouts).await?;
        let facts = sink.facts().await?;
        let durable = Durable::of(settings.durability, &facts)?;
        let terms = Terms::new(settings, facts.bulk_bytes_max, &desk.system_id);
        let key = terms.delivered_key(&terms.stream);
        sink.touch(&key, PROBE).await?;
        let delivery = Delivery::load(sink.clone()).await?;
        delivery.forget(&key, &[PROBE.to_owned()]).await?;
        let assurance = Assurance::connect(settings, sink, durable, &terms.source).await?;
        let selection = desk.selection.clone();
        let courier = Courier::new(delivery, terms, selection, Arc::clone(status));
        Ok(Self { courier, assurance })
    }

    /// Forgets what may be forgotten by now.
    pub async fn forget(&self, kept: &Kept) -> Result<(), Failure> {
        while let Some((key, names)) = kept.forgettable(Instant::now(), FORGET_MAX) {
            self.courier.delivery().forget(&key, &names).await?;
        }
        Ok(())
    }

    /// Looks for what another life has left in this hash: names of rows that are settled. They are
    /// forgotten when the claims that may have known them are over.
    pub async fn sweep(&self, key: &str, desk: &Desk, kept: &Kept) -> Result<(), Trouble> {
        let mut cursor = 0;
        loop {
            let (next, names) = self.courier.delivery().remembered(key, cursor).await?;
            let settled = desk.settled(names).await?;
            kept.settled(settled.into_iter().map(|name| (key.to_owned(), name)));
            cursor = next;
            if cursor == 0 {
                kept.swept(key);
                return Ok(());
            }
        }
    }
}
