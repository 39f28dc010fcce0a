//! The consumers of `examples/consumers`: what dies, fails or is replayed has its effect once.
//!
//! All languages at once, each with a group of its own on the stream of one real relay.

use std::collections::HashMap;

use futures_util::future::join_all;
use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;

use crate::harness::consumer::Entry;
use crate::harness::kits::{self, Kit, Running};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World};

/// Where events are sent again to, in all three formats.
const REBUILD: &str = "rebuild";
/// Each of them.
const REPLAYED: u32 = 10;

/// `$1` users who can be sent a mail.
const USERS: &str = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
    SELECT 'UserCreated', gen_random_uuid(), jsonb_build_object('email', n || '@example.org')
    FROM generate_series(1, $1::int8) AS n";
/// Two events that will be nobody's mail: one that is said to kill, one that no handler can use.
const DEADLY: &str = r#"INSERT INTO identity.outbox (event_type, aggregate_id, payload)
    VALUES ('Deadly', gen_random_uuid(), '{"email": "deadly@example.org"}')"#;
const POISON: &str = r#"INSERT INTO identity.outbox (event_type, aggregate_id, payload)
    VALUES ('Poison', gen_random_uuid(), '{"name": "without an address"}')"#;
/// Whose mails are to be in the list, each once.
const MAILS: &str = "SELECT event_id::text FROM identity.outbox WHERE event_type = 'UserCreated'
    ORDER BY 1";
/// The first `$1` users with their addresses.
const FIRST_USERS: &str = "SELECT aggregate_id::text, payload->>'email' FROM identity.outbox
    WHERE event_type = 'UserCreated' ORDER BY id LIMIT $1::int8";

/// An entry as XREADGROUP tells it.
type Given = (String, HashMap<String, String>);

struct Scene {
    world: World,
    client: Client,
    redis: MultiplexedConnection,
}

impl Scene {
    /// A deadly event first, then users, and a poisonous one among them.
    async fn new() -> Self {
        let world = World::new().await;
        let client = world.postgres.client().await;
        let redis = world.redis.connection().await;
        client.batch_execute(DEADLY).await.unwrap();
        client.execute(USERS, &[&300_i64]).await.unwrap();
        client.batch_execute(POISON).await.unwrap();
        client.execute(USERS, &[&300_i64]).await.unwrap();
        Self { world, client, redis }
    }

    /// A replay of the first users behind `skip` others, into `stream` or their own.
    async fn replay(&self, format: &str, skip: u32, stream: &[&str]) {
        let first = format!(
            "SELECT event_id::text FROM identity.outbox WHERE event_type = 'UserCreated'
             ORDER BY id OFFSET {skip} LIMIT {REPLAYED}"
        );
        let rows = self.client.query(&first, &[]).await.unwrap();
        let mut words = vec!["--id"];
        words.extend(rows.iter().map(|row| row.get::<_, &str>(0)));
        words.extend(stream);
        let settings = self.world.settings.clone().with("entry_format", format);
        let done = settings.with_arguments(&words).finish("replay").await;
        assert_eq!(done.code, Some(0), "{}", done.output);
    }

    async fn ask<T: FromRedisValue>(&self, command: &str) -> redis::RedisResult<T> {
        let mut words = command.split(' ');
        let mut built = redis::cmd(words.next().unwrap());
        built.arg(words.collect::<Vec<_>>());
        built.query_async(&mut self.redis.clone()).await
    }

    async fn get<T: FromRedisValue>(&self, command: &str) -> T {
        self.ask(command).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn start(&self, kit: &Kit, stream: &str, consumer: &str) -> Running {
        kit.start(&self.world.redis.url(), stream, consumer)
    }

    /// The ids of entries that a consumer of the group was given and has not acked.
    async fn pending(&self, group: &str, consumer: &str) -> Vec<String> {
        // Its earlier words are heard first, also those of a process that is dead by now.
        self.get::<String>("PING").await;
        let command = format!("XPENDING {STREAM} {group} - + 100 {consumer}");
        let pending: Vec<(String, String, u64, u64)> = self.ask(&command).await.unwrap_or_default();
        pending.into_iter().map(|(id, _, _, _)| id).collect()
    }

    async fn entry(&self, stream: &str, id: &str) -> Entry {
        let found: Vec<(String, Vec<(String, String)>)> =
            self.get(&format!("XRANGE {stream} {id} {id}")).await;
        let (id, fields) = found.into_iter().next().expect("the entry");
        Entry { id, fields }
    }

    /// An entry of that consumer whose effect is done, and its ack is not.
    async fn half_done(&self, group: &str, consumer: &str) -> Option<String> {
        for id in self.pending(group, consumer).await {
            let entry = self.entry(STREAM, &id).await;
            let seen = format!("GET {STREAM}.{group}.seen:{}", entry.event_id());
            if self.get::<Option<String>>(&seen).await.as_deref() == Some("whole") {
                return Some(id);
            }
        }
        None
    }

    /// More work where all is done.
    async fn feed(&self, group: &str) {
        let mails: u64 = self.get(&format!("LLEN {STREAM}.{group}.mails")).await;
        let users = self.client.query(MAILS, &[]).await.unwrap().len();
        if usize::try_from(mails).unwrap() >= users {
            self.client.execute(USERS, &[&200_i64]).await.unwrap();
        }
    }

    /// SIGKILL for a consumer between an effect and its ack; the entry.
    async fn kill_between_effect_and_ack(&self, kit: &Kit) -> String {
        let mut victim = self.start(kit, STREAM, "a");
        wait::until("a consumer that dies between effect and ack", PATIENCE, async || {
            self.feed(kit.language).await;
            victim.process.signal("STOP");
            if self.half_done(kit.language, "a").await.is_none() {
                victim.process.signal("CONT");
                return None;
            }
            victim.process.kill();
            // An ack that was on its way has been heard by now.
            let half_done = self.half_done(kit.language, "a").await;
            if half_done.is_none() {
                victim = self.start(kit, STREAM, "a");
            }
            half_done
        })
        .await
    }

    /// Somebody was given the first entry three times and did not live to ack it, nor those behind
    /// it: these, by entry and event.
    async fn let_one_event_kill_thrice(&self, group: &str) -> Vec<(String, String)> {
        self.get::<()>(&format!("XGROUP CREATE {STREAM} {group} 0")).await;
        let few = REPLAYED + 1;
        let read = format!("XREADGROUP GROUP {group} victim COUNT {few} STREAMS {STREAM} >");
        let mut read: Vec<(String, Vec<Given>)> = self.get(&read).await;
        let given = read.remove(0).1.into_iter();
        let mut given = given.map(|(id, fields)| (id, fields["event_id"].clone()));
        let (deadly, _) = given.next().expect("the first entry");
        let claim = format!("XCLAIM {STREAM} {group} victim 0 {deadly} RETRYCOUNT 3 JUSTID");
        assert_eq!(self.get::<Vec<String>>(&claim).await, [deadly]);
        given.collect()
    }

    /// Whoever was given these is not dead for long enough, until their replays have been read.
    async fn let_replays_overtake(&self, group: &str, given: &[(String, String)]) {
        let ids: Vec<&str> = given.iter().map(|(id, _)| id.as_str()).collect();
        let touch = format!("XCLAIM {STREAM} {group} victim 0 {} JUSTID", ids.join(" "));
        wait::until("replays before their events", PATIENCE, async || {
            self.get::<Vec<String>>(&touch).await;
            for (_, event_id) in given {
                self.get::<Option<String>>(&format!("GET {STREAM}.{group}.seen:{event_id}"))
                    .await?;
            }
            Some(())
        })
        .await;
    }

    async fn assert_all_done(&self, group: &str) {
        let dead = format!("{STREAM}.{group}.dead");
        let what = format!("{group}: two dead, nothing pending, all mails");
        wait::until_equal(&what, (2, 0, true), PATIENCE, async || {
            let pending: redis::Value = self.get(&format!("XPENDING {STREAM} {group}")).await;
            let pending: (u64, redis::Value, redis::Value, redis::Value) =
                redis::from_redis_value(pending).unwrap();
            let mails: usize = self.get(&format!("LLEN {STREAM}.{group}.mails")).await;
            let users = self.client.query(MAILS, &[]).await.unwrap().len();
            (self.get::<u64>(&format!("XLEN {dead}")).await, pending.0, mails >= users)
        })
        .await;
        let mut mails: Vec<String> = self.get(&format!("LRANGE {STREAM}.{group}.mails 0 -1")).await;
        mails.sort_unstable();
        let rows = self.client.query(MAILS, &[]).await.unwrap();
        let mut users: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        users.sort_unstable();
        // Another language may have asked for more meanwhile.
        users.retain(|id| mails.binary_search(id).is_ok());
        assert_eq!(mails, users, "{group}: each user has one mail");
        self.assert_dead(group).await;
    }

    /// What died is whole, with its reason.
    async fn assert_dead(&self, group: &str) {
        let dead = self.world.consumer_of(&format!("{STREAM}.{group}.dead")).read(2).await;
        let told = [
            ("Deadly", "delivered 3 times, never finished", "4"),
            ("Poison", "the payload has no email", "3"),
        ];
        for (event_type, reason, attempts) in told {
            let letter = dead.iter().find(|letter| letter.get("event_type") == event_type);
            let letter = letter.unwrap_or_else(|| panic!("{group}: {event_type} in {dead:?}"));
            assert_eq!(letter.get("error_message"), reason, "{group}");
            assert_eq!(letter.get("attempts"), attempts, "{group}");
            for (name, value) in self.entry(STREAM, letter.get("entry_id")).await.fields {
                assert_eq!(letter.get(&name), value, "{group}: {name} of {event_type}");
            }
        }
    }

    /// SIGTERM for a consumer with entries in hand: they are done, and nothing is left behind.
    async fn stop_at_work(&self, group: &str, mut consumer: Running) {
        wait::until("a consumer with entries in hand", PATIENCE, async || {
            self.feed(group).await;
            consumer.process.signal("STOP");
            let at_work = self.pending(group, "b").await.len() > 1;
            if at_work {
                consumer.process.signal("TERM");
            }
            consumer.process.signal("CONT");
            at_work.then_some(())
        })
        .await;
        let status = consumer.process.ended(PATIENCE).await;
        assert_eq!(status.code(), Some(0), "{group}:\n{}", consumer.output());
        assert!(self.pending(group, "b").await.is_empty(), "{group} left entries behind");
    }

    /// Events of all three formats, sent again to a group that has none of them.
    async fn rebuild(&self, kit: &Kit) {
        let mut consumer = self.start(kit, REBUILD, "a");
        let keys = format!("{REBUILD}.{}", kit.language);
        let what = format!("{}: what was rebuilt", kit.language);
        let rows = self.client.query(FIRST_USERS, &[&i64::from(3 * REPLAYED)]).await.unwrap();
        let users: HashMap<String, String> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        wait::until_equal(&what, users, PATIENCE, async || {
            self.get(&format!("HGETALL {keys}.users")).await
        })
        .await;
        consumer.process.signal("INT");
        assert_eq!(consumer.process.ended(PATIENCE).await.code(), Some(0), "{}", kit.language);
        assert_eq!(self.get::<u64>(&format!("EXISTS {keys}.mails")).await, 0, "no second mails");
        assert_eq!(self.get::<u64>(&format!("EXISTS {keys}.dead")).await, 0);
    }

    async fn prove(&self, kit: &Kit) {
        let group = kit.language;
        let given = self.let_one_event_kill_thrice(group).await;
        let survivor = self.start(kit, STREAM, "b");
        self.let_replays_overtake(group, &given).await;
        let half_done = self.kill_between_effect_and_ack(kit).await;
        self.assert_all_done(group).await;
        let said = survivor.output();
        assert!(said.contains(&format!("claimed {half_done}, delivery ")), "{group}:\n{said}");
        assert!(said.contains(&format!("skipped {half_done}:")), "{group}:\n{said}");
        self.stop_at_work(group, survivor).await;
        self.rebuild(kit).await;
    }
}

#[tokio::test]
async fn the_examples_apply_each_event_once_whoever_dies_and_bury_what_nobody_can_apply() {
    let scene = Scene::new().await;
    let mut relay = scene.world.settings.start_ready().await;
    scene.world.consumer().until_len(602).await;
    scene.replay("fields", 0, &[]).await;
    for (place, format) in (0..).zip(["fields", "json", "cloudevents"]) {
        scene.replay(format, place * REPLAYED, &["--stream", REBUILD]).await;
    }
    let home = tempfile::tempdir().unwrap();
    let kits = kits::all(home.path());
    join_all(kits.iter().map(|kit| scene.prove(kit))).await;
    relay.drain().await;
}
