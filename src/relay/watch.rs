//! What `careful` wants to be known by the next process: noted beside the default stream's
//! checkpoint.
//!
//! In: a line that begins, gets on, or is about to take an event in. Out: three fields of a hash.
//! It must stay true that nothing is taken in by a careful line before Redis has answered which
//! event that is, and that a line that is not careful waits for nothing.

use tokio::time::Instant;

use super::careful::{Found, Watch};
use super::landing::Landed;
use super::session::Session;
use super::start::Start;
use crate::error::Result;
use crate::lsn::Position;
use crate::sink::Failure;

/// Counts this start, and sees what became of those before. A Redis that cannot tell is for the
/// line to notice.
pub(super) async fn begin(watch: &mut Watch, start: &mut Start) {
    let (sink, key) = (&start.sink, &start.probe_key);
    let Ok((starts, [trying, tried])) = sink.starts(key, !watch.is_counted()).await else {
        return;
    };
    let found = Found { deaths: starts.saturating_sub(1), trying, tried };
    let confirmed = start.line.positions().confirmed;
    if let Some(tried) = watch.begin(found, confirmed, Instant::now()) {
        // Together: else a death before the first event would count for that one again.
        let noted = sink.note(key, &[("trying", Position::START), ("tried", tried)]).await;
        if let Err(failure) = noted {
            tracing::debug!(%failure, "cannot note what was tried");
        }
    }
    if let Some((position, deaths)) = watch.condemned() {
        tracing::error!(%position, deaths, "an event has ended the process again and again");
        start.line.condemn(position, deaths);
    } else if watch.is_careful() {
        tracing::warn!(
            deaths = found.deaths,
            "the relay has ended again and again before it got anything done: the next events go \
             one by one, to find out whether one of them is the reason"
        );
    }
}

impl Session<'_> {
    /// Says which event comes next, should it be the last that this process sees.
    pub(super) async fn announce(&mut self) -> Result<Option<Failure>> {
        let Some(next) = self.memory.watch.announce(self.line.next_position()) else {
            return Ok(None);
        };
        match self.sink.note(&self.probe_key, &[("trying", next)]).await {
            Ok(()) => Ok(None),
            Err(failure) => self.classify(failure, "cannot note which event comes next"),
        }
    }

    /// Once this line has shown that it lives, starts before it do not matter.
    pub(super) fn relax(&mut self) {
        let is_idle = self.is_caught_up() && self.line.next_position().is_none();
        if self.memory.watch.is_over(is_idle, Instant::now()) {
            self.memory.turn.pass();
            let (sink, key) = (self.sink.clone(), self.probe_key.clone());
            self.flights.push(Box::pin(async move {
                // A start that is counted once too often does no harm.
                let _uncleared = sink.clear_starts(&key).await;
                Landed::Cleared
            }));
        }
    }
}
