//! An idempotent consumer of a walrelay stream, in Rust.
//!
//!     STREAM=identity.user.v1 GROUP=mailer CONSUMER=mailer-1 cargo run --example consumers
//!
//! The relay writes each event once. What repeats an event is on this side of the stream: a
//! consumer that dies between its work and XACK, an entry claimed from somebody who was only slow,
//! a replay. So the effect and the memory of the event_id are one atomic step (`effect.rs`); all
//! else may happen twice. `consumer.py` and `consumer.ts` do the same under the same names.

mod effect;
mod group;

use std::env::{VarError, var};
use std::error::Error;
use std::time::Duration;

use futures_util::FutureExt;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tokio::signal::unix::{Signal, SignalKind, signal};

use effect::Effect;
use group::{Fields, Group};

/// SIGTERM waits for the read that is under way: one that is broken off may have been given
/// entries.
const BLOCK_MS_MAX: u64 = 1_000;

struct Consumer {
    group: Group,
    /// An entry that nobody acked for so long is taken over: its consumer is dead, or refused it.
    /// Longer than a batch can take, or the living are robbed (each effect stays single even
    /// then).
    claim_idle_ms: u64,
    deliveries_max: u64,
}

impl Consumer {
    async fn from_environment() -> Result<Self, Box<dyn Error>> {
        let client = Client::open(setting("REDIS_URL", "redis://127.0.0.1:6379")?)?;
        // The client's own half a second is less than a read that blocks.
        let patience = Duration::from_millis(BLOCK_MS_MAX + 10_000);
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(patience));
        let group = Group {
            redis: client.get_multiplexed_async_connection_with_config(&config).await?,
            stream: setting("STREAM", "identity.user.v1")?,
            name: setting("GROUP", "mailer")?,
            consumer: setting("CONSUMER", &setting("HOSTNAME", "mailer-1")?)?,
            cursor: "0-0".to_owned(),
        };
        let claim_idle_ms = setting("CLAIM_IDLE_MS", "60000")?.parse()?;
        let deliveries_max = setting("DELIVERIES_MAX", "5")?.parse()?;
        Ok(Self { group, claim_idle_ms, deliveries_max })
    }

    /// Takes over what others left behind, then reads what is new, and settles all of it.
    async fn turn(&mut self) -> RedisResult<()> {
        for (id, fields) in self.group.claim(self.claim_idle_ms).await? {
            if let Some(deliveries) = self.group.deliveries(&id).await? {
                self.say(&format!("claimed {id}, delivery {deliveries}"));
                self.settle(&id, &fields, deliveries).await?;
            }
        }
        for (id, fields) in self.group.read(self.claim_idle_ms.min(BLOCK_MS_MAX)).await? {
            self.settle(&id, &fields, 1).await?;
        }
        Ok(())
    }

    /// Applies and acks an entry, leaves it pending for another try, or buries it.
    async fn settle(&mut self, id: &str, fields: &Fields, deliveries: u64) -> RedisResult<()> {
        match self.effect_of(fields, deliveries) {
            Ok(effect) => {
                // An error here is Redis's, not the event's: the process ends, the entry stays.
                if !effect.apply(&mut self.group).await? {
                    self.say(&format!("skipped {id}: its event was applied before"));
                }
                self.group.ack(id).await
            }
            Err(error) if deliveries < self.deliveries_max => {
                self.say(&format!("refused {id}, delivery {deliveries}: {error}"));
                Ok(())
            }
            Err(error) => {
                let error = error.to_string();
                self.group.bury(id, fields, [&error, &deliveries.to_string()]).await?;
                self.say(&format!("buried {id} in {}: {error}", self.group.key("dead")));
                Ok(())
            }
        }
    }

    fn effect_of(&self, fields: &Fields, deliveries: u64) -> Result<Effect, Box<dyn Error>> {
        if deliveries > self.deliveries_max {
            // Nobody lived to say what is wrong with it: it may be what they died of.
            return Err(format!("delivered {} times, never finished", self.deliveries_max).into());
        }
        Effect::of(fields)
    }

    /// What happened and to which entry; never a payload.
    fn say(&self, text: &str) {
        eprintln!("{}: {text}", self.group.consumer);
    }
}

/// A variable of the environment; an empty one counts as unset.
fn setting(name: &str, otherwise: &str) -> Result<String, VarError> {
    match var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        Ok(_) | Err(VarError::NotPresent) => Ok(otherwise.to_owned()),
        Err(error @ VarError::NotUnicode(_)) => Err(error),
    }
}

fn has_come(signal: &mut Signal) -> bool {
    signal.recv().now_or_never().is_some()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut consumer = Consumer::from_environment().await?;
    consumer.group.join().await?;
    // What was read is finished first: a stop leaves nothing behind.
    while !has_come(&mut terminate) && !has_come(&mut interrupt) {
        consumer.turn().await?;
    }
    Ok(())
}
