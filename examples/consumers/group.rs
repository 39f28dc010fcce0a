//! One consumer of a group, as Redis knows it.
//!
//! In: names. Out: entries, and what became of them. It must stay true that an entry leaves the
//! group's pending list only when it is acked or in the dead stream. Not here: when either is due.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Script, Value, cmd, from_redis_value_ref};

/// Names and values of an entry.
pub type Fields = HashMap<String, String>;
/// Entries with their ids.
pub type Entries = Vec<(String, Fields)>;

/// Entries read or claimed at once: what a stop has to finish, and what a death leaves to others.
const BATCH: usize = 16;

/// XADD first: where that fails the script ends, and the entry stays pending. MULTI would ack it
/// all the same. XPENDING: what somebody else has settled meanwhile does not die a second time.
const BURY: &str = "
    if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
    redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
    return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])";

pub struct Group {
    pub redis: MultiplexedConnection,
    pub stream: String,
    pub name: String,
    /// A name that stays over restarts: each new one stays in the group for ever.
    pub consumer: String,
    pub cursor: String,
}

impl Group {
    /// From 0: all that the stream has. MKSTREAM: the relay's first entry may be yet to come.
    pub async fn join(&mut self) -> RedisResult<()> {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&self.stream).arg(&self.name).arg("0").arg("MKSTREAM");
        match create.exec_async(&mut self.redis).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            other => other,
        }
    }

    /// A key of this group: the effects of one are none of another's business.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{}.{name}", self.stream, self.name)
    }

    /// Takes over entries that nobody has acked for so long, a few at a time.
    pub async fn claim(&mut self, idle_ms: u64) -> RedisResult<Entries> {
        let mut claim = self.about("XAUTOCLAIM");
        claim.arg(&self.consumer).arg(idle_ms).arg(&self.cursor).arg("COUNT").arg(BATCH);
        let reply: Vec<Value> = claim.query_async(&mut self.redis).await?;
        // Redis 7 adds a third part; 6.2 has nil for what was trimmed while it was pending.
        let mut parts = reply.iter();
        self.cursor = from_redis_value_ref(parts.next().unwrap_or(&Value::Nil))?;
        let entries = parts.next().unwrap_or(&Value::Nil);
        let entries: Vec<Option<(String, Fields)>> = from_redis_value_ref(entries)?;
        Ok(entries.into_iter().flatten().collect())
    }

    /// How often an entry was delivered; `None` where it is not ours any more.
    pub async fn deliveries(&mut self, id: &str) -> RedisResult<Option<u64>> {
        let mut pending = self.about("XPENDING");
        pending.arg(id).arg(id).arg(1).arg(&self.consumer);
        let pending: Vec<(String, String, u64, u64)> = pending.query_async(&mut self.redis).await?;
        Ok(pending.first().map(|(_, _, _, deliveries)| *deliveries))
    }

    /// Waits so long for entries that nobody of the group was given yet.
    pub async fn read(&mut self, block_ms: u64) -> RedisResult<Entries> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.name).arg(&self.consumer).arg("COUNT").arg(BATCH);
        read.arg("BLOCK").arg(block_ms).arg("STREAMS").arg(&self.stream).arg(">");
        let new: Option<Vec<(String, Entries)>> = read.query_async(&mut self.redis).await?;
        Ok(new.into_iter().flatten().flat_map(|(_, entries)| entries).collect())
    }

    /// It is done, or was done before.
    pub async fn ack(&mut self, id: &str) -> RedisResult<()> {
        self.about("XACK").arg(id).exec_async(&mut self.redis).await
    }

    /// Moves an entry to the dead stream, with what was wrong.
    pub async fn bury(&mut self, id: &str, fields: &Fields, told: [&str; 2]) -> RedisResult<()> {
        let (script, [error, attempts]) = (Script::new(BURY), told);
        let mut bury = script.key(&self.stream);
        bury.key(self.key("dead")).arg(&self.name).arg(id);
        for (name, value) in fields {
            bury.arg(name).arg(value);
        }
        bury.arg("entry_id").arg(id).arg("error_message").arg(error);
        bury.arg("attempts").arg(attempts).invoke_async(&mut self.redis).await
    }

    fn about(&self, command: &str) -> Cmd {
        let mut built = cmd(command);
        built.arg(&self.stream).arg(&self.name);
        built
    }
}
