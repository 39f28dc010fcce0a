//! PostgreSQL's history against a stream's checkpoint: does the checkpoint speak of the same WAL?
//!
//! In: what a checkpoint says, and what the server is. Out: [`Judgement`]. It must stay true that
//! events of a history in which LSNs are used a second time (a standby promoted without the last
//! transactions, a restored copy) are never taken for events that are in the stream already. Pure.

use crate::lsn::{Lsn, Position};
use crate::sink::Checkpoint;

/// The history of the server that a line streams from, as it was when the line began.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The timeline that the server writes.
    pub timeline: u32,
    /// Where each earlier timeline was left, as far as the server knows.
    pub forks: Vec<(u32, Lsn)>,
    /// The end of its WAL.
    pub wal_end: Lsn,
    /// Where its slot stood: transactions whose commit record starts before here are not sent.
    pub confirmed: Lsn,
}

/// What to do with a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It holds.
    Keep,
    /// It holds if the event it speaks of is sent again, the very same: it must be.
    Meet,
    /// It speaks of a history that is gone: lower it to here.
    Lower {
        /// The end of the history that both share.
        to: Position,
        /// What was found.
        why: String,
    },
}

impl History {
    /// What `checkpoint` is worth on this server.
    #[must_use]
    pub fn judge(&self, checkpoint: &Checkpoint) -> Judgement {
        let position = checkpoint.position;
        if position == Position::START {
            return Judgement::Keep;
        }
        let then = checkpoint.timeline.unwrap_or(self.timeline);
        if let Some((to, why)) = self.lost(then, position) {
            return Judgement::Lower { to, why };
        }
        // What was not confirmed is sent again, and with it the last event that was written.
        if position.commit_lsn >= self.confirmed && !checkpoint.event_id.is_empty() {
            return Judgement::Meet;
        }
        Judgement::Keep
    }

    /// Where and why the history of `position`, written on the timeline `then`, is not the
    /// server's.
    fn lost(&self, then: u32, position: Position) -> Option<(Position, String)> {
        let Self { timeline, wal_end, .. } = self;
        let at = position.commit_lsn;
        let start = Position::START;
        if then > *timeline {
            let why = format!("it is on timeline {timeline}, the checkpoint is of timeline {then}");
            return Some((start, why));
        }
        if then == *timeline {
            let why = format!("its WAL ends at {wal_end}, the checkpoint is at {at}");
            return (at >= *wal_end).then_some((start, why));
        }
        let fork = self.forks.iter().find(|(left, _)| *left == then).map(|(_, fork)| *fork);
        match fork {
            Some(fork) if at >= fork => {
                let why = format!("timeline {then} was left at {fork}, the checkpoint is at {at}");
                Some((Position { commit_lsn: fork, ordinal: 0 }, why))
            }
            Some(_) => None,
            // A server that cannot tell its history: the event at the checkpoint decides.
            None if self.forks.is_empty() => None,
            None => {
                let why = format!("timeline {then} of the checkpoint is none of its ancestors");
                Some((start, why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64) -> Position {
        Position { commit_lsn: Lsn::new(lsn), ordinal: 3 }
    }

    fn checkpoint(position: Position, timeline: u32) -> Checkpoint {
        let event_id = "id".to_owned();
        Checkpoint { epoch: 1, position, event_id, timeline: Some(timeline) }
    }

    fn server(timeline: u32, forks: &[(u32, u64)]) -> History {
        let forks = forks.iter().map(|(left, lsn)| (*left, Lsn::new(*lsn))).collect();
        History { timeline, forks, wal_end: Lsn::new(1_000), confirmed: Lsn::new(500) }
    }

    fn lowered(judgement: &Judgement) -> Option<Position> {
        match judgement {
            Judgement::Lower { to, .. } => Some(*to),
            Judgement::Keep | Judgement::Meet => None,
        }
    }

    #[test]
    fn what_is_confirmed_is_kept_and_what_is_not_must_be_met() {
        let server = server(1, &[]);
        assert_eq!(server.judge(&checkpoint(Position::START, 1)), Judgement::Keep);
        assert_eq!(server.judge(&checkpoint(at(499), 1)), Judgement::Keep);
        assert_eq!(server.judge(&checkpoint(at(500), 1)), Judgement::Meet);
        let nameless = Checkpoint { event_id: String::new(), ..checkpoint(at(500), 1) };
        assert_eq!(server.judge(&nameless), Judgement::Keep);
        let of_no_timeline = Checkpoint { timeline: None, ..checkpoint(at(500), 1) };
        assert_eq!(server.judge(&of_no_timeline), Judgement::Meet);
    }

    #[test]
    fn wal_that_ends_before_the_checkpoint_was_rewound() {
        let server = server(1, &[]);
        assert_eq!(lowered(&server.judge(&checkpoint(at(1_000), 1))), Some(Position::START));
        assert_eq!(server.judge(&checkpoint(at(999), 1)), Judgement::Meet);
    }

    #[test]
    fn a_newer_timeline_lowers_to_the_fork_and_no_further() {
        let server = server(3, &[(1, 300), (2, 700)]);
        let fork = |lsn| Some(Position { commit_lsn: Lsn::new(lsn), ordinal: 0 });
        assert_eq!(lowered(&server.judge(&checkpoint(at(300), 1))), fork(300));
        assert_eq!(lowered(&server.judge(&checkpoint(at(900), 2))), fork(700));
        assert_eq!(server.judge(&checkpoint(at(299), 1)), Judgement::Keep);
        assert_eq!(server.judge(&checkpoint(at(699), 2)), Judgement::Meet);
    }

    #[test]
    fn an_older_or_a_strange_timeline_starts_anew() {
        assert_eq!(lowered(&server(1, &[]).judge(&checkpoint(at(10), 2))), Some(Position::START));
        let server = server(4, &[(1, 300), (3, 700)]);
        assert_eq!(lowered(&server.judge(&checkpoint(at(10), 2))), Some(Position::START));
    }

    #[test]
    fn without_a_history_the_event_at_the_checkpoint_decides() {
        assert_eq!(server(2, &[]).judge(&checkpoint(at(700), 1)), Judgement::Meet);
    }
}
