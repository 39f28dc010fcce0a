//! The retry poller: looks for parked rows that are due, beside a line or in its stead.
//!
//! In: a workplace. Out: never an end; whoever started it drops it. It must stay true that it may
//! be dropped at any await, that an outage burns no attempt of any row, and that its connections to
//! Redis are there only while there is something for them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::claim::Desk;
use super::claim_rows::ClaimRows;
use super::judge::Judge;
use super::kept::Kept;
use super::outlet::Outlet;
use super::round::{Done, Round};
use super::settle::Slot;
use super::trouble::Trouble;
use crate::backoff::Backoff;
use crate::config::Settings;
use crate::error::Error;
use crate::postgres::Target;
use crate::sink::{Failure, Verdict};
use crate::telemetry::{LastSaid, Status};

/// When what is due is in somebody else's hands.
const ELSEWHERE: Duration = Duration::from_millis(250);
/// A look may take up to the tenth part of the time.
const REST_PER_LOOK: u32 = 10;
/// Between two counts of what is dead.
const DEAD_INTERVAL: Duration = Duration::from_secs(60);
/// Before any class.
const FROM_THE_FIRST: i32 = -1;

/// Where and with what the poller works.
#[derive(Clone)]
pub struct Workplace {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The way to PostgreSQL.
    pub target: Target,
    /// For people.
    pub status: Arc<Status>,
    /// Whether there is a slot beside it.
    pub slot: Slot,
    /// Outlives the poller.
    pub kept: Kept,
    /// Tells that there is something new to look for.
    pub parked: Arc<Notify>,
    /// Is told when rows are not parked any more.
    pub released: Arc<Notify>,
}

/// Tries parked rows again when they are due, for ever.
pub async fn run(place: Workplace) -> Infallible {
    let judge = Judge::new(&place.settings);
    let backoff = Backoff::new(place.settings.reconnect_delay_max);
    let rows = ClaimRows::new(&place.settings.max_rate);
    let said = LastSaid::default();
    let mut poller = Poller { place, judge, rows, backoff, said, next_count: None };
    loop {
        let Err(trouble) = poller.work().await;
        poller.tell(&trouble);
        tokio::time::sleep(poller.backoff.next_delay()).await;
    }
}

struct Poller {
    place: Workplace,
    judge: Judge,
    rows: ClaimRows,
    backoff: Backoff,
    /// The trouble that was told last.
    said: LastSaid,
    /// When what is dead is to be counted.
    next_count: Option<Instant>,
}

impl Poller {
    /// Works until something breaks; then every connection is given up.
    async fn work(&mut self) -> Result<Infallible, Trouble> {
        let Workplace { settings, target, slot, kept, .. } = &self.place.clone();
        let desk = Desk::open(target, settings, *slot).await?;
        let begun = kept.begun();
        if !begun.is_empty() {
            desk.undo_start(&begun).await?;
            kept.end(begun.into_iter());
        }
        self.next_count = None;
        let mut outlet = None;
        loop {
            let began = Instant::now();
            let sight = desk.look().await?;
            self.place.status.retries.saw(sight.parked, sight.due);
            let took = began.elapsed();
            let is_due = sight.next.is_some_and(|next| next.is_zero());
            if self.needs_outlet(is_due, &desk) {
                if outlet.is_none() {
                    outlet = Some(Box::new(self.open(&desk).await?));
                }
                if let Some(outlet) = &mut outlet {
                    outlet.forget(kept).await?;
                    if is_due && self.rounds(&desk, outlet).await? {
                        continue;
                    }
                }
            }
            self.count_dead(&desk).await?;
            if kept.due().is_none() {
                outlet = None;
            }
            let next = match sight.next {
                Some(next) if is_due => next.max(ELSEWHERE),
                Some(next) => next.saturating_add(Duration::from_millis(1)),
                None => Duration::MAX,
            };
            self.rest(next, took).await;
        }
    }

    /// Whether there is something to say to Redis.
    fn needs_outlet(&self, is_due: bool, desk: &Desk) -> bool {
        let Workplace { settings, status, kept, .. } = &self.place;
        let is_new = kept.is_unswept(&desk.delivered_key(settings, &settings.stream_name));
        let is_forgettable = kept.due().is_some_and(|due| due <= Instant::now());
        is_due || is_new || is_forgettable || status.retries.is_open()
    }

    async fn open(&mut self, desk: &Desk) -> Result<Outlet, Trouble> {
        let Workplace { settings, status, kept, .. } = &self.place;
        let outlet = Outlet::open(settings, desk, status).await?;
        if status.retries.close_circuit() {
            tracing::info!("Redis takes parked events again");
        }
        let stream = &settings.stream_name;
        for stream in [stream, &self.judge.dlq_stream(stream)] {
            let key = outlet.courier.terms().delivered_key(stream);
            if kept.is_unswept(&key) {
                outlet.sweep(&key, desk, kept).await?;
            }
        }
        Ok(outlet)
    }

    /// Rounds until nothing is due that is ours to have; whether they got anything done. What is
    /// due behind a row that somebody else has locked is picked in vain: then this is over.
    async fn rounds(&mut self, desk: &Desk, outlet: &mut Outlet) -> Result<bool, Trouble> {
        let (mut above, mut settled, mut settled_before) = (FROM_THE_FIRST, 0, 0);
        loop {
            let Workplace { settings, kept, .. } = &self.place;
            outlet.courier.terms().rate.pass().await;
            let (judge, rows) = (&self.judge, &mut self.rows);
            let round = Round { desk, outlet, kept, judge, settings, rows };
            let done = round.run(above).await?;
            settled += done.settled();
            match done.class {
                Some(class) if done.has_higher => above = class,
                _ if settled == settled_before => return Ok(settled > 0),
                _ => (above, settled_before) = (FROM_THE_FIRST, settled),
            }
            self.report(done);
            outlet.forget(&self.place.kept).await?;
            self.backoff.reset();
        }
    }

    fn report(&mut self, done: Done) {
        let Workplace { status, released, .. } = &self.place;
        let retries = &status.retries;
        let count = |count: usize| u64::try_from(count).unwrap_or_default();
        retries.delivered.inc_by(count(done.delivered));
        retries.refused.inc_by(count(done.parked));
        retries.dead_lettered.inc_by(count(done.dead));
        if done.delivered + done.dead > 0 {
            self.said.forget();
            released.notify_one();
        }
        if done.dead > 0 {
            self.next_count = None;
            retries.letter_error(None);
        }
        if let Some(unwritten) = done.unwritten {
            retries.letter_error(Some(unwritten.clone()));
            let error = Error::definite(unwritten)
                .hint("make it a stream that the relay may write, or choose dlq_stream_name");
            status.failed(&error);
            if self.said.is_news(&error.to_string()) {
                let hint = error.next_step();
                tracing::warn!(error = %error, hint, "an event that is given up stays parked");
            }
        }
    }

    async fn count_dead(&mut self, desk: &Desk) -> Result<(), Trouble> {
        let now = Instant::now();
        if self.next_count.is_none_or(|due| due <= now) {
            self.place.status.retries.saw_dead(desk.dead().await?);
            self.next_count = Some(now + DEAD_INTERVAL);
        }
        Ok(())
    }

    /// Until the next row is due, or something may be forgotten, or somebody parks.
    async fn rest(&self, next: Duration, took: Duration) {
        tokio::time::sleep(took * REST_PER_LOOK).await;
        let mut until = Instant::now() + next.min(self.place.settings.poll_interval);
        if let Some(due) = self.place.kept.due() {
            until = until.min(due);
        }
        tokio::select! {
            () = self.place.parked.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    fn tell(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Redis(failure) => self.tell_redis(failure),
            Trouble::Other(error) => {
                self.place.status.failed(error);
                if self.said.is_news(&error.to_string()) {
                    let hint = error.next_step();
                    tracing::warn!(error = %error, hint, "parked events wait: trying again");
                }
            }
        }
    }

    fn tell_redis(&mut self, failure: &Failure) {
        if failure.verdict == Verdict::Restart {
            tracing::debug!(error = %failure, "a round of retries is made again");
            return;
        }
        let status = Arc::clone(&self.place.status);
        let text = failure.to_string();
        if status.retries.open_circuit(&text) {
            status.retries.outages.inc();
        }
        if self.said.is_news(&text) {
            status.failed(&Error::transient(format!("Redis takes no parked events: {text}")));
            tracing::warn!(error = text, "Redis takes no parked events: they wait");
        }
    }
}
