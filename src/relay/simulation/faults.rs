//! What goes wrong in a run.

use super::plan::Fault;
use super::relay::State;
use super::world::World;

/// What Redis may say about one entry: an outage, and a refusal.
const REFUSALS: [&str; 2] =
    ["OOM command not allowed when used memory > 'maxmemory'.", "ERR string exceeds maximum"];

impl World {
    pub fn fault(&mut self, fault: Fault, relay: usize) {
        self.history.note(|| format!("FAULT {fault:?} (relay {relay})"));
        match fault {
            Fault::CutRedis => {
                let kept = self.rng.usize(..4);
                if let State::Streaming(session) = &self.relays[relay] {
                    self.redis.lose_requests(session.on.redis, kept);
                    session.disconnect(&mut self.redis);
                }
            }
            Fault::CrashRelay => {
                let kept = self.rng.usize(..4);
                if let State::Streaming(session) = &self.relays[relay] {
                    self.redis.lose_requests(session.on.redis, kept);
                }
                self.end(relay, None);
            }
            Fault::Terminate => self.postgres.terminate(),
            Fault::Stall => {
                if let State::Streaming(session) = &self.relays[relay] {
                    self.redis.stall(session.on.redis);
                }
            }
            Fault::Unstall => self.redis.unstall(),
            Fault::KillRedis => self.redis.kill(),
            Fault::PowerLoss => {
                self.redis.lose_power(&mut self.ledger);
                // A machine does not come back within the millisecond.
                self.let_time_pass(50);
            }
            Fault::RedisBack => {
                self.redis.mend();
            }
            Fault::Full => self.redis.is_full = true,
            Fault::Refuse => {
                let words = REFUSALS[self.rng.usize(..2)];
                self.redis.refusal = Some((self.rng.usize(..3), words));
            }
            Fault::Spoil => {
                let stream = self.rng.usize(..self.plan.streams);
                let is_wrong = !self.redis.streams[stream].is_wrong;
                self.redis.spoil(stream, is_wrong);
            }
            Fault::RestartPostgres => self.postgres.restart(),
            Fault::FailMark => {
                if let State::Streaming(session) = &self.relays[relay]
                    && session.marking.is_some()
                {
                    self.end(relay, None);
                }
            }
            Fault::DieParked => self.park(relay, true),
            Fault::Rewind => {
                self.leave_behind();
                self.ledger.may_repeat |= self.postgres.rewind(&mut self.ledger);
            }
            Fault::Promote => {
                self.leave_behind();
                self.postgres.promote(&mut self.ledger);
            }
            Fault::Empty => {
                // Redis had said of these that it has them: a human emptied it.
                let there = self.ledger.end_of_entries();
                let lost = self.ledger.lost_before.max(self.postgres.confirmed);
                self.ledger.lost_before = lost.max(there);
                self.redis.lose_everything(&mut self.ledger);
                self.let_time_pass(50);
            }
        }
    }

    /// The server goes, and what its leader had sent to Redis may arrive long after.
    fn leave_behind(&mut self) {
        for relay in &self.relays {
            if let State::Streaming(session) = relay
                && self.postgres.knows(session.on.postgres)
            {
                self.redis.stall(session.on.redis);
            }
        }
    }
}
