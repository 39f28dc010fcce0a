//! That what was written to Redis is safe there, by the configured level, before rows say so.
//!
//! In: a connection that has written. Out: the end of the wait. It must stay true that the gate's
//! connection is as old as the one that writes: a server that was restarted in between, and may
//! have forgotten, breaks one of them.

use crate::config::Settings;
use crate::error::Result;
use crate::sink::{self, Durable, Failure, Gate, Sink, Timeouts};

/// How it is waited for on one server.
pub struct Assurance {
    sink: Sink,
    durable: Durable,
    gate: Option<Gate>,
}

impl Assurance {
    /// For what is written over `sink`; `source` names table and system in the key of the gate.
    pub async fn connect(
        settings: &Settings,
        sink: Sink,
        durable: Durable,
        source: &str,
    ) -> Result<Self, Failure> {
        let timeouts =
            Timeouts { connect: settings.connect_timeout, reply: settings.redis_timeout };
        let key = sink::checkpoint_key(&settings.stream_name, source);
        let gate = match durable.barrier {
            Some(barrier) => {
                let key = format!("{key}:watermark");
                Some(Gate::connect(&settings.redis_url, timeouts, barrier, key).await?)
            }
            None => None,
        };
        Ok(Self { sink, durable, gate })
    }

    /// Returns once everything is safe that was answered before.
    pub async fn wait(&self) -> Result<(), Failure> {
        let Durable { barrier, hold } = self.durable;
        if barrier.is_none() && hold.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(hold).await;
        sink::until_safe(self.gate.clone(), self.sink.clone()).await
    }
}
