//! Servers that are not there yet, that go, and that come back.

use crate::BINARY;
use crate::harness::postgres::Stop;
use crate::harness::{Proxy, STREAM, Stream, World};
use crate::writers::{insert, insert_stubbornly, record, truth};

#[tokio::test]
async fn either_server_may_be_down_at_start() {
    let mut world = World::start(BINARY).await;
    record(&world.postgres).await;
    insert(&world.postgres.client().await, 10).await;
    world.postgres.stop(Stop::Fast);
    world.redis.kill();
    let mut relay = world.relay(BINARY).spawn();
    relay.becomes("connecting").await;
    world.postgres.restart().await;
    relay.becomes("connecting").await;
    assert_eq!(relay.get("/readyz").unwrap().0, 503);
    assert_eq!(relay.get("/livez").unwrap().0, 200);
    world.redis.restart().await;
    let expected = truth(&world.postgres).await;
    Stream::open(&world.redis, STREAM).await.holds_exactly(&expected).await;
}

#[tokio::test]
async fn connections_cut_on_both_wires_lose_and_double_nothing() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    let to_postgres = Proxy::start(world.postgres.port()).await;
    let to_redis = Proxy::start(world.redis.port()).await;
    let plan = world.relay(BINARY).set("database_url", &world.postgres.url_at(to_postgres.port()));
    let mut relay = plan.set("redis_url", &world.redis.url_at(to_redis.port())).start().await;
    let writing = tokio::spawn(insert_stubbornly(world.postgres.url(), 300, 40));
    let mut stream = Stream::open(&world.redis, STREAM).await;
    for round in 1..=12 {
        stream.reaches(round * 900).await;
        if round % 2 == 0 { to_postgres.cut() } else { to_redis.cut() }
    }
    writing.await.unwrap();
    let expected = truth(&world.postgres).await;
    stream.holds_exactly(&expected).await;
    relay.becomes("streaming").await;
    assert!(relay.number("/reconnects/lines") > 6);
}

#[tokio::test]
async fn a_terminated_walsender_is_replaced() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    let mut relay = world.relay(BINARY).start().await;
    let client = world.postgres.client().await;
    for _ in 0..3 {
        insert(&client, 10).await;
        world.postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await;
    }
    let expected = truth(&world.postgres).await;
    Stream::open(&world.redis, STREAM).await.holds_exactly(&expected).await;
    relay.becomes("streaming").await;
}

#[tokio::test]
async fn a_terminated_sql_session_restarts_the_line_and_every_row_is_marked() {
    let world = World::start(BINARY).await;
    let _relay = world.relay(BINARY).set("durability", "memory").start().await;
    let client = world.postgres.client().await;
    insert(&client, 10).await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'walrelay' AND backend_type = 'client backend'";
    world.postgres.run(sql).await;
    insert(&client, 10).await;
    let marked = "SELECT count(*) FROM identity.outbox WHERE published";
    crate::harness::eventually("every row is marked", async || {
        let marked = world.postgres.text(marked).await;
        if marked == "20" { Ok(()) } else { Err(marked) }
    })
    .await;
    Stream::open(&world.redis, STREAM).await.reaches(20).await;
}

#[tokio::test]
async fn a_stop_while_redis_is_away_ends_well() {
    let mut world = World::start(BINARY).await;
    let mut relay = world.relay(BINARY).start().await;
    world.redis.kill();
    insert(&world.postgres.client().await, 10).await;
    relay.becomes("holding").await;
    assert_eq!(relay.stop(), 0, "{}", relay.output());
}

#[tokio::test]
async fn the_unix_socket_works_as_well() {
    let world = World::start(BINARY).await;
    let plan = world.relay(BINARY).set("database_url", &world.postgres.socket_url());
    let _relay = plan.start().await;
    insert(&world.postgres.client().await, 10).await;
    Stream::open(&world.redis, STREAM).await.reaches(10).await;
}
