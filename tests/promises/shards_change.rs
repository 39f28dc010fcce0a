//! Another number of shards, on a live system: nothing is lost, and nothing comes twice.

use crate::harness::ledger::Ledger;
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{SLOT, STREAM, World, count};
use crate::lost_slot::unmarked;
use crate::shards::{assert_all_published, insert, shards, slots, write};

#[tokio::test]
async fn shards_are_divided_anew_under_a_writer_by_sigkill_and_by_sigterm() {
    let world = World::new().await;
    for (stage, of) in (0..).zip([1, 2, 3, 1]) {
        // As the operator should: the new one stands by before the old one stops.
        let mut relay = shards(&world.settings, of).start_ready().await;
        let before = world.consumer().len().await.unwrap_or_default();
        let writer = tokio::spawn(write(world.postgres.client().await, stage * 3_000));
        world.consumer().until_len(before + 300).await;
        if stage % 2 == 0 {
            relay.kill9();
        } else {
            relay.drain().await;
        }
        writer.await.unwrap();
    }
    let mut relay = shards(&world.settings, 2).start_ready().await;
    assert_all_published(&world).await;
    world.until_marked().await;
    assert_eq!(slots(&world).await, "walrelay_1of2 walrelay_2of2");
    relay.drain().await;
}

/// Who may write to the stream in the name of the slot of one line for all.
async fn epoch(world: &World) -> u64 {
    let system = world.postgres.text("SELECT system_identifier FROM pg_control_system()").await;
    let mut command = redis::cmd("HGET");
    command.arg(format!("walrelay:{{{STREAM}}}:{SLOT}@{system}")).arg("epoch");
    command.query_async(&mut world.redis.connection().await).await.unwrap()
}

#[tokio::test]
async fn what_the_old_line_had_published_and_not_marked_is_not_published_again() {
    let world = World::new().await;
    unmarked(&world, false).await;
    let before = epoch(&world).await;
    let mut relay = shards(&world.settings, 2).start_ready().await;
    world.until_marked().await;
    let ledger = Ledger::of_one_writer(&world.postgres.client().await).await;
    ledger.assert_same_events(&world.consumer().read(100).await);
    relay.until_output("rows were in their streams").await;
    assert!(epoch(&world).await > before, "whoever writes in the name of that slot is fenced off");
    relay.drain().await;
}

#[tokio::test]
async fn an_old_line_that_was_frozen_writes_nothing_any_more() {
    let world = World::with(&[("wal_sender_timeout", "2s")], &[]).await;
    let client = world.postgres.client().await;
    let mut frozen = world.settings.start_ready().await;
    insert(&client, 1, 10).await;
    world.until_marked().await;
    frozen.freeze();
    insert(&client, 11, 1_000).await;
    let other = Settings::new(&world.postgres.url(), &world.redis.url());
    let mut relay = shards(&other, 2).start_ready().await;
    world.until_marked().await;
    frozen.thaw();
    frozen.until_state("standby").await;
    insert(&client, 1_001, 1_100).await;
    assert_all_published(&world).await;
    world.until_marked().await;
    frozen.kill9();
    relay.drain().await;
    assert_all_published(&world).await;
}

#[tokio::test]
async fn where_the_table_does_not_tell_what_is_left_the_old_slots_are_kept_and_named() {
    let world = World::new().await;
    for (name, value) in
        [("after_publish", "keep"), ("backlog", "ignore"), ("auto_create", "false")]
    {
        let settings = shards(&world.settings, 2);
        // Publications are there in each case.
        settings.setup().await;
        let done = settings.with(name, value).finish("run").await;
        assert_eq!(done.code, Some(1), "{}", done.output);
        let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE \
                    slot_name IN ('walrelay')";
        for words in [name, drop] {
            assert!(done.output.contains(words), "{words} is not in {}", done.output);
        }
        assert_eq!(slots(&world).await, "walrelay");
    }
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    let settings = shards(&world.settings, 2).with("backlog", "ignore");
    let mut relay = settings.start_ready().await;
    insert(&world.postgres.client().await, 1, 100).await;
    assert_all_published(&world).await;
    relay.drain().await;
}

#[tokio::test]
async fn pollers_take_over_from_shards_and_give_back() {
    let world = World::bare(&[], &[]).await;
    let divided = shards(&world.settings, 3);
    divided.setup().await;
    let client = world.postgres.client().await;
    let modes = [divided.clone(), divided.with("mode", "poll").with("poll_interval", "200ms")];
    for (stage, settings) in (0..4).zip(modes.iter().cycle()) {
        let mut relay = settings.start_ready().await;
        insert(&client, stage * 100 + 1, stage * 100 + 100).await;
        if stage < 2 {
            wait::until("something is published", PATIENCE, async || {
                (world.consumer().len().await > Some(0)).then_some(())
            })
            .await;
            relay.kill9();
        } else {
            world.until_marked().await;
            relay.drain().await;
        }
        let left = count(&client, "pg_replication_slots").await;
        assert_eq!(left, if stage % 2 == 0 { 3 } else { 0 });
    }
    assert_all_published(&world).await;
}
