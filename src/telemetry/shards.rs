//! Several lines as one: what /status and /readyz say of them together.
//!
//! In: what each line said. Out: the least of the positions, the worst of the states, the sum of
//! what waits. It must stay true that the whole is ready only when each of its lines is.

use super::backlog::Backlog;
use super::slot::SlotFacts;
use super::state::State;
use super::status::{Said, Where};

/// The higher, the worse: what needs a person first, then what waits, then what works.
pub(super) fn badness(state: State) -> u8 {
    match state {
        State::Stopped => 8,
        State::Holding => 7,
        State::Silent => 6,
        State::Connecting => 5,
        State::Snapshot => 4,
        State::Draining => 3,
        State::Standby => 2,
        State::Streaming => 1,
        State::Polling => 0,
    }
}

/// What `lines` said, in one; the mode is that of `whole`.
pub(super) fn says(whole: Said, lines: &[Said]) -> Said {
    let mut says = whole;
    let errors = lines.iter().filter_map(|line| line.last_error.clone());
    says.last_error = errors.chain(says.last_error).max_by_key(|error| error.unix_seconds);
    if let Some(worst) = lines.iter().max_by_key(|line| badness(line.state)) {
        (says.state, says.since) = (worst.state, worst.since);
    }
    let connected = || lines.iter().map(|line| &line.endpoints).filter(|of| !of.slot.is_empty());
    if let Some(first) = connected().next() {
        says.endpoints = first.clone();
        let all = |name: fn(&super::Endpoints) -> &str| {
            connected().map(name).collect::<Vec<_>>().join(", ")
        };
        says.endpoints.slot = all(|of| &of.slot);
        says.endpoints.publication = all(|of| &of.publication);
    }
    says.slot = lines.iter().filter_map(|line| line.slot.clone()).reduce(SlotFacts::worst);
    says.backlog = lines.iter().filter_map(|line| line.backlog).reduce(Backlog::with);
    says
}

impl Where {
    /// The least of both positions each, and the sum of what is under way.
    pub(super) fn least(self, other: Self) -> Self {
        Self {
            received: self.received.min(other.received),
            published: self.published.min(other.published),
            settled: self.settled.min(other.settled),
            confirmed: self.confirmed.min(other.confirmed),
            outstanding: self.outstanding.saturating_add(other.outstanding),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::Status;
    use super::*;
    use crate::config::Shard;
    use crate::error::Error;
    use crate::lsn::Lsn;

    #[test]
    fn all_together_say_the_worst_the_least_and_the_sum() {
        let whole = Status::default();
        let shards = [1, 2].map(|number| Shard { number, of: 2 });
        let lines = whole.split(&shards);
        assert_eq!(whole.state(), State::Connecting);
        for (line, at) in lines.iter().zip([7, 5]) {
            line.enter(State::Streaming);
            line.caught_up();
            let at = Where { confirmed: Lsn::new(at), outstanding: 3, ..Where::default() };
            line.stand(at);
            line.metrics.published.inc_by(10);
        }
        assert!(whole.state().is_ready());
        let document = whole.document();
        assert_eq!(document["positions"]["confirmed"], "0/5");
        assert_eq!(document["lag"]["events"], 6);
        assert_eq!(document["events"]["published"], 20);
        assert_eq!(document["shards"][0]["positions"]["confirmed"], "0/7");
        assert_eq!(document["shards"][1]["shard"], 2);
        lines[1].failed(&Error::transient("gone"));
        for (state, is_ready) in [(State::Standby, true), (State::Holding, false)] {
            lines[1].enter(state);
            assert_eq!((whole.state(), whole.state().is_ready()), (state, is_ready));
        }
        assert_eq!(whole.document()["last_error"]["error"], "gone");
        assert!(Status::default().document().get("shards").is_none());
    }
}
