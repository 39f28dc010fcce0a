//! An event that kills the relay each time does not keep the others from going out, and a relay
//! that is killed for other reasons loses nothing by that suspicion.

use serde_json::Value;

use crate::harness::consumer::Entry;
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{SLOT, STREAM, World, count, insert_many};
use crate::shards::shards;

const DEAD: &str = "identity.outbox WHERE dead_lettered_at IS NOT NULL";
/// Enough for a relay, and to receive the row once; not for its batch as well.
const MEMORY_KB: u64 = 250_000;
const ROW_BYTES: i32 = 60_000_000;
/// What two threads more have of the address space.
const MEMORY_KB_OF_THREADS: u64 = 60_000;
const PARKED: &str = "identity.outbox WHERE next_attempt_at IS NOT NULL";

/// The `n` of each event in the stream.
async fn numbers(world: &World) -> Vec<i64> {
    let entries = world.consumer().read_all().await;
    let n = |entry: &Entry| -> i64 {
        let payload: Value = serde_json::from_str(entry.get("payload")).unwrap();
        payload["n"].as_i64().unwrap()
    };
    entries.iter().map(n).collect()
}

/// Twenty events, a transaction with one that is too much for a relay, and twenty more.
async fn insert_killer(world: &World) {
    let mut client = world.postgres.client().await;
    insert_many(&client, 1, 20).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let rows = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                SELECT 'Any', md5(n::text)::uuid, jsonb_build_object('n', n, 'x',
                    CASE WHEN n = 1030 THEN repeat('x', $1) END)
                FROM generate_series(21, 1040) AS n";
    transaction.execute(rows, &[&ROW_BYTES]).await.unwrap();
    transaction.commit().await.unwrap();
    insert_many(&client, 1_041, 1_060).await.unwrap();
}

/// Starts a relay with so much memory again and again until that event is dead, and all others are
/// out. How often it died.
async fn until_dead(world: &World, settings: &Settings, memory_kb: u64) -> u32 {
    let settings = settings
        .clone()
        .with("durability", "memory")
        .with("poll_interval", "100ms")
        .with("max_event_bytes", "512MiB")
        .with("max_retry_attempts", "2")
        .with("retry_base_delay", "100ms")
        .with_memory_limit_kb(memory_kb);
    let client = world.postgres.client().await;
    for deaths in 0..25 {
        let mut relay = settings.start();
        let is_over = wait::until("the end of the relay, or of the row", PATIENCE, async || {
            if !relay.running() {
                return Some(false);
            }
            (count(&client, DEAD).await == 1).then_some(true)
        })
        .await;
        if is_over {
            world.consumer().until_len(1_059).await;
            relay.drain().await;
            return deaths;
        }
    }
    panic!("it kills the relay for ever");
}

#[tokio::test]
async fn an_event_that_kills_the_line_is_parked_and_all_others_go_out_once() {
    let world = World::new().await;
    insert_killer(&world).await;
    let deaths = until_dead(&world, &world.settings, MEMORY_KB).await;
    assert!(deaths >= 5, "{deaths}");
    let all_others: Vec<i64> = (1..=1_060).filter(|n| *n != 1_030).collect();
    assert_eq!(numbers(&world).await, all_others, "each once and in order");
    let letters = world.consumer_of("identity.user.v1.dlq").read(1).await;
    assert!(letters[0].get("error_message").contains("ended the process"), "{letters:?}");
    assert_eq!(count(&world.postgres.client().await, DEAD).await, 1);
}

#[tokio::test]
async fn among_the_shards_of_a_process_only_that_event_is_taken_for_the_reason() {
    let world = World::bare(&[], &[]).await;
    let settings = shards(&world.settings, 2);
    settings.setup().await;
    insert_killer(&world).await;
    let deaths = until_dead(&world, &settings, MEMORY_KB + MEMORY_KB_OF_THREADS).await;
    assert!(deaths >= 5, "{deaths}");
    let mut numbers = numbers(&world).await;
    numbers.sort_unstable();
    let all_others: Vec<i64> = (1..=1_060).filter(|n| *n != 1_030).collect();
    assert_eq!(numbers, all_others, "each once");
    assert_eq!(world.consumer_of("identity.user.v1.dlq").read(1).await.len(), 1);
}

/// Starts that have got nothing done.
async fn starts(world: &World) -> u64 {
    let system = world.postgres.text("SELECT system_identifier FROM pg_control_system()").await;
    let mut command = redis::cmd("HGET");
    command.arg(format!("walrelay:{{{STREAM}}}:{SLOT}@{system}")).arg("starts");
    let mut redis = world.redis.connection().await;
    command.query_async::<Option<u64>>(&mut redis).await.unwrap().unwrap_or(0)
}

#[tokio::test]
async fn a_relay_killed_again_and_again_before_it_got_on_loses_and_parks_nothing() {
    let world = World::new().await;
    world.settings.setup().await;
    let client = world.postgres.client().await;
    for deaths in 1..=3 {
        let mut relay = world.settings.start();
        wait::until_equal("starts", deaths, PATIENCE, async || starts(&world).await).await;
        relay.kill9();
    }
    // Each life has fewer than the thousand events after which the starts before it are forgotten,
    // and has published some of its own before it is killed: however fast it is.
    for part in 0..3 {
        insert_many(&client, part * 400 + 1, part * 400 + 400).await.unwrap();
        let mut relay = world.settings.start();
        world.consumer().until_len(usize::try_from(part).unwrap() * 400 + 100).await;
        relay.until_output("one by one").await;
        relay.kill9();
    }
    insert_many(&client, 1_201, 1_500).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    world.consumer().until_len(1_500).await;
    world.until_marked().await;
    let in_order: Vec<i64> = (1..=1_500).collect();
    assert_eq!(numbers(&world).await, in_order);
    assert_eq!(count(&client, PARKED).await, 0);
    relay.drain().await;
    assert_eq!(starts(&world).await, 0, "an orderly end forgets them");
}
