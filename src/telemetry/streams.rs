//! The streams that most events went to.
//!
//! In: what the line counts by stream, told once a second, and what pollers and retries bring there
//! call by call. Out: the member `streams` of /status. It must stay true that it is short, however
//! many streams there are and however long their names, and that what is kept for it is bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::status::Status;

/// Streams that are shown.
const STREAMS_SHOWN_MAX: usize = 64;
/// Bytes of all their names: a name may have 512.
const NAMES_BYTES_MAX: usize = 16 * 1024;

/// Streams that are counted call by call; with one more all of them begin anew.
const STREAMS_COUNTED_MAX: usize = 1_024;

/// The busiest streams.
#[derive(Debug, Default)]
pub struct Streams {
    /// Of a line, as they were told last.
    of_line: Mutex<Vec<(String, u64)>>,
    /// What came besides.
    counted: Mutex<HashMap<String, u64>>,
}

impl Streams {
    /// So many more events went to a stream.
    pub fn add(&self, stream: &str, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sum) = counted.get_mut(stream) {
            *sum = sum.saturating_add(events);
            return;
        }
        if events == 0 {
            return;
        }
        if counted.len() >= STREAMS_COUNTED_MAX {
            counted.clear();
        }
        counted.insert(stream.to_owned(), events);
    }

    /// Some streams and how many events went to each; the busiest of them, as many as are shown.
    pub fn tell<'a>(&self, streams: impl Iterator<Item = (&'a str, u64)>) {
        let mut all: Vec<(&str, u64)> = streams.filter(|(_, published)| *published > 0).collect();
        if all.len() > STREAMS_SHOWN_MAX {
            all.select_nth_unstable_by(STREAMS_SHOWN_MAX, |(_, one), (_, other)| other.cmp(one));
            all.truncate(STREAMS_SHOWN_MAX);
        }
        let told = all.into_iter().map(|(name, published)| (name.to_owned(), published)).collect();
        *self.of_line.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    fn told(&self) -> Vec<(String, u64)> {
        let mut all = self.of_line.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(counted.iter().map(|(name, events)| (name.clone(), *events)));
        all
    }

    /// Those of this line, or of all `lines` together.
    pub(super) fn document(&self, lines: &[Arc<Status>]) -> Value {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        let of_lines = lines.iter().flat_map(|line| line.streams.told());
        for (name, published) in self.told().into_iter().chain(of_lines) {
            let sum = sums.entry(name).or_default();
            *sum = sum.saturating_add(published);
        }
        let mut all: Vec<(String, u64)> = sums.into_iter().collect();
        all.sort_by_key(|(_, published)| std::cmp::Reverse(*published));
        let mut left = NAMES_BYTES_MAX;
        let shown = all.into_iter().take(STREAMS_SHOWN_MAX).take_while(|(name, _)| {
            let room = left.checked_sub(name.len());
            left = room.unwrap_or(0);
            room.is_some()
        });
        shown.map(|(name, published)| json!({ "name": name, "published": published })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first_and_the_list_is_short() {
        let streams = Streams::default();
        let names: Vec<(String, u64)> = (0..200).map(|n| (format!("stream {n}"), n)).collect();
        streams.tell(names.iter().map(|(name, published)| (name.as_str(), *published)));
        let document = streams.document(&[]);
        let shown = document.as_array().unwrap();
        assert_eq!(shown.len(), STREAMS_SHOWN_MAX);
        assert_eq!(shown[0], json!({ "name": "stream 199", "published": 199 }));
        assert_eq!(shown[63]["published"], 136);
        let long = "x".repeat(512);
        let names: Vec<String> = (0..64).map(|n| format!("{long}{n}")).collect();
        streams.tell(names.iter().map(|name| (name.as_str(), 1)));
        assert!(streams.document(&[]).to_string().len() < 2 * NAMES_BYTES_MAX);
    }
    #[test]
    fn what_is_counted_call_by_call_joins_what_the_line_tells_and_is_bounded() {
        let streams = Streams::default();
        streams.tell([("a", 5), ("b", 1)].into_iter());
        streams.add("b", 6);
        streams.add("b", 1);
        streams.add("nothing", 0);
        let told = json!([{ "name": "b", "published": 8 }, { "name": "a", "published": 5 }]);
        assert_eq!(streams.document(&[]), told);
        for number in 0..=STREAMS_COUNTED_MAX {
            streams.add(&number.to_string(), 1);
        }
        assert!(streams.counted.lock().unwrap().len() <= STREAMS_COUNTED_MAX);
    }
}
