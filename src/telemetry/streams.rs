//! The streams that most events went to.
//!
//! In: what the line counts by stream, told once a second. Out: the member `streams` of /status. It
//! must stay true that it is short, however many streams there are and however long their names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::status::Status;

/// Streams that are shown.
const STREAMS_SHOWN_MAX: usize = 64;
/// Bytes of all their names: a name may have 512.
const NAMES_BYTES_MAX: usize = 16 * 1024;

/// The busiest streams of a line, as they were told last.
#[derive(Debug, Default)]
pub struct Streams(Mutex<Vec<(String, u64)>>);

impl Streams {
    /// Some streams and how many events went to each; the busiest of them, as many as are shown.
    pub fn tell<'a>(&self, streams: impl Iterator<Item = (&'a str, u64)>) {
        let mut all: Vec<(&str, u64)> = streams.filter(|(_, published)| *published > 0).collect();
        if all.len() > STREAMS_SHOWN_MAX {
            all.select_nth_unstable_by(STREAMS_SHOWN_MAX, |(_, one), (_, other)| other.cmp(one));
            all.truncate(STREAMS_SHOWN_MAX);
        }
        let told = all.into_iter().map(|(name, published)| (name.to_owned(), published)).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    fn told(&self) -> Vec<(String, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
}
