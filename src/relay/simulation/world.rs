//! A run: one PostgreSQL, one Redis, one or two relays, and whatever happens next.
//!
//! In: a seed. Out: nothing, or the promise that was broken. Each step picks one thing by weight;
//! at the end the faults stop, everything runs dry, and the streams are compared with what was
//! committed.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::history::History;
use super::ledger::{Broken, Ledger};
use super::plan::{Action, Past, Plan, Safety};
use super::postgres::{Postgres, Row, Write};
use super::redis::{Redis, Safeguard};
use super::relay::{Connections, Ended, Session, State, end, state_after};
use crate::lsn::Lsn;
use crate::relay::history;
use crate::relay::settle::Settler;
use crate::sink::{Barrier, Durable, Failure, Verdict};

/// A second sync is never later than this after a write: what the product waits for.
const HOLD: Duration = Duration::from_secs(2);
/// Rounds without faults after which everything must be where it belongs.
const ROUNDS_MAX: usize = 300;

/// Everything there is.
pub struct World {
    pub rng: Rng,
    pub plan: Plan,
    pub postgres: Postgres,
    pub redis: Redis,
    pub relays: Vec<State>,
    pub ledger: Ledger,
    pub history: History,
    base: Instant,
    /// Milliseconds since 1970, as Redis counts them.
    clock: u64,
}

impl World {
    /// The world of `seed`; a test may take a safeguard away.
    pub fn new(seed: u64, without: Option<Safeguard>, history: History) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        Self {
            relays: (0..plan.relays).map(|_| State::Waiting).collect(),
            rng,
            plan,
            postgres: Postgres::new(),
            redis: Redis::new(without),
            ledger: Ledger::default(),
            history,
            base: Instant::now(),
            clock: 1_000_000,
        }
    }

    /// The whole run.
    pub fn run(&mut self) -> Result<(), Broken> {
        let Self { history, plan, .. } = self;
        history.note(|| format!("{plan:?}"));
        for _ in 0..self.plan.steps {
            let action = self.plan.pick(&mut self.rng);
            let relay = self.rng.usize(..self.relays.len());
            self.step(action, relay)?;
        }
        self.run_dry()
    }

    fn step(&mut self, action: Action, relay: usize) -> Result<(), Broken> {
        match action {
            Action::Commit => self.commit(),
            Action::MoveWal => self.postgres.move_wal(self.rng.u64(1..=64) * 8),
            Action::Checkpoint => self.postgres.checkpoint(),
            Action::BackUp => self.postgres.back_up(),
            Action::Deliver => {
                let frames = self.rng.usize(1..=12);
                self.deliver(frames, relay);
            }
            Action::Keepalive => {
                let part = self.rng.u8(..);
                self.keepalive(part, relay);
            }
            Action::Act => self.act(relay),
            Action::Execute => self.execute()?,
            Action::Answer => self.answer(relay),
            Action::Time => {
                let millis = [1, 20, 60, 400, 1_000, 2_500][self.rng.usize(..6)];
                self.let_time_pass(millis);
            }
            Action::Sync => {
                let writes = self.rng.usize(..=self.redis.unsynced());
                self.redis.sync(writes);
                self.history.note(|| format!("redis: {writes} writes reach the disk"));
            }
            Action::Mark => self.mark(relay)?,
            Action::Tell => self.tell(relay),
            Action::Hear => self.hear()?,
            Action::Start => self.start(relay),
            Action::Notice => self.notice(relay),
            Action::Park => self.park(relay, false),
            Action::Refresh => self.refresh(relay),
            Action::Poll => self.poll()?,
            Action::Fault(fault) => self.fault(fault, relay),
        }
        self.weaken(relay);
        match &self.relays[relay] {
            State::Streaming(session) => session.check(),
            State::Waiting | State::Holding { .. } => Ok(()),
        }
    }

    pub fn now(&self) -> Instant {
        self.base + Duration::from_millis(self.clock)
    }

    fn commit(&mut self) {
        if self.postgres.transactions.len() >= self.plan.transactions {
            return;
        }
        let rng = &mut self.rng;
        let rows = match rng.u8(..8) {
            0 => 0,
            1 => rng.usize(8..=30),
            _ => rng.usize(1..=4),
        };
        let streams = self.plan.streams;
        let mut write = |_| match rng.u8(..10) {
            0 => Write::Other,
            1 => Write::BornSettled,
            _ => {
                let bytes = if rng.u8(..8) == 0 { 500 } else { 2 };
                Write::Event { stream: rng.usize(..streams), bytes }
            }
        };
        let writes: Vec<_> = (0..rows).map(&mut write).collect();
        let record = 8 * rng.u64(1..=8);
        let transaction = self.postgres.commit(&writes, record, &mut self.ledger);
        self.history.note(|| format!("postgres: {transaction:?}"));
    }

    fn session(&mut self, relay: usize) -> Option<&mut Session> {
        match &mut self.relays[relay] {
            State::Streaming(session) => Some(session),
            State::Waiting | State::Holding { .. } => None,
        }
    }

    fn deliver(&mut self, frames: usize, relay: usize) {
        let State::Streaming(session) = &mut self.relays[relay] else { return };
        let Postgres { transactions, walsender, .. } = &mut self.postgres;
        let Some(walsender) = walsender else { return };
        if walsender.connection != session.on.postgres {
            return;
        }
        for _ in 0..frames {
            let Some(frame) = walsender.next_frame(transactions, self.plan.sends_empty) else {
                return;
            };
            session.inbox.push_back(frame);
        }
    }

    fn keepalive(&mut self, part: u8, relay: usize) {
        let State::Streaming(session) = &mut self.relays[relay] else { return };
        let Postgres { transactions, walsender, end, .. } = &mut self.postgres;
        let Some(walsender) = walsender else { return };
        if walsender.connection == session.on.postgres {
            let keepalive = walsender.keepalive(transactions, *end, part);
            self.history.note(|| format!("relay {relay}: {keepalive:?}"));
            session.inbox.push_back(keepalive);
        }
    }

    fn act(&mut self, relay: usize) {
        let now = self.now();
        let State::Streaming(session) = &mut self.relays[relay] else { return };
        session.holds_slot = self.postgres.knows(session.on.postgres);
        let ended = session.move_on(&mut self.redis, &mut self.postgres, now);
        self.take_end(relay, ended);
    }

    fn execute(&mut self) -> Result<(), Broken> {
        let which = self.rng.usize(..64);
        let Some(connection) = self.redis.busy(which) else { return Ok(()) };
        let opens = self.redis.is_opening(connection);
        let words = self.redis.execute(connection, self.clock, &mut self.ledger)?;
        // The worst time for what a former leader sent: the next one has not written yet.
        if opens && self.rng.bool() {
            self.redis.unstall();
        }
        self.history.note(|| format!("connection {connection}: {words}"));
        Ok(())
    }

    fn answer(&mut self, relay: usize) {
        let now = self.now();
        let State::Streaming(session) = &mut self.relays[relay] else { return };
        // Both connections are listened to.
        let first = self.rng.bool();
        let by_turn = [session.on.redis, session.on.gate.unwrap_or(session.on.redis)];
        let by_turn = if first { by_turn } else { [by_turn[1], by_turn[0]] };
        let Some(from) = by_turn.into_iter().find(|from| self.redis.replies(*from) > 0) else {
            return;
        };
        let ready = self.redis.replies(from);
        // Answers are mostly met in order.
        let which = if self.rng.u8(..4) == 0 { self.rng.usize(..ready) } else { 0 };
        let Some((ticket, reply)) = self.redis.take_reply(from, which) else { return };
        self.history.note(|| format!("relay {relay}: reads {reply:?}"));
        session.holds_slot = self.postgres.knows(session.on.postgres);
        let ended = session
            .answer(ticket, reply, now, &mut self.redis)
            .and_then(|()| session.move_on(&mut self.redis, &mut self.postgres, now));
        self.take_end(relay, ended);
    }

    fn take_end(&mut self, relay: usize, ended: Result<(), Ended>) {
        let Err(ended) = ended else { return };
        self.history.note(|| format!("relay {relay}: the line ends: {ended:?}"));
        self.end(relay, Some(ended));
    }

    /// The relay's line ends; without a reason its process does.
    pub fn end(&mut self, relay: usize, ended: Option<Ended>) {
        let connection = match std::mem::replace(&mut self.relays[relay], State::Waiting) {
            State::Waiting => return,
            State::Holding { connection, .. } => connection,
            State::Streaming(session) => {
                let connection = session.on.postgres;
                match ended {
                    Some(ended) => {
                        self.relays[relay] = state_after(ended, *session, &mut self.redis);
                    }
                    None => session.disconnect(&mut self.redis),
                }
                connection
            }
        };
        let is_kept = matches!(self.relays[relay], State::Holding { .. });
        if !is_kept && self.postgres.knows(connection) {
            self.postgres.terminate();
        }
    }

    pub fn let_time_pass(&mut self, millis: u64) {
        self.clock += millis;
        self.redis.let_time_pass(self.clock);
        self.history.note(|| format!("{millis} ms pass"));
    }

    /// The marks of a relay are made. What is marked is durable: `published` can be believed.
    fn mark(&mut self, relay: usize) -> Result<(), Broken> {
        let on_disk = self.plan.safety != Safety::Memory;
        let State::Streaming(session) = &mut self.relays[relay] else { return Ok(()) };
        let Some(job) = &session.marking else { return Ok(()) };
        for id in &job.rows.ids {
            let number = usize::try_from(*id).unwrap();
            let event = self.ledger.event(number);
            // A row may be marked while Redis forgets everything, and after a rewind that nobody
            // told: its event is sent again.
            let may_be_lost = self.plan.past == Past::Emptied || self.ledger.may_repeat;
            if !may_be_lost && !self.redis.has(event.stream, number, on_disk) {
                return Err(Broken(format!("event {number} is marked and not durable")));
            }
        }
        session.marked();
        self.history.note(|| format!("relay {relay}: rows are marked"));
        Ok(())
    }

    fn tell(&mut self, relay: usize) {
        let told = match &mut self.relays[relay] {
            State::Waiting => return,
            State::Streaming(session) => {
                session.tell(&mut self.postgres);
                session.line.positions().confirmed
            }
            State::Holding { connection, confirmed } => {
                self.postgres.tell(*connection, *confirmed);
                *confirmed
            }
        };
        self.history.note(|| format!("relay {relay}: confirms {told}"));
    }

    /// The slot hears a status update: every event that it steps over is safe.
    fn hear(&mut self) -> Result<(), Broken> {
        let Some((before, after)) = self.postgres.hear() else { return Ok(()) };
        self.history.note(|| format!("postgres: the slot rises from {before} to {after}"));
        let on_disk = self.plan.safety != Safety::Memory;
        for transaction in self.postgres.between(before, after) {
            for row in &transaction.rows {
                let Row::Event { number, stream, .. } = *row else { continue };
                let is_lost = transaction.commit_lsn < self.ledger.lost_before;
                let is_parked = self.postgres.rows.has(number);
                if !is_lost && !is_parked && !self.redis.has(stream, number, on_disk) {
                    return Err(Broken(format!(
                        "the slot was confirmed up to {after}, past event {number} at {}, which \
                         is not safe in stream {stream}",
                        transaction.commit_lsn
                    )));
                }
            }
        }
        if after > self.postgres.end {
            return Err(Broken(format!("the slot was confirmed past the end of the WAL: {after}")));
        }
        Ok(())
    }

    /// A relay that waits takes the slot if it is free; one that holds looks whether Redis is back.
    fn start(&mut self, relay: usize) {
        if !self.redis.is_up || self.redis.is_full {
            return;
        }
        match self.relays[relay] {
            State::Streaming(_) => {}
            State::Holding { .. } => self.end(relay, None),
            State::Waiting => {
                let confirmed = self.postgres.confirmed;
                let Some(connection) = self.postgres.start_replication() else { return };
                let redis = self.redis.connect();
                let history = history::History {
                    timeline: self.postgres.timeline,
                    forks: self.postgres.forks.clone(),
                    wal_end: self.postgres.end,
                    confirmed,
                };
                let has_barrier = self.plan.safety == Safety::Barrier;
                let gate = has_barrier.then(|| self.redis.connect());
                let found = self.postgres.rows.found(confirmed);
                let on = Connections { postgres: connection, redis, gate };
                let session = Session::new(&self.plan, on, history, found, self.settler());
                self.relays[relay] = State::Streaming(Box::new(session));
                self.history.note(|| format!("relay {relay}: leads from {confirmed}"));
            }
        }
    }

    /// What waits for the disk.
    fn settler(&self) -> Settler {
        let fsync = Barrier { fsync: true, replicas: 0 };
        let has_gate = self.redis.has_safeguard(Safeguard::Gate);
        let durable = match self.plan.safety {
            Safety::Hold if has_gate => Durable { barrier: None, hold: HOLD },
            Safety::Barrier if has_gate => Durable { barrier: Some(fsync), hold: Duration::ZERO },
            Safety::Memory | Safety::Hold | Safety::Barrier => {
                Durable { barrier: None, hold: Duration::ZERO }
            }
        };
        Settler::new(durable, self.plan.after_publish, self.now())
    }

    /// A relay sees that a connection of its own is gone.
    pub fn notice(&mut self, relay: usize) {
        let connection = match &self.relays[relay] {
            State::Waiting => return,
            State::Holding { connection, .. } => *connection,
            State::Streaming(session) => session.on.postgres,
        };
        if !self.postgres.knows(connection) {
            self.history.note(|| format!("relay {relay}: PostgreSQL is gone"));
            self.end(relay, None);
        } else if let State::Streaming(session) = &self.relays[relay]
            && !session.is_connected(&self.redis)
        {
            let failure = Failure {
                verdict: Verdict::Outage,
                code: "CONNECTION".to_owned(),
                text: "broken".to_owned(),
            };
            self.take_end(relay, Err(end(failure)));
        }
    }

    /// No more faults, and everything goes on until nothing is left to do.
    fn run_dry(&mut self) -> Result<(), Broken> {
        self.history.note(|| "the faults stop".to_owned());
        self.redis.mend();
        self.postgres.move_wal(8);
        // What a former leader sent may arrive when the next one is in the midst of its work.
        let late = self.rng.usize(..4);
        for round in 0..ROUNDS_MAX {
            if round == late {
                self.redis.unstall();
            }
            for relay in 0..self.relays.len() {
                self.step(Action::Notice, relay)?;
                self.step(Action::Start, relay)?;
                self.deliver(100, relay);
                self.keepalive(255, relay);
                self.step(Action::Act, relay)?;
                while self.redis.busy(0).is_some() {
                    self.execute()?;
                }
                for _ in 0..40 {
                    self.step(Action::Answer, relay)?;
                }
                self.step(Action::Mark, relay)?;
                for _ in 0..2 {
                    self.step(Action::Park, relay)?;
                    self.step(Action::Refresh, relay)?;
                }
                for _ in 0..40 {
                    self.poll()?;
                }
                self.step(Action::Tell, relay)?;
                self.step(Action::Hear, relay)?;
            }
            self.redis.sync(usize::MAX);
            self.let_time_pass(500);
            if round >= late && self.is_dry() {
                return self.ledger.check_all_published();
            }
        }
        let Postgres { confirmed, end, .. } = self.postgres;
        self.ledger.check_all_published()?;
        Err(Broken(format!("it never comes to rest: confirmed {confirmed} of {end}")))
    }

    /// Whether the slot stands at the end of the WAL.
    fn is_dry(&mut self) -> bool {
        let end: Lsn = self.postgres.end;
        let is_idle = (0..self.relays.len())
            .all(|relay| self.session(relay).is_none_or(|s| s.line.outstanding() == 0));
        self.postgres.confirmed >= end && is_idle && !self.postgres.rows.is_any()
    }
}
