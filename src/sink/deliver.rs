//! The script calls of the pollers: publish what was claimed, write dead letters, forget what is
//! settled.
//!
//! In: sealed batches and dead letters, each with the end of its claim. Out: what was written. It
//! must stay true that nothing is written after its claim has ended, and that what is written is
//! remembered beside the stream in the same step, so that a row that is claimed twice becomes one
//! entry.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::batch::Sealed;
use super::connect::{Sink, load};
use super::failure::Failure;
use super::publish::Written;
use super::stored::clock_ms;

const DELIVER: &str = concat!(include_str!("entry.lua"), include_str!("deliver.lua"));
const BURY: &str = include_str!("bury.lua");

/// How long after it began a claim may be written, by the clock of Redis. A poller that is frozen
/// for longer comes too late; what it wrote in time is remembered for longer than this.
pub const LEASE: Duration = Duration::from_secs(10);

/// A dead letter: the entry of an event that is given up.
#[derive(Debug)]
pub struct DeadLetter<'a> {
    /// The stream for it.
    pub stream: &'a str,
    /// The stream's hash of what was delivered.
    pub delivered_key: &'a str,
    /// One death, one name: `event_id:next_attempt_at`.
    pub death: &'a str,
    /// Names and values of the entry.
    pub fields: &'a [(&'static str, &'a [u8])],
}

/// A connection with the scripts of the pollers.
#[derive(Clone)]
pub struct Delivery {
    sink: Sink,
    deliver_sha: Arc<str>,
}

impl Delivery {
    /// Loads the script over a connection that the caller keeps too.
    pub async fn load(sink: Sink) -> Result<Self, Failure> {
        let deliver_sha = load(&mut sink.connection(), DELIVER).await?;
        Ok(Self { sink, deliver_sha })
    }

    /// The hash that names the script, for [`super::Batch::new`].
    #[must_use]
    pub fn sha(&self) -> &str {
        &self.deliver_sha
    }

    /// The end of a claim that begins now: milliseconds of the server's clock. To be asked before
    /// the rows are claimed.
    pub async fn deadline(&self) -> Result<u64, Failure> {
        let clock = redis::cmd("TIME")
            .query_async(&mut self.sink.connection())
            .await
            .map_err(|error| Failure::of(&error))?;
        Ok(lease_end(clock))
    }

    /// The same, and how often a delivery of this name was begun and not answered, this one
    /// included. The count outlives the process; [`Delivery::forget`] takes it away.
    pub async fn begin(&self, begun_key: &str, name: &str) -> Result<(u64, u64), Failure> {
        let mut pipe = redis::pipe();
        pipe.cmd("TIME").cmd("HINCRBY").arg(begun_key).arg(name).arg(1);
        let (clock, times): ((u64, u64), u64) = pipe
            .query_async(&mut self.sink.connection())
            .await
            .map_err(|error| Failure::of(&error))?;
        Ok((lease_end(clock), times))
    }

    /// A delivery of this name was begun, and it was not the end of the process that kept it from
    /// being answered: that does not count.
    pub async fn give_back(&self, begun_key: &str, name: &str) -> Result<(), Failure> {
        let mut command = redis::cmd("HINCRBY");
        command.arg(begun_key).arg(name).arg(-1);
        let Value::Int(left) = self.sink.send(&command).await? else {
            return Err(Failure::nonsense("HINCRBY answered no number"));
        };
        if left > 0 { Ok(()) } else { self.forget(begun_key, &[name.to_owned()]).await }
    }

    /// Publishes a batch of claimed events that was ended by [`super::Batch::seal_claimed`].
    pub async fn deliver(&self, batch: &Sealed) -> Result<Written, Failure> {
        Written::read(self.sink.send(&batch.command).await?)
    }

    /// Writes a dead letter; false when this death is in the stream already.
    pub async fn bury(&self, letter: &DeadLetter<'_>, deadline: u64) -> Result<bool, Failure> {
        let mut command = redis::cmd("EVAL");
        command.arg(BURY).arg(2).arg(letter.stream).arg(letter.delivered_key);
        command.arg(letter.death).arg(deadline);
        for (name, value) in letter.fields {
            command.arg(name).arg(value);
        }
        let Value::Int(added) = self.sink.send(&command).await? else {
            return Err(Failure::nonsense("the script of dead letters answered no number"));
        };
        Ok(added == 1)
    }

    /// Forgets what is settled for longer than [`LEASE`]: ids of events, names of deaths.
    pub async fn forget(&self, delivered_key: &str, names: &[String]) -> Result<(), Failure> {
        if names.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("HDEL");
        command.arg(delivered_key).arg(names);
        self.sink.send(&command).await.map(drop)
    }

    /// Whether that name is remembered: the event, or the dead letter, is in its stream.
    pub async fn knows(&self, delivered_key: &str, name: &str) -> Result<bool, Failure> {
        let mut command = redis::cmd("HGET");
        command.arg(delivered_key).arg(name);
        Ok(self.sink.send(&command).await? != Value::Nil)
    }

    /// Some of what is remembered: the cursor to go on with (0: that was all), and names.
    pub async fn remembered(
        &self,
        delivered_key: &str,
        cursor: u64,
    ) -> Result<(u64, Vec<String>), Failure> {
        let mut command = redis::cmd("HSCAN");
        command.arg(delivered_key).arg(cursor).arg("COUNT").arg(1_000);
        let (next, pairs): (u64, Vec<(String, String)>) = command
            .query_async(&mut self.sink.connection())
            .await
            .map_err(|error| Failure::of(&error))?;
        Ok((next, pairs.into_iter().map(|(name, _)| name).collect()))
    }
}

/// By the seconds and microseconds that TIME answers, in milliseconds.
fn lease_end(clock: (u64, u64)) -> u64 {
    let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
    clock_ms(clock).saturating_add(lease)
}
