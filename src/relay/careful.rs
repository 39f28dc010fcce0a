//! Which event ends the process: starts that came to nothing are counted, and after a few of them a
//! line says in Redis what comes next before it touches it.
//!
//! In: what the process before left in the default stream's checkpoint, and what this line gets
//! done. Out: whether to be careful, what to say, which event to set aside, when all that is over.
//! It must stay true that an event is set aside only if the process died twice in a row while it
//! alone was under way, and that a line that gets on costs nothing but two small writes. Pure.
//!
//! What was there already is no progress: an event may end the process behind any number of repeats
//! of its own transaction, again and again.

use std::time::Duration;

use tokio::time::Instant;

use super::line::Line;
use crate::lsn::{Lsn, Position};
use crate::outbox::Unfit;

/// Starts without progress after which a line is careful: an operator may kill that often.
const DEATHS_MAX: u64 = 3;
/// New events after which a careful line has shown that it lives.
const EVENTS: u64 = 1_000;
/// A line that has nothing to do after so long has shown it as well.
const QUIET: Duration = Duration::from_secs(5);

/// What the checkpoint says of starts before this one; the start of all positions is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Starts that came to nothing.
    pub deaths: u64,
    /// What was under way at the last death of a careful line.
    pub trying: Position,
    /// The same, one careful start before.
    pub tried: Position,
}

/// Over all lines of this process.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// This process is among the starts that are counted.
    is_counted: bool,
    deaths: u64,
    /// The event that ends the process, until it is parked.
    condemned: Option<Position>,
    line: Option<Watched>,
}

#[derive(Debug)]
struct Watched {
    is_careful: bool,
    until: Instant,
    added: u64,
    /// What `trying` says; nothing if that is not known.
    said: Option<Position>,
}

impl Watch {
    /// Whether this process is still to be counted.
    pub fn is_counted(&self) -> bool {
        self.is_counted
    }

    /// A line begins, from `confirmed` on. What to write as `tried`, with nothing as `trying`, if
    /// they are to change.
    pub fn begin(&mut self, found: Found, confirmed: Lsn, now: Instant) -> Option<Position> {
        let Found { deaths, trying, tried } = found;
        let is_careful = deaths >= DEATHS_MAX;
        // An earlier line of this process did not die, whatever it was trying.
        let is_news = is_careful && !self.is_counted;
        if is_news && tried == trying && trying != Position::START {
            self.condemned = Some(trying);
        }
        self.condemned = self.condemned.filter(|position| position.commit_lsn >= confirmed);
        (self.is_counted, self.deaths) = (true, deaths);
        self.line = Some(Watched { is_careful, until: now + QUIET, added: 0, said: None });
        (is_news && self.condemned.is_none()).then_some(trying)
    }

    /// The event that is to be set aside, and how often it has ended the process, at least.
    pub fn condemned(&self) -> Option<(Position, u64)> {
        self.condemned.map(|position| (position, self.deaths))
    }

    /// Whether one event goes after the other.
    pub fn is_careful(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.is_careful)
    }

    /// Everything before `next` is done with. What to write as `trying` before anything is read or
    /// taken in, if that is not written yet.
    pub fn announce(&mut self, next: Option<Position>) -> Option<Position> {
        let line = self.line.as_mut().filter(|line| line.is_careful)?;
        if next > self.condemned {
            self.condemned = None;
        }
        let next = next.unwrap_or(Position::START);
        (line.said.replace(next) != Some(next)).then_some(next)
    }

    /// So many new events are in Redis.
    pub fn added(&mut self, events: usize) {
        if let Some(line) = &mut self.line {
            line.added += u64::try_from(events).unwrap_or(0);
        }
    }

    /// When to look whether it is over.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.line.as_ref().map(|line| line.until).filter(|until| *until > now)
    }

    /// Whether this line has shown that it lives; true once, and the counts are to be cleared.
    pub fn is_over(&mut self, is_idle: bool, now: Instant) -> bool {
        let Some(line) = &self.line else { return false };
        let enough = if line.is_careful { EVENTS } else { 1 };
        let is_over =
            self.condemned.is_none() && (line.added >= enough || (is_idle && now >= line.until));
        if is_over {
            (self.line, self.is_counted) = (None, false);
        }
        is_over
    }

    /// The line has ended, and the process has not; whether the counts are to be cleared. Not while
    /// the event that ends the process may be sent again.
    pub fn end(&mut self) -> bool {
        let was_watched = self.line.take().is_some();
        let is_over = was_watched && self.condemned.is_none();
        self.is_counted &= !is_over;
        is_over
    }
}

impl Line {
    /// Where the next event of the open transaction stands.
    pub(super) fn next_position(&self) -> Option<Position> {
        let Position { commit_lsn, ordinal } = self.transaction.as_ref()?.position();
        Some(Position { commit_lsn, ordinal: ordinal.saturating_add(1) })
    }

    /// The event at `position` is not to be published: that has ended the process so often.
    pub(super) fn condemn(&mut self, position: Position, deaths: u64) {
        self.parking.condemn(position, Unfit::Deadly(deaths));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unnecessary_wraps, reason = "positions are optional wherever it is used")]
    fn at(ordinal: u32) -> Option<Position> {
        Some(Position { commit_lsn: Lsn::new(7), ordinal })
    }

    fn found(deaths: u64, trying: Option<Position>, tried: Option<Position>) -> Found {
        let [trying, tried] = [trying, tried].map(|at| at.unwrap_or(Position::START));
        Found { deaths, trying, tried }
    }

    fn begun(found: Found) -> (Watch, Option<Position>) {
        let mut watch = Watch::default();
        let tried = watch.begin(found, Lsn::new(7), Instant::now());
        (watch, tried)
    }

    #[test]
    fn a_line_that_gets_on_is_watched_no_longer() {
        let (mut watch, _) = begun(found(2, at(1), at(1)));
        assert!(!watch.is_careful() && watch.condemned().is_none());
        assert_eq!(watch.announce(at(1)), None);
        let now = Instant::now();
        watch.added(0);
        assert!(!watch.is_over(true, now), "repeats are no progress");
        watch.added(1);
        assert!(watch.is_over(false, now) && !watch.is_over(false, now) && !watch.is_counted());
        assert!(!watch.end());
    }

    #[test]
    fn a_quiet_line_is_watched_for_a_while() {
        let (mut watch, _) = begun(found(9, None, None));
        let later = Instant::now() + QUIET;
        assert!(!watch.is_over(true, Instant::now()) && !watch.is_over(false, later));
        assert!(watch.is_over(true, later) && watch.due(later).is_none());
    }

    #[test]
    fn the_same_event_at_two_careful_deaths_is_it() {
        let (watch, tried) = begun(found(3, None, at(1)));
        assert!(
            watch.is_careful() && watch.condemned().is_none() && tried == Some(Position::START)
        );
        let (watch, tried) = begun(found(4, at(2), None));
        assert_eq!((watch.condemned(), tried), (None, at(2)));
        let (watch, tried) = begun(found(5, at(3), at(2)));
        assert_eq!((watch.condemned(), tried), (None, at(3)), "a coincidence");
        let (watch, tried) = begun(found(6, at(3), at(3)));
        assert_eq!(tried, None, "so it stays");
        assert_eq!(watch.condemned(), at(3).map(|position| (position, 6)));
        let mut behind = Watch::default();
        behind.begin(found(6, at(3), at(3)), Lsn::new(8), Instant::now());
        assert_eq!(behind.condemned(), None, "the slot is past it");
    }

    #[test]
    fn what_comes_next_is_said_once_and_before_it() {
        let (mut watch, _) = begun(found(3, None, None));
        assert_eq!(watch.announce(None), Some(Position::START));
        assert_eq!(watch.announce(at(1)), at(1));
        assert_eq!(watch.announce(at(1)), None);
        assert_eq!(watch.announce(None), Some(Position::START));
    }

    #[test]
    fn who_is_condemned_stays_so_until_it_is_passed() {
        let (mut watch, _) = begun(found(5, at(3), at(3)));
        watch.announce(at(2));
        watch.announce(None);
        watch.announce(at(3));
        watch.added(5_000);
        assert!(!watch.is_over(false, Instant::now()) && !watch.end());
        // The next line of this process.
        watch.begin(found(5, at(2), at(2)), Lsn::new(7), Instant::now());
        assert!(watch.condemned() == at(3).map(|position| (position, 5)) && watch.is_careful());
        watch.announce(at(4));
        assert!(watch.condemned().is_none() && watch.end());
    }
}
