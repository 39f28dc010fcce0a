//! Rows without an entry: trimmed, untold, or missing.
//!
//! In: those rows, as they were when they were read. Out: counts, findings, and the ids of what is
//! missing, lowest first. It must stay true that a row counts as missing only when it is settled
//! still, and that memory is bounded: of very many ids the lowest are kept.

use std::collections::{BinaryHeap, HashMap};

use super::findings::{Finding, Kind, Report};
use super::record::{NEVER, Record};
use super::spill::Spill;
use super::suspects::Bench;
use super::trimmed::{Fate, Head, fate};
use crate::error::Result;

/// Ids that one repair takes: 8 MiB.
pub(super) const IDS_MAX: usize = 1_000_000;

/// What is missing.
#[derive(Default)]
pub(super) struct Missing {
    /// The lowest ids, at most [`IDS_MAX`].
    ids: BinaryHeap<i64>,
    /// How many of them might have been trimmed: only how many there are, or their ids, speak
    /// against it.
    pub doubtful: u64,
}

impl Missing {
    /// Tells what became of every row in `spill`, and adds it to the report.
    pub async fn find(
        bench: &Bench<'_>,
        spill: &Spill,
        is_strict: bool,
        report: &mut Report,
    ) -> Result<Self> {
        let heads = heads(bench, spill)?;
        let mut missing = Self::default();
        for block in 0..spill.blocks(0) {
            let mut records = spill.block(0, block)?;
            records.retain(|record| {
                let head = heads.get(&record.stream).copied().unwrap_or_default();
                match of(record, &head) {
                    Fate::Trimmed => report.trimmed += 1,
                    Fate::Untold if !is_strict => report.untold += 1,
                    Fate::Untold | Fate::Missing => return true,
                }
                false
            });
            missing.look_again(bench, &records, &heads, report).await?;
        }
        Ok(missing)
    }

    async fn look_again(
        &mut self,
        bench: &Bench<'_>,
        batch: &[Record],
        heads: &HashMap<u32, Head>,
        report: &mut Report,
    ) -> Result<()> {
        let ids: Vec<i64> = batch.iter().map(Record::row).collect();
        let rows = bench.outbox.rows(&ids, false).await?;
        let rows: HashMap<i64, _> =
            rows.iter().filter_map(|row| Some((bench.outbox.row(row).id()?, row))).collect();
        for record in batch {
            let id = record.row();
            let Some(event_id) = rows.get(&id).and_then(|row| bench.is_settled(row)) else {
                continue;
            };
            let stream = bench.streams.name(record.stream).to_owned();
            let head = heads.get(&record.stream);
            let is_gone = head.is_none_or(|head| head.about.is_none());
            let detail = if is_gone { "there is no such stream" } else { "" }.to_owned();
            let is_doubtful = head.is_some_and(|head| of(record, &head.certain()) != Fate::Missing);
            self.doubtful += u64::from(is_doubtful);
            self.keep(id);
            report.add(
                Kind::Missing,
                Finding { row: Some(id), event_id, stream, entry: None, detail },
            );
        }
        Ok(())
    }

    fn keep(&mut self, id: i64) {
        self.ids.push(id);
        if self.ids.len() > IDS_MAX {
            self.ids.pop();
        }
    }

    /// The lowest ids, in their order.
    pub fn into_ids(self) -> Vec<i64> {
        self.ids.into_sorted_vec()
    }
}

fn created(record: &Record) -> Option<u64> {
    Some(record.b).filter(|ms| *ms != NEVER)
}

fn of(record: &Record, head: &Head) -> Fate {
    fate(head, record.row(), created(record))
}

/// Of each stream what trimming could explain, with how many rows it would have to explain.
fn heads(bench: &Bench<'_>, spill: &Spill) -> Result<HashMap<u32, Head>> {
    let mut suspects: HashMap<u32, (Head, u64)> = HashMap::new();
    spill.each(0, |record| {
        let (head, count) = suspects.entry(record.stream).or_insert_with(|| {
            let stream = bench.streams.get(record.stream);
            let first_row = stream.and_then(|stream| stream.oldest).map(|(_, row)| row);
            (stream.map_or_else(Head::default, |stream| Head { first_row, ..stream.head }), 0)
        });
        *count += u64::from(of(&record, head) == Fate::Trimmed);
        Ok(())
    })?;
    let all = suspects.into_iter();
    Ok(all
        .map(|(number, (head, count))| (number, Head { suspects: Some(count), ..head }))
        .collect())
}
