//! When the table is asked about parked events: to park more, to hear which are out by now, to
//! forget those that no slot sends again.
//!
//! In: what the line wants parked, the pollers' call, time. Out: what the table answered. One
//! statement at a time, on a connection that is made when it is first needed: it must stay true
//! that the answer to "what is parked still" is of a moment when all parkings that were answered
//! before were committed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::held::Found;
use super::line::Line;
use super::parker::{Outcome, Parker, Place};
use super::parking::Job;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::postgres::Target;

/// What the table answered.
pub(super) enum Answer {
    Parked(Job, Outcome),
    /// To this refresh: aggregates that are held still, and where the slot would restart.
    Held(u64, Found, Option<Lsn>),
}

type Working = BoxFuture<'static, Result<(Box<Parker>, Answer)>>;

enum State {
    Unconnected,
    Idle(Box<Parker>),
    Busy(Working),
}

pub(super) struct Desk {
    target: Target,
    place: Place,
    state: State,
    /// How often the table is asked what is parked still.
    interval: Duration,
    next_refresh: Instant,
    /// Whether rows may be parked, or remember that they were.
    is_any: bool,
    /// Where the slot would have restarted when it was asked last.
    restart_lsn: Option<Lsn>,
    bells: Bells,
}

/// Between the line and the pollers.
#[derive(Clone, Default)]
pub(super) struct Bells {
    /// The line has parked something.
    pub parked: Arc<Notify>,
    /// Parked events are out, or given up: what waits behind them may go on.
    pub released: Arc<Notify>,
}

impl Desk {
    pub fn new(target: Target, place: Place, is_any: bool, bells: Bells) -> Self {
        let interval = place.refresh_interval;
        let (state, next_refresh) = (State::Unconnected, Instant::now() + interval);
        let restart_lsn = None;
        Self { target, place, state, interval, next_refresh, is_any, restart_lsn, bells }
    }

    /// Begins what is to be done, if nothing is under way.
    pub fn work(&mut self, line: &mut Line, now: Instant) {
        if self.is_busy() {
            return;
        }
        let is_due = self.next_refresh <= now;
        if is_due {
            self.next_refresh = now + self.interval;
        }
        let must_refresh = is_due && (self.is_any || line.is_holding_back());
        if !must_refresh && !line.has_leaving() {
            return;
        }
        let parker = match std::mem::replace(&mut self.state, State::Unconnected) {
            State::Idle(parker) => Some(parker),
            State::Unconnected | State::Busy(_) => None,
        };
        let (target, place) = (self.target.clone(), self.place.clone());
        let connected = async move {
            match parker {
                Some(parker) => Ok(parker),
                None => Parker::new(target.sql().await?, place).await.map(Box::new),
            }
        };
        let working: Working = if must_refresh {
            let (refresh, restart_lsn) = (line.begin_refresh(), self.restart_lsn);
            Box::pin(async move { refreshed(connected.await?, refresh, restart_lsn).await })
        } else if let Some(job) = line.take_leaving() {
            self.is_any = true;
            Box::pin(async move {
                let parker = connected.await?;
                let outcome = parker.park(&job).await?;
                Ok((parker, Answer::Parked(job, outcome)))
            })
        } else {
            return;
        };
        self.state = State::Busy(working);
    }

    /// The answer to what is under way; only called while something is.
    pub async fn answer(&mut self) -> Result<Answer> {
        let State::Busy(working) = &mut self.state else { return std::future::pending().await };
        let (parker, answer) = working.await?;
        self.state = State::Idle(parker);
        match &answer {
            Answer::Parked(..) => self.bells.parked.notify_one(),
            Answer::Held(_, found, restart_lsn) => {
                self.is_any = found.is_any;
                self.restart_lsn = *restart_lsn;
            }
        }
        Ok(answer)
    }

    /// Whom the pollers call when parked events are out.
    pub fn released(&self) -> Arc<Notify> {
        Arc::clone(&self.bells.released)
    }

    pub fn is_busy(&self) -> bool {
        matches!(self.state, State::Busy(_))
    }

    /// The pollers got something out: the table is asked at once.
    pub fn hurry(&mut self) {
        self.next_refresh = Instant::now();
    }

    /// When there is something to do, at the latest.
    pub fn due(&self) -> Option<Instant> {
        (!self.is_busy()).then_some(self.next_refresh)
    }
}

async fn refreshed(
    parker: Box<Parker>,
    refresh: u64,
    restart_lsn: Option<Lsn>,
) -> Result<(Box<Parker>, Answer)> {
    let held = parker.held().await?;
    let is_any = parker.release(restart_lsn.unwrap_or(Lsn::NONE)).await?;
    let restart_lsn = parker.restart_lsn().await?;
    let found = Found { held, is_any, ..Found::default() };
    Ok((parker, Answer::Held(refresh, found, restart_lsn)))
}
