//! Servers that are not there yet, that go, and that come back.

use crate::harness::postgres::Stop;
use crate::harness::proxy::Proxy;
use crate::harness::world::{STREAM, World, write_through};
use crate::support::{eventually, holds_exactly, insert, number, record, truth};

#[tokio::test]
async fn either_server_may_be_down_at_start() {
    let mut world = World::new().await;
    record(&world.postgres).await;
    insert(&world.postgres.client().await, 10).await;
    world.postgres.stop(Stop::Fast).await;
    world.redis.kill9();
    let relay = world.settings.start();
    relay.until_state("connecting").await;
    world.postgres.restart().await;
    relay.until_state("connecting").await;
    assert_eq!(relay.get("/readyz").await.unwrap().0, 503);
    assert_eq!(relay.get("/livez").await.unwrap().0, 200);
    world.redis.restart().await;
    let expected = truth(&world.postgres).await;
    holds_exactly(&mut world.consumer_of(STREAM), &expected).await;
}

#[tokio::test]
async fn connections_cut_on_both_wires_lose_and_double_nothing() {
    let world = World::new().await;
    record(&world.postgres).await;
    let to_postgres = Proxy::start(world.postgres.port());
    let to_redis = Proxy::start(world.redis.port());
    let plan =
        world.settings.clone().with("database_url", &world.postgres.url_at(to_postgres.port()));
    let relay = plan.with("redis_url", &world.redis.url_at(to_redis.port())).start_ready().await;
    let writing = tokio::spawn(write_through(world.postgres.socket_url(), 12_000, 40));
    let mut stream = world.consumer_of(STREAM);
    for round in 1..=12 {
        stream.until_len(round * 900).await;
        if round % 2 == 0 { to_postgres.cut() } else { to_redis.cut() }
    }
    writing.await.unwrap();
    let expected = truth(&world.postgres).await;
    holds_exactly(&mut stream, &expected).await;
    relay.until_state("streaming").await;
    assert!(number(&relay, "/reconnects/lines").await > 6);
}

#[tokio::test]
async fn a_terminated_walsender_is_replaced() {
    let world = World::new().await;
    record(&world.postgres).await;
    let relay = world.settings.start_ready().await;
    let client = world.postgres.client().await;
    for _ in 0..3 {
        insert(&client, 10).await;
        world.postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await;
    }
    let expected = truth(&world.postgres).await;
    holds_exactly(&mut world.consumer_of(STREAM), &expected).await;
    relay.until_state("streaming").await;
}

#[tokio::test]
async fn a_terminated_sql_session_restarts_the_line_and_every_row_is_marked() {
    let world = World::new().await;
    let _relay = world.settings.clone().with("durability", "memory").start_ready().await;
    let client = world.postgres.client().await;
    insert(&client, 10).await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'walrelay' AND backend_type = 'client backend'";
    world.postgres.run(sql).await;
    insert(&client, 10).await;
    let marked = "SELECT count(*) FROM identity.outbox WHERE published";
    eventually("every row is marked", async || {
        let marked = world.postgres.text(marked).await;
        if marked == "20" { Ok(()) } else { Err(marked) }
    })
    .await;
    world.consumer_of(STREAM).until_len(20).await;
}

#[tokio::test]
async fn a_stop_while_redis_is_away_ends_well() {
    let mut world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    world.redis.kill9();
    insert(&world.postgres.client().await, 10).await;
    relay.until_state("holding").await;
    relay.drain().await;
}

#[tokio::test]
async fn the_unix_socket_works_as_well() {
    let world = World::new().await;
    let plan = world.settings.clone().with("database_url", &world.postgres.socket_url());
    let _relay = plan.start_ready().await;
    insert(&world.postgres.client().await, 10).await;
    world.consumer_of(STREAM).until_len(10).await;
}
