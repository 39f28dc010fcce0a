//! What happens in a run: which fault comes when, from a seed and from nothing else.
//!
//! In: a seed. Out: an endless row of steps. It must stay true that every kind of fault comes once
//! before any comes again, so that a minute has seen them all. Not here: how a fault is done.

use std::fmt::{self, Display};
use std::time::Duration;

/// One of the two relays, by what it does when the fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Standby,
}

/// The wire from a relay to one of its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Postgres,
    Redis,
}

/// What a wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Cut,
    Stall,
    Delay,
    Throttle,
    /// Requests arrive; the replies are lost with the connection.
    LoseReplies,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    KillRelay,
    TerminateRelay,
    /// Longer than the standby needs to take over.
    FreezeLeader,
    KillRedis,
    PowerLossOfRedis,
    FreezeRedis,
    StopPostgres,
    KillPostgres,
    EndWalsender,
    EndSqlSession,
    Wire(Side, Trouble),
    /// What the writers sent is done, and they never hear of it: COMMIT as well.
    LoseWritersReplies,
    /// One stream's key holds something else: its events are refused, parked and tried again.
    RefuseStream,
}

/// All there are.
pub const KINDS: [Fault; 22] = [
    Fault::KillRelay,
    Fault::TerminateRelay,
    Fault::FreezeLeader,
    Fault::KillRedis,
    Fault::PowerLossOfRedis,
    Fault::FreezeRedis,
    Fault::StopPostgres,
    Fault::KillPostgres,
    Fault::EndWalsender,
    Fault::EndSqlSession,
    Fault::Wire(Side::Postgres, Trouble::Cut),
    Fault::Wire(Side::Postgres, Trouble::Stall),
    Fault::Wire(Side::Postgres, Trouble::Delay),
    Fault::Wire(Side::Postgres, Trouble::Throttle),
    Fault::Wire(Side::Postgres, Trouble::LoseReplies),
    Fault::Wire(Side::Redis, Trouble::Cut),
    Fault::Wire(Side::Redis, Trouble::Stall),
    Fault::Wire(Side::Redis, Trouble::Delay),
    Fault::Wire(Side::Redis, Trouble::Throttle),
    Fault::Wire(Side::Redis, Trouble::LoseReplies),
    Fault::LoseWritersReplies,
    Fault::RefuseStream,
];

/// What a fault befalls: two at once must not befall the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Relays,
    Redis,
    Postgres,
    Wires(Side),
    Writers,
    Stream,
}

impl Fault {
    /// What it befalls.
    pub fn target(self) -> Target {
        match self {
            Self::KillRelay | Self::TerminateRelay | Self::FreezeLeader => Target::Relays,
            Self::KillRedis | Self::PowerLossOfRedis | Self::FreezeRedis => Target::Redis,
            Self::Wire(side, _) => Target::Wires(side),
            Self::LoseWritersReplies => Target::Writers,
            Self::RefuseStream => Target::Stream,
            Self::StopPostgres | Self::KillPostgres | Self::EndWalsender | Self::EndSqlSession => {
                Target::Postgres
            }
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = |trouble| match trouble {
            Trouble::Cut => "cut",
            Trouble::Stall => "stalled",
            Trouble::Delay => "delayed",
            Trouble::Throttle => "throttled",
            Trouble::LoseReplies => "loses replies after the write",
        };
        match self {
            Self::KillRelay => f.write_str("relay SIGKILL"),
            Self::TerminateRelay => f.write_str("relay SIGTERM"),
            Self::FreezeLeader => f.write_str("relay SIGSTOP past a takeover"),
            Self::KillRedis => f.write_str("Redis SIGKILL"),
            Self::PowerLossOfRedis => f.write_str("Redis power loss"),
            Self::FreezeRedis => f.write_str("Redis SIGSTOP"),
            Self::StopPostgres => f.write_str("PostgreSQL immediate stop"),
            Self::KillPostgres => f.write_str("PostgreSQL SIGKILL"),
            Self::EndWalsender => f.write_str("walsender terminated"),
            Self::EndSqlSession => f.write_str("SQL session terminated"),
            Self::Wire(side, trouble) => write!(f, "wire to {side:?} {}", wire(*trouble)),
            Self::LoseWritersReplies => f.write_str("writers lose replies"),
            Self::RefuseStream => f.write_str("a stream refuses its events"),
        }
    }
}

/// One fault and its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// All is well for so long before it.
    pub pause: Duration,
    pub fault: Fault,
    /// Whom it befalls, where there are two.
    pub role: Role,
    /// From the blow to the repair.
    pub lasts: Duration,
    /// It is not repaired before the next fault comes.
    pub lingers: bool,
}

/// The steps of a seed.
pub struct Plan {
    random: fastrand::Rng,
    bag: Vec<Fault>,
}

impl Plan {
    /// The plan of that seed.
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), bag: Vec::new() }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.bag.is_empty() {
            self.bag.extend(KINDS);
            // It finds something only where a second was not synced and yet confirmed.
            self.bag.extend([Fault::PowerLossOfRedis; 2]);
            // So that others befall what is parked.
            self.bag.extend([Fault::RefuseStream; 2]);
            self.random.shuffle(&mut self.bag);
        }
        let fault = self.bag.pop()?;
        let random = &mut self.random;
        let role = if random.u8(0..5) == 0 { Role::Standby } else { Role::Leader };
        let pause = Duration::from_millis(random.u64(100..1_500));
        // Past the timeouts of either side (2 s) in one case of three.
        let longest = if random.u8(0..3) == 0 { 3_500 } else { 1_200 };
        let lasts = Duration::from_millis(random.u64(50..longest));
        let lingers = fault == Fault::RefuseStream || random.u8(0..3) == 0;
        Some(Step { pause, fault, role, lasts, lingers })
    }
}
