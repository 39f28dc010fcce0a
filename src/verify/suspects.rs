//! What looks wrong is looked at again, on both servers, before it is said.
//!
//! In: suspicions. Out: findings. The system lives while it is read: a row is deleted or revived,
//! a stream trimmed, an entry deleted. It must stay true that a finding is a fact of one moment:
//! rows and entries of it were there, and as wrong as they are told, when they were last read.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::compare::Suspect;
use super::findings::{Finding, Kind, Report};
use super::outbox::Outbox;
use super::settled::State;
use super::streams::{Streams, entries};
use crate::error::Result;
use crate::sink::{Entry, EntryId, Seen, Sink, Values};

/// Looked at together: rows and entries with their payloads.
const BATCH: usize = 64;

/// Both servers.
pub(super) struct Bench<'a> {
    pub outbox: &'a Outbox,
    pub sink: &'a Sink,
    pub streams: &'a Streams,
}

/// What both servers say now of a batch.
struct Now {
    rows: HashMap<i64, Row>,
    entries: HashMap<(u32, EntryId), Entry>,
    /// Events of strangers that have a row after all.
    having_rows: Vec<String>,
}

impl Bench<'_> {
    /// Adds what is true of the suspicions to the report.
    pub async fn look_again(&self, suspects: &[Suspect], report: &mut Report) -> Result<()> {
        for batch in suspects.chunks(BATCH) {
            let now = self.read(batch).await?;
            for suspect in batch {
                if let Some(finding) = self.judge(suspect, &now) {
                    report.add(suspect.kind, finding);
                }
            }
        }
        Ok(())
    }

    async fn read(&self, batch: &[Suspect]) -> Result<Now> {
        let ids = batch.iter().flat_map(|suspect| [suspect.row, suspect.other_row]);
        let mut ids: Vec<i64> = ids.flatten().collect();
        ids.sort_unstable();
        ids.dedup();
        let has_payload = batch.iter().any(|suspect| suspect.kind == Kind::Changed);
        let rows = self.outbox.rows(&ids, has_payload).await?;
        let rows = rows.into_iter().filter_map(|row| Some((self.outbox.row(&row).id()?, row)));
        let rows = rows.collect();
        let wanted = batch.iter().flat_map(|suspect| {
            let both = [Some(suspect.entry), suspect.other];
            both.into_iter().flatten().map(|id| (suspect.stream, id))
        });
        let wanted: Vec<(u32, EntryId)> = wanted.collect();
        let read = entries(self.sink, self.streams, &wanted).await?;
        let found = wanted.into_iter().zip(read);
        let entries: HashMap<_, _> =
            found.filter_map(|(at, entry)| entry.map(|entry| (at, entry))).collect();
        let strangers = batch.iter().filter(|suspect| suspect.kind == Kind::Stranger);
        let strangers: Vec<String> = strangers
            .filter_map(|suspect| event_of(entries.get(&(suspect.stream, suspect.entry))?))
            .collect();
        let having_rows = self.outbox.having_rows(&strangers).await?;
        Ok(Now { rows, entries, having_rows })
    }

    /// The finding, where it is one still.
    fn judge(&self, suspect: &Suspect, now: &Now) -> Option<Finding> {
        let entry = now.entries.get(&(suspect.stream, suspect.entry))?;
        let event_id = event_of(entry)?;
        let other = || now.entries.get(&(suspect.stream, suspect.other?));
        let detail = match suspect.kind {
            Kind::Missing => return None,
            Kind::Doubled => {
                let first = other().filter(|first| event_of(first).as_ref() == Some(&event_id))?;
                format!("first in entry {}", first.id)
            }
            Kind::OutOfOrder => self.is_out_of_order(suspect, now)?,
            Kind::Changed => self.differences(suspect, entry, now)?,
            Kind::Stranger if now.having_rows.contains(&event_id) => return None,
            Kind::Stranger => "no such row".to_owned(),
        };
        let stream = self.streams.name(suspect.stream).to_owned();
        Some(Finding { row: suspect.row, event_id, stream, entry: Some(entry.id), detail })
    }

    fn is_out_of_order(&self, suspect: &Suspect, now: &Now) -> Option<String> {
        let (late, early) = (now.rows.get(&suspect.row?)?, now.rows.get(&suspect.other_row?)?);
        let (row, other) = (self.outbox.row(late), self.outbox.row(early));
        let is_one_aggregate = row.aggregate_id() == other.aggregate_id();
        if !is_one_aggregate || late.get("is_retried") {
            return None;
        }
        let before = now.entries.get(&(suspect.stream, suspect.other?))?;
        let is_its = event_of(before)?.as_bytes() == other.event_id()?;
        is_its.then(|| {
            format!("behind row {} in entry {}", suspect.other_row.unwrap_or(0), before.id)
        })
    }

    fn differences(&self, suspect: &Suspect, entry: &Entry, now: &Now) -> Option<String> {
        let row = self.outbox.row(now.rows.get(&suspect.row?)?);
        let envelope = self.outbox.envelope(&row).ok()?;
        let Seen::Event(values) = entry.seen() else { return None };
        let differences = Values::of(&envelope).differences(&values, row.created_at().is_some());
        if differences.is_empty() { None } else { Some(differences.join(", ")) }
    }

    /// Whether the row is settled still, and so has to have an entry; its event's identity.
    pub fn is_settled(&self, row: &Row) -> Option<String> {
        if Outbox::state(row) != State::Settled {
            return None;
        }
        let event_id = self.outbox.row(row).event_id()?;
        Some(String::from_utf8_lossy(event_id).into_owned())
    }
}

fn event_of(entry: &Entry) -> Option<String> {
    match entry.seen() {
        Seen::Event(values) => Some(String::from_utf8_lossy(values.event_id()).into_owned()),
        Seen::Replayed | Seen::Foreign => None,
    }
}
