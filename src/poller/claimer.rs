//! Claims rows in a lane and brings them to Redis: the first half of a round.
//!
//! In: a lane. Out: a [`Lot`], delivered and to be settled, or the word that there is nothing. It
//! must stay true that the clock of Redis is read before the rows are claimed; that where order is
//! kept only closed ids are claimed ([`Floor`]), and only by who has the turn; and that the turn is
//! given away only when everything claimed is in Redis. Who has it next skips what others have
//! locked, and may do so because it has been delivered; that is not so when Redis has been started
//! anew since and may have lost it, so rounds that were delivered to another run of Redis are
//! waited for. A lot with an event that is to be parked keeps the turn to its end, for the parking
//! must be seen by who claims next.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::time::Instant;
use tokio_postgres::Row as SqlRow;

use super::courier::{Courier, Outcome};
use super::floor::{Breadth, Floor};
use super::judge::{Claimed, Judge, Judgement, outcome_of_deaths};
use super::kept::Kept;
use super::lane::{Lane, Seen};
use super::memory::{Names, by_hash};
use super::settle::Settlement;
use super::trouble::Trouble;
use super::wake::Found;
use crate::config::{Ordering, Settings};
use crate::postgres::from_sql;
use crate::sink::Failure;

/// Rows of the first claim.
const LOT_ROWS_MIN: i64 = 256;
/// Rows of a claim at most: where Redis is given two seconds to reach its disk, four such lots are
/// under way.
const LOT_ROWS_MAX: i64 = 16_384;
/// A lot that takes less is followed by one of twice as many rows; one that takes four times as
/// long by one of half as many.
const LOT_TIME: Duration = Duration::from_millis(250);
/// A lot is cut short after this: well inside the lease.
const LOT_TIME_MAX: Duration = Duration::from_secs(5);
/// What is read of a lot before it is delivered, in rows and in bytes.
const PART_ROWS: usize = 1_024;
const PART_BYTES: usize = 4 << 20;
/// A lot whose delivery ended the process more often is delivered event by event.
const LOT_DEATHS: u64 = 2;
/// An event whose delivery alone ended the process more often is parked.
const EVENT_DEATHS: u64 = 5;
/// A look for what other pollers have left behind, at least.
const UNSETTLED_MIN: Duration = Duration::from_secs(1);
const UNSETTLED_MAX: Duration = Duration::from_secs(60);
/// A look from the very first row: so seldom, and a hundredth of the time at most.
const WHOLE: Duration = Duration::from_secs(60);
const WHOLE_SHARE: u32 = 100;
/// A transaction that holds rows back for longer is worth a line in the log.
const PATIENCE: Duration = Duration::from_secs(5);

/// Rows that were claimed and tried.
#[derive(Debug, Default)]
pub struct Lot {
    /// Rows that are in their streams.
    pub delivered: Vec<i64>,
    /// What the others become.
    pub others: Settlement,
    /// What Redis may forget, some time after all this is committed.
    pub names: Names,
    /// The last id, and how many rows.
    last: Option<i64>,
    rows: usize,
    /// Whether some of what was claimed has not been tried.
    is_cut: bool,
}

impl Lot {
    /// Whether Redis was written to.
    #[must_use]
    pub fn has_written(&self) -> bool {
        !self.delivered.is_empty() || self.others.has_written()
    }
}

/// Claims for one poller.
pub struct Claimer {
    courier: Courier,
    judge: Judge,
    floor: Floor,
    is_ordered: bool,
    kept: Kept,
    begun_key: String,
    lot_rows: i64,
    /// Whether the last round found something: then another look before the turn tells nothing new.
    is_busy: bool,
    unsettled_every: Duration,
    next_unsettled: Instant,
    next_whole: Instant,
    held_since: Option<Instant>,
    named: HashSet<String>,
}

impl Claimer {
    /// Knows nothing of the table yet.
    #[must_use]
    pub fn new(courier: Courier, settings: &Settings, kept: Kept, now: Instant) -> Self {
        let begun_key = courier.terms().begun_key();
        Self {
            courier,
            judge: Judge::new(settings),
            floor: Floor::default(),
            is_ordered: settings.ordering == Ordering::PerAggregate,
            kept,
            begun_key,
            lot_rows: LOT_ROWS_MIN,
            is_busy: false,
            unsettled_every: settings.poll_interval.clamp(UNSETTLED_MIN, UNSETTLED_MAX),
            next_unsettled: now,
            next_whole: now + WHOLE,
            held_since: None,
            named: HashSet::new(),
        }
    }

    /// A round up to its delivery. The lane comes out of it with its transaction open, if there is
    /// a lot.
    pub async fn round(&mut self, lane: &mut Lane) -> Result<Result<Lot, Found>, Trouble> {
        // Here nobody waits for us; in the claim there is little to wait for then.
        self.courier.terms().rate.pass().await;
        if !self.is_busy {
            let breadth = self.breadth(Instant::now());
            let began = Instant::now();
            let seen = lane.look(self.floor.above(breadth)).await?;
            self.looked(breadth, began);
            self.floor.look(breadth, &seen.look);
            if let Some(found) = self.nothing(lane, &seen).await? {
                return Ok(Err(found));
            }
        }
        self.is_busy = false;
        lane.begin().await?;
        // What is parked, and which rounds there are, holds only for who has the turn.
        let seen = lane.look(self.floor.above(Breadth::Next)).await?;
        self.floor.look(Breadth::Next, &seen.look);
        if let Some(found) = self.nothing(lane, &seen).await? {
            lane.roll_back().await?;
            return Ok(Err(found));
        }
        let lot = self.claim(lane, &seen).await?;
        if lot.rows == 0 {
            lane.roll_back().await?;
            return Ok(Err(Found::Held));
        }
        self.is_busy = true;
        let is_done = !lot.is_cut && lot.others.parked() == 0 && lot.others.dead() == 0;
        if is_done {
            lane.give_turn().await?;
        }
        Ok(Ok(lot))
    }

    /// What the next look is to cover.
    fn breadth(&self, now: Instant) -> Breadth {
        match now {
            now if now >= self.next_whole => Breadth::Whole,
            now if now >= self.next_unsettled => Breadth::Unsettled,
            _ => Breadth::Next,
        }
    }

    fn looked(&mut self, breadth: Breadth, began: Instant) {
        let now = Instant::now();
        if breadth != Breadth::Next {
            self.next_unsettled = now + self.unsettled_every;
        }
        if breadth == Breadth::Whole {
            self.next_whole = now + WHOLE.max((now - began) * WHOLE_SHARE);
        }
    }

    /// Why nothing can be claimed now, if so.
    async fn nothing(&mut self, lane: &Lane, seen: &Seen) -> Result<Option<Found>, Trouble> {
        let Some(first) = seen.look.first_new else {
            self.held_since = None;
            return Ok(Some(Found::Nothing));
        };
        let is_open = self.is_ordered && first > self.floor.closed();
        let must_wait = self.is_ordered && seen.has_foreign_rounds;
        if !is_open && !must_wait {
            self.held_since = None;
            return Ok(None);
        }
        let now = Instant::now();
        if now - *self.held_since.get_or_insert(now) > PATIENCE {
            self.name_holders(lane).await?;
        }
        Ok(Some(Found::Held))
    }

    /// Says who holds rows back, once for each.
    async fn name_holders(&mut self, lane: &Lane) -> Result<(), Trouble> {
        let new: Vec<String> = self
            .floor
            .waits_for()
            .filter(|n| !self.named.contains(*n))
            .map(str::to_owned)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        for (pid, seconds) in lane.writers(&new).await? {
            tracing::warn!(
                pid,
                seconds,
                "rows wait for a transaction that has the outbox locked for writing: it may still \
                 add a row that belongs before them"
            );
        }
        self.named = self.floor.waits_for().map(str::to_owned).collect();
        Ok(())
    }

    async fn claim(&mut self, lane: &Lane, seen: &Seen) -> Result<Lot, Trouble> {
        // Whatever waits in a parked aggregate goes behind.
        let mut behind = HashSet::new();
        if seen.has_parked && self.is_ordered {
            behind = lane.parked().await?;
        }
        let first = seen.look.first_new.unwrap_or_default();
        let name = format!("from:{first}");
        self.give_back().await?;
        let (deadline, times) = self.begin(&name).await?;
        let to = if self.is_ordered { self.floor.closed() } else { i64::MAX };
        let range = (self.floor.above(Breadth::Next), to);
        let mut tour =
            Tour { deadline, behind, lot: Lot::default(), judgement: Judgement::default() };
        let began = Instant::now();
        let lot_rows = self.lot_rows();
        let limit = if times > LOT_DEATHS {
            tracing::warn!(
                times,
                "a batch has ended the process again and again: its events go one by one"
            );
            self.one_by_one(lane, range, &mut tour).await?;
            LOT_ROWS_MIN
        } else {
            self.stream(lane, range, lot_rows, &mut tour).await?;
            lot_rows
        };
        self.end(name).await?;
        let lot = tour.into_lot();
        let is_full = i64::try_from(lot.rows).is_ok_and(|rows| rows >= limit);
        if !lot.is_cut {
            self.floor.claim(lot.last.filter(|_| is_full));
        }
        self.fit_lot(began.elapsed(), is_full || lot.is_cut);
        Ok(lot)
    }

    /// Rows of the next claim.
    fn lot_rows(&self) -> i64 {
        let within = self.courier.terms().rate.within(LOT_TIME * 2, usize::MAX);
        self.lot_rows.min(i64::try_from(within).unwrap_or(i64::MAX))
    }

    fn fit_lot(&mut self, took: Duration, is_full: bool) {
        if took < LOT_TIME && is_full {
            self.lot_rows = (self.lot_rows * 2).min(LOT_ROWS_MAX);
        } else if took > LOT_TIME * 4 {
            self.lot_rows = (self.lot_rows / 2).max(1);
        }
    }

    /// The usual way: rows are delivered in parts while the rest is still coming.
    async fn stream(
        &mut self,
        lane: &Lane,
        range: (i64, i64),
        limit: i64,
        tour: &mut Tour,
    ) -> Result<(), Trouble> {
        let began = Instant::now();
        let mut rows = std::pin::pin!(lane.claim(range, limit).await?);
        let rate = self.courier.terms().rate.clone();
        let part_rows = rate.together(PART_ROWS);
        let (mut part, mut bytes) = (Vec::new(), 0);
        loop {
            let row =
                rows.try_next().await.map_err(|error| from_sql("cannot claim rows", error))?;
            let is_last = row.is_none();
            bytes += row.as_ref().map_or(0, SqlRow::raw_size_bytes);
            part.extend(row);
            if !is_last && part.len() < part_rows && bytes < PART_BYTES {
                continue;
            }
            if !part.is_empty() {
                rate.pass().await;
            }
            self.deliver(&std::mem::take(&mut part), tour).await?;
            bytes = 0;
            if is_last {
                return Ok(());
            }
            if began.elapsed() > LOT_TIME_MAX {
                tour.lot.is_cut = true;
                return Ok(());
            }
        }
    }

    /// One of these events ends the process when it is read or delivered. Each is counted before it
    /// is touched, so that a count outlives us.
    async fn one_by_one(
        &mut self,
        lane: &Lane,
        range: (i64, i64),
        tour: &mut Tour,
    ) -> Result<(), Trouble> {
        let began = Instant::now();
        for id in lane.claim_ids(range, LOT_ROWS_MIN).await? {
            if began.elapsed() > LOT_TIME_MAX {
                tour.lot.is_cut = true;
                return Ok(());
            }
            let name = format!("one:{id}");
            let (_, times) = self.begin(&name).await?;
            if times > EVENT_DEATHS {
                let Some(row) = lane.claimed_without_payload(id).await? else { continue };
                tracing::warn!(id, times, "publishing this row ends the process: it is not tried");
                let times = u32::try_from(times - 1).unwrap_or(u32::MAX);
                let outcome = outcome_of_deaths(&self.courier, &row, times).await?;
                if matches!(outcome, Outcome::Refused(_)) {
                    tour.behind.extend(self.courier.row(&row).aggregate_id().map(<[u8]>::to_vec));
                }
                self.judge(&[row], &[outcome], tour).await?;
            } else {
                let Some(row) = lane.claimed(id).await? else { continue };
                self.courier.terms().rate.pass().await;
                self.deliver(&[row], tour).await?;
            }
            self.end(name).await?;
        }
        Ok(())
    }

    /// Counts the beginning of a delivery: the end of its claim, and how many were not answered.
    async fn begin(&self, name: &str) -> Result<(u64, u64), Failure> {
        self.kept.begin_delivery(name);
        self.courier.delivery().begin(&self.begun_key, name).await
    }

    /// It was answered.
    async fn end(&self, name: String) -> Result<(), Failure> {
        self.courier.delivery().forget(&self.begun_key, std::slice::from_ref(&name)).await?;
        self.kept.end_delivery(&name);
        Ok(())
    }

    /// What an outage has ended was not the end of the process: it is not counted.
    async fn give_back(&self) -> Result<(), Failure> {
        for name in self.kept.deliveries() {
            self.courier.delivery().give_back(&self.begun_key, &name).await?;
            self.kept.end_delivery(&name);
        }
        Ok(())
    }

    async fn deliver(&mut self, rows: &[SqlRow], tour: &mut Tour) -> Result<(), Trouble> {
        let outcomes = self.courier.deliver_behind(rows, tour.deadline, &mut tour.behind).await?;
        self.judge(rows, &outcomes, tour).await
    }

    async fn judge(
        &self,
        rows: &[SqlRow],
        outcomes: &[Outcome],
        tour: &mut Tour,
    ) -> Result<(), Trouble> {
        let mut keys: HashMap<Cow<'_, [u8]>, String> = HashMap::new();
        for (sql_row, outcome) in rows.iter().zip(outcomes) {
            let row = self.courier.row(sql_row);
            let lot = &mut tour.lot;
            lot.rows += 1;
            lot.last = row.id().or(lot.last);
            let (Outcome::Delivered, Some(id)) = (outcome, row.id()) else {
                let claimed = Claimed { row: sql_row, place: lot.rows };
                let with = (&self.courier, tour.deadline);
                self.judge.judge(with, claimed, outcome, &mut tour.judgement).await?;
                continue;
            };
            lot.delivered.push(id);
            let stream = self.courier.stream(&row);
            let key = keys.entry(stream).or_insert_with_key(|stream| {
                self.courier.terms().delivered_key(&String::from_utf8_lossy(stream))
            });
            let name = String::from_utf8_lossy(row.event_id().unwrap_or_default()).into_owned();
            match lot.names.get_mut(key.as_str()) {
                Some(names) => names.push(name),
                None => drop(lot.names.insert(key.clone(), vec![name])),
            }
        }
        Ok(())
    }
}

/// A lot that is being delivered.
struct Tour {
    deadline: u64,
    /// Aggregates of which nothing more may be written.
    behind: HashSet<Vec<u8>>,
    lot: Lot,
    judgement: Judgement,
}

impl Tour {
    fn into_lot(self) -> Lot {
        let Judgement { settlement, remembered, unwritten } = self.judgement;
        if let Some(unwritten) = unwritten {
            tracing::warn!(error = unwritten, "a dead letter cannot be written: tried again later");
        }
        if settlement.parked() > 0 || settlement.dead() > 0 {
            let (parked, dead) = (settlement.parked(), settlement.dead());
            tracing::warn!(parked, dead, "events are refused, or wait behind one that is");
        }
        let mut lot = self.lot;
        for (key, names) in by_hash(remembered) {
            lot.names.entry(key).or_default().extend(names);
        }
        lot.others = settlement;
        lot
    }
}
