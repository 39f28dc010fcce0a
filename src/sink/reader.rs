//! A connection that only reads: entries as they arrive, and where streams and checkpoints stand.
//!
//! In: redis_url. Out: [`Entry`]s in the order of their ids. It must stay true that nothing is
//! written from here, so that a user with no more than read rights can use it, and that it is a
//! connection of its own: XREAD blocks it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use secrecy::SecretString;

use super::checkpoint::stream_of;
use super::connect::{Timeouts, connect};
use super::failure::Failure;
use super::stored::{Entry, EntryId, clock_ms, entries, pairs, text};
use crate::lsn::Position;

/// Keys that one SCAN looks at, and how many of those steps: a few milliseconds each, over a
/// million keys at most.
const SCAN_STEP: u32 = 2_000;
const SCANS_MAX: usize = 500;

/// A stream, and how far a slot's line has got in it.
#[derive(Clone, Debug)]
pub struct Reached {
    /// The stream.
    pub stream: String,
    /// What names slot and system in the checkpoint's key.
    pub source: String,
    /// Of the last entry written.
    pub position: Option<Position>,
}

/// A connection for reading.
#[derive(Clone)]
pub struct Reader {
    connection: MultiplexedConnection,
}

impl Reader {
    /// Connects and logs in. `timeouts.reply` must be longer than any [`Self::wait`].
    pub async fn connect(url: &SecretString, timeouts: Timeouts) -> Result<Self, Failure> {
        Ok(Self { connection: connect(url, timeouts).await? })
    }

    async fn send(&self, command: &Cmd) -> Result<Value, Failure> {
        let sent = self.connection.clone().send_packed_command(command).await;
        let value = sent.map_err(|error| Failure::of(&error))?;
        value.extract_error().map_err(|error| Failure::of(&error))
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        command.query_async(&mut self.connection.clone()).await.map_err(|e| Failure::of(&e))
    }

    /// The server's clock, in Unix milliseconds.
    pub async fn millis(&self) -> Result<u64, Failure> {
        self.ask(&redis::cmd("TIME")).await.map(clock_ms)
    }

    /// How many entries a stream has.
    pub async fn len(&self, stream: &str) -> Result<u64, Failure> {
        self.ask(redis::cmd("XLEN").arg(stream)).await
    }

    /// The newest entries up to and with `from`, newest first.
    pub async fn back(
        &self,
        stream: &str,
        from: Option<EntryId>,
        count: usize,
    ) -> Result<Vec<Entry>, Failure> {
        let from = from.map_or_else(|| "+".to_owned(), |id| id.to_string());
        let mut command = redis::cmd("XREVRANGE");
        command.arg(stream).arg(from).arg("-").arg("COUNT").arg(count);
        entries(self.send(&command).await?)
    }

    /// The last id that a stream has given out, whether or not that entry is still there; the start
    /// where there is no stream. A user who may not ask that is told the newest entry's.
    pub async fn last_id(&self, stream: &str) -> Result<EntryId, Failure> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(stream);
        match self.send(&command).await {
            Ok(reply) => {
                let found = pairs(reply)?.into_iter().find(
                    |(name, _)| matches!(text(name), Ok(name) if name == "last-generated-id"),
                );
                let missing = || Failure::nonsense("XINFO STREAM names no last id");
                text(&found.ok_or_else(missing)?.1)?.parse()
            }
            Err(failure) if failure.code == "ERR" || failure.code == "NOPERM" => {
                let newest = self.back(stream, None, 1).await?;
                Ok(newest.first().map_or(EntryId::START, |entry| entry.id))
            }
            Err(failure) => Err(failure),
        }
    }

    /// What comes behind these places, `count` entries of each stream at most; waits up to `block`
    /// for the first. None when nothing came.
    pub async fn wait(
        &self,
        places: &[(String, EntryId)],
        count: usize,
        block: Duration,
    ) -> Result<Vec<(String, Vec<Entry>)>, Failure> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(count).arg("BLOCK").arg(block.as_millis().max(1).to_string());
        command.arg("STREAMS");
        for (stream, _) in places {
            command.arg(stream);
        }
        for (_, id) in places {
            command.arg(id.to_string());
        }
        let reply = self.send(&command).await?;
        if reply == Value::Nil {
            return Ok(Vec::new());
        }
        let of_stream = |(stream, found)| Ok((text(&stream)?, entries(found)?));
        pairs(reply)?.into_iter().map(of_stream).collect()
    }

    /// The checkpoints of all slots of one PostgreSQL system, as far as they are found in a bounded
    /// look through the keys; none where this user may not look.
    pub async fn checkpoints(&self, system: &str) -> Result<Vec<Reached>, Failure> {
        let (mut cursor, mut reached) = ("0".to_owned(), Vec::new());
        for _ in 0..SCANS_MAX {
            let mut command = redis::cmd("SCAN");
            command.arg(&cursor).arg("MATCH").arg(format!("walrelay:*@{system}"));
            command.arg("COUNT").arg(SCAN_STEP);
            let (next, keys): (String, Vec<String>) = match self.ask(&command).await {
                Ok(found) => found,
                Err(failure) if failure.code == "NOPERM" => return Ok(reached),
                Err(failure) => return Err(failure),
            };
            for key in keys {
                let Some((_, source)) = key.rsplit_once(':') else { continue };
                let Some(stream) = stream_of(&key, source) else { continue };
                let source = source.to_owned();
                let position = self.position(&key).await?;
                reached.push(Reached { stream, source, position });
            }
            if next == "0" {
                break;
            }
            cursor = next;
        }
        reached.sort_by(|a, b| (&a.stream, &a.source).cmp(&(&b.stream, &b.source)));
        reached.dedup_by(|a, b| (&a.stream, &a.source) == (&b.stream, &b.source));
        Ok(reached)
    }

    /// Where a checkpoint stands; `None` where there is none, or none that may be read.
    pub async fn position(&self, checkpoint_key: &str) -> Result<Option<Position>, Failure> {
        let mut command = redis::cmd("HGET");
        match self.ask::<Option<String>>(command.arg(checkpoint_key).arg("position")).await {
            Ok(position) => Ok(position.and_then(|text| text.parse().ok())),
            Err(failure) if failure.is_of_the_stream() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// `Redis 7.0.15`, where the server tells.
    pub async fn version(&self) -> Result<String, Failure> {
        let info: String = match self.ask(redis::cmd("INFO").arg("server")).await {
            Ok(info) => info,
            Err(failure) if failure.code == "NOPERM" => return Ok("Redis".to_owned()),
            Err(failure) => return Err(failure),
        };
        let find = |name| info.lines().find_map(|line| line.trim_end().strip_prefix(name));
        Ok(match (find("valkey_version:"), find("redis_version:")) {
            (Some(version), _) => format!("Valkey {version}"),
            (None, Some(version)) => format!("Redis {version}"),
            (None, None) => "Redis".to_owned(),
        })
    }
}
