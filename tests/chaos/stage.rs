//! The servers, the two relays and the wires between them; faults are done and undone here.
//!
//! In: steps of a plan. Out: the servers as the faults leave them, whole again after `heal`. It
//! must stay true that a relay ends only when it is told to. Not here: which fault comes when.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::types::PgLsn;

use crate::harness::postgres::{Postgres, Stop};
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::relay::{Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count};
use crate::history::History;
use crate::plan::{Fault, Role, Side, Step, Target, Trouble};
use crate::writers::STREAMS;

/// After so long PostgreSQL gives up a walsender whose relay is silent; a standby waits for it.
const WAL_SENDER_TIMEOUT: &str = "2s";
/// The README's bound for the end after SIGTERM, with the default grace.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Bytes per second on a throttled wire: less than the writers write at their busiest.
const THROTTLE: u32 = 150_000;
const DELAY: Duration = Duration::from_millis(60);
/// On the writers' wire, always: so some COMMIT is on its way whenever PostgreSQL dies.
const WRITERS_DELAY: Duration = Duration::from_millis(2);

/// A relay with two wires of its own.
struct Machine {
    name: &'static str,
    settings: Settings,
    relay: Relay,
    to_postgres: Proxy,
    to_redis: Proxy,
}

/// Everything that can fail.
pub struct Stage {
    pub world: World,
    pub history: History,
    /// Between PostgreSQL and its writers.
    pub writers: Proxy,
    machines: [Machine; 2],
    open: Vec<(Fault, usize)>,
}

impl Stage {
    /// Servers that are set up, and two relays that are ready, with settings of their own.
    pub async fn new(history: History, chosen: &[(String, String)]) -> Self {
        let settings = [("fsync", "off"), ("wal_sender_timeout", WAL_SENDER_TIMEOUT)];
        let postgres = Postgres::start_with(&settings).await;
        let redis = Redis::start_with_power_loss(&[]).await;
        let settings = Settings::new(&postgres.url(), &redis.url());
        let world = World { postgres, redis, settings };
        world.settings.setup().await;
        let machines =
            [Machine::new("a", &world, chosen).await, Machine::new("b", &world, chosen).await];
        let writers = Proxy::start(world.postgres.port());
        writers.delay(WRITERS_DELAY);
        Self { world, history, writers, machines, open: Vec::new() }
    }

    /// One step of the plan. What lingers is still open afterwards.
    pub async fn play(&mut self, step: Step) {
        tokio::time::sleep(step.pause).await;
        let target = step.fault.target();
        let is_taken = self.open.iter().any(|(fault, _)| fault.target() == target);
        if is_taken || step.fault == Fault::FreezeLeader || self.open.len() > 2 {
            self.heal().await;
        }
        self.assert_relays_run();
        self.strike(step).await;
        if !step.lingers {
            tokio::time::sleep(step.lasts).await;
            self.heal().await;
        }
    }

    async fn strike(&mut self, step: Step) {
        let fault = step.fault;
        let whom = match (fault, fault.target()) {
            (Fault::FreezeLeader, _) => self.until_leader().await,
            (_, Target::Relays | Target::Wires(_)) => self.find(step.role).await,
            (_, Target::Redis | Target::Postgres | Target::Writers | Target::Stream) => 0,
        };
        let Self { world: World { postgres, redis, .. }, machines, history, writers, .. } = self;
        let machine = &mut machines[whom];
        let name = match fault.target() {
            Target::Relays | Target::Wires(_) => machine.name,
            Target::Redis | Target::Postgres | Target::Writers | Target::Stream => "",
        };
        history.fault(fault, name);
        match fault {
            Fault::KillRelay => machine.relay.kill9(),
            Fault::TerminateRelay => machine.relay.terminate(),
            Fault::FreezeLeader => machine.relay.freeze(),
            Fault::KillRedis => redis.kill9(),
            Fault::PowerLossOfRedis => {
                let lost = redis.power_loss();
                history.note(format!("{lost} bytes of the append-only file are gone"));
            }
            Fault::FreezeRedis => redis.freeze(),
            Fault::StopPostgres => postgres.stop(Stop::Immediate).await,
            Fault::KillPostgres => postgres.kill9(),
            Fault::EndWalsender => {
                let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
                postgres.run(all).await;
            }
            Fault::EndSqlSession => {
                let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE application_name = 'walrelay' AND backend_type = 'client backend'";
                postgres.run(all).await;
            }
            Fault::Wire(side, trouble) => machine.wire(side, trouble),
            Fault::LoseWritersReplies => writers.hold_replies(),
            Fault::RefuseStream => refuse(redis, STREAMS[history.faults() % STREAMS.len()]).await,
        }
        self.open.push((fault, whom));
    }

    /// Undoes all that is open.
    pub async fn heal(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        // Servers first: a takeover needs them.
        open.sort_by_key(|(fault, _)| match fault.target() {
            Target::Redis | Target::Postgres | Target::Wires(_) | Target::Writers => 0,
            Target::Stream => 1,
            Target::Relays => 2,
        });
        for (fault, whom) in open {
            let Self { world: World { postgres, redis, .. }, machines, .. } = self;
            let machine = &mut machines[whom];
            match fault {
                Fault::KillRelay => self.start_again(whom),
                Fault::TerminateRelay => {
                    let code = machine.relay.exit_code(END_WITHIN).await;
                    assert_eq!(code, Some(0), "after SIGTERM:\n{}", machine.relay.output());
                    self.start_again(whom);
                }
                Fault::FreezeLeader => {
                    self.until_leads(1 - whom).await;
                    self.machines[whom].relay.thaw();
                }
                Fault::KillRedis | Fault::PowerLossOfRedis => {
                    redis.restart().await;
                    // That they were in order again may be among what the power loss took.
                    restore(redis).await;
                }
                Fault::RefuseStream => restore(redis).await,
                Fault::FreezeRedis => redis.thaw(),
                Fault::StopPostgres | Fault::KillPostgres => postgres.restart().await,
                Fault::EndWalsender | Fault::EndSqlSession => {}
                Fault::Wire(Side::Postgres, trouble) => mend(&machine.to_postgres, trouble),
                Fault::Wire(Side::Redis, trouble) => mend(&machine.to_redis, trouble),
                Fault::LoseWritersReplies => {
                    self.writers.cut();
                    self.writers.mend();
                    self.writers.delay(WRITERS_DELAY);
                }
            }
            self.history.note(format!("(over: {fault})"));
        }
    }

    /// Awaits a slot that has confirmed all WAL written until now: a relay holds all of it to be in
    /// its stream. False if the slot moves no more, so that the judge may say what is missing.
    pub async fn until_confirmed(&self) -> bool {
        let client = self.world.postgres.client().await;
        let query = "SELECT pg_current_wal_insert_lsn()";
        let written: PgLsn = client.query_one(query, &[]).await.expect("an LSN").get(0);
        let query = "SELECT confirmed_flush_lsn FROM pg_replication_slots";
        let mut last = PgLsn::from(0);
        let mut deadline = Instant::now() + PATIENCE;
        wait::until("the slot to move", Duration::MAX / 4, async || {
            let now: PgLsn = client.query_one(query, &[]).await.expect("the slot").get(0);
            if now > last {
                (last, deadline) = (now, Instant::now() + PATIENCE);
            }
            let is_late = Instant::now() >= deadline;
            (is_late || now >= written).then_some(now >= written)
        })
        .await
    }

    /// Awaits that nothing is parked any more; false if what is parked does not become less.
    pub async fn until_nothing_parked(&self) -> bool {
        let client = self.world.postgres.client().await;
        let parked = "identity.outbox WHERE next_attempt_at IS NOT NULL AND NOT published";
        let mut least = i64::MAX;
        let mut deadline = Instant::now() + PATIENCE;
        wait::until("parked events to go out", Duration::MAX / 4, async || {
            let now = count(&client, parked).await;
            if now < least {
                (least, deadline) = (now, Instant::now() + PATIENCE);
            }
            (now == 0 || Instant::now() >= deadline).then_some(now == 0)
        })
        .await
    }

    /// Kills both relays and Redis's power: what is left is what was promised to be left.
    pub async fn lose_all_but_the_disk(&mut self) {
        for machine in &mut self.machines {
            machine.relay.kill9();
            self.history.life(machine.name, machine.relay.output());
        }
        self.world.redis.power_loss();
        self.world.redis.restart().await;
        restore(&self.world.redis).await;
    }

    /// Both relays end by SIGTERM.
    pub async fn drain(&mut self) {
        self.assert_relays_run();
        for machine in &mut self.machines {
            machine.relay.drain().await;
        }
    }

    /// Both relays again.
    pub async fn start_relays(&mut self) {
        for machine in &mut self.machines {
            machine.relay = machine.settings.start_ready().await;
        }
    }

    fn start_again(&mut self, whom: usize) {
        let machine = &mut self.machines[whom];
        self.history.life(machine.name, machine.relay.output());
        machine.relay = machine.settings.start();
    }

    fn assert_relays_run(&mut self) {
        let open = &self.open;
        for (whom, machine) in self.machines.iter_mut().enumerate() {
            let is_told = open.iter().any(|(fault, other)| {
                *other == whom && matches!(fault, Fault::KillRelay | Fault::TerminateRelay)
            });
            let runs = is_told || machine.relay.running();
            assert!(runs, "relay {} ended by itself:\n{}", machine.name, machine.relay.output());
        }
    }

    /// Who leads now; if nobody does, the first.
    async fn find(&self, role: Role) -> usize {
        let leader = self.leader().await.unwrap_or(0);
        if role == Role::Leader { leader } else { 1 - leader }
    }

    async fn leader(&self) -> Option<usize> {
        for (whom, machine) in self.machines.iter().enumerate() {
            if machine.leads().await {
                return Some(whom);
            }
        }
        None
    }

    async fn until_leader(&self) -> usize {
        wait::until("a relay that leads", PATIENCE, async || self.leader().await).await
    }

    async fn until_leads(&self, whom: usize) {
        let what = "the standby takes over from the frozen leader";
        wait::until(what, PATIENCE, async || self.machines[whom].leads().await.then_some(())).await;
    }
}

impl Drop for Stage {
    /// A failed run keeps the logs of the relays that still ran.
    fn drop(&mut self) {
        for machine in &self.machines {
            self.history.life(machine.name, machine.relay.output());
        }
    }
}

impl Machine {
    async fn new(name: &'static str, world: &World, chosen: &[(String, String)]) -> Self {
        let to_postgres = Proxy::start(world.postgres.port());
        let to_redis = Proxy::start(world.redis.port());
        let database_url = world.postgres.url_at(to_postgres.port());
        let settings = Settings::new(&database_url, &world.redis.url_at(to_redis.port()))
            .with("connect_timeout", "2s")
            .with("redis_timeout", "2s")
            .with("reconnect_delay_max", "500ms")
            // What is confirmed too early is to be confirmed before the next fsync.
            .with("feedback_interval", "100ms")
            // What is refused is tried again until it goes out: the judge knows no dead letters.
            .with("poll_interval", "200ms")
            .with("retry_base_delay", "50ms")
            .with("retry_max_delay", "400ms")
            .with("max_retry_attempts", "1000");
        let with =
            |settings: Settings, (name, value): &(String, String)| settings.with(name, value);
        let settings = chosen.iter().fold(settings, with);
        let relay = settings.start_ready().await;
        Self { name, settings, relay, to_postgres, to_redis }
    }

    async fn leads(&self) -> bool {
        let Some((_, page)) = self.relay.get("/status").await else { return false };
        let page: Value = serde_json::from_str(&page).expect("JSON from /status");
        ["streaming", "holding"].iter().any(|state| page["state"] == *state)
    }

    fn wire(&self, side: Side, trouble: Trouble) {
        let wire = if side == Side::Postgres { &self.to_postgres } else { &self.to_redis };
        match trouble {
            Trouble::Cut => wire.cut_and_refuse(),
            Trouble::Stall => wire.stall(),
            Trouble::Delay => wire.delay(DELAY),
            Trouble::Throttle => wire.throttle(THROTTLE),
            Trouble::LoseReplies => wire.hold_replies(),
        }
    }
}

fn mend(wire: &Proxy, trouble: Trouble) {
    if trouble == Trouble::LoseReplies {
        wire.cut();
    }
    wire.mend();
}

/// The key of a stream holds a string from now on, and its entries are elsewhere: in one step, so
/// that no crash leaves a half of it.
const REFUSE: &str = "if redis.call('TYPE', KEYS[1]).ok == 'stream' then
       redis.call('RENAME', KEYS[1], KEYS[2])
       redis.call('SET', KEYS[1], 'no stream')
     end";
/// The entries are back.
const RESTORE: &str = "if redis.call('EXISTS', KEYS[2]) == 1 then
       redis.call('RENAME', KEYS[2], KEYS[1])
     end";

/// A server that is down refuses as it is.
async fn refuse(redis: &Redis, stream: &str) {
    if let Some(mut connection) = redis.try_connection().await {
        let mut command = redis::cmd("EVAL");
        command.arg(REFUSE).arg(2).arg(stream).arg(format!("{stream}:aside"));
        let done: redis::RedisResult<()> = command.query_async(&mut connection).await;
        done.expect("a stream set aside");
    }
}

/// Every stream is at its place again, if it was not.
async fn restore(redis: &Redis) {
    let mut connection = redis.connection().await;
    for stream in STREAMS {
        let mut command = redis::cmd("EVAL");
        command.arg(RESTORE).arg(2).arg(stream).arg(format!("{stream}:aside"));
        let done: redis::RedisResult<()> = command.query_async(&mut connection).await;
        done.expect("a stream at its place");
    }
}
