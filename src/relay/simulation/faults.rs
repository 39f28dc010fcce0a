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
                    self.redis.lose_requests(session.redis, kept);
                    self.redis.disconnect(session.redis);
                }
            }
            Fault::CrashRelay => {
                let kept = self.rng.usize(..4);
                if let State::Streaming(session) = &self.relays[relay] {
                    self.redis.lose_requests(session.redis, kept);
                }
                self.end(relay, None);
            }
            Fault::Terminate => self.postgres.terminate(),
            Fault::KillRedis => {
                self.redis.kill();
                self.notice_all();
            }
            Fault::PowerLoss => {
                self.redis.lose_power(&mut self.ledger);
                // A machine does not come back within the millisecond.
                self.let_time_pass(50);
                self.notice_all();
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
                self.redis.spoil(stream, true);
            }
            Fault::RestartPostgres => self.postgres.restart(),
            Fault::FailMark => {
                if let State::Streaming(session) = &self.relays[relay]
                    && session.marking.is_some()
                {
                    self.end(relay, None);
                }
            }
            Fault::Rewind | Fault::Promote | Fault::Empty => {}
        }
    }

    /// The connections end with their process: every relay is told at once.
    fn notice_all(&mut self) {
        (0..self.relays.len()).for_each(|relay| self.notice(relay));
    }
}
