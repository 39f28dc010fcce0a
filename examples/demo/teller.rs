//! Tells the plot as it happens: an event is a line once it is both committed and seen.
//!
//! In: happenings. Out: lines on the screen, and the latencies for the summary. It must stay true
//! that a latency is the time from COMMIT returning to the entry being seen, on one clock; an entry
//! that was faster than the answer to COMMIT counts as zero.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::figures::{human, thousands};
use crate::plot::{Happening, IMPORT, Relaying};
use crate::reader::Seen;
use crate::screen::{Line, Screen, Tone};

/// What the import's events are called: thousands of them are told in one line.
const IMPORTED: &str = "UserImported";
/// How long the reader may lag behind the end of the plot.
const LAST_ENTRIES: Duration = Duration::from_secs(2);

/// What was measured on the way.
#[derive(Default)]
pub struct Told {
    pub rolled_back: usize,
    pub live: Vec<Duration>,
    pub outage: Vec<Duration>,
}

pub struct Teller<'a> {
    screen: &'a Screen,
    committed: HashMap<String, (Instant, Relaying)>,
    seen: HashMap<String, Seen>,
    imported: usize,
    published_before_kill: usize,
    told: Told,
}

impl<'a> Teller<'a> {
    pub fn new(screen: &'a Screen) -> Self {
        Self {
            screen,
            committed: HashMap::new(),
            seen: HashMap::new(),
            imported: 0,
            published_before_kill: 0,
            told: Told::default(),
        }
    }

    pub async fn listen(mut self, receiver: &mut UnboundedReceiver<Happening>) -> Told {
        while let Some(happening) = receiver.recv().await {
            if matches!(happening, Happening::Over) {
                break;
            }
            self.tell(happening);
        }
        // What is in the stream may still be on its way to us.
        while !self.committed.is_empty() {
            match tokio::time::timeout(LAST_ENTRIES, receiver.recv()).await {
                Ok(Some(happening)) => self.tell(happening),
                Ok(None) | Err(_) => break,
            }
        }
        self.told
    }

    fn tell(&mut self, happening: Happening) {
        match happening {
            Happening::Committed(event, relaying) => match self.seen.remove(&event.event_id) {
                Some(seen) => self.event(&seen, event.at, relaying),
                None => drop(self.committed.insert(event.event_id, (event.at, relaying))),
            },
            Happening::Seen(seen) if seen.event_type == IMPORTED => self.imported(),
            Happening::Seen(seen) => match self.committed.remove(&seen.event_id) {
                Some((at, relaying)) => self.event(&seen, at, relaying),
                None => drop(self.seen.insert(seen.event_id.clone(), seen)),
            },
            Happening::RolledBack => {
                self.told.rolled_back += 1;
                self.screen.aside(Tone::Faint, "(a transaction was rolled back: no event)");
            }
            Happening::Importing => {
                let text = format!("an import: {} users in one transaction", thousands(IMPORT));
                self.screen.aside(Tone::Strong, &text);
            }
            Happening::Killed { pid, published } => {
                self.published_before_kill = published;
                let text = format!(
                    "kill -9 {pid}: the relay is dead, with {} of the {} published",
                    thousands(published),
                    thousands(IMPORT)
                );
                self.screen.aside(Tone::Bad, &text);
                self.screen.aside(Tone::Faint, "writers go on, and do not notice");
            }
            Happening::Restarting { pid, waiting } => {
                let text = format!(
                    "walrelay run, pid {pid}: {} events wait in the WAL",
                    thousands(waiting)
                );
                self.screen.aside(Tone::Strong, &text);
            }
            Happening::CaughtUp { after } => {
                let text = format!("all caught up, {} after its start", human(after));
                self.screen.aside(Tone::Good, &text);
            }
            Happening::Over => {}
        }
    }

    fn imported(&mut self) {
        self.imported += 1;
        if self.imported == IMPORT {
            let rest = thousands(IMPORT.saturating_sub(self.published_before_kill));
            let text = format!("the other {rest} of the import, each once, before what came later");
            self.screen.aside(Tone::Good, &text);
        }
    }

    fn event(&mut self, seen: &Seen, committed_at: Instant, relaying: Relaying) {
        let latency = seen.at.saturating_duration_since(committed_at);
        match relaying {
            Relaying::Yes => self.told.live.push(latency),
            Relaying::No => self.told.outage.push(latency),
        }
        self.screen.event(&Line {
            event_type: &seen.event_type,
            aggregate_id: &seen.aggregate_id,
            email: &seen.email,
            latency,
        });
    }
}
