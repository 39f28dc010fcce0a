//! The script calls of the line: take a stream over, tie its checkpoint to a history, publish a
//! batch to it.
//!
//! In: a connection and a sealed batch. Out: what was written, or why nothing was. It must stay
//! true that a reply is classified by `failure.rs` and by nothing else.

use redis::{Cmd, Value};

use super::batch::{Batch, Sealed};
use super::checkpoint::Checkpoint;
use super::connect::Sink;
use super::failure::{Failure, Verdict};
use crate::lsn::Position;

const OPEN: &str = include_str!("open.lua");
const ANCHOR: &str = include_str!("anchor.lua");

/// What one script call did.
#[derive(Clone, Debug)]
pub struct Written {
    /// Entries added.
    pub added: usize,
    /// Events that were in the stream already: repeats after a crash.
    pub present: usize,
    /// Why the event behind those was refused, if one was; the rest of the batch was not tried.
    pub refusal: Option<Failure>,
}

impl Written {
    /// Reads the script's reply.
    pub(crate) fn read(reply: Value) -> Result<Self, Failure> {
        let nonsense =
            || Failure::nonsense("the publish script answered something else than it should");
        let reply = reply.extract_error().map_err(|error| Failure::of(&error))?;
        let Value::Array(values) = reply else { return Err(nonsense()) };
        let mut values = values.into_iter();
        let mut count = || match values.next() {
            Some(Value::Int(count)) => usize::try_from(count).ok(),
            _ => None,
        };
        let (Some(added), Some(present)) = (count(), count()) else { return Err(nonsense()) };
        let refusal = match values.next() {
            None => None,
            Some(Value::BulkString(text)) => {
                Some(Failure::of_entry(&String::from_utf8_lossy(&text)))
            }
            Some(_) => return Err(nonsense()),
        };
        Ok(Self { added, present, refusal })
    }
}

impl Sink {
    /// Takes `stream` over under the next epoch and says where it stands. Fails where the key holds
    /// something that is no stream.
    pub async fn open(
        &self,
        stream: &str,
        checkpoint_key: &str,
        timeline: u32,
    ) -> Result<Checkpoint, Failure> {
        let mut command = redis::cmd("EVAL");
        command.arg(OPEN).arg(2).arg(stream).arg(checkpoint_key).arg(timeline);
        let reply: (String, String, String, String) =
            command.query_async(&mut self.connection()).await.map_err(|e| Failure::of(&e))?;
        let (epoch, position, event_id, timeline) = reply;
        let nonsense = || Failure {
            verdict: Verdict::Definite,
            code: "CHECKPOINT".to_owned(),
            text: format!("the hash {checkpoint_key:?} is no checkpoint of walrelay"),
        };
        Ok(Checkpoint {
            epoch: epoch.parse().map_err(|_| nonsense())?,
            position: match position.as_str() {
                "" => Position::START,
                text => text.parse().map_err(|_| nonsense())?,
            },
            event_id,
            timeline: timeline.parse().ok(),
        })
    }

    /// Writes `timeline` into the checkpoint of `stream`, and `position` where one is given, as the
    /// leader of this `epoch`.
    pub async fn anchor(
        &self,
        (stream, checkpoint_key): (&str, &str),
        epoch: u64,
        timeline: u32,
        position: Option<Position>,
    ) -> Result<(), Failure> {
        let mut command = redis::cmd("EVAL");
        command.arg(ANCHOR).arg(2).arg(stream).arg(checkpoint_key).arg(epoch).arg(timeline);
        command.arg(position.map_or_else(String::new, |position| position.to_string()));
        self.send(&command).await.map(drop)
    }

    /// What the checkpoint says of a stream that could not be taken over; none where there is no
    /// checkpoint, or none that may be read. Its epoch is nobody's.
    pub async fn peek(&self, checkpoint_key: &str) -> Result<Option<Checkpoint>, Failure> {
        let mut command = redis::cmd("HMGET");
        command.arg(checkpoint_key).arg("position").arg("event_id").arg("timeline");
        let read = command.query_async(&mut self.connection()).await;
        let values: [Option<String>; 3] = match read.map_err(|e| Failure::of(&e)) {
            Ok(values) => values,
            Err(failure) if failure.refuses_stream() => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let [position, event_id, timeline] = values;
        Ok(position.and_then(|text| text.parse().ok()).map(|position| Checkpoint {
            epoch: 0,
            position,
            event_id: event_id.unwrap_or_default(),
            timeline: timeline.and_then(|text| text.parse().ok()),
        }))
    }

    /// Publishes a batch: one atomic step on the server. What was not written, or not to its end,
    /// because an event was refused comes back as well.
    pub async fn publish(self, batch: Sealed) -> (Result<Written, Failure>, Option<Batch>) {
        let answer = self.send(&batch.command).await.and_then(Written::read);
        let returned = batch.returned(&answer);
        (answer, returned)
    }

    /// Whether a line ever came up on this checkpoint.
    pub async fn has_checkpoint(&self, checkpoint_key: &str) -> Result<bool, Failure> {
        let mut command = redis::cmd("HMGET");
        command.arg(checkpoint_key).arg("epoch");
        let values: Vec<Option<String>> =
            command.query_async(&mut self.connection()).await.map_err(|e| Failure::of(&e))?;
        Ok(values.iter().any(Option::is_some))
    }

    /// Tries a write that harms nothing, to see whether an outage is over.
    pub async fn probe(&self, checkpoint_key: &str) -> Result<(), Failure> {
        self.touch(checkpoint_key, "probed").await
    }

    /// Writes a field of a hash, to see whether anything can be written.
    pub async fn touch(&self, key: &str, field: &str) -> Result<(), Failure> {
        let mut command = redis::cmd("HSET");
        command.arg(key).arg(field).arg(1);
        self.send(&command).await.map(drop)
    }

    /// How often a line was begun on this checkpoint and got nothing done, this one included if
    /// `is_new`; and what the last ones said before they touched it.
    pub async fn starts(
        &self,
        checkpoint_key: &str,
        is_new: bool,
    ) -> Result<(u64, [Position; 2]), Failure> {
        let mut count = redis::cmd("HINCRBY");
        count.arg(checkpoint_key).arg("starts").arg(u8::from(is_new));
        let starts = count.query_async(&mut self.connection()).await;
        let mut read = redis::cmd("HMGET");
        read.arg(checkpoint_key).arg("trying").arg("tried");
        let starts = starts.map_err(|error| Failure::of(&error))?;
        let said: [Option<String>; 2] =
            read.query_async(&mut self.connection()).await.map_err(|e| Failure::of(&e))?;
        let position = |text: Option<String>| text.and_then(|text| text.parse().ok());
        Ok((starts, said.map(|text| position(text).unwrap_or(Position::START))))
    }

    /// Writes positions into fields of the checkpoint.
    pub async fn note(
        &self,
        checkpoint_key: &str,
        fields: &[(&str, Position)],
    ) -> Result<(), Failure> {
        let mut command = redis::cmd("HSET");
        command.arg(checkpoint_key);
        for (field, position) in fields {
            command.arg(*field).arg(position.to_string());
        }
        self.send(&command).await.map(drop)
    }

    /// The starts so far do not count any more.
    pub async fn clear_starts(&self, checkpoint_key: &str) -> Result<(), Failure> {
        let mut command = redis::cmd("HDEL");
        command.arg(checkpoint_key).arg("starts").arg("trying").arg("tried");
        self.send(&command).await.map(drop)
    }

    /// Asks for a sign of life.
    pub async fn ping(self) -> Result<(), Failure> {
        self.send(&redis::cmd("PING")).await.map(drop)
    }

    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Failure> {
        let sent = self.connection().send_packed_command(command).await;
        let value = sent.map_err(|error| Failure::of(&error))?;
        value.extract_error().map_err(|error| Failure::of(&error))
    }
}
