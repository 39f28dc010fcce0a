//! Rows that are in their streams already and do not say so: a line had published them and was gone
//! before it marked them.
//!
//! In: a table without a line. Out: those rows are marked, and no earlier line can write any more.
//! It must stay true that a stream is read only after earlier leaders are fenced off from it, that
//! a row is marked only when its entry is durable, and that memory is bounded: a stream is read as
//! far back as all lines on the table can have unsettled events, and ids are compared some million
//! at a time.

use futures_util::TryStreamExt;

use super::flight::Rows;
use super::line::OUTSTANDING_EVENTS_MAX;
use super::reader::{PAGE_ROWS, Reader};
use super::settle::Marker;
use super::start::Context;
use crate::config::AfterPublish;
use crate::error::Result;
use crate::outbox::Selection;
use crate::postgres::{Standing, quote};
use crate::sink::{self, Durable, EventIds, Gate, Sink, Verdict};

/// Entries by others that may stand among the newest ones: of retries, and of operators.
const OTHERS_MAX: usize = 16_384;
/// Ids in memory when they are compared with the table: 16 MiB, and one stream's more.
const IDS_MAX: usize = 1_048_576;

/// What the ids are compared for.
struct Comparison<'a> {
    selection: &'a Selection,
    reader: Reader,
    marker: Marker,
    sink: Sink,
    durable: Durable,
    gate: Option<Gate>,
    marked: u64,
}

impl Context {
    /// Marks the unpublished rows whose events are among the newest of their streams. How many.
    /// `slot` names the line that had published them, one of so many `lines` on the table.
    pub(super) async fn reconcile(
        &self,
        selection: &Selection,
        standing: &Standing,
        slot: &str,
        lines: usize,
    ) -> Result<u64> {
        let settings = &*self.settings;
        let table = &settings.outbox_table;
        if settings.after_publish == AfterPublish::Keep {
            return Ok(0);
        }
        let (source, checkpoint) = self.checkpoint_of(slot, standing);
        let (sink, _, durable) = self.redis().await?;
        let gate = self.connect_gate(durable, &checkpoint).await?;
        let reader = Reader::begin(self.session().await?, table, None).await?;
        let marker = Marker::new(self.session().await?, table, settings.after_publish).await?;
        let named = {
            let default = quote::literal(&settings.stream_name);
            let stream = format!("coalesce({}, {default})", selection.topic());
            reader.streams(&stream, selection.unpublished()).await?
        };
        // The default stream's checkpoint is every line's.
        let others = named.into_iter().filter(|stream| *stream != settings.stream_name);
        let streams = std::iter::once(settings.stream_name.clone()).chain(others);
        let mut comparison =
            Comparison { selection, reader, marker, sink, durable, gate, marked: 0 };
        let mut ids = EventIds::default();
        // Lines of other shards write between those of this one.
        let of_one = usize::try_from(OUTSTANDING_EVENTS_MAX).unwrap_or(usize::MAX);
        let entries = of_one.saturating_mul(lines.max(1)).saturating_add(OTHERS_MAX);
        for stream in streams {
            let key = sink::checkpoint_key(&stream, &source);
            match comparison.sink.open(&stream, &key, standing.timeline).await {
                Ok(_) => {}
                // No line can have written there.
                Err(failure) if failure.verdict == Verdict::Rejected => continue,
                Err(failure) => {
                    return Err(failure.into_error(&format!("cannot take over stream {stream:?}")));
                }
            }
            let reading = comparison.sink.recent(&stream, entries, &mut ids);
            reading
                .await
                .map_err(|failure| failure.into_error(&format!("cannot read stream {stream:?}")))?;
            if ids.len() >= IDS_MAX {
                comparison.compare(&mut ids).await?;
            }
        }
        comparison.compare(&mut ids).await?;
        if comparison.marked > 0 {
            tracing::warn!(
                table = %table, rows = comparison.marked,
                "rows were in their streams and not marked: an earlier relay was gone before it \
                 could; they are marked now"
            );
        }
        Ok(comparison.marked)
    }
}

impl Comparison<'_> {
    /// Marks the rows whose events are among `ids`, and forgets those.
    async fn compare(&mut self, ids: &mut EventIds) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.secure().await?;
        let Self { selection, reader, .. } = self;
        reader.rewind(selection.identities(), selection.unpublished()).await?;
        let mut found = Vec::new();
        loop {
            let mut rows = 0;
            let page = self.reader.page().await?;
            let mut page = std::pin::pin!(page);
            while let Some(row) =
                page.try_next().await.map_err(|error| self.reader.failed(error))?
            {
                rows += 1;
                let event_id: Option<&str> = row.get("event_id");
                if event_id.is_some_and(|id| ids.contains(id.as_bytes())) {
                    // A row without a number cannot be marked; whoever publishes it says so.
                    found.extend(row.get::<_, Option<i64>>("id"));
                }
            }
            let is_last = rows < PAGE_ROWS;
            if found.len() >= PAGE_ROWS || is_last && !found.is_empty() {
                let rows = Rows { ids: std::mem::take(&mut found), ..Rows::default() };
                self.marked += self.marker.mark(&rows).await?.rows;
            }
            if is_last {
                ids.clear();
                return Ok(());
            }
        }
    }

    /// Returns when all that was read is durable.
    async fn secure(&self) -> Result<()> {
        tokio::time::sleep(self.durable.hold).await;
        let safe = match &self.gate {
            Some(gate) => gate.clone().pass().await,
            None => self.sink.clone().ping().await,
        };
        safe.map_err(|failure| failure.into_error("cannot make sure that entries are durable"))
    }
}
