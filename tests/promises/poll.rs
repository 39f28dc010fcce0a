//! Mode poll: no replication, any number of relays on one table, and each event once.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::ledger::assert_rising_by;
use crate::harness::relay::{Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count, insert, insert_many, write_through};

/// A server that writes no logical changes, and a relay that does not ask for them.
pub async fn polled(redis: &[(&str, &str)]) -> World {
    let mut world = World::bare(&[("wal_level", "replica"), ("max_wal_senders", "0")], redis).await;
    world.settings = polling(world.settings.clone());
    world.settings.setup().await;
    world
}

/// The same settings for mode poll, with short waits.
pub fn polling(settings: Settings) -> Settings {
    settings.with("mode", "poll").with("poll_interval", "200ms").with("reconnect_delay_max", "1s")
}

/// Another relay on the same servers.
pub fn another(world: &World) -> Settings {
    polling(Settings::new(&world.postgres.url(), &world.redis.url()))
}

/// Awaits every row published and marked, and judges the stream: each once, and the numbers of each
/// aggregate rising. For rows of one writer, or of many with aggregates of their own.
pub async fn assert_each_once(world: &World) {
    world.until_marked().await;
    let client = world.postgres.client().await;
    let rows = client.query("SELECT event_id::text FROM identity.outbox", &[]).await.unwrap();
    let mut committed: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let entries = world.consumer().read_all().await;
    let mut published: Vec<String> = entries.iter().map(|e| e.event_id().to_owned()).collect();
    committed.sort_unstable();
    published.sort_unstable();
    let (rows, there) = (committed.len(), published.len());
    assert!(committed == published, "{rows} rows, {there} entries: lost or doubled");
    assert_rising_by(&entries, "aggregate_id");
}

/// Rows of ten aggregates, each row a transaction; `n` rises.
pub async fn write_aggregates(url: String, total: i64) {
    let client = crate::harness::postgres::client(&url).await;
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 SELECT 'Wrote', lpad((n % 10)::text, 32, '0')::uuid, jsonb_build_object('n', n)
                 FROM generate_series($1::int8, $1 + 4) AS n";
    let mut n = 1;
    while n <= total {
        client.execute(query, &[&n]).await.unwrap();
        n += 5;
    }
}

#[tokio::test]
async fn a_server_without_logical_replication_is_relayed_from_and_the_pages_say_so() {
    let world = polled(&[]).await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 3_000).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 3_001, 6_000).await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    let status = relay.status().await;
    assert_eq!(status["state"], "polling", "{status}");
    assert_eq!(status["mode"], "poll", "{status}");
    assert_eq!(status["events"]["marked"], 6_000, "{status}");
    assert_eq!(status["streams"], json!([{ "name": STREAM, "published": 6_000 }]));
    assert_eq!(relay.get("/readyz").await.unwrap().0, 200);
    assert_eq!(count(&client, "pg_replication_slots").await, 0);
    assert_eq!(count(&client, "pg_publication").await, 0);
    assert_eq!(count(&client, "identity.outbox WHERE published_at IS NULL").await, 0);
    relay.drain().await;
}

#[tokio::test]
async fn a_role_without_replication_is_enough() {
    let mut world = polled(&[]).await;
    let settings = world.settings.clone().with_arguments(&["--role", "relay"]);
    let done = settings.finish("setup").await;
    assert_eq!(done.code, Some(0), "{}", done.output);
    world.postgres.run("ALTER ROLE relay PASSWORD 'r'").await;
    let url = world.postgres.url_of("relay", "r");
    world.settings = world.settings.clone().with("database_url", &url);
    world.assert_relays(&world.settings).await;
}

#[tokio::test]
async fn delete_removes_rows_and_keep_is_refused() {
    let world = polled(&[]).await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 2_000).await.unwrap();
    let mut relay = world.settings.clone().with("after_publish", "delete").start_ready().await;
    wait::until_equal("rows left", 0, PATIENCE, async || count(&client, "identity.outbox").await)
        .await;
    assert_eq!(world.consumer().read_all().await.len(), 2_000);
    relay.drain().await;
    let refused = world.settings.clone().with("after_publish", "keep").finish("run").await;
    assert_eq!(refused.code, Some(2), "{}", refused.output);
    assert!(refused.output.contains("keep does not go with mode = poll"), "{}", refused.output);
}

#[tokio::test]
async fn killed_at_random_moments_it_publishes_each_event_once() {
    let world = polled(&[]).await;
    let writer = tokio::spawn(write_through(world.postgres.socket_url(), 20_000, 5));
    for round in 0..12 {
        let mut relay = world.settings.start();
        if round % 3 > 0 {
            relay.ready().await;
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..700))).await;
        relay.kill9();
    }
    let mut relay = world.settings.start_ready().await;
    writer.await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn three_relays_share_the_rows_and_one_after_the_other_is_killed() {
    let world = polled(&[]).await;
    let settings = [world.settings.clone(), another(&world), another(&world)];
    let mut relays: Vec<Relay> = Vec::new();
    for settings in &settings {
        relays.push(settings.start_ready().await);
    }
    let writer = tokio::spawn(write_aggregates(world.postgres.socket_url(), 15_000));
    for whom in [0, 1, 2, 0, 1, 2] {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..500))).await;
        relays[whom].kill9();
        relays[whom] = settings[whom].start();
    }
    writer.await.unwrap();
    assert_each_once(&world).await;
    let mut shared = 0;
    for relay in &mut relays {
        relay.ready().await;
        let marked = relay.status().await["events"]["marked"].as_u64().unwrap();
        shared += usize::from(marked > 0);
        relay.drain().await;
    }
    assert!(shared >= 1, "nobody has marked anything");
}

#[tokio::test]
async fn a_relay_that_is_frozen_with_its_claim_writes_nothing_when_it_thaws() {
    let world = polled(&[]).await;
    let client = world.postgres.client().await;
    // Redis does not answer while the frozen one waits for it: it has claimed, and has the turn.
    let wire = crate::harness::proxy::Proxy::start(world.redis.port());
    let settings = world.settings.clone().with("redis_url", &world.redis.url_at(wire.port()));
    let mut frozen = settings.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    // What it has delivered and not marked would stay locked for as long as it is frozen.
    world.until_marked().await;
    wire.hold_replies();
    insert_many(&client, 101, 3_000).await.unwrap();
    let turn = "pg_locks WHERE locktype = 'advisory' AND classid = 1635018100 AND granted";
    wait::until_equal("the turn is taken", 1, PATIENCE, async || count(&client, turn).await).await;
    frozen.freeze();
    let mut other = another(&world).start_ready().await;
    // Nobody helps: the one that waits ends the session of the frozen one by itself.
    world.until_marked().await;
    wire.mend();
    frozen.thaw();
    insert_many(&client, 3_001, 4_000).await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    frozen.until_state("polling").await;
    insert_many(&client, 4_001, 5_000).await.unwrap();
    world.assert_all_published().await;
    frozen.drain().await;
    other.drain().await;
}

#[tokio::test]
async fn outages_of_both_servers_end_in_polling_again() {
    let mut world = polled(&[]).await;
    let mut relay = world.settings.start_ready().await;
    let writer = tokio::spawn(write_through(world.postgres.socket_url(), 12_000, 5));
    let mut consumer = world.consumer();
    consumer.until_len(1_000).await;
    world.redis.kill9();
    relay.until_state("holding").await;
    assert_eq!(relay.get("/readyz").await.unwrap().0, 503);
    world.redis.restart().await;
    consumer.until_len(4_000).await;
    world.postgres.kill9();
    world.postgres.restart().await;
    consumer.until_len(6_000).await;
    world.redis.kill9();
    world.redis.restart().await;
    writer.await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    assert!(relay.running(), "an outage must not end the relay");
    relay.drain().await;
}

#[tokio::test]
async fn a_drain_settles_what_was_delivered() {
    let world = polled(&[]).await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 5_000).await.unwrap();
    world.consumer().until_len(2_000).await;
    relay.drain().await;
    let published = i64::try_from(world.consumer().read_all().await.len()).unwrap();
    assert_eq!(count(&client, "identity.outbox WHERE published").await, published);
}

#[tokio::test]
async fn a_notification_wakes_a_relay_that_would_sleep_for_an_hour() {
    let world = polled(&[]).await;
    let done = world.settings.clone().with_arguments(&["--notify"]).finish("setup").await;
    assert_eq!(done.code, Some(0), "{}", done.output);
    let again = world.settings.clone().with_arguments(&["--notify"]).finish("setup").await;
    assert_eq!(again.code, Some(0), "{}", again.output);
    let mut relay = world.settings.clone().with("poll_interval", "1h").start_ready().await;
    let client = world.postgres.client().await;
    for n in 1..=20 {
        insert(&client, n).await.unwrap();
        world.consumer().until_len(usize::try_from(n).unwrap()).await;
    }
    world.assert_all_published().await;
    relay.until_output("\"woken_by\":\"notification\"").await;
    relay.drain().await;
}

#[tokio::test]
async fn without_a_trigger_pauses_grow_and_an_idle_relay_costs_next_to_nothing() {
    let world = polled(&[]).await;
    let settings = world.settings.clone().with("poll_interval", "1s").with("durability", "memory");
    let mut relay = settings.start_ready().await;
    let client = world.postgres.client().await;
    for n in 1..=5 {
        insert(&client, n).await.unwrap();
        world.consumer().until_len(usize::try_from(n).unwrap()).await;
    }
    let looks = "SELECT xact_commit::text FROM pg_stat_database WHERE datname = 'postgres'";
    let figures = async || -> [u64; 2] {
        [world.postgres.text(looks).await.parse().unwrap(), relay.cpu_ticks()]
    };
    let (mut before, mut since) = (figures().await, Instant::now());
    // A session's figures come a second after it, and later: the first ones tell of the start.
    wait::until("at most 15 transactions and 10 ticks in a second", PATIENCE, async || {
        let millis = since.elapsed().as_millis();
        if millis < 2_000 {
            return None;
        }
        let now = figures().await;
        let [looks, ticks] = [0, 1].map(|n| u128::from(now[n] - before[n]) * 1_000 / millis);
        (before, since) = (now, Instant::now());
        (looks <= 15 && ticks <= 10).then_some(())
    })
    .await;
    relay.drain().await;
}

#[tokio::test]
async fn auto_polls_where_replication_is_impossible_and_says_why() {
    let reason = async |world: &World, settings: &Settings, part: &str| {
        let mut relay = settings.clone().with("mode", "auto").start_ready().await;
        let status = relay.status().await;
        let reason = status["mode_reason"].as_str().unwrap_or_default();
        assert!(status["mode"] == "poll" && reason.contains(part), "{status}");
        insert(&world.postgres.client().await, 1).await.unwrap();
        world.assert_all_published().await;
        relay.drain().await;
    };
    let world = polled(&[]).await;
    reason(&world, &world.settings, "wal_level = replica").await;

    let world = World::bare(&[("max_replication_slots", "1")], &[]).await;
    let settings = polling(world.settings.clone()).with_arguments(&["--role", "relay"]);
    assert_eq!(settings.finish("setup").await.code, Some(0));
    world.postgres.run("ALTER ROLE relay PASSWORD 'r'").await;
    let settings = polling(world.settings.clone());
    let unprivileged = settings.clone().with("database_url", &world.postgres.url_of("relay", "r"));
    reason(&world, &unprivileged, "has no REPLICATION attribute").await;
    let slot = "SELECT pg_create_logical_replication_slot('others', 'test_decoding')";
    world.postgres.run(slot).await;
    reason(&world, &settings, "no free replication slot (max_replication_slots = 1)").await;

    let world = World::bare(&[("max_wal_senders", "0")], &[]).await;
    let settings = polling(world.settings.clone());
    settings.setup().await;
    reason(&world, &settings, "no free walsender (max_wal_senders = 0)").await;

    let world = World::new().await;
    let mut relay = world.settings.clone().with("mode", "auto").start_ready().await;
    let status = relay.status().await;
    assert_eq!(status["mode"], "wal", "{status}");
    relay.drain().await;
}

#[tokio::test]
async fn an_event_whose_delivery_ends_the_process_is_parked_and_the_others_go_out() {
    let world = polled(&[]).await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 20).await.unwrap();
    let large = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 VALUES ('Large', gen_random_uuid(),
                     jsonb_build_object('n', 21, 'pad', repeat('x', 200 * 1024 * 1024)))";
    client.execute(large, &[]).await.unwrap();
    insert_many(&client, 22, 40).await.unwrap();
    let settings = world.settings.clone().with("max_event_bytes", "512MiB");
    let settings = settings.with("durability", "memory").with_memory_limit_kb(400_000);
    let mut deaths = 0;
    wait::until("the others are published", PATIENCE * 2, async || {
        let mut relay = settings.start();
        let is_done = wait::until("an end of either kind", PATIENCE, async || {
            let left = count(&client, "identity.outbox WHERE NOT published").await;
            if left == 1 { Some(true) } else { (!relay.running()).then_some(false) }
        })
        .await;
        deaths += usize::from(!is_done);
        is_done.then_some(())
    })
    .await;
    assert!(deaths >= 5, "it was parked after {deaths} deaths");
    let query = "SELECT error_message FROM identity.outbox WHERE NOT published";
    let message: String = client.query_one(query, &[]).await.unwrap().get(0);
    assert!(message.contains("ended the process"), "{message}");
    assert_eq!(world.consumer_of(STREAM).read_all().await.len(), 39);
}

/// A Redis that takes small commands and refuses large ones is away, again and again; the process
/// is not.
#[tokio::test]
async fn outages_are_not_taken_for_ends_of_the_process() {
    let world = polled(&[("maxmemory-policy", "noeviction")]).await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("durability", "memory");
    let mut relay = settings.with("reconnect_delay_max", "100ms").start_ready().await;
    insert(&client, 1).await.unwrap();
    world.consumer().until_len(1).await;
    let mut redis = world.redis.connection().await;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut redis).await.unwrap();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let most = used.parse::<u64>().unwrap() + 1_000_000;
    world.redis.run(&format!("CONFIG SET maxmemory {most}")).await;
    let large = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 VALUES ('Large', gen_random_uuid(),
                     jsonb_build_object('n', 2, 'pad', repeat('x', 3000000)))";
    client.execute(large, &[]).await.unwrap();
    wait::until("more outages than ends that are put up with", PATIENCE, async || {
        let outages = relay.status().await["reconnects"]["redis_outages"].as_u64()?;
        (outages > 12).then_some(())
    })
    .await;
    world.redis.run("CONFIG SET maxmemory 0").await;
    world.until_marked().await;
    let tried = "identity.outbox WHERE attempts > 0 OR error_message IS NOT NULL";
    assert_eq!(count(&client, tried).await, 0, "nothing was refused");
    assert_eq!(world.consumer().read_all().await.len(), 2);
    relay.drain().await;
}
