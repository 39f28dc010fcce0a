//! `walrelay check` on what lies between the servers: streams and checkpoints.

use crate::harness::world::{STREAM, World, insert};

#[tokio::test]
async fn keys_of_a_wrong_type_and_checkpoints_of_another_history_are_told_and_mended() {
    let world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    let client = world.postgres.client().await;
    insert(&client, 1).await.unwrap();
    world.until_marked().await;
    let of_orders = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
                     VALUES ('A', gen_random_uuid(), '{}', 'orders')";
    client.batch_execute(of_orders).await.unwrap();
    world.until_marked().await;
    let system = "SELECT system_identifier FROM pg_control_system()";
    let system = world.postgres.text(system).await;
    let key = |stream: &str| format!("walrelay:{{{stream}}}:walrelay@{system}");
    let checkpoint = |stream: &str| format!("checkpoint {}", key(stream));
    let checked = world.check().await;
    for stream in [STREAM, "orders"] {
        assert!(
            checked.found(&checkpoint(stream)).1.contains(" the slot"),
            "at work: it is judged"
        );
        checked.assert(&format!("stream {stream}"), "OK");
    }
    assert!(checked.found("slot walrelay").1.starts_with("read by pid "));
    assert_eq!(checked.bad(), ["setting max_slot_wal_keep_size"]);
    relay.drain().await;

    let ahead = format!("HSET {} position 00ffffff00000000-00000001 event_id e", key(STREAM));
    world.redis.run(&ahead).await;
    world.redis.run(&format!("HSET walrelay:{{{STREAM}}}:walrelay@42 position x")).await;
    world.redis.run("DEL orders").await;
    world.redis.run("SET orders text").await;
    world.redis.run(&format!("RPUSH {STREAM}.dlq one")).await;
    world.redis.run(&format!("DEL {}", key("orders"))).await;
    world.redis.run(&format!("SET {} text", key("orders"))).await;
    let checked = world.check().await;
    let expected = [
        (checkpoint(STREAM), "WARNING"),
        ("stream orders".to_owned(), "FAILURE"),
        (format!("dead letter stream {STREAM}.dlq"), "FAILURE"),
        (checkpoint("orders"), "FAILURE"),
    ];
    for (object, level) in &expected {
        checked.assert(object, level);
        world.paste_redis(&checked.fix(object)).await;
    }
    let others = checked.found("other checkpoints of identity.user.v1");
    assert!(others.1.contains("walrelay@42"), "{}", others.1);
    let mended = world.check().await;
    assert_eq!(mended.bad(), ["setting max_slot_wal_keep_size"]);
    mended.assert(&checkpoint(STREAM), "OK");
    let mut relay = world.settings.start_ready().await;
    relay.drain().await;
}
