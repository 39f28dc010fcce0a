//! Whatever dies, whenever: every committed event is in its stream exactly once.

use crate::BINARY;
use crate::harness::postgres::Stop;
use crate::harness::{Proxy, STREAM, Stream, World};
use crate::writers::{insert, insert_stubbornly, record, truth};

#[tokio::test]
async fn a_relay_killed_twenty_times_during_100_000_inserts_loses_and_doubles_nothing() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    let plan = world.relay(BINARY).set("durability", "memory");
    let writing = tokio::spawn(insert_stubbornly(world.postgres.url(), 1_000, 100));
    let mut stream = Stream::open(&world.redis, STREAM).await;
    for round in 1..=20 {
        let mut relay = plan.spawn();
        stream.reaches(round * 4_500).await;
        relay.kill();
    }
    let _last = plan.spawn();
    writing.await.unwrap();
    let expected = truth(&world.postgres).await;
    assert_eq!(expected.len(), 100_000);
    stream.holds_exactly(&expected).await;
}

#[tokio::test]
async fn both_servers_restart_while_the_relay_is_killed_and_nothing_is_lost_or_doubled() {
    let mut world = World::start(BINARY).await;
    record(&world.postgres).await;
    let plan = world.relay(BINARY);
    let writing = tokio::spawn(insert_stubbornly(world.postgres.url(), 400, 50));
    let mut reached = 0;
    for round in 0..6 {
        let mut relay = plan.spawn();
        reached += 2_500;
        Stream::open(&world.redis, STREAM).await.reaches(reached).await;
        match round % 3 {
            0 => {
                world.redis.kill();
                world.redis.restart().await;
            }
            1 => {
                world.postgres.stop(Stop::Immediate);
                world.postgres.restart().await;
            }
            _ => {
                world.redis.kill();
                world.postgres.stop(Stop::Immediate);
                world.postgres.restart().await;
                world.redis.restart().await;
            }
        }
        if round % 2 == 0 {
            relay.becomes("streaming").await;
        }
        relay.kill();
    }
    let _last = plan.spawn();
    writing.await.unwrap();
    let expected = truth(&world.postgres).await;
    Stream::open(&world.redis, STREAM).await.holds_exactly(&expected).await;
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_large_transaction_resumes_in_its_middle() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    insert(&world.postgres.client().await, 60_000).await;
    let plan = world.relay(BINARY).set("batch_size", "16").set("batches_in_flight", "1");
    let mut stream = Stream::open(&world.redis, STREAM).await;
    let mut relay = plan.spawn();
    stream.reaches(2_000).await;
    relay.kill();
    let before = stream.len().await;
    assert!(before < 60_000, "it was killed in the middle");
    let mut relay = plan.spawn();
    let expected = truth(&world.postgres).await;
    stream.holds_exactly(&expected).await;
    relay.becomes("streaming").await;
    let skipped = usize::try_from(relay.number("/events/duplicates")).unwrap();
    assert_eq!(skipped, before, "what was there was sent again and skipped");
}

#[tokio::test]
async fn a_reply_that_is_lost_after_the_write_doubles_nothing() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    let proxy = Proxy::start(world.redis.port()).await;
    let plan = world.relay(BINARY).set("redis_url", &world.redis.url_at(proxy.port()));
    let mut relay = plan.start().await;
    let client = world.postgres.client().await;
    let mut stream = Stream::open(&world.redis, STREAM).await;
    insert(&client, 10).await;
    stream.reaches(10).await;
    // Written, but the relay does not know: once it finds out by itself, once it is killed.
    proxy.hold_replies();
    insert(&client, 10).await;
    stream.reaches(20).await;
    proxy.cut();
    proxy.resume();
    insert(&client, 10).await;
    stream.reaches(30).await;
    proxy.hold_replies();
    insert(&client, 10).await;
    stream.reaches(40).await;
    relay.kill();
    proxy.cut();
    proxy.resume();
    let _relay = plan.start().await;
    insert(&client, 10).await;
    let expected = truth(&world.postgres).await;
    stream.holds_exactly(&expected).await;
}

#[tokio::test]
async fn a_clean_restart_publishes_nothing_twice_and_confirms_what_is_settled() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    let plan = world.relay(BINARY);
    let client = world.postgres.client().await;
    let mut stream = Stream::open(&world.redis, STREAM).await;
    for round in 1..=3 {
        let mut relay = plan.start().await;
        insert(&client, 500).await;
        stream.reaches(round * 500).await;
        assert_eq!(relay.stop(), 0, "{}", relay.output());
        let rest = "SELECT count(*) FROM identity.outbox WHERE NOT published";
        assert_eq!(world.postgres.text(rest).await, "0", "a drain marks what it has published");
    }
    let mut relay = plan.start().await;
    insert(&client, 1).await;
    stream.reaches(1_501).await;
    assert_eq!(relay.number("/events/duplicates"), 0, "all before was confirmed");
    assert_eq!(relay.stop(), 0);
    let expected = truth(&world.postgres).await;
    stream.holds_exactly(&expected).await;
}
