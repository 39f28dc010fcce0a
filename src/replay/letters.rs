//! A dead letter stream as a source: what died, once each, in the order of dying.
//!
//! In: a stream. Out: events. Where the row of a dead event is still in the table, the event is
//! made of the row, as any other; a letter alone does not say everything. It must stay true that an
//! event that died twice is sent once, and that pages stay small: letters can be large.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio_postgres::Row;

use super::intake::{Intake, Place};
use super::table::{Outbox, take, text};
use super::wal::Meaning;
use crate::error::{Error, Result};
use crate::lsn::{Lsn, Position};
use crate::outbox::{Envelope, Obituary};
use crate::sink::{Letter, PageSize, Replayer, compact};

/// Events remembered, 16 bytes each and the set's own.
const EVENTS_MAX: usize = 1_000_000;

/// The letters of a stream.
pub(super) struct Letters {
    replayer: Replayer,
    outbox: Outbox,
    meaning: Meaning,
    stream: String,
    from: String,
    until: String,
    page: PageSize,
    waiting: VecDeque<Letter>,
    /// Of those that wait, by event, where they are still there.
    rows: HashMap<Vec<u8>, Row>,
    seen: HashSet<u128>,
    pub read: u64,
    /// Letters whose row is gone.
    pub orphans: u64,
    is_over: bool,
}

impl Letters {
    /// Reads `stream` up to the time `until`, in milliseconds.
    pub fn new(
        (replayer, outbox): (Replayer, Outbox),
        meaning: Meaning,
        stream: &str,
        until: i64,
    ) -> Self {
        Self {
            replayer,
            outbox,
            meaning,
            stream: stream.to_owned(),
            from: "-".to_owned(),
            until: until.max(0).to_string(),
            page: PageSize::default(),
            waiting: VecDeque::new(),
            rows: HashMap::new(),
            seen: HashSet::new(),
            read: 0,
            orphans: 0,
            is_over: false,
        }
    }

    /// Takes in letters; false once there are no more. Not to be called again where it was dropped
    /// before its end: a page may be missing.
    pub async fn fill(&mut self, intake: &mut Intake) -> Result<bool> {
        if self.waiting.is_empty() && !self.is_over {
            self.turn().await?;
        }
        while let Some(letter) = self.waiting.front() {
            if intake.is_full() {
                return Ok(true);
            }
            let id = letter.id;
            let position = Position {
                commit_lsn: Lsn::new(id.0),
                ordinal: u32::try_from(id.1).unwrap_or(u32::MAX).saturating_add(1),
            };
            let at = (position, Place::Letter(id.0, id.1));
            if let Some(row) = self.rows.get(&letter.event_id) {
                let row = self.outbox.selection.read(|place| text(row, place));
                let (event_type, aggregate) = (row.event_type(), row.aggregate_id());
                let aggregate = aggregate.unwrap_or_default();
                if intake.wants(position, event_type.unwrap_or_default(), aggregate) {
                    take(&row, at, &self.meaning, intake);
                }
            } else if intake.wants(position, &letter.event_type, &letter.aggregate_id) {
                self.orphans += 1;
                intake.take(at, self.meaning.of_letter(letter));
            }
            self.waiting.pop_front();
        }
        Ok(!self.is_over)
    }

    async fn turn(&mut self) -> Result<()> {
        let range = (self.from.as_str(), self.until.as_str());
        let count = self.page.count();
        let page = self.replayer.letters(&self.stream, range, count).await;
        let page = page.map_err(|failure| {
            failure.into_error(&format!("cannot read dead letter stream {:?}", self.stream))
        })?;
        self.is_over = page.read < count;
        if let Some(last) = page.last {
            self.from = format!("({last}");
        }
        self.read += u64::try_from(page.read).unwrap_or(0);
        self.page.learn(page.largest);
        let mut fresh: VecDeque<Letter> = page.dead.into();
        fresh.retain(|letter| self.seen.insert(compact(&letter.event_id)));
        let ids: Vec<String> = fresh.iter().map(event_id).collect();
        let rows = if ids.is_empty() { Vec::new() } else { self.outbox.of_events(&ids).await? };
        let selection = &self.outbox.selection;
        let event_id = |row: &Row| {
            selection.read(|place| text(row, place)).event_id().unwrap_or_default().to_vec()
        };
        self.rows = rows.into_iter().map(|row| (event_id(&row), row)).collect();
        self.waiting = fresh;
        if self.seen.len() > EVENTS_MAX {
            return Err(Error::definite(format!(
                "dead letter stream {:?} holds more than {EVENTS_MAX} events",
                self.stream
            ))
            .hint("replay part of it with --until, trim it, and replay the rest"));
        }
        Ok(())
    }
}

fn event_id(letter: &Letter) -> String {
    String::from_utf8_lossy(&letter.event_id).into_owned()
}

impl Meaning {
    fn of_letter<'a>(&'a self, letter: &'a Letter) -> Result<Envelope<'a>, crate::outbox::Unfit> {
        let obituary = Obituary {
            event_id: &letter.event_id,
            event_type: &letter.event_type,
            topic: &letter.topic,
            aggregate_id: &letter.aggregate_id,
            payload: &letter.payload,
            created_at: &letter.created_at,
        };
        Envelope::of_dead(&obituary, &self.defaults(0))
    }
}
