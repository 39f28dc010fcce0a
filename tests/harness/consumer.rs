//! The judge's eyes: reads a stream as a consumer does.
//!
//! In: a Redis URL and a stream. Out: its entries, whole or as they come. It must stay true that it
//! survives a Redis that goes away meanwhile. Not here: what the entries should be (`ledger`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::redis::try_connection;
use super::wait::{self, PATIENCE};

/// Entries per XRANGE: few round trips, and no reply that holds the server up.
const PAGE: usize = 5_000;

/// One entry as Redis gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `ms-seq`.
    pub id: String,
    /// Its fields, in their order.
    pub fields: Vec<(String, String)>,
}

impl Entry {
    /// A field's value, if it is there.
    pub fn find(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A field's value.
    pub fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("entry {} has no field {name}", self.id))
    }

    /// The event's id, in the format `fields`.
    pub fn event_id(&self) -> &str {
        self.get("event_id")
    }
}

/// A reader of one stream.
pub struct Consumer {
    url: String,
    stream: String,
    connection: Option<MultiplexedConnection>,
    last_id: String,
    ahead: VecDeque<Entry>,
}

impl Consumer {
    /// Reads that stream from its beginning.
    pub fn new(url: &str, stream: &str) -> Self {
        Self {
            url: url.to_owned(),
            stream: stream.to_owned(),
            connection: None,
            last_id: "0".to_owned(),
            ahead: VecDeque::new(),
        }
    }

    /// How many entries there are now; `None` while Redis is away.
    pub async fn len(&mut self) -> Option<usize> {
        let mut command = redis::cmd("XLEN");
        command.arg(&self.stream);
        let answer = self.ask(&command).await?;
        let Value::Int(count) = answer else { panic!("XLEN answers {answer:?}") };
        usize::try_from(count).ok()
    }

    /// Awaits that many entries. Patience is renewed whenever another one comes.
    pub async fn until_len(&mut self, wanted: usize) {
        let mut seen = 0;
        let mut deadline = Instant::now() + PATIENCE;
        wait::until("the stream to grow", Duration::MAX / 4, async || {
            let len = self.len().await.unwrap_or(seen);
            if len > seen {
                deadline = Instant::now() + PATIENCE;
                seen = len;
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "{} stays at {len} of {wanted} entries", self.stream);
            (len >= wanted).then_some(())
        })
        .await;
    }

    /// Awaits that many entries and reads the whole stream.
    pub async fn read(&mut self, wanted: usize) -> Vec<Entry> {
        self.until_len(wanted).await;
        self.read_all().await
    }

    /// Reads the whole stream, page by page.
    pub async fn read_all(&mut self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let from = entries.last().map_or("-".to_owned(), |entry| format!("({}", entry.id));
            let mut command = redis::cmd("XRANGE");
            command.arg(&self.stream).arg(from).arg("+").arg("COUNT").arg(PAGE);
            let what = "an answer to XRANGE";
            let page = wait::until(what, PATIENCE, async || self.ask(&command).await).await;
            let page = entries_of(&page);
            if page.is_empty() {
                return entries;
            }
            entries.extend(page);
        }
    }

    /// The next entry by a blocking XREAD; `None` if none comes in that time.
    pub async fn next(&mut self, within: Duration) -> Option<Entry> {
        if self.ahead.is_empty() {
            let mut command = redis::cmd("XREAD");
            command.arg("COUNT").arg(PAGE).arg("BLOCK").arg(within.as_millis().to_string());
            command.arg("STREAMS").arg(&self.stream).arg(&self.last_id);
            if let Value::Array(streams) = self.ask(&command).await? {
                let stream = streams.first().map(items).unwrap_or_default();
                self.ahead.extend(stream.get(1).map(entries_of).unwrap_or_default());
            }
        }
        let entry = self.ahead.pop_front()?;
        self.last_id.clone_from(&entry.id);
        Some(entry)
    }

    /// An answer; `None` if Redis is away, loading, or went away in between.
    async fn ask(&mut self, command: &redis::Cmd) -> Option<Value> {
        if self.connection.is_none() {
            self.connection = try_connection(&self.url).await;
        }
        let answer = command.query_async(self.connection.as_mut()?).await;
        match answer {
            Ok(value) => Some(value),
            Err(error) if error.code() == Some("WRONGTYPE") => panic!("{error}"),
            Err(_) => {
                self.connection = None;
                None
            }
        }
    }
}

fn items(value: &Value) -> &[Value] {
    if let Value::Array(items) = value { items } else { &[] }
}

fn text(value: &Value) -> String {
    let Value::BulkString(bytes) = value else { panic!("not a string: {value:?}") };
    String::from_utf8(bytes.clone()).expect("UTF-8 in a stream")
}

fn entries_of(value: &Value) -> Vec<Entry> {
    let entry = |value: &Value| {
        let parts = items(value);
        let fields = items(&parts[1]).chunks(2);
        let fields = fields.map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
        Entry { id: text(&parts[0]), fields }
    };
    items(value).iter().map(entry).collect()
}
