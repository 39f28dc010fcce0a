//! The keys in Redis: streams, dead letters, checkpoints. Are they what they must be, and do the
//! checkpoints speak of this PostgreSQL?
//!
//! In: names, and what the keys hold. Out: findings. It must stay true that a checkpoint is judged
//! as the line judges it (`relay::History`), by an end of the WAL that was read after it: else a
//! relay at work would seem to be ahead of its server.

use super::finding::{Finding, bytes_text, on_postgres, on_redis};
use super::postgres::{Known, Replica};
use super::redis::visible;
use crate::config::Settings;
use crate::relay::{History, Judgement};
use crate::sink::{self, Checkpoint, Failure, Sink};

/// Behind a checkpoint's key stands what belongs to it.
const SUFFIXES: [&str; 3] = [":watermark", ":delivered", ":begun"];
/// Foreign checkpoints, named one by one.
const NAMED_MAX: usize = 3;

/// A key that the relay writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub name: String,
    /// `stream` or `hash`.
    pub holds: &'static str,
    pub is_dead_letters: bool,
    /// The slot whose checkpoint it is.
    pub slot: Option<String>,
}

/// The keys of these settings; `topics` are streams that rows name.
pub(super) fn all(settings: &Settings, topics: &[String], known: Option<&Known>) -> Vec<Key> {
    let mut streams = vec![settings.stream_name.clone()];
    streams.extend(topics.iter().filter(|topic| **topic != settings.stream_name).cloned());
    let key = |name: String, holds| Key { name, holds, is_dead_letters: false, slot: None };
    let mut keys: Vec<Key> = streams.iter().map(|name| key(name.clone(), "stream")).collect();
    let letters = match &settings.dlq_stream_name {
        Some(one) => vec![one.clone()],
        None => streams.iter().map(|stream| format!("{stream}.dlq")).collect(),
    };
    let letters = letters.into_iter().map(|name| key(name, "stream"));
    keys.extend(letters.map(|key| Key { is_dead_letters: true, ..key }));
    let system_id = known.and_then(Known::system_id).unwrap_or("SYSTEM");
    let slots = settings.shards.here().map(|shard| shard.name(&settings.slot_base));
    for slot in slots.collect::<Vec<_>>() {
        for stream in &streams {
            let name = sink::checkpoint_key(stream, &format!("{slot}@{system_id}"));
            keys.push(Key { slot: Some(slot.clone()), ..key(name, "hash") });
        }
    }
    keys
}

/// What each key holds, where the user may ask.
pub(super) async fn types(sink: &Sink, keys: &[Key]) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for key in keys {
        let Some(holds) = visible(sink.type_of(&key.name).await)? else { continue };
        // A checkpoint as it should be is told with what it says.
        if key.slot.is_none() || (holds != key.holds && holds != "none") {
            findings.push(judge_type(key, &holds));
        }
    }
    Ok(findings)
}

fn judge_type(key: &Key, holds: &str) -> Finding {
    let what = if key.slot.is_some() {
        "checkpoint"
    } else if key.is_dead_letters {
        "dead letter stream"
    } else {
        "stream"
    };
    let subject = on_redis(format!("{what} {}", key.name));
    if holds == "none" {
        return subject.ok("not there yet");
    }
    if holds == key.holds {
        return subject.ok("a stream");
    }
    let why = match what {
        "checkpoint" => "the relay cannot tell what the stream has: its line does not come up",
        "stream" => "every event for it is refused, parked, and in the end a dead letter",
        _ => "nothing is ever marked dead: dead letters wait for it",
    };
    let fix = format!("RENAME {} {}.{holds}", key.name, key.name);
    subject.failure(format!("holds a {holds}"), why, fix)
}

/// What the checkpoints say, against what PostgreSQL says afterwards.
pub(super) async fn checkpoints(
    sink: &Sink,
    keys: &[Key],
    known: &mut Known,
) -> Result<Vec<Finding>, Failure> {
    let mut read: Vec<(&Key, Checkpoint)> = Vec::new();
    for key in keys.iter().filter(|key| key.slot.is_some()) {
        if let Some(Some(checkpoint)) = visible(sink.peek(&key.name).await)? {
            read.push((key, checkpoint));
        }
    }
    let Some(replica) = known.replica.as_mut() else { return Ok(Vec::new()) };
    if read.is_empty() {
        let subject = on_redis("checkpoints");
        return Ok(vec![subject.ok("none yet of this slot and this PostgreSQL")]);
    }
    // Afterwards: see above.
    if let Err(error) = replica.look_again().await {
        let why = "the checkpoints cannot be compared with it";
        let fix = "walrelay check   # again";
        return Ok(vec![on_postgres("end of the WAL").failure(error.to_string(), why, fix)]);
    }
    let judged = read.iter().map(|(key, checkpoint)| {
        let slot = key.slot.as_deref().unwrap_or_default();
        let confirmed = known.slots.iter().find(|(name, _)| name == slot);
        judge(&key.name, checkpoint, &replica.history(confirmed.map(|(_, at)| *at)))
    });
    Ok(judged.collect())
}

fn judge(key: &str, checkpoint: &Checkpoint, history: &History) -> Finding {
    let subject = on_redis(format!("checkpoint {key}"));
    let at = checkpoint.position.commit_lsn;
    match history.judge(checkpoint) {
        Judgement::Keep | Judgement::Meet => {
            let ahead = at.bytes_since(history.confirmed);
            let behind = history.confirmed.bytes_since(at);
            subject.ok(if ahead > 0 {
                format!("at {at}, {} ahead of the slot", bytes(ahead))
            } else {
                format!("at {at}, {} behind the slot", bytes(behind))
            })
        }
        Judgement::Lower { to, why } => subject.warning(
            format!("at {at}, of another history: {why}"),
            "PostgreSQL went back in time and uses positions again. The relay notices at its \
             start, lowers the checkpoint as below and publishes what the slot sends: some events \
             may come twice",
            format!("HSET {key} position {to} event_id \"\""),
        ),
    }
}

fn bytes(count: u64) -> String {
    u32::try_from(count).map_or_else(
        |_| bytes_text(f64::from(u32::try_from(count >> 10).unwrap_or(u32::MAX)) * 1_024.0),
        |count| bytes_text(f64::from(count)),
    )
}

/// Checkpoints of other slots or other PostgreSQLs beside the default stream.
pub(super) async fn strangers(
    sink: &Sink,
    settings: &Settings,
    keys: &[Key],
) -> Result<Option<Finding>, Failure> {
    let escaped: String = settings.stream_name.chars().fold(String::new(), |mut text, letter| {
        if "*?[]\\^".contains(letter) {
            text.push('\\');
        }
        text.push(letter);
        text
    });
    let pattern = sink::checkpoint_key(&escaped, "*");
    let subject = on_redis(format!("other checkpoints of {}", settings.stream_name));
    let Some((found, is_all)) = visible(sink.keys(&pattern).await)? else {
        return Ok(Some(subject.ok("not looked for: that takes +scan")));
    };
    let is_ours = |key: &String| {
        SUFFIXES.iter().any(|suffix| key.ends_with(suffix))
            || keys.iter().any(|ours| ours.name == *key)
    };
    let mut others: Vec<String> = found.into_iter().filter(|key| !is_ours(key)).collect();
    others.sort_unstable();
    let more = if is_all { "" } else { " among the keys looked at" };
    if others.is_empty() {
        return Ok(Some(subject.ok(format!("none{more}"))));
    }
    let count = others.len();
    others.truncate(NAMED_MAX);
    let found = format!(
        "{count}{more}, of other slots, tables or servers, such as {}; they count for nothing here",
        others.join(", ")
    );
    Ok(Some(subject.ok(found)))
}

/// The end of a look at PostgreSQL's history.
impl Replica {
    fn history(&self, confirmed: Option<crate::lsn::Lsn>) -> History {
        History {
            timeline: self.standing.timeline,
            forks: self.forks.clone(),
            wal_end: self.standing.wal_end,
            confirmed: confirmed.unwrap_or(crate::lsn::Lsn::NONE),
        }
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
