//! The judge: what was committed against what is in the stream.
//!
//! In: event ids in the order of commit, and the stream's entries. Out: a verdict, with the history
//! around the first thing that is wrong. Not here: reading either of them.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use tokio_postgres::Client;

use super::consumer::Entry;

/// Entries shown on either side of a fault.
const AROUND: usize = 3;

/// What was committed, in order.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    committed: Vec<String>,
}

impl Ledger {
    /// Event ids in the order of commit.
    pub fn new(committed: Vec<String>) -> Self {
        Self { committed }
    }

    /// The rows of the outbox by `id`: the order of commit where one writer wrote them all.
    pub async fn of_one_writer(client: &Client) -> Self {
        let query = "SELECT event_id::text FROM identity.outbox ORDER BY id";
        let rows = client.query(query, &[]).await.expect("the outbox's rows");
        Self::new(rows.iter().map(|row| row.get(0)).collect())
    }

    /// What PostgreSQL itself decodes from a second slot: the order of commit, whoever wrote.
    ///
    /// The slot must be of the plugin `test_decoding` and older than the first row.
    /// They stay in the slot: asked again it tells all of them again.
    pub async fn of_slot(client: &Client, slot: &str) -> Self {
        let query = "SELECT (regexp_match(data, 'event_id\\[uuid\\]:''([0-9a-f-]+)'''))[1]
                     FROM pg_logical_slot_peek_changes($1, NULL, NULL)
                     WHERE data LIKE 'table identity.outbox: INSERT:%'";
        let rows = client.query(query, &[&slot]).await.expect("the slot's changes");
        Self::new(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Forgets the order of commit, for where several wrote.
    pub fn sort(&mut self) {
        self.committed.sort_unstable();
    }

    /// Whether that event was committed.
    pub fn has(&self, event_id: &str) -> bool {
        self.committed.iter().any(|id| id == event_id)
    }

    /// How many events were committed.
    pub fn len(&self) -> usize {
        self.committed.len()
    }

    /// Panics unless the stream holds each event exactly once, in the order of commit.
    pub fn assert_exactly_once(&self, entries: &[Entry]) {
        let ids: Vec<&str> = entries.iter().map(Entry::event_id).collect();
        if let Some(fault) = self.fault(&ids) {
            panic!("{fault}");
        }
    }

    /// Panics unless the stream holds each event exactly once, in whatever order.
    pub fn assert_same_events(&self, entries: &[Entry]) {
        let mut committed: Vec<&str> = self.committed.iter().map(String::as_str).collect();
        let mut published: Vec<&str> = entries.iter().map(Entry::event_id).collect();
        committed.sort_unstable();
        published.sort_unstable();
        let (all, there) = (committed.len(), published.len());
        assert!(committed == published, "{there} entries for {all} events, or others than those");
    }

    /// What is wrong with these event ids; `None` if nothing is.
    pub fn fault(&self, published: &[&str]) -> Option<String> {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, id) in published.iter().enumerate() {
            places.entry(id).or_default().push(place);
        }
        let known: HashSet<&str> = self.committed.iter().map(String::as_str).collect();
        let lost = self.committed.iter().filter(|id| !places.contains_key(id.as_str()));
        let lost: Vec<&String> = lost.collect();
        let doubled = places.values().filter(|places| places.len() > 1).count();
        let foreign = published.iter().filter(|id| !known.contains(*id)).count();
        let place = self.committed.iter().zip(published).position(|(want, have)| want != have);
        if lost.is_empty() && doubled == 0 && foreign == 0 && place.is_none() {
            return None;
        }
        let mut text = format!(
            "{} committed, {} published: {} lost, {doubled} doubled, {foreign} of nobody's\n",
            self.len(),
            published.len(),
            lost.len(),
        );
        let place = place.unwrap_or_else(|| self.len().min(published.len()));
        writeln!(text, "the first difference is at {place} (committed | published):").ok();
        for at in place.saturating_sub(AROUND)..=place + AROUND {
            let want = self.committed.get(at).map_or("-", String::as_str);
            let have = published.get(at).copied().unwrap_or("-");
            let all = places.get(have).map(Vec::as_slice).unwrap_or_default();
            writeln!(text, "{at:>8}  {want:36} | {have:36} in the stream at {all:?}").ok();
        }
        Some(text)
    }
}

/// Panics unless, for each value of `field`, the numbers in the payload's `n` only rise.
pub fn assert_rising_by(entries: &[Entry], field: &str) {
    let mut last: HashMap<String, i64> = HashMap::new();
    for entry in entries {
        let payload: serde_json::Value = serde_json::from_str(entry.get("payload")).expect("JSON");
        let n = payload["n"].as_i64().expect("a number n in the payload");
        let key = entry.get(field).to_owned();
        let before = last.insert(key.clone(), n);
        assert!(before < Some(n), "{field} {key}: {n} came after {before:?} in entry {}", entry.id);
    }
}
