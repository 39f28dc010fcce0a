//! When an entry is safe after Redis answered, and how to wait for it.
//!
//! In: what is asked for (`durability`) and what the server is ([`Facts`]). Out: [`Durable`], and
//! the [`Gate`] through which receipts pass. It must stay true that the gate has a connection of
//! its own: publishing never waits for a disk, and that a pass covers everything that was answered
//! before it was asked for.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use secrecy::SecretString;

use super::connect::{Facts, Sink, Timeouts, connect};
use super::failure::Failure;
use crate::config::Durability;
use crate::error::{Error, Result};

/// `appendfsync everysec` may be late by a second when the disk is busy, so two bound what a crash
/// can lose:
/// <https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/#how-durable-is-the-append-only-file>.
const EVERYSEC_WORST: Duration = Duration::from_secs(2);
/// One wait on the server. Long, because each round writes anew: what is written during a sync is
/// covered by the next one, and a round must outlast both. That a server is silent is noticed by
/// the publishing connection.
const ROUND: Duration = Duration::from_secs(30);
/// A wait that is worth a line in the log.
const PATIENCE: Duration = Duration::from_secs(5);

/// What must happen after Redis answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// What to ask the server for.
    pub barrier: Option<Barrier>,
    /// How long to wait since the answer, where the server cannot be asked.
    pub hold: Duration,
}

/// What the server is asked to have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// Its append-only file is on disk (WAITAOF).
    pub fsync: bool,
    /// So many replicas have it in memory (WAIT).
    pub replicas: u8,
}

impl Durable {
    const AT_ONCE: Self = Self { barrier: None, hold: Duration::ZERO };

    /// What `durability` means on this server. `fsync` without an append-only file that is synced
    /// is refused: the promise could not be kept.
    pub fn of(durability: Durability, facts: &Facts) -> Result<Self> {
        match durability {
            Durability::Memory => Ok(Self::AT_ONCE),
            Durability::Fsync => Self::fsync(facts),
            Durability::Replica(count) => {
                // A replica is the other copy: without an append-only file it is the only one.
                let local = match facts.aof_enabled {
                    Some(true) => Self::fsync(facts)?,
                    Some(false) | None => Self::AT_ONCE,
                };
                let fsync = local.barrier.is_some();
                let barrier = Some(Barrier { fsync, replicas: count.get() });
                Ok(Self { barrier, hold: local.hold })
            }
        }
    }

    fn fsync(facts: &Facts) -> Result<Self> {
        let refused = |what: &str| {
            Err(Error::definite(format!(
                "durability = fsync, but Redis {what}: a crash could lose entries that were \
                 confirmed"
            ))
            .hint(
                "set appendonly yes and appendfsync everysec in Redis, or durability = memory if \
                 losing them is acceptable",
            ))
        };
        if facts.aof_enabled == Some(false) {
            return refused("keeps no append-only file (appendonly no)");
        }
        match facts.appendfsync.as_deref() {
            Some("no") => refused("never syncs its append-only file (appendfsync no)"),
            // Redis answers after the sync.
            Some("always") => Ok(Self::AT_ONCE),
            _ if facts.has_waitaof => {
                let barrier = Some(Barrier { fsync: true, replicas: 0 });
                // Where WAITAOF may answer too early it is asked late: what is two seconds old is
                // on disk, or its sync is under way, and that it does wait for.
                let hold = if facts.is_waitaof_sound { Duration::ZERO } else { EVERYSEC_WORST };
                Ok(Self { barrier, hold })
            }
            _ => Ok(Self { barrier: None, hold: EVERYSEC_WORST }),
        }
    }

    /// How it is kept, for people: behind the level in the log.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut how = Vec::new();
        if let Some(barrier) = &self.barrier {
            if barrier.fsync {
                how.push("WAITAOF".to_owned());
            }
            if barrier.replicas > 0 {
                how.push(format!("WAIT {}", barrier.replicas));
            }
        }
        if !self.hold.is_zero() {
            how.push(format!("{} s after the write", self.hold.as_secs()));
        }
        how.join(", ")
    }
}

/// The connection on which the server is asked whether it is safe.
#[derive(Clone)]
pub struct Gate {
    connection: MultiplexedConnection,
    barrier: Barrier,
    key: String,
}

impl Gate {
    /// A connection of its own, with a small key `key` to write to.
    pub async fn connect(
        url: &SecretString,
        timeouts: Timeouts,
        barrier: Barrier,
        key: String,
    ) -> Result<Self, Failure> {
        let timeouts = Timeouts { reply: ROUND + timeouts.reply, ..timeouts };
        let connection = connect(url, timeouts).await?;
        Ok(Self { connection, barrier, key })
    }

    /// Returns once everything that the server answered before this call is safe.
    pub async fn pass(mut self) -> Result<(), Failure> {
        let Barrier { fsync, replicas } = self.barrier;
        let mut rounds = std::pin::pin!(async {
            while !self.ask().await? {}
            Ok(())
        });
        if let Ok(passed) = tokio::time::timeout(PATIENCE, &mut rounds).await {
            return passed;
        }
        tracing::warn!(
            fsync,
            replicas,
            "entries are not safe yet: nothing is confirmed until the append-only file is synced, \
             or so many replicas have them"
        );
        rounds.await
    }

    /// One round: whether all is safe.
    ///
    /// WAIT and WAITAOF speak of what their own connection wrote, hence the key; the replication
    /// stream and the append-only file are sequential, so what came before it is safe with it
    /// (<https://valkey.io/commands/waitaof/>).
    async fn ask(&mut self) -> Result<bool, Failure> {
        let Barrier { fsync, replicas } = self.barrier;
        let round = u64::try_from(ROUND.as_millis()).unwrap_or(u64::MAX);
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(&self.key).arg(1).ignore();
        if fsync {
            pipe.cmd("WAITAOF").arg(1).arg(0).arg(round);
        }
        if replicas > 0 {
            pipe.cmd("WAIT").arg(replicas).arg(round);
        }
        let values: Vec<redis::Value> =
            pipe.query_async(&mut self.connection).await.map_err(|e| Failure::of(&e))?;
        let mut values = values.into_iter();
        if fsync {
            match values.next() {
                Some(redis::Value::Array(counts)) => match counts.first() {
                    Some(redis::Value::Int(0)) => return Ok(false),
                    Some(redis::Value::Int(_)) => {}
                    _ => return Err(nonsense()),
                },
                _ => return Err(nonsense()),
            }
        }
        if replicas > 0 {
            match values.next() {
                Some(redis::Value::Int(count)) if count < i64::from(replicas) => return Ok(false),
                Some(redis::Value::Int(_)) => {}
                _ => return Err(nonsense()),
            }
        }
        Ok(true)
    }
}

/// Returns once everything is safe that the server answered before this call and that has waited
/// for [`Durable::hold`] since. A server that can only be waited for is asked for a sign of life on
/// the connection that published: it has outlived the wait.
pub async fn until_safe(gate: Option<Gate>, sink: Sink) -> Result<(), Failure> {
    match gate {
        Some(gate) => gate.pass().await,
        None => sink.ping().await,
    }
}

fn nonsense() -> Failure {
    Failure::nonsense("WAIT or WAITAOF answered something else than counts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU8;

    fn facts(aof: bool, appendfsync: &str, has_waitaof: bool) -> Facts {
        Facts {
            aof_enabled: Some(aof),
            appendfsync: Some(appendfsync.to_owned()),
            has_waitaof,
            is_waitaof_sound: has_waitaof,
            ..Facts::default()
        }
    }

    fn of(durability: Durability, facts: &Facts) -> Option<Durable> {
        Durable::of(durability, facts).ok()
    }

    #[test]
    fn fsync_means_what_the_server_can_do() {
        let asked =
            Durable { barrier: Some(Barrier { fsync: true, replicas: 0 }), hold: Duration::ZERO };
        let held = Durable { barrier: None, hold: EVERYSEC_WORST };
        let level = Durability::Fsync;
        assert_eq!(of(level, &facts(true, "everysec", true)), Some(asked));
        assert_eq!(of(level, &facts(true, "everysec", false)), Some(held));
        let early = Facts { is_waitaof_sound: false, ..facts(true, "everysec", true) };
        assert_eq!(of(level, &early), Some(Durable { hold: EVERYSEC_WORST, ..asked }));
        assert_eq!(of(level, &facts(true, "always", true)), Some(Durable::AT_ONCE));
        assert_eq!(of(level, &facts(true, "no", true)), None);
        assert_eq!(of(level, &facts(false, "everysec", true)), None);
        // What an ACL hides is taken for the usual.
        assert_eq!(of(level, &Facts::default()), Some(held));
    }

    #[test]
    fn replica_adds_to_what_the_append_only_file_gives() {
        let level = Durability::Replica(NonZeroU8::MIN);
        let both = Barrier { fsync: true, replicas: 1 };
        let alone = Barrier { fsync: false, replicas: 1 };
        let with = |facts| of(level, &facts).and_then(|durable| durable.barrier);
        assert_eq!(with(facts(true, "everysec", true)), Some(both));
        assert_eq!(with(facts(false, "everysec", true)), Some(alone));
        assert_eq!(with(facts(true, "always", true)), Some(alone));
        let held = of(level, &facts(true, "everysec", false));
        assert_eq!(held, Some(Durable { barrier: Some(alone), hold: EVERYSEC_WORST }));
        assert_eq!(of(Durability::Memory, &facts(false, "no", false)), Some(Durable::AT_ONCE));
    }
}
