//! What kind of run a seed is: its settings, its sizes, and which faults it has.

use fastrand::Rng;

use super::walsender::STREAMS;
use crate::config::{AfterPublish, EntryFormat, Ordering, TableName};
use crate::relay::line::Limits;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Commit,
    MoveWal,
    Checkpoint,
    BackUp,
    Deliver,
    Keepalive,
    Act,
    Execute,
    Answer,
    Time,
    Sync,
    Mark,
    Tell,
    Hear,
    Start,
    Notice,
    Park,
    Refresh,
    Poll,
    Fault(Fault),
}

/// What goes wrong next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    CutRedis,
    CrashRelay,
    Terminate,
    Stall,
    Unstall,
    KillRedis,
    PowerLoss,
    RedisBack,
    Full,
    Refuse,
    Spoil,
    RestartPostgres,
    FailMark,
    DieParked,
    Rewind,
    Promote,
    Empty,
}

/// How sure the relay is to be before it confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// In the memory of Redis. Its machine never fails in such a run.
    Memory,
    /// On its disk, by the time that has passed.
    Hold,
    /// On its disk, by asking.
    Barrier,
}

/// What may become of history in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// It stays.
    Kept,
    /// A standby without the last transactions is promoted.
    Forked,
    /// A copy is restored, on the same timeline.
    Rewound,
    /// Redis comes back empty.
    Emptied,
}

/// A run's settings.
#[derive(Clone, Debug)]
pub struct Plan {
    pub safety: Safety,
    pub past: Past,
    pub after_publish: AfterPublish,
    pub relays: usize,
    pub streams: usize,
    pub transactions: usize,
    pub sends_empty: bool,
    pub steps: usize,
    pub batch_events: usize,
    pub batch_bytes: usize,
    pub batches_in_flight: usize,
    pub format: EntryFormat,
    /// What may happen, and how often.
    pub actions: Vec<(Action, u32)>,
}

/// What happens without a fault, and how often.
const ORDINARY: [(Action, u32); 18] = [
    (Action::Commit, 10),
    (Action::MoveWal, 2),
    (Action::Checkpoint, 1),
    (Action::Deliver, 14),
    (Action::Keepalive, 4),
    (Action::Act, 10),
    (Action::Execute, 14),
    (Action::Answer, 14),
    (Action::Time, 6),
    (Action::Sync, 3),
    (Action::Mark, 6),
    (Action::Tell, 5),
    (Action::Hear, 6),
    (Action::Start, 5),
    (Action::Notice, 4),
    (Action::Park, 6),
    (Action::Refresh, 4),
    (Action::Poll, 4),
];

/// Faults that a run may have, each or not. The last is no fault: it ends some.
const FAULTS: [Fault; 11] = [
    Fault::CutRedis,
    Fault::CrashRelay,
    Fault::Terminate,
    Fault::Stall,
    Fault::KillRedis,
    Fault::Full,
    Fault::Refuse,
    Fault::Spoil,
    Fault::RestartPostgres,
    Fault::FailMark,
    Fault::DieParked,
];

impl Plan {
    pub fn draw(rng: &mut Rng) -> Self {
        let safety =
            [Safety::Memory, Safety::Hold, Safety::Barrier, Safety::Barrier][rng.usize(..4)];
        let past =
            [Past::Kept, Past::Kept, Past::Forked, Past::Rewound, Past::Emptied][rng.usize(..5)];
        let mut actions: Vec<_> = ORDINARY
            .into_iter()
            .map(|(action, weight)| (action, rng.u32(weight.div_ceil(2)..=weight + weight / 2)))
            .collect();
        // Where history changes a leader may be left behind that does not know it.
        let has_past = matches!(past, Past::Forked | Past::Rewound);
        for fault in FAULTS {
            let leaves_behind = matches!(fault, Fault::Terminate | Fault::Stall);
            if rng.bool() || (has_past && leaves_behind) {
                actions.push((Action::Fault(fault), rng.u32(1..=2)));
                if fault == Fault::Stall {
                    actions.push((Action::Fault(Fault::Unstall), 3));
                }
            }
        }
        match past {
            Past::Kept => {}
            Past::Emptied => actions.push((Action::Fault(Fault::Empty), 1)),
            Past::Forked => {
                actions.extend([(Action::BackUp, 2), (Action::Fault(Fault::Promote), 4)]);
            }
            Past::Rewound => {
                actions.extend([(Action::BackUp, 2), (Action::Fault(Fault::Rewind), 3)]);
            }
        }
        if safety != Safety::Memory && rng.bool() {
            actions.push((Action::Fault(Fault::PowerLoss), rng.u32(1..=2)));
        }
        actions.push((Action::Fault(Fault::RedisBack), 8));
        Self {
            safety,
            past,
            after_publish: if rng.bool() { AfterPublish::Keep } else { AfterPublish::Mark },
            relays: if has_past { 2 } else { rng.usize(1..=2) },
            streams: rng.usize(1..=STREAMS.len()),
            transactions: rng.usize(1..=12),
            sends_empty: rng.bool(),
            steps: rng.usize(40..=240),
            batch_events: rng.usize(1..=5),
            batch_bytes: if rng.bool() { 400 } else { 100_000 },
            batches_in_flight: rng.usize(1..=4),
            format: if rng.u8(..4) == 0 { EntryFormat::Json } else { EntryFormat::Fields },
            actions,
        }
    }

    /// One of the actions, by weight.
    pub fn pick(&self, rng: &mut Rng) -> Action {
        let all: u32 = self.actions.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.u32(..all);
        for (action, weight) in &self.actions {
            if left < *weight {
                return *action;
            }
            left -= weight;
        }
        unreachable!("less than the sum of all")
    }

    pub fn limits(&self) -> Limits {
        Limits {
            outbox: TableName { schema: "identity".to_owned(), name: "outbox".to_owned() }.into(),
            stream: STREAMS[0].to_owned(),
            slot: "walrelay".to_owned(),
            source: "walrelay@7".to_owned(),
            format: self.format,
            batch_events: self.batch_events,
            batch_bytes: self.batch_bytes,
            batches_in_flight: self.batches_in_flight,
            event_bytes_max: 1_000_000,
            maxlen: 0,
            publish_sha: "sha".into(),
            ordering: Ordering::PerAggregate,
            heartbeat: None,
            // A server that goes back forgets what was parked, and takes it for repeats.
            parks: matches!(self.past, Past::Kept | Past::Emptied),
            messages: false,
            traces: false,
            contract: None,
        }
    }
}
