//! What an entry asks this consumer to do, and doing it once.
//!
//! In: an entry's fields, in any of the three formats. Out: a user's address in a hash and, unless
//! the event is replayed, a mail in a list. It must stay true that effect and memory of the
//! event_id change in one atomic step. Yours goes here; the rest of the example stays as it is.

use std::error::Error;

use redis::{RedisResult, Script};
use serde_json::{Map, Value};

use crate::group::{Fields, Group};

/// How long an event_id is remembered: longer than an entry may stay unacked, or a replay come
/// late.
const REMEMBER_S: u32 = 7 * 24 * 3600;

/// Where the effect is in a database, this is one transaction there, begun by `INSERT INTO seen
/// (event_id) VALUES ($1) ON CONFLICT DO NOTHING`: no row inserted, nothing to do. A script is not
/// rolled back when a command in it fails: the memory comes last.
const APPLY: &str = "
    local before = redis.call('GET', KEYS[1])
    if before == 'whole' or before == ARGV[4] then return 0 end
    if not before then redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) end
    if ARGV[4] == 'whole' then redis.call('RPUSH', KEYS[3], ARGV[1]) end
    redis.call('SET', KEYS[1], ARGV[4], 'EX', ARGV[5])
    return 1";

pub struct Effect {
    event_id: String,
    aggregate_id: String,
    email: String,
    is_replay: bool,
}

impl Effect {
    /// What an entry asks for. Whatever goes wrong here is the event's fault.
    pub fn of(fields: &Fields) -> Result<Self, Box<dyn Error>> {
        let event = event_of(fields)?;
        let text = |name: &str| {
            let value = event.get(name).and_then(Value::as_str).map(str::to_owned);
            value.ok_or_else(|| format!("the entry has no {name}"))
        };
        let email = event.get("payload").and_then(|payload| payload.get("email")?.as_str());
        Ok(Self {
            event_id: text("event_id")?,
            aggregate_id: text("aggregate_id")?,
            email: email.ok_or("the payload has no email")?.to_owned(),
            is_replay: event.get("replayed") == Some(&Value::Bool(true)),
        })
    }

    /// Does it, unless it was done before.
    pub async fn apply(&self, group: &mut Group) -> RedisResult<bool> {
        let script = Script::new(APPLY);
        let mut apply = script.key(group.key(&format!("seen:{}", self.event_id)));
        apply.key(group.key("users")).key(group.key("mails"));
        apply.arg(&self.event_id).arg(&self.aggregate_id).arg(&self.email);
        // A replay rebuilds what is ours and sends no mail. It may come before the event itself,
        // which somebody who died was given: so the memory says how much was done.
        apply.arg(if self.is_replay { "part" } else { "whole" }).arg(REMEMBER_S);
        apply.invoke_async(&mut group.redis).await
    }
}

/// The entry as an object of the format `json`, whichever it came in.
fn event_of(fields: &Fields) -> Result<Map<String, Value>, Box<dyn Error>> {
    let Some(data) = fields.get("data") else {
        // entry_format = fields
        let text = |(name, value): (&String, &String)| (name.clone(), value.as_str().into());
        let mut event: Map<String, Value> = fields.iter().map(text).collect();
        let payload = fields.get("payload").ok_or("the entry has no payload")?;
        event.insert("payload".to_owned(), serde_json::from_str(payload)?);
        let is_replay = fields.get("replayed").is_some_and(|value| value == "true");
        event.insert("replayed".to_owned(), is_replay.into());
        return Ok(event);
    };
    let mut event: Map<String, Value> = serde_json::from_str(data)?;
    if event.contains_key("specversion") {
        // entry_format = cloudevents
        for (theirs, ours) in [("id", "event_id"), ("subject", "aggregate_id"), ("data", "payload")]
        {
            let value = event.remove(theirs).unwrap_or_default();
            event.insert(ours.to_owned(), value);
        }
    }
    Ok(event)
}
