//! The way of rows from before the slot: read, delivered, durable, marked; one after the other for
//! a row, all at once for many.
//!
//! In: a [`Reader`] in the slot's snapshot. Out: every row settled. It must stay true that rows are
//! delivered in the order of id, that a row is marked only when its entry is durable, that nothing
//! is written by a relay that has lost the table since it asked the clock of Redis, and that what
//! waits between the steps is bounded.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use futures_util::future::try_join4;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;
use tokio_postgres::{Client, Row};

use super::flight::Rows;
use super::forget::Forgetting;
use super::park::{Park, Parker};
use super::reader::{PAGE_ROWS, Reader};
use super::settle::Marker;
use crate::config::{AfterPublish, Ordering};
use crate::error::{Error, Result};
use crate::outbox::Selection;
use crate::poller::{Courier, Outcome, Trouble};
use crate::postgres::from_sql;
use crate::sink::{Durable, Gate, Sink, uuid};
use crate::telemetry::Status;

/// Bytes of rows delivered together, about; one row may be larger.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Chunks that are read and not delivered, besides the one being read.
const CHUNKS_AHEAD: usize = 1;
/// Chunks that are delivered and not known to be durable: 24 bytes a row.
const PARCELS_UNSAFE_MAX: usize = 256;
/// Chunks that are durable and not marked.
const PARCELS_UNMARKED_MAX: usize = 8;

type Outcomes<T = ()> = std::result::Result<T, Trouble>;

/// What outlives an outage of Redis.
pub(super) struct Cargo {
    pub reader: Reader,
    pub selection: Selection,
    pub marker: Marker,
    pub after_publish: AfterPublish,
    pub parker: Parker,
    /// Aggregates with an event that is parked, where order is kept.
    pub held: HashSet<Vec<u8>>,
    /// All rows up to this id are settled.
    pub settled: Option<i64>,
    pub forgetting: Forgetting,
}

/// A connection to Redis, and what it is used with.
pub(super) struct Vessel {
    pub sink: Sink,
    pub courier: Courier,
    pub durable: Durable,
    pub gate: Option<Gate>,
}

/// A chunk that is delivered.
struct Parcel {
    delivered: Instant,
    last_id: i64,
    rows: u64,
    ids: Vec<i64>,
    /// What Redis remembers of it, by key.
    remembered: HashMap<String, Vec<u128>>,
    parks: Vec<Park>,
}

/// Brings every row that is left from the snapshot to its end. `lock` is the session that holds the
/// table.
pub(super) async fn carry(
    cargo: &mut Cargo,
    vessel: &mut Vessel,
    lock: &Client,
    status: &Status,
) -> Outcomes {
    let (chunk_in, chunk_out) = channel(CHUNKS_AHEAD);
    let (unsafe_in, unsafe_out) = channel(PARCELS_UNSAFE_MAX);
    let (safe_in, safe_out) = channel(PARCELS_UNMARKED_MAX);
    let Cargo { reader, selection, marker, after_publish, parker, held, settled, forgetting } =
        cargo;
    let delivery = vessel.courier.delivery().clone();
    let together = vessel.courier.terms().rate.together(PAGE_ROWS);
    let loader = Loader { courier: &mut vessel.courier, held, lock };
    let settle = Settle { marker, is_marked: *after_publish != AfterPublish::Keep, parker, status };
    let from = *settled;
    let all = try_join4(
        read(reader, selection, (from, together), chunk_in),
        loader.run(chunk_out, unsafe_in),
        secure(vessel.durable, vessel.gate.as_ref(), &vessel.sink, (unsafe_out, safe_in)),
        settle.run(safe_out, settled, forgetting),
    );
    tokio::select! {
        biased;
        done = all => done.map(drop),
        failure = forgetting.go_on(&delivery) => Err(failure.into()),
    }
}

/// Reads the rows behind the id, and hands them on in chunks of so many.
async fn read(
    reader: &Reader,
    selection: &Selection,
    (settled, together): (Option<i64>, usize),
    out: Sender<Vec<Row>>,
) -> Outcomes {
    let unpublished = selection.unpublished();
    let condition = match settled {
        // Those without a number come last; deliver() has something to say about them.
        Some(id) => {
            let behind = reader.outbox().sql(&format!("(o.id > {id} OR o.id IS NULL)"));
            format!("{unpublished} AND {behind}")
        }
        None => unpublished.to_owned(),
    };
    reader.rewind(&selection.list(), &condition).await?;
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    loop {
        let page = reader.page().await?;
        let mut page = std::pin::pin!(page);
        let mut rows = 0;
        while let Some(row) = page.try_next().await.map_err(|error| reader.failed(error))? {
            rows += 1;
            bytes += row.raw_size_bytes();
            chunk.push(row);
            if chunk.len() >= together || bytes >= CHUNK_BYTES_MAX {
                bytes = 0;
                // Nobody listens once another step has failed: that one tells why.
                if out.send(std::mem::take(&mut chunk)).await.is_err() {
                    return Ok(());
                }
            }
        }
        if rows < PAGE_ROWS {
            break;
        }
    }
    if !chunk.is_empty() {
        let _unheard = out.send(chunk).await;
    }
    Ok(())
}

/// Delivers chunks.
struct Loader<'a> {
    courier: &'a mut Courier,
    held: &'a mut HashSet<Vec<u8>>,
    lock: &'a Client,
}

impl Loader<'_> {
    async fn run(mut self, mut chunks: Receiver<Vec<Row>>, out: Sender<Parcel>) -> Outcomes {
        while let Some(rows) = chunks.recv().await {
            self.courier.terms().rate.pass().await;
            let parcel = self.deliver(rows).await?;
            if out.send(parcel).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn deliver(&mut self, rows: Vec<Row>) -> Outcomes<Parcel> {
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        // Where any row has no number the last one has none.
        let last_id = rows.last().map_or(Ok(i64::MIN), |row| self.number(row))?;
        let (behind, rows): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| self.is_behind(row));
        // In this order: who finds the table his own after he has asked the clock writes in time,
        // or not at all.
        let deadline = self.courier.delivery().deadline().await?;
        prove(self.lock).await?;
        let outcomes = self.courier.deliver(&rows, deadline).await?;
        let mut parcel = Parcel {
            delivered: Instant::now(),
            last_id,
            rows: count,
            ids: Vec::with_capacity(rows.len()),
            remembered: HashMap::new(),
            parks: Vec::new(),
        };
        for row in &behind {
            self.note(row, &Outcome::Behind, &mut parcel)?;
        }
        for (row, outcome) in rows.iter().zip(&outcomes) {
            self.note(row, outcome, &mut parcel)?;
        }
        parcel.parks.sort_by_key(|park| park.id);
        Ok(parcel)
    }

    fn is_behind(&self, row: &Row) -> bool {
        let has = |id: &[u8]| self.held.contains(id);
        !self.held.is_empty() && self.courier.row(row).aggregate_id().is_some_and(has)
    }

    /// Without its number a row could be neither marked nor parked: it must not be delivered.
    fn number(&self, row: &Row) -> Result<i64> {
        self.courier.row(row).id().ok_or_else(|| {
            let outbox = &self.courier.terms().outbox;
            let column = outbox.columns.column("id").unwrap_or("id");
            Error::definite(format!("table {outbox} has an unpublished row without {column}")).hint(
                "`walrelay setup` numbers the rows that have none; then start the relay again",
            )
        })
    }

    fn note(&mut self, row: &Row, outcome: &Outcome, parcel: &mut Parcel) -> Result<()> {
        let id = self.number(row)?;
        let row = self.courier.row(row);
        match outcome {
            Outcome::Delivered => {
                parcel.ids.push(id);
                let terms = self.courier.terms();
                let stream = self.courier.stream(&row);
                let key = terms.delivered_key(&String::from_utf8_lossy(&stream));
                // What is no UUID is left to the sweep of the pollers.
                if let Some(number) = row.event_id().and_then(uuid) {
                    parcel.remembered.entry(key).or_default().push(number);
                }
            }
            Outcome::Refused(failure) => {
                if self.courier.terms().ordering == Ordering::PerAggregate {
                    self.held.extend(row.aggregate_id().map(<[u8]>::to_vec));
                }
                parcel.parks.push(Park::refused(id, failure));
            }
            Outcome::Unfit(unfit) => parcel.parks.push(Park::unfit(id, unfit)),
            Outcome::Behind => parcel.parks.push(Park::behind(id)),
        }
        Ok(())
    }
}

/// Passes chunks on once they are durable.
async fn secure(
    durable: Durable,
    gate: Option<&Gate>,
    sink: &Sink,
    (mut parcels, out): (Receiver<Parcel>, Sender<Parcel>),
) -> Outcomes {
    let mut next = parcels.recv().await;
    while let Some(first) = next.take() {
        // Time alone proves nothing, as with the line: Redis is asked after it.
        tokio::time::sleep_until(first.delivered + durable.hold).await;
        let now = Instant::now();
        let mut due = vec![first];
        while let Ok(parcel) = parcels.try_recv() {
            if parcel.delivered + durable.hold > now {
                next = Some(parcel);
                break;
            }
            due.push(parcel);
        }
        match gate {
            Some(gate) => gate.clone().pass().await?,
            None if !durable.hold.is_zero() => sink.clone().ping().await?,
            None => {}
        }
        for parcel in due {
            if out.send(parcel).await.is_err() {
                return Ok(());
            }
        }
        if next.is_none() {
            next = parcels.recv().await;
        }
    }
    Ok(())
}

/// Marks and parks rows.
struct Settle<'a> {
    marker: &'a Marker,
    is_marked: bool,
    parker: &'a mut Parker,
    status: &'a Status,
}

impl Settle<'_> {
    async fn run(
        self,
        mut parcels: Receiver<Parcel>,
        settled: &mut Option<i64>,
        forgetting: &Forgetting,
    ) -> Outcomes {
        while let Some(parcel) = parcels.recv().await {
            if self.is_marked {
                // What was sent through the snapshot is visible: a row that is missing is gone.
                let rows = Rows { ids: parcel.ids, ..Rows::default() };
                let marked = self.marker.mark(&rows).await?;
                self.status.metrics.marked.inc_by(marked.rows);
                self.status.metrics.gone.inc_by(marked.gone);
            }
            self.parker.park(self.marker.client(), &parcel.parks).await?;
            *settled = Some(parcel.last_id);
            self.status.backlog_settled(parcel.rows);
            forgetting.add(parcel.remembered);
        }
        Ok(())
    }
}

/// That the session still lives, and with it the lock on the table that it holds.
pub(super) async fn prove(lock: &Client) -> Result<()> {
    let doing = "the session that holds the table has ended";
    lock.batch_execute("").await.map_err(|error| from_sql(doing, error))
}
