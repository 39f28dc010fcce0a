//! The calls of a replay: publish a batch beside the line, keep its journal, read dead letters.
//!
//! In: a connection, sealed batches. Out: what was written. It must stay true that entries and
//! their journal change in one atomic step (`replay.lua`), so that a replay that was cut off goes
//! on without a gap and without a repeat, and that no key of the line is touched.

use std::sync::Arc;

use super::batch::Sealed;
use super::connect::{Sink, load};
use super::failure::{Failure, Verdict};
use super::publish::Written;

const REPLAY: &str = concat!(include_str!("entry.lua"), include_str!("replay.lua"));

/// What is kept of a replay as a whole, by name; a field that is absent is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `running` or `finished`; empty where there was none.
    pub state: String,
    /// Which run of this replay it is: each has journals of its own.
    pub run: u64,
    /// Where its range begins and ends, as its source says it.
    pub from: String,
    /// The end.
    pub until: String,
    /// Everything up to this position is in its streams.
    pub done: String,
    /// So many events.
    pub events: u64,
    /// When it was begun.
    pub began: String,
    /// What is before that position and could not become an event.
    pub unfit: u64,
}

const HEAD: [&str; 8] = ["state", "run", "from", "until", "done", "events", "began", "unfit"];

/// An entry of a dead letter stream.
#[derive(Clone, Debug, Default)]
pub struct Letter {
    /// The entry's id, in milliseconds and its number.
    pub id: (u64, u64),
    /// The event that died.
    pub event_id: Vec<u8>,
    /// Of this type.
    pub event_type: Vec<u8>,
    /// On its way to this stream.
    pub topic: Vec<u8>,
    /// Of this aggregate.
    pub aggregate_id: Vec<u8>,
    /// Empty where it was too large.
    pub payload: Vec<u8>,
    /// When the event happened.
    pub created_at: Vec<u8>,
}

impl Letter {
    /// From id and fields as Redis has them; `None` where that is no dead letter.
    fn read(id: &str, fields: Vec<Vec<u8>>) -> Option<Self> {
        let (millis, number) = id.split_once('-')?;
        let id = (millis.parse().ok()?, number.parse().ok()?);
        let mut letter = Self { id, ..Self::default() };
        let mut values = fields.into_iter();
        while let (Some(name), Some(value)) = (values.next(), values.next()) {
            let place = match name.as_slice() {
                b"original_event_id" => &mut letter.event_id,
                b"event_type" => &mut letter.event_type,
                b"topic" => &mut letter.topic,
                b"aggregate_id" => &mut letter.aggregate_id,
                b"payload" => &mut letter.payload,
                b"created_at" => &mut letter.created_at,
                _ => continue,
            };
            *place = value;
        }
        (!letter.event_id.is_empty()).then_some(letter)
    }
}

/// Some entries of a dead letter stream.
#[derive(Debug, Default)]
pub struct Letters {
    /// The dead letters among them.
    pub dead: Vec<Letter>,
    /// How many entries were read, and the id of the last one.
    pub read: usize,
    /// To go on behind.
    pub last: Option<String>,
    /// Bytes of the largest entry.
    pub largest: usize,
}

/// A connection with the script of replays.
#[derive(Clone)]
pub struct Replayer {
    sink: Sink,
    sha: Arc<str>,
}

impl Replayer {
    /// Loads the script.
    pub async fn load(sink: Sink) -> Result<Self, Failure> {
        let sha = load(&mut sink.connection(), REPLAY).await?;
        Ok(Self { sink, sha })
    }

    /// The hash that names the script, for [`super::Batch::new`].
    #[must_use]
    pub fn sha(&self) -> &str {
        &self.sha
    }

    /// Publishes a batch that was ended by [`super::Batch::seal_replayed`].
    pub async fn publish(&self, batch: &Sealed) -> Result<Written, Failure> {
        Written::read(self.sink.send(&batch.command).await?)
    }

    /// What is known of a replay.
    pub async fn head(&self, key: &str) -> Result<Head, Failure> {
        let mut command = redis::cmd("HMGET");
        command.arg(key).arg(&HEAD);
        let read = command.query_async(&mut self.sink.connection()).await;
        let values: [Option<String>; HEAD.len()] = read.map_err(|e| Failure::of(&e))?;
        let [state, run, from, until, done, events, began, unfit] =
            values.map(Option::unwrap_or_default);
        let count = |text: String| text.parse().unwrap_or(0);
        let (run, events, unfit) = (count(run), count(events), count(unfit));
        Ok(Head { state, run, from, until, done, events, began, unfit })
    }

    /// Keeps it for so many seconds from now on.
    pub async fn keep_head(&self, key: &str, head: &Head, seconds: u64) -> Result<(), Failure> {
        let Head { state, from, until, done, began, .. } = head;
        let [run, events, unfit] = [head.run, head.events, head.unfit].map(|n| n.to_string());
        let values = [state, &run, from, until, done, &events, began, &unfit];
        let mut pipe = redis::pipe();
        pipe.cmd("HSET").arg(key);
        for (name, value) in HEAD.into_iter().zip(values) {
            pipe.arg(name).arg(value);
        }
        pipe.cmd("EXPIRE").arg(key).arg(seconds);
        let kept: redis::RedisResult<redis::Value> =
            pipe.query_async(&mut self.sink.connection()).await;
        kept.map(drop).map_err(|error| Failure::of(&error))
    }

    /// At most `count` entries of a dead letter stream from the id `from` on, up to `until`; an id
    /// behind `(` is left out itself.
    pub async fn letters(
        &self,
        stream: &str,
        (from, until): (&str, &str),
        count: usize,
    ) -> Result<Letters, Failure> {
        let mut command = redis::cmd("XRANGE");
        command.arg(stream).arg(from).arg(until).arg("COUNT").arg(count);
        let entries: Vec<(String, Vec<Vec<u8>>)> = command
            .query_async(&mut self.sink.connection())
            .await
            .map_err(|error| of_stream(&error))?;
        let mut letters = Letters { read: entries.len(), ..Letters::default() };
        for (id, fields) in entries {
            letters.largest = letters.largest.max(fields.iter().map(Vec::len).sum());
            letters.dead.extend(Letter::read(&id, fields));
            letters.last = Some(id);
        }
        Ok(letters)
    }
}

/// A key that is no stream, or not ours to read, stays so until somebody changes it.
fn of_stream(error: &redis::RedisError) -> Failure {
    let mut failure = Failure::of(error);
    if failure.verdict == Verdict::Rejected {
        failure.verdict = Verdict::Definite;
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_letter_by_its_event() {
        let fields = |pairs: &[(&str, &str)]| -> Vec<Vec<u8>> {
            let values = pairs.iter().flat_map(|(name, value)| [*name, *value]);
            values.map(|text| text.as_bytes().to_vec()).collect()
        };
        let letter = [("original_event_id", "e"), ("other", "x"), ("payload", "{}")];
        let letter = Letter::read("17-3", fields(&letter)).unwrap();
        assert_eq!((letter.id, letter.event_id.as_slice()), ((17, 3), &b"e"[..]));
        assert_eq!((letter.payload.as_slice(), letter.topic.is_empty()), (&b"{}"[..], true));
        assert!(Letter::read("17-3", fields(&[("payload", "{}")])).is_none());
        assert!(Letter::read("17", fields(&[("original_event_id", "e")])).is_none());
    }
}
