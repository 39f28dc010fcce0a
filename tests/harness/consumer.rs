//! The judge: what is in the streams, against what was committed.

use std::collections::HashMap;

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::{Redis, eventually};

const PAGE: usize = 5_000;

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id in the stream.
    pub id: String,
    /// Its fields.
    pub fields: HashMap<String, String>,
}

impl Entry {
    /// A field that must be there.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("no field {name} in {:?}", self.fields))
    }
}

/// A stream under judgement.
pub struct Stream {
    name: String,
    connection: MultiplexedConnection,
}

impl Stream {
    /// The stream `name`.
    pub async fn open(redis: &Redis, name: &str) -> Self {
        Self { name: name.to_owned(), connection: redis.connection().await }
    }

    /// How many entries it has.
    pub async fn len(&mut self) -> usize {
        let answer = redis::cmd("XLEN").arg(&self.name).query_async(&mut self.connection).await;
        answer.expect("XLEN works")
    }

    /// Waits until it has at least `count` entries.
    pub async fn reaches(&mut self, count: usize) {
        let what = format!("{} has {count} entries", self.name);
        let (name, connection) = (self.name.clone(), self.connection.clone());
        eventually(&what, async || {
            let answer: redis::RedisResult<usize> =
                redis::cmd("XLEN").arg(&name).query_async(&mut connection.clone()).await;
            match answer {
                Ok(length) if length >= count => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// All entries, oldest first.
    pub async fn entries(&mut self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut from = "-".to_owned();
        loop {
            let mut command = redis::cmd("XRANGE");
            command.arg(&self.name).arg(&from).arg("+").arg("COUNT").arg(PAGE);
            let page: Value =
                command.query_async(&mut self.connection).await.expect("XRANGE works");
            let page = parse(page);
            let is_last = page.len() < PAGE;
            entries.extend(page);
            if is_last {
                return entries;
            }
            from = entries.last().map(|entry| format!("({}", entry.id)).unwrap_or_default();
        }
    }

    /// The event ids, oldest first.
    pub async fn event_ids(&mut self) -> Vec<String> {
        let entries = self.entries().await;
        entries.iter().map(|entry| entry.field("event_id").to_owned()).collect()
    }

    /// Waits for as many entries as `expected` has, then checks that they are exactly those, each once, in
    /// that order.
    pub async fn holds_exactly(&mut self, expected: &[String]) {
        self.reaches(expected.len()).await;
        let found = self.event_ids().await;
        judge(expected, &found);
    }
}

/// Nothing lost, nothing doubled, in order; else says what, with the history around it.
pub fn judge(expected: &[String], found: &[String]) {
    let mut times: HashMap<&str, usize> = HashMap::new();
    found.iter().for_each(|id| *times.entry(id).or_default() += 1);
    let lost: Vec<&String> =
        expected.iter().filter(|id| !times.contains_key(id.as_str())).collect();
    let doubled: Vec<&&str> =
        times.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id).collect();
    assert!(
        lost.is_empty() && doubled.is_empty() && found.len() == expected.len(),
        "of {} events {} are lost and {} doubled, {} entries; lost: {:?}, doubled: {:?}",
        expected.len(),
        lost.len(),
        doubled.len(),
        found.len(),
        lost.iter().take(5).collect::<Vec<_>>(),
        doubled.iter().take(5).collect::<Vec<_>>(),
    );
    if let Some(place) = (0..expected.len()).find(|place| expected[*place] != found[*place]) {
        let around = place.saturating_sub(2)..(place + 3).min(expected.len());
        panic!(
            "out of order at {place}: expected {:?}, found {:?}",
            &expected[around.clone()],
            &found[around]
        );
    }
}

/// Entries out of the answer of XRANGE.
pub fn parse(answer: Value) -> Vec<Entry> {
    let Value::Array(entries) = answer else { panic!("no entries: {answer:?}") };
    entries
        .into_iter()
        .map(|entry| {
            let (id, fields): (String, HashMap<String, String>) =
                redis::from_redis_value(entry).expect("an entry is an id and fields");
            Entry { id, fields }
        })
        .collect()
}
