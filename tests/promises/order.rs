//! Events leave in the order of commit, and only committed ones.

use crate::BINARY;
use crate::harness::{STREAM, Stream, World};
use crate::writers::{record, truth};

/// One writer: commits, rollbacks and savepoints, interleaved with the others by PostgreSQL itself.
async fn write(url: String, writer: u32) {
    let (mut client, connection) =
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let insert = "INSERT INTO identity.outbox (event_type, aggregate_id, payload) VALUES \
                  ('UserUpdated', '00000000-0000-0000-0000-00000000000' || $1::int4, jsonb_build_object('n', $2::int4))";
    let insert = insert.replace(
        "'00000000-0000-0000-0000-00000000000' || $1::int4",
        "('00000000-0000-0000-0000-00000000000' || $1::text)::uuid",
    );
    let statement = client.prepare(&insert).await.unwrap();
    let writer_text = writer.to_string();
    for round in 0..120i32 {
        let transaction = client.transaction().await.unwrap();
        transaction.execute(&statement, &[&writer_text, &round]).await.unwrap();
        transaction.batch_execute("SAVEPOINT a").await.unwrap();
        transaction.execute(&statement, &[&writer_text, &(round + 1000)]).await.unwrap();
        match round % 4 {
            0 => transaction.batch_execute("ROLLBACK TO SAVEPOINT a").await.unwrap(),
            1 => transaction.batch_execute("RELEASE SAVEPOINT a").await.unwrap(),
            _ => {}
        }
        transaction.execute(&statement, &[&writer_text, &(round + 2000)]).await.unwrap();
        if round % 5 == 4 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_order_of_commit_is_kept_across_eight_writers_with_rollbacks_and_savepoints() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    let _relay = world.relay(BINARY).start().await;
    let writers: Vec<_> =
        (0..8).map(|writer| tokio::spawn(write(world.postgres.url(), writer))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let expected = truth(&world.postgres).await;
    assert!(expected.len() > 8 * 120, "the writers wrote");
    Stream::open(&world.redis, STREAM).await.holds_exactly(&expected).await;
}

#[tokio::test]
async fn multi_row_inserts_and_copy_keep_their_order_in_small_batches() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    let _relay = world.relay(BINARY).set("batch_size", "7").start().await;
    let client = world.postgres.client().await;
    crate::writers::insert(&client, 1_000).await;
    let copy = "COPY identity.outbox (event_type, aggregate_id, payload) FROM STDIN";
    let sink = client.copy_in(copy).await.unwrap();
    let lines: String = (0..1_000)
        .map(|n| format!("UserCreated\t00000000-0000-0000-0000-000000000001\t{{\"n\": {n}}}\n"))
        .collect();
    let mut sink = std::pin::pin!(sink);
    futures_util::SinkExt::send(&mut sink, bytes::Bytes::from(lines)).await.unwrap();
    futures_util::SinkExt::close(&mut sink).await.unwrap();
    let expected = truth(&world.postgres).await;
    assert_eq!(expected.len(), 2_000);
    Stream::open(&world.redis, STREAM).await.holds_exactly(&expected).await;
}

#[tokio::test]
async fn events_go_to_the_stream_their_topic_names_in_order_each() {
    let world = World::start(BINARY).await;
    let _relay = world.relay(BINARY).set("stream_name", "default.stream").start().await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, topic, payload) \
               SELECT 'E', gen_random_uuid(), \
                      CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN 'a.v1' ELSE '{b}.v1' END, to_jsonb(n) \
               FROM generate_series(0, 2999) AS n";
    world.postgres.run(sql).await;
    for (stream, rest) in [("default.stream", 0), ("a.v1", 1), ("{b}.v1", 2)] {
        let mut stream = Stream::open(&world.redis, stream).await;
        stream.reaches(1_000).await;
        let payloads: Vec<u32> =
            stream.entries().await.iter().map(|e| e.field("payload").parse().unwrap()).collect();
        let expected: Vec<u32> = (0..1_000).map(|n| n * 3 + rest).collect();
        assert_eq!(payloads, expected);
    }
}
