//! One round of retrying: claim, publish, wait until it is safe, settle.
//!
//! In: a session, an outlet. Out: rows settled, or everything as it was before. It must stay true
//! that the clock of Redis is read before anything is claimed, and that the steps come in this
//! order, so that a crash between any two of them leaves rows that are claimed again and recognised
//! (`sink/deliver.lua`).

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Row as SqlRow;

use super::claim::{Desk, Payloads, Picked};
use super::claim_rows::ClaimRows;
use super::courier::Outcome;
use super::judge::{Claimed, Judge, Judgement, outcome_of_deaths};
use super::kept::Kept;
use super::outlet::Outlet;
use super::trouble::Trouble;
use crate::config::Settings;
use crate::error::Result;
use crate::sink::LEASE;

/// After so many ends of the process an attempt counts as refused.
const DEATHS_MAX: u32 = 5;
/// What was claimed is published for this long; the rest of the lease is for slow replies.
const PUBLISHING_MAX: Duration = Duration::from_secs(LEASE.as_secs() / 2);

/// What a round did.
#[derive(Debug, Default)]
pub struct Done {
    /// The class of the rows that were picked; none when there were none.
    pub class: Option<i32>,
    /// Whether there are due rows of a higher class.
    pub has_higher: bool,
    /// Rows that are in their streams.
    pub delivered: usize,
    /// Rows that are dead.
    pub dead: usize,
    /// Rows that were refused, or wait on.
    pub parked: usize,
    /// Why a dead letter could not be written.
    pub unwritten: Option<String>,
}

impl Done {
    /// Rows that are something else than before.
    #[must_use]
    pub fn settled(&self) -> usize {
        self.delivered + self.dead + self.parked
    }
}

/// What a round works with.
pub struct Round<'a> {
    /// The session.
    pub desk: &'a Desk,
    /// Redis.
    pub outlet: &'a mut Outlet,
    /// The process's memory.
    pub kept: &'a Kept,
    /// Who says what becomes of a row.
    pub judge: &'a Judge,
    /// Bounds of what is in memory at once.
    pub settings: &'a Settings,
    /// How many rows are claimed.
    pub rows: &'a mut ClaimRows,
}

impl Round<'_> {
    /// One round with rows of the lowest class above `above`.
    pub async fn run(mut self, above: i32) -> Result<Done, Trouble> {
        let began = Instant::now();
        let (picked, has_higher) = self.desk.start(above, self.rows.now()).await?;
        let Some(deaths) = picked.iter().map(|row| row.deaths).max() else {
            return Ok(Done::default());
        };
        let class = i32::try_from(deaths.min(3)).unwrap_or(3);
        self.kept.begin(picked.iter().filter(|row| row.deaths < DEATHS_MAX).map(|row| row.id));
        // Picking may take longer than a claim lasts, where very many rows are parked.
        let deadline = self.outlet.courier.delivery().deadline().await?;
        let until = Instant::now() + PUBLISHING_MAX;
        let claimed = self.desk.claim(picked).await?;
        let claimed_at = Instant::now();
        let published = self.publish(&claimed, until, deadline).await;
        let publishing = claimed_at.elapsed();
        let done = match published {
            Ok(judgement) => self.settle(judgement, &claimed).await,
            Err(trouble) => Err(trouble),
        };
        if done.is_err() {
            // If this fails as well the session is given up, and its claim with it.
            self.desk.roll_back().await?;
        }
        let begun = self.kept.begun();
        if !begun.is_empty() {
            self.desk.undo_start(&begun).await?;
            self.kept.end(begun.into_iter());
        }
        if let Ok(done) = &done {
            self.rows.fit(done.settled(), publishing, began.elapsed().saturating_sub(publishing));
        }
        done.map(|done| Done { class: Some(class), has_higher, ..done })
    }

    /// Brings what is claimed to Redis, a piece at a time.
    async fn publish(
        &mut self,
        claimed: &[Picked],
        until: Instant,
        deadline: u64,
    ) -> Result<Judgement, Trouble> {
        let mut judgement = Judgement::default();
        let mut blocked: HashSet<&str> = HashSet::new();
        let mut place = 0;
        for piece in pieces(claimed, self.settings) {
            if Instant::now() > until {
                break;
            }
            let piece: Vec<&Picked> =
                piece.iter().filter(|row| !blocked.contains(row.lane.as_str())).collect();
            let ids: Vec<i64> = piece.iter().map(|row| row.id).collect();
            let deaths = piece.iter().map(|row| row.deaths).max().unwrap_or_default();
            let payloads = if deaths < DEATHS_MAX { Payloads::Read } else { Payloads::Leave };
            let rows: Vec<SqlRow> = self.desk.read(&ids, payloads).await?;
            let courier = &mut self.outlet.courier;
            let outcomes = match payloads {
                Payloads::Read => courier.deliver(&rows, deadline).await?,
                Payloads::Leave => {
                    let mut outcomes = Vec::with_capacity(rows.len());
                    for row in &rows {
                        outcomes.push(outcome_of_deaths(courier, row, deaths).await?);
                    }
                    outcomes
                }
            };
            for ((row, outcome), picked) in rows.iter().zip(&outcomes).zip(&piece) {
                place += 1;
                if matches!(outcome, Outcome::Refused(_) | Outcome::Behind) {
                    blocked.insert(&picked.lane);
                }
                let claimed = Claimed { row, place };
                let to = (&self.outlet.courier, deadline);
                self.judge.judge(to, claimed, outcome, &mut judgement).await?;
            }
        }
        Ok(judgement)
    }

    /// Waits until Redis is safe, then settles and ends the claim.
    async fn settle(&self, judgement: Judgement, claimed: &[Picked]) -> Result<Done, Trouble> {
        let Judgement { settlement, remembered, unwritten } = judgement;
        if settlement.has_written() {
            self.outlet.assurance.wait().await?;
        }
        self.desk.settler.settle(&self.desk.client, &settlement).await?;
        self.desk.commit().await?;
        self.kept.end(settlement.ids());
        let keys: HashSet<&str> = remembered.iter().map(|(key, _)| key.as_str()).collect();
        for key in keys {
            if self.kept.is_unswept(key) {
                self.outlet.sweep(key, self.desk, self.kept).await?;
            }
        }
        self.kept.settled(remembered.into_iter());
        if let Some((id, error)) = settlement.first_death() {
            let events = settlement.dead();
            tracing::warn!(id, error, events, "dead: given up, with a dead letter");
        }
        tracing::debug!(
            claimed = claimed.len(),
            delivered = settlement.delivered(),
            dead = settlement.dead(),
            parked = settlement.parked(),
            "parked events were tried"
        );
        Ok(Done {
            class: None,
            has_higher: false,
            delivered: settlement.delivered(),
            dead: settlement.dead(),
            parked: settlement.parked(),
            unwritten,
        })
    }
}

/// The claim in pieces that may be in memory together, as far as can be known.
fn pieces<'a>(claimed: &'a [Picked], settings: &Settings) -> Vec<&'a [Picked]> {
    let (events, bytes) = (settings.batch_size.get(), settings.batch_bytes);
    let mut filled = 0;
    let mut count = 0;
    claimed
        .chunk_by(|before, _| {
            filled += before.bytes;
            count += 1;
            let has_room = count < events && filled < bytes;
            if !has_room {
                (filled, count) = (0, 0);
            }
            has_room
        })
        .collect()
}
