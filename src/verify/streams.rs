//! The side of Redis: the streams of the range, by number, and their entries.
//!
//! In: names, a connection. Out: what each stream is, and its entries, page by page. It must stay
//! true that a stream is known by one number for the whole search.

use std::collections::HashMap;

use super::trimmed::Head;
use crate::error::{Error, Result};
use crate::sink::{Entry, EntryId, Failure, Sink};

/// Streams of one search: a name is 512 bytes at most.
const STREAMS_MAX: usize = 65_536;

/// The streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    numbers: HashMap<String, u32>,
    all: Vec<Stream>,
    /// Only those that were there from the beginning.
    is_closed: bool,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub name: String,
    /// What trimming could explain.
    pub head: Head,
    /// The oldest entry whose row is known and was not retried.
    pub oldest: Option<(EntryId, i64)>,
}

impl Streams {
    /// Those that somebody named, or, without any, all that rows name, and the default one.
    pub fn new(named: &[String], default: &str) -> Result<Self> {
        let mut streams = Self::default();
        if named.is_empty() {
            streams.number(default)?;
            return Ok(streams);
        }
        for name in named {
            streams.number(name)?;
        }
        streams.is_closed = true;
        Ok(streams)
    }

    /// The number of a stream; none where it does not belong to the range.
    pub fn number(&mut self, name: &str) -> Result<Option<u32>> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(Some(*number));
        }
        if self.is_closed {
            return Ok(None);
        }
        if self.all.len() >= STREAMS_MAX {
            return Err(Error::definite(format!("over {STREAMS_MAX} streams at once"))
                .hint("name some by --stream"));
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.numbers.insert(name.to_owned(), number);
        self.all.push(Stream { name: name.to_owned(), ..Stream::default() });
        Ok(Some(number))
    }

    pub fn get(&self, number: u32) -> Option<&Stream> {
        self.all.get(usize::try_from(number).ok()?)
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Stream> {
        self.all.get_mut(usize::try_from(number).ok()?)
    }

    pub fn name(&self, number: u32) -> &str {
        self.get(number).map_or("", |stream| &stream.name)
    }

    pub fn names(&self) -> Vec<String> {
        self.all.iter().map(|stream| stream.name.clone()).collect()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.all.iter_mut()
    }
}

/// Those entries; none for one that is not there.
pub(super) async fn entries(
    sink: &Sink,
    streams: &Streams,
    wanted: &[(u32, EntryId)],
) -> Result<Vec<Option<Entry>>> {
    let wanted: Vec<(&str, EntryId)> =
        wanted.iter().map(|(stream, id)| (streams.name(*stream), *id)).collect();
    sink.entries(&wanted).await.map_err(|failure| failed(failure, "of the outbox"))
}

/// A failure to read a stream.
pub(super) fn failed(failure: Failure, stream: &str) -> Error {
    let is_forbidden = failure.code == "NOPERM";
    let error = failure.into_error(&format!("cannot read stream {stream}"));
    if is_forbidden {
        error.hint("the Redis user needs +xrange and +xinfo besides what `walrelay run` needs")
    } else {
        error
    }
}
