//! Streams read for comparison: pages of entries, single ones, and what the server knows of a
//! stream as a whole.
//!
//! In: a stream's name. Out: entries as they are. It must stay true that nothing is written, that a
//! page is bounded, and that it shrinks where entries are large: a page must not fill the server's
//! memory or ours.

use redis::Value;

use super::connect::Sink;
use super::failure::Failure;
use super::page::PageSize;
use super::stored::{Entry, EntryId, clock_ms, entries, entry, pairs, text};

/// What the server knows of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The oldest entry, where there is one.
    pub first: Option<EntryId>,
    /// How many entries are gone that were added to this key: by trimming or one by one. Told from
    /// Redis 7.0 on.
    pub removed: Option<u64>,
    /// The newest entry that was deleted one by one, not by trimming. Told from Redis 7.0 on.
    pub deleted: Option<EntryId>,
}

/// Reads one stream from an entry on, to what is the last one when it begins (a stream may grow
/// faster than it is read), or to a moment.
pub struct Scan<'a> {
    sink: &'a Sink,
    stream: &'a str,
    next: Option<EntryId>,
    until: EntryId,
    last: Option<EntryId>,
    page: PageSize,
}

impl<'a> Scan<'a> {
    /// From the first entry of that millisecond.
    #[must_use]
    pub fn new(sink: &'a Sink, stream: &'a str, from_ms: u64) -> Self {
        let next = Some(EntryId { millis: from_ms, number: 0 });
        let until = EntryId { millis: u64::MAX, number: u64::MAX };
        Self { sink, stream, next, until, last: None, page: PageSize::default() }
    }

    /// From the first entry of all to the last before that millisecond.
    #[must_use]
    pub fn before(sink: &'a Sink, stream: &'a str, until_ms: u64) -> Self {
        Self { until: EntryId::before(until_ms), ..Self::new(sink, stream, 0) }
    }

    /// The newest entry. Clocks may go back, ids never do: time would be no end.
    async fn newest(&self) -> Result<Option<EntryId>, Failure> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(self.stream).arg("+").arg("-").arg("COUNT").arg(1);
        match self.sink.send(&command).await {
            Ok(reply) => Ok(entries(reply)?.pop().map(|entry| entry.id)),
            Err(failure) if failure.code == "WRONGTYPE" => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The next page; an empty one is the end. A key that is no stream has no entries.
    pub async fn page(&mut self) -> Result<Vec<Entry>, Failure> {
        let Some(from) = self.next else { return Ok(Vec::new()) };
        if self.last.is_none() {
            self.last = self.newest().await?.map(|newest| newest.min(self.until));
        }
        let Some(last) = self.last.filter(|last| from <= *last) else { return Ok(Vec::new()) };
        let mut command = redis::cmd("XRANGE");
        command.arg(self.stream).arg(from.to_string()).arg(last.to_string());
        command.arg("COUNT").arg(self.page.count());
        let entries = entries(self.sink.send(&command).await?)?;
        self.next = entries.last().filter(|entry| entry.id < last).map(|entry| entry.id.next());
        self.page.learn(entries.iter().map(Entry::bytes).max().unwrap_or(0));
        Ok(entries)
    }
}

impl Sink {
    /// Milliseconds of the server's clock: what it adds from now on has no lower id.
    pub async fn clock_ms(&self) -> Result<u64, Failure> {
        let clock = redis::cmd("TIME").query_async(&mut self.connection()).await;
        clock.map(clock_ms).map_err(|error| Failure::of(&error))
    }

    /// Those entries of streams; none for one that is not there.
    pub async fn entries(&self, wanted: &[(&str, EntryId)]) -> Result<Vec<Option<Entry>>, Failure> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for (stream, id) in wanted {
            let id = id.to_string();
            pipe.cmd("XRANGE").arg(*stream).arg(&id).arg(&id);
        }
        let replies: Result<Vec<Value>, _> = pipe.query_async(&mut self.connection()).await;
        let replies = replies.map_err(|error| Failure::of(&error))?;
        replies.into_iter().map(|reply| Ok(entries(reply)?.pop())).collect()
    }

    /// What the server knows of a stream; nothing where there is none.
    pub async fn about(&self, stream: &str) -> Result<Option<About>, Failure> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(stream);
        match self.send(&command).await {
            Ok(reply) => Ok(Some(about(reply))),
            Err(failure) if failure.text.contains("no such key") => Ok(None),
            Err(failure) if failure.code == "WRONGTYPE" => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// What is not told stays unknown.
fn about(reply: Value) -> About {
    let (mut about, mut length, mut added) = (About::default(), None, None);
    for (name, value) in pairs(reply).unwrap_or_default() {
        let Ok(name) = text(&name) else { continue };
        match (name.as_str(), value) {
            ("length", Value::Int(count)) => length = u64::try_from(count).ok(),
            ("entries-added", Value::Int(count)) => added = u64::try_from(count).ok(),
            ("first-entry", value) => about.first = entry(value).ok().map(|entry| entry.id),
            ("max-deleted-entry-id", Value::BulkString(id)) => {
                let id = String::from_utf8(id).ok().and_then(|id| id.parse().ok());
                about.deleted = id.filter(|id| *id != EntryId::default());
            }
            _ => {}
        }
    }
    about.removed = added.zip(length).map(|(added, length)| added.saturating_sub(length));
    about
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn what_the_server_tells_of_a_stream_is_read_and_the_rest_is_unknown() {
        let first = Value::Array(vec![bulk("7-1"), Value::Array(vec![bulk("a"), bulk("b")])]);
        let mut values = vec![bulk("length"), Value::Int(3), bulk("first-entry"), first];
        let id = Some(EntryId { millis: 7, number: 1 });
        assert_eq!(
            about(Value::Array(values.clone())),
            About { first: id, removed: None, deleted: None }
        );
        values.extend([bulk("entries-added"), Value::Int(10)]);
        values.extend([bulk("max-deleted-entry-id"), bulk("0-0")]);
        assert_eq!(
            about(Value::Array(values)),
            About { first: id, removed: Some(7), deleted: None }
        );
        assert_eq!(about(Value::Nil), About::default());
    }
}
