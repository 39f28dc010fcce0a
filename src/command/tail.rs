//! `walrelay tail`: entries of streams as they arrive.
//!
//! In: settings, and where to begin. Out: a line an entry. It must stay true that an entry is
//! printed once and none is left out while Redis keeps what it had, that a Redis that is away is
//! waited for and said, and that nothing is written to Redis.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use secrecy::SecretString;

use super::tail_view::Printer;
use super::terminal::{put, remark};
use crate::backoff::Backoff;
use crate::cli::TailOptions;
use crate::config::{self, Loaded};
use crate::error::{Error, Result};
use crate::shutdown::Interrupt;
use crate::sink::{self, Entry, EntryId, Event, Failure, Reader, Timeouts, Verdict};

/// How long one XREAD waits. A connection that a firewall has forgotten is found out by that.
const BLOCK: Duration = Duration::from_secs(5);
/// About what one reply may take in memory, however large the entries are.
const REPLY_BYTES: usize = 1 << 20;
const REPLY_ENTRIES_FIRST: usize = 10;
const REPLY_ENTRIES_MAX: usize = 500;

/// Which Redis, and how it is waited for.
pub struct Source {
    url: SecretString,
    timeouts: Timeouts,
    delay_max: Duration,
    stream: String,
}

impl Source {
    /// PostgreSQL need not be known.
    pub fn new(loaded: &Loaded) -> Result<Self> {
        let url = loaded.redis_url()?;
        sink::check_url(&url)?;
        let connect = loaded.duration("connect_timeout")?;
        let reply = loaded.duration("redis_timeout")? + BLOCK;
        Ok(Self {
            url,
            timeouts: Timeouts { connect, reply },
            delay_max: loaded.duration("reconnect_delay_max")?,
            stream: loaded.stream_name()?,
        })
    }

    async fn connect(&self) -> Result<Reader, Failure> {
        Reader::connect(&self.url, self.timeouts).await
    }

    fn doing(&self) -> String {
        format!("cannot read from Redis at {}", sink::label(&self.url))
    }
}

/// How far a stream has been read.
#[derive(Clone, Debug)]
struct Place {
    stream: String,
    /// What comes behind this is next.
    id: EntryId,
    /// Whether the stream has given that id out; else it is a time.
    is_real: bool,
}

/// Where to begin.
#[derive(Clone, Copy, Debug)]
enum Beginning {
    Now,
    Start,
    Since(Duration),
    Last(u64),
}

impl Beginning {
    fn of(asked: &TailOptions) -> Result<Self> {
        if let Some(age) = &asked.since {
            let age = config::duration(age).map_err(|reason| {
                Error::usage(format!("--since {age:?} {reason}"))
                    .hint("a number with ms, s, m, h or d behind it, such as 10m")
            })?;
            return Ok(Self::Since(age));
        }
        Ok(match asked.last {
            Some(entries) => Self::Last(entries),
            None if asked.from_start => Self::Start,
            None => Self::Now,
        })
    }

    /// The place in one stream.
    async fn place(self, reader: &Reader, stream: &str) -> Result<Place, Failure> {
        let (id, is_real) = match self {
            // Not `$`: what comes between two calls must not be lost.
            Self::Now => (reader.last_id(stream).await?, true),
            Self::Start => (EntryId::START, true),
            Self::Since(age) => {
                let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                (EntryId::before(reader.millis().await?.saturating_sub(age)), false)
            }
            Self::Last(entries) => (behind_last(reader, stream, entries).await?, true),
        };
        Ok(Place { stream: stream.to_owned(), id, is_real })
    }
}

/// The id behind which the last `entries` of a stream are.
async fn behind_last(reader: &Reader, stream: &str, entries: u64) -> Result<EntryId, Failure> {
    let (mut left, mut from, mut step) = (entries, None, REPLY_ENTRIES_FIRST);
    loop {
        // Each step begins with the entry that ended the one before.
        let found = reader.back(stream, from, step.saturating_add(1)).await?;
        let skipped = usize::from(from.is_some());
        for entry in found.iter().skip(skipped) {
            if left == 0 {
                return Ok(entry.id);
            }
            left -= 1;
        }
        match found.last() {
            Some(last) if found.len() > skipped => from = Some(last.id),
            _ => return Ok(EntryId::START),
        }
        step = next_step(&found, step);
    }
}

/// How many entries of that size fit into one reply.
fn next_step(found: &[Entry], step: usize) -> usize {
    let bytes: usize = found.iter().map(Entry::bytes).sum();
    match bytes.checked_div(found.len()) {
        Some(each) => (REPLY_BYTES / each.max(1)).clamp(1, REPLY_ENTRIES_MAX),
        None => step,
    }
}

/// Prints until it is told to stop, or has printed enough, or nobody reads any more.
pub async fn run(source: &Source, asked: &TailOptions, out: &mut impl Write) -> Result<()> {
    let beginning = Beginning::of(asked)?;
    let mut interrupt = Interrupt::listen()?;
    tokio::select! {
        ended = follow(source, asked, beginning, out) => ended,
        () = interrupt.came() => Ok(()),
    }
}

async fn follow(
    source: &Source,
    asked: &TailOptions,
    beginning: Beginning,
    out: &mut impl Write,
) -> Result<()> {
    let printer = Printer::new(asked);
    let mut left = asked.count;
    // Whoever has named a wrong server wants to know now.
    let failed = |failure: Failure| failure.into_error(&source.doing());
    let mut reader = source.connect().await.map_err(failed)?;
    let mut places = Vec::new();
    let streams = match asked.stream.as_slice() {
        [] => std::slice::from_ref(&source.stream),
        named => named,
    };
    let streams: BTreeSet<&String> = streams.iter().collect();
    for stream in streams {
        places.push(beginning.place(&reader, stream).await.map_err(failed)?);
    }
    let mut outage = Outage::new(source);
    let mut step = REPLY_ENTRIES_FIRST;
    loop {
        let from: Vec<_> = places.iter().map(|place| (place.stream.clone(), place.id)).collect();
        let found = match reader.wait(&from, step, BLOCK).await {
            Ok(found) => found,
            Err(failure) => {
                reader = outage.sit_out(failure, &mut places).await?;
                continue;
            }
        };
        outage.is_over();
        let mut entries = Vec::new();
        for (stream, of_stream) in found {
            step = next_step(&of_stream, step);
            if let (Some(place), Some(last)) =
                (places.iter_mut().find(|place| place.stream == stream), of_stream.last())
            {
                (place.id, place.is_real) = (last.id, true);
            }
            entries.extend(of_stream.into_iter().map(|entry| (stream.clone(), entry)));
        }
        // Of several streams: in the order of time.
        entries.sort_by_key(|(_, entry)| entry.id);
        let mut text = String::new();
        for (stream, entry) in &entries {
            let event = Event::of(entry);
            if left == Some(0) || !is_wanted(asked, &event) {
                continue;
            }
            left = left.map(|left| left - 1);
            text += &printer.line(stream, entry, &event);
        }
        if !put(out, &text)? || left == Some(0) {
            return Ok(());
        }
    }
}

fn is_wanted(asked: &TailOptions, event: &Event) -> bool {
    let fits = |wanted: &[String], name| {
        wanted.is_empty() || wanted.iter().any(|wanted| event.get(name) == Some(wanted))
    };
    fits(&asked.event_type, "event_type") && fits(&asked.aggregate, "aggregate_id")
}

/// A Redis that does not answer, from the first failure until it does again.
struct Outage<'a> {
    source: &'a Source,
    backoff: Backoff,
    is_said: bool,
}

impl<'a> Outage<'a> {
    fn new(source: &'a Source) -> Self {
        Self { source, backoff: Backoff::new(source.delay_max), is_said: false }
    }

    /// It answers.
    fn is_over(&mut self) {
        if std::mem::take(&mut self.is_said) {
            remark(&format!("Redis at {} is back", sink::label(&self.source.url)));
        }
        self.backoff.reset();
    }

    /// Waits for a connection on which the places were looked at; what no waiting ends is an
    /// error.
    async fn sit_out(&mut self, failure: Failure, places: &mut [Place]) -> Result<Reader> {
        let mut failure = failure;
        loop {
            if !matches!(failure.verdict, Verdict::Outage | Verdict::Restart) {
                return Err(failure.into_error(&self.source.doing()));
            }
            if !std::mem::replace(&mut self.is_said, true) {
                let label = sink::label(&self.source.url);
                remark(&format!("Redis at {label} is away, waiting for it: {failure}"));
            }
            tokio::time::sleep(self.backoff.next_delay()).await;
            let connecting = async {
                let reader = self.source.connect().await?;
                for place in &mut *places {
                    step_back(&reader, place).await?;
                }
                Ok(reader)
            };
            match connecting.await {
                Ok(reader) => return Ok(reader),
                Err(again) => failure = again,
            }
        }
    }
}

/// Says where Redis has come back with less than was read of it, and reads on from there: what the
/// relay sends again are new entries, and may even have lower ids.
async fn step_back(reader: &Reader, place: &mut Place) -> Result<(), Failure> {
    let last = reader.last_id(&place.stream).await?;
    if place.is_real && last < place.id {
        let Place { stream, id, .. } = &*place;
        remark(&format!(
            "{stream}: Redis has come back with less than it had: its last id is {last}, and {id} \
             was printed. What the relay sends again is printed again, under new ids"
        ));
        place.id = last;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_shrink_as_entries_grow() {
        let entries = |bytes: usize| {
            let fields = vec![(Vec::new(), vec![b'x'; bytes])];
            vec![Entry { fields, ..Entry::default() }; 2]
        };
        assert_eq!(next_step(&[], 17), 17);
        assert_eq!(next_step(&entries(0), 17), REPLY_ENTRIES_MAX);
        assert_eq!(next_step(&entries(64 << 10), 17), 16);
        assert_eq!(next_step(&entries(16 << 20), 17), 1);
    }
}
