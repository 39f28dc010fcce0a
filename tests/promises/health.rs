//! Whether something comes through is measured, not assumed: a heartbeat goes the way of an event,
//! and /readyz goes by it. /livez answers whatever becomes of the servers.

use serde_json::Value;

use super::poll::polled;
use crate::harness::relay::{Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, insert};

/// Short, so that a heartbeat is missed within seconds.
const INTERVAL: &str = "100ms";

/// A frozen Redis is not given up meanwhile: it must be the heartbeat that is missed.
fn patient(settings: &Settings) -> Settings {
    settings.clone().with("heartbeat_interval", INTERVAL).with("redis_timeout", "2m")
}

async fn age(relay: &Relay) -> Option<f64> {
    relay.status().await["heartbeat"]["age_seconds"].as_f64()
}

async fn until_beating(relay: &Relay) {
    wait::until("a heartbeat", PATIENCE, async || age(relay).await).await;
    let round_trip = relay.status().await["heartbeat"]["round_trip_seconds"].as_f64();
    assert!(round_trip > Some(0.0), "{round_trip:?}");
}

/// Awaits that /readyz says no, for this reason; /livez never fails to answer meanwhile.
async fn until_unready(relay: &Relay, reason: &str) {
    wait::until(reason, PATIENCE, async || {
        assert_eq!(relay.get("/livez").await.expect("an answer from /livez").0, 200);
        let (code, body) = relay.get("/readyz").await.expect("an answer from /readyz");
        assert_eq!(relay.status().await["state"], "streaming");
        (code == 503).then(|| {
            assert_eq!(body.lines().count(), 1, "{body}");
            assert!(body.contains("no heartbeat has come back"), "{body}");
            assert!(body.contains(reason), "{body}");
        })
    })
    .await;
}

#[tokio::test]
async fn what_is_frozen_is_noticed_while_the_state_says_streaming_and_no_page_hangs() {
    let mut world = World::new().await;
    let settings = patient(&world.settings);
    let mut relay = settings.start_ready().await;
    until_beating(&relay).await;

    // Only the walsender: PostgreSQL takes what is written, and nothing comes.
    let walsender = world.postgres.text("SELECT pid FROM pg_stat_replication").await;
    let signal = |name: &str| {
        let done = std::process::Command::new("kill").args([name, walsender.as_str()]).status();
        assert!(done.unwrap().success(), "kill {name} {walsender}");
    };
    signal("-STOP");
    until_unready(&relay, "has not come through the WAL; nothing moves").await;
    let health = settings.finish("health").await;
    assert_eq!(health.code, Some(1), "{}", health.output);
    assert!(health.output.contains("not ready: streaming, but no heartbeat"), "{}", health.output);
    signal("-CONT");
    relay.ready().await;

    world.redis.freeze();
    until_unready(&relay, "is not in Redis yet").await;
    world.redis.thaw();
    relay.ready().await;

    world.postgres.freeze();
    until_unready(&relay, "has not answered on the relay's SQL session").await;
    world.redis.freeze();
    assert_eq!(relay.get("/livez").await.expect("an answer with both frozen").0, 200);
    world.redis.thaw();
    world.postgres.thaw();
    relay.ready().await;
    assert_eq!(settings.finish("health").await.code, Some(0));
    insert(&world.postgres.client().await, 1).await.unwrap();
    world.assert_all_published().await;
    assert_eq!(relay.status().await["reconnects"]["lines"], 1, "nothing was given up");
    relay.drain().await;
}

#[tokio::test]
async fn a_poller_that_cannot_reach_redis_is_not_ready_either() {
    let world = polled(&[]).await;
    let mut relay = patient(&world.settings).start_ready().await;
    until_beating(&relay).await;
    let mut redis = world.redis;
    redis.freeze();
    wait::until("the poller is not ready", PATIENCE, async || {
        let (code, body) = relay.get("/readyz").await.expect("an answer");
        (code == 503 && body.contains("polling, but no heartbeat")).then_some(())
    })
    .await;
    redis.thaw();
    relay.ready().await;
    relay.drain().await;
}

/// Whose heartbeats are in the WAL since the slot `probe` was made: their process, each. Behind the
/// prefix and its end stand the length of the text, in four bytes, and the text.
async fn writers(world: &World) -> Vec<String> {
    let query = "SELECT convert_from(substring(data from position('walrelay'::bytea in data) + 13),
                     'SQL_ASCII') AS text
                 FROM pg_logical_slot_peek_binary_changes('probe', NULL, NULL, 'proto_version', '1',
                     'publication_names', 'walrelay', 'messages', 'true')
                 WHERE substring(data from 1 for 1) = 'M'
                     AND position('walrelay'::bytea in data) = 11";
    let rows = world.postgres.client().await.query(query, &[]).await.expect("messages");
    let process = |text: &str| text.split(' ').nth(1).map(str::to_owned);
    rows.iter().filter_map(|row| process(row.get("text"))).collect()
}

#[tokio::test]
async fn only_the_leader_writes_heartbeats_and_only_its_own_are_heard() {
    let world = World::new().await;
    let probe = "SELECT pg_create_logical_replication_slot('probe', 'pgoutput')";
    world.postgres.run(probe).await;
    let settings = world.settings.clone().with("heartbeat_interval", INTERVAL);
    let mut leader = settings.start_ready().await;
    until_beating(&leader).await;
    let second = Settings::new(&world.postgres.url(), &world.redis.url());
    let mut standby = second.with("heartbeat_interval", INTERVAL).start_ready().await;
    standby.until_state("standby").await;
    assert_eq!(standby.get("/readyz").await.unwrap(), (200, "standby\n".to_owned()));
    let status = standby.status().await;
    assert_eq!(status["role"], "standby");
    assert_eq!(status["heartbeat"]["age_seconds"], Value::Null);
    // Other relays, other tools, and what merely looks like one of ours.
    for (prefix, text) in [("walrelay", "walrelay 1-2 9"), ("walrelay", ""), ("other", "any")] {
        let emit = format!("SELECT pg_logical_emit_message(true, '{prefix}', '{text}')");
        world.postgres.run(&emit).await;
    }
    wait::until("some heartbeats", PATIENCE, async || {
        let mut all = writers(&world).await;
        all.retain(|process| process != "1-2");
        let is_one = all.iter().all(|process| *process == all[0]);
        assert!(is_one, "a standby writes: {all:?}");
        (all.len() >= 10).then_some(())
    })
    .await;
    assert_eq!(leader.status().await["role"], "leader");
    assert_eq!(leader.get("/readyz").await.unwrap(), (200, "streaming\n".to_owned()));
    // Nothing of this holds the slot.
    world.until_confirmed().await;
    leader.drain().await;
    standby.until_state("streaming").await;
    until_beating(&standby).await;
    standby.drain().await;
}

#[tokio::test]
async fn without_heartbeats_readiness_goes_by_the_state_and_says_why() {
    let world = World::new().await;
    world.settings.clone().with_arguments(&["--role", "relay"]).setup().await;
    // Its arguments differ between versions.
    let rights = "ALTER ROLE relay PASSWORD 'Odd-Secret-6';
        DO $$ BEGIN
            EXECUTE (SELECT string_agg(
                format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure), ';')
                FROM pg_proc WHERE proname = 'pg_logical_emit_message');
        END $$";
    world.postgres.client().await.batch_execute(rights).await.unwrap();
    let url = world.postgres.url_of("relay", "Odd-Secret-6");
    let settings = world.settings.clone().with("database_url", &url);
    let settings = settings.with("heartbeat_interval", INTERVAL);
    let mut relay = settings.start_ready().await;
    let reason = "streaming (without heartbeats: cannot write a heartbeat: permission denied";
    wait::until("the page says why", PATIENCE, async || {
        let (code, body) = relay.get("/readyz").await?;
        (code == 200 && body.starts_with(reason)).then_some(())
    })
    .await;
    assert_eq!(age(&relay).await, None);
    relay.drain().await;
    // What it says helps.
    let said = relay.output();
    let (_, grant) = said.split_once("GRANT EXECUTE").unwrap_or_else(|| panic!("{said}"));
    let (grant, _) = grant.split_once("the relay's role").unwrap_or_else(|| panic!("{said}"));
    world.postgres.run(&format!("GRANT EXECUTE{grant}relay")).await;
    let mut relay = settings.start_ready().await;
    until_beating(&relay).await;
    relay.drain().await;

    let mut relay = world.settings.clone().with("heartbeat_interval", "off").start_ready().await;
    relay.until_state("streaming").await;
    insert(&world.postgres.client().await, 1).await.unwrap();
    world.assert_all_published().await;
    assert_eq!(relay.get("/readyz").await.unwrap(), (200, "streaming\n".to_owned()));
    assert_eq!(age(&relay).await, None);
    relay.drain().await;
}
