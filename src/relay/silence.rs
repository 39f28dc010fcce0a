//! A server that says nothing although it was asked: noticed, said, and not more.
//!
//! In: when the server was heard last, and whether we read. Out: when it fell silent, and when it
//! was heard again. A silent walsender may be decoding a huge transaction of other tables: to break
//! the connection would make it begin again, for ever. A dead link is TCP's to notice. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A live server answers within a round trip; this is far beyond a slow one.
const PATIENCE: Duration = Duration::from_secs(30);

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    FellSilent,
    Heard,
}

/// Questions without an answer.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// When the oldest question was asked that has no answer.
    asked: Option<Instant>,
    is_silent: bool,
}

impl Silence {
    /// The server is being asked again `now`; it was `heard` last then. Without reading, nothing
    /// can be heard, and nothing follows from it.
    pub fn ask(&mut self, now: Instant, heard: Instant, is_reading: bool) -> Option<Change> {
        if !is_reading {
            self.asked = None;
            return None;
        }
        match self.asked {
            Some(asked) if heard < asked => {
                let is_new = !self.is_silent && now - asked > PATIENCE;
                self.is_silent |= is_new;
                is_new.then_some(Change::FellSilent)
            }
            Some(_) | None => {
                self.asked = Some(now);
                let was_silent = std::mem::replace(&mut self.is_silent, false);
                was_silent.then_some(Change::Heard)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once_and_so_is_its_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        assert_eq!(silence.ask(at(1), at(0), true), None);
        assert_eq!(silence.ask(at(2), at(0), true), None, "asked a second ago");
        assert_eq!(silence.ask(at(31), at(0), true), None);
        assert_eq!(silence.ask(at(32), at(0), true), Some(Change::FellSilent));
        assert_eq!(silence.ask(at(90), at(0), true), None);
        assert_eq!(silence.ask(at(91), at(90), true), Some(Change::Heard));
        assert_eq!(silence.ask(at(92), at(91), true), None);
    }

    #[test]
    fn who_does_not_read_hears_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        assert_eq!(silence.ask(at(1), at(0), true), None);
        assert_eq!(silence.ask(at(2), at(0), false), None);
        assert_eq!(silence.ask(at(100), at(0), false), None);
        assert_eq!(silence.ask(at(101), at(0), true), None, "reading has only begun again");
    }
}
