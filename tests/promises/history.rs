//! PostgreSQL goes back in time: positions are used a second time, and nothing new is taken for
//! old.

use crate::harness::postgres::Stop;
use crate::harness::relay::Relay;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count, insert_many};

async fn rewinds(relay: &Relay) -> i64 {
    relay.status().await["reconnects"]["history_rewinds"].as_i64().unwrap()
}

/// The `n` of each entry, in order.
async fn published(world: &World) -> Vec<i64> {
    let entries = world.consumer().read_all().await;
    let number =
        |payload: &str| payload.trim_start_matches("{\"n\": ").trim_end_matches('}').parse();
    entries.iter().map(|entry| number(entry.get("payload")).unwrap()).collect()
}

/// Awaits the entries of these rows, whatever else there is.
async fn until_published(world: &World, from: i64, to: i64) {
    wait::until("all rows of the new history are published", PATIENCE, async || {
        let there = published(world).await;
        (from..=to).all(|n| there.contains(&n)).then_some(())
    })
    .await;
}

/// The rows up to `kept` are relayed, a copy is made, those up to `lost` are relayed as well, and
/// the copy is put back: to PostgreSQL the latter never were.
async fn restored(kept: i64, lost: i64) -> World {
    let mut world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&world.postgres.client().await, 1, kept).await.unwrap();
    world.until_marked().await;
    relay.drain().await;
    world.postgres.stop(Stop::Fast).await;
    world.postgres.back_up();
    world.postgres.restart().await;

    let mut relay = world.settings.start_ready().await;
    insert_many(&world.postgres.client().await, kept + 1, lost).await.unwrap();
    world.consumer().until_len(usize::try_from(lost).unwrap()).await;
    relay.drain().await;
    world.postgres.stop(Stop::Fast).await;
    world.postgres.put_back();
    world.postgres.restart().await;
    world
}

#[tokio::test]
async fn after_a_restored_copy_everything_new_is_published() {
    let world = restored(100, 400).await;
    let client = world.postgres.client().await;
    insert_many(&client, 1_001, 1_010).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    until_published(&world, 1_001, 1_010).await;
    assert!(rewinds(&relay).await >= 1, "{}", relay.output());
    relay.until_output("history was rewound").await;
    world.until_marked().await;
    relay.drain().await;
}

/// The server has already written past the old checkpoint when the relay comes back: only the
/// event at that position shows that history was rewound.
#[tokio::test]
async fn a_restored_copy_is_noticed_also_when_its_wal_is_longer_by_now() {
    let world = restored(10, 40).await;
    let client = world.postgres.client().await;
    for n in 0..200 {
        insert_many(&client, 1_001 + n * 5, 1_005 + n * 5).await.unwrap();
    }
    let mut relay = world.settings.start_ready().await;
    until_published(&world, 1_001, 2_000).await;
    assert!(rewinds(&relay).await >= 1, "{}", relay.output());
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn after_a_promotion_without_the_last_transactions_everything_new_is_published() {
    let mut world = World::new().await;
    world.postgres.stop(Stop::Fast).await;
    let mut standby = world.postgres.standby();
    world.postgres.restart().await;
    standby.restart().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.until_marked().await;
    let query = "SELECT count(*) FROM identity.outbox";
    wait::until("the standby has followed", PATIENCE, async || {
        (standby.text(query).await == "100").then_some(())
    })
    .await;

    // The standby stops following, the primary goes on, is relayed, and dies.
    standby.stop(Stop::Fast).await;
    insert_many(&client, 101, 400).await.unwrap();
    world.consumer().until_len(400).await;
    relay.kill9();
    world.postgres.kill9();
    standby.restart().await;
    standby.promote().await;
    wait::until("the standby is a primary", PATIENCE, async || {
        (standby.text("SELECT pg_is_in_recovery()").await == "f").then_some(())
    })
    .await;

    let settings = world.settings.clone().with("database_url", &standby.url());
    let mut relay = settings.start_ready().await;
    assert!(relay.output().contains("slot is lost"), "not in silence: {}", relay.output());
    let client = standby.client().await;
    insert_many(&client, 1_001, 1_003).await.unwrap();
    until_published(&world, 1_001, 1_003).await;
    wait::until("the new rows are marked", PATIENCE, async || {
        let left = "identity.outbox WHERE NOT published AND (payload ->> 'n')::int > 1000";
        (count(&client, left).await == 0).then_some(())
    })
    .await;
    assert_eq!(rewinds(&relay).await, 1, "{}", relay.output());
    relay.drain().await;
    let there = published(&world).await;
    for n in (1..=100).chain(1_001..=1_003) {
        assert_eq!(there.iter().filter(|other| **other == n).count(), 1, "row {n}");
    }
    // The next start finds its own history.
    let mut relay = settings.start_ready().await;
    insert_many(&client, 1_004, 1_004).await.unwrap();
    until_published(&world, 1_004, 1_004).await;
    assert_eq!(rewinds(&relay).await, 0, "{}", relay.output());
    relay.drain().await;
}
