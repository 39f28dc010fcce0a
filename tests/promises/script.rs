//! The publish script alone, on a real Redis: answers that whole servers give only by chance.
//!
//! In: batches as the relay writes them, in the format `data`. Out: what is in the stream and in
//! the checkpoint after each. Not here: who calls it, and what an answer leads to.

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use crate::harness::consumer::Consumer;
use crate::harness::ledger::Ledger;
use crate::harness::redis::Redis;
use crate::harness::world::{self, World, insert};

const PUBLISH: &str =
    concat!(include_str!("../../src/sink/entry.lua"), include_str!("../../src/sink/publish.lua"));
const REPLAY: &str =
    concat!(include_str!("../../src/sink/entry.lua"), include_str!("../../src/sink/replay.lua"));
const RECENT: &str = include_str!("../../src/sink/recent.lua");
const STREAM: &str = "events";
const CHECKPOINT: &str = "walrelay:{events}:test";
/// Where a stream stands that nobody has written.
const START: u64 = 0;

fn position(n: u64) -> String {
    format!("{n:016x}-00000001")
}

fn id(n: u64) -> String {
    format!("id-{n}")
}

/// The events `from..=to` in one batch, each at the position of its number.
async fn publish(
    redis: &mut MultiplexedConnection,
    (from, to): (u64, u64),
    epoch: u64,
    follows: u64,
) -> Result<Vec<Value>, RedisError> {
    let mut command = redis::cmd("EVAL");
    command.arg(PUBLISH).arg(2).arg(STREAM).arg(CHECKPOINT);
    for n in from..=to {
        command.arg(n.to_string()).arg(id(n));
    }
    command.arg((from..=to).map(position).collect::<String>());
    let follows = if follows == START { "0".repeat(16) + "-00000000" } else { position(follows) };
    command.arg("data").arg(2).arg(epoch).arg(follows).arg(0);
    command.query_async(redis).await
}

async fn take_over(redis: &mut MultiplexedConnection, epoch: u64) {
    redis::Cmd::hset(CHECKPOINT, "epoch", epoch).query_async::<()>(redis).await.unwrap();
}

async fn stored(redis: &mut MultiplexedConnection, field: &str) -> String {
    redis::Cmd::hget(CHECKPOINT, field).query_async(redis).await.unwrap()
}

async fn events(redis: &mut MultiplexedConnection) -> Vec<String> {
    let mut command = redis::cmd("XRANGE");
    command.arg(STREAM).arg("-").arg("+");
    let entries: Vec<(String, Vec<String>)> = command.query_async(redis).await.unwrap();
    entries.into_iter().map(|(_, mut fields)| fields.swap_remove(1)).collect()
}

fn counts(added: i64, present: i64) -> Vec<Value> {
    vec![Value::Int(added), Value::Int(present)]
}

fn code(answer: Result<Vec<Value>, RedisError>) -> String {
    answer.expect_err("nothing may be written").code().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_leader_of_an_earlier_epoch_writes_nothing() {
    let server = Redis::start().await;
    let mut redis = server.connection().await;
    take_over(&mut redis, 7).await;
    assert_eq!(publish(&mut redis, (1, 2), 7, START).await.unwrap(), counts(2, 0));
    take_over(&mut redis, 8).await;
    // It follows what is there: only the epoch tells that it leads no more.
    assert_eq!(code(publish(&mut redis, (3, 4), 7, 2).await), "FENCED");
    assert_eq!(events(&mut redis).await, ["1", "2"]);
    assert_eq!(publish(&mut redis, (3, 4), 8, 2).await.unwrap(), counts(2, 0));
    // Ten is more than nine, though not as text.
    take_over(&mut redis, 10).await;
    assert_eq!(code(publish(&mut redis, (5, 6), 9, 4).await), "FENCED");
    assert_eq!(events(&mut redis).await, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_batch_writes_nothing_unless_the_one_before_it_is_there() {
    let server = Redis::start().await;
    let mut redis = server.connection().await;
    take_over(&mut redis, 7).await;
    assert_eq!(publish(&mut redis, (1, 2), 7, START).await.unwrap(), counts(2, 0));
    assert_eq!(code(publish(&mut redis, (5, 6), 7, 4).await), "GAP");
    assert_eq!(events(&mut redis).await, ["1", "2"]);
    assert_eq!(stored(&mut redis, "position").await, position(2));
    // A checkpoint with an earlier epoch than ours is one that Redis had forgotten and found again.
    take_over(&mut redis, 6).await;
    assert_eq!(code(publish(&mut redis, (3, 4), 7, 2).await), "GAP");
    redis::Cmd::del(CHECKPOINT).query_async::<()>(&mut redis).await.unwrap();
    assert_eq!(code(publish(&mut redis, (3, 4), 7, 2).await), "GAP");
    assert_eq!(events(&mut redis).await, ["1", "2"]);
}

#[tokio::test]
async fn what_is_there_already_is_skipped_and_counted() {
    let server = Redis::start().await;
    let mut redis = server.connection().await;
    take_over(&mut redis, 7).await;
    assert_eq!(publish(&mut redis, (1, 3), 7, START).await.unwrap(), counts(3, 0));
    assert_eq!(publish(&mut redis, (1, 3), 7, START).await.unwrap(), counts(0, 3));
    assert_eq!(publish(&mut redis, (2, 5), 7, START).await.unwrap(), counts(2, 2));
    assert_eq!(events(&mut redis).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(stored(&mut redis, "position").await, position(5));
    assert_eq!(stored(&mut redis, "event_id").await, "id-5");
    assert_eq!(publish(&mut redis, (1, 2), 7, START).await.unwrap(), counts(0, 2));
    assert_eq!(stored(&mut redis, "position").await, position(5), "a repeat moves nothing back");
}

#[tokio::test]
async fn a_refusal_keeps_what_came_before_it_and_nothing_behind() {
    let server = Redis::start().await;
    let mut redis = server.connection().await;
    take_over(&mut redis, 7).await;
    // Room for two more ids in this stream, then XADD is refused.
    let last = "18446744073709551615-18446744073709551613";
    redis::cmd("XGROUP")
        .arg(&["CREATE", STREAM, "readers", "$", "MKSTREAM"])
        .query_async::<()>(&mut redis)
        .await
        .unwrap();
    let mut set = redis::cmd("XSETID");
    set.arg(STREAM).arg(last).query_async::<()>(&mut redis).await.unwrap();
    let answer = publish(&mut redis, (1, 5), 7, START).await.unwrap();
    assert_eq!(answer[..2], counts(2, 0));
    assert_eq!(answer.len(), 3, "the refusal's text: {answer:?}");
    assert_eq!(events(&mut redis).await, ["1", "2"]);
    assert_eq!(stored(&mut redis, "position").await, position(2), "not behind what was refused");
    assert_eq!(code(publish(&mut redis, (6, 9), 7, 5).await), "GAP");
    redis::Cmd::del(STREAM).query_async::<()>(&mut redis).await.unwrap();
    assert_eq!(publish(&mut redis, (1, 5), 7, START).await.unwrap(), counts(3, 2));
    assert_eq!(publish(&mut redis, (6, 9), 7, 5).await.unwrap(), counts(4, 0));
    assert_eq!(events(&mut redis).await, ["3", "4", "5", "6", "7", "8", "9"]);
}

/// A line that begins before what was written last has to meet that very event again.
#[tokio::test]
async fn repeats_are_believed_only_when_the_last_event_comes_again() {
    let server = Redis::start().await;
    let mut redis = server.connection().await;
    take_over(&mut redis, 1).await;
    assert_eq!(publish(&mut redis, (1, 5), 1, START).await.unwrap(), counts(5, 0));
    assert_eq!(publish(&mut redis, (1, 3), 1, START).await.unwrap(), counts(0, 3));
    assert_eq!(code(publish(&mut redis, (6, 7), 1, 3).await), "REWOUND", "5 was not met");
    assert_eq!(publish(&mut redis, (4, 6), 1, 3).await.unwrap(), counts(1, 2));
    assert_eq!(publish(&mut redis, (7, 7), 1, 6).await.unwrap(), counts(1, 0));
    // Another event at the position of the last one: history was rewound.
    let rename = "HSET walrelay:{events}:test event_id another";
    server.run(rename).await;
    assert_eq!(code(publish(&mut redis, (1, 9), 1, START).await), "REWOUND");
    assert_eq!(events(&mut redis).await.len(), 7, "with an error nothing is written");
    // A checkpoint that was lowered has no event to meet.
    server.run("HSET walrelay:{events}:test event_id ").await;
    assert_eq!(publish(&mut redis, (6, 9), 1, 5).await.unwrap(), counts(2, 2));
}

/// The event `n` by the script of replays, behind the event `n - 1`.
async fn replay(redis: &mut MultiplexedConnection, n: u64) -> Vec<Value> {
    let mut command = redis::cmd("EVAL");
    command.arg(REPLAY).arg(2).arg("copies").arg("journal").arg(n.to_string()).arg(id(n));
    let follows = if n == 1 { "0".repeat(16) + "-00000000" } else { position(n - 1) };
    command.arg(position(n)).arg("data").arg(2).arg(follows).arg(60);
    command.query_async(redis).await.unwrap()
}

/// Lua compares strings by the locale that the server was started in.
#[tokio::test]
async fn positions_rise_in_every_locale() {
    for locale in ["cs_CZ", "da_DK"] {
        let server = Redis::start_in_locale(locale).await;
        let mut redis = server.connection().await;
        take_over(&mut redis, 1).await;
        for n in 1..=0x1b0 {
            let published = publish(&mut redis, (n, n), 1, n - 1).await.unwrap();
            assert_eq!(published, counts(1, 0), "{} in {locale}", position(n));
            assert_eq!(replay(&mut redis, n).await, counts(1, 0), "{} in {locale}", position(n));
        }
        // Where the parts of a position meet.
        let far = 0x1_0000_0000;
        assert_eq!(publish(&mut redis, (far, far), 1, 0x1b0).await.unwrap(), counts(1, 0));
        assert_eq!(code(publish(&mut redis, (far + 9, far + 9), 1, far + 8).await), "GAP");
    }
}

#[tokio::test]
async fn a_relay_loses_nothing_to_a_redis_in_another_locale() {
    let mut world = World::new().await;
    let redis = Redis::start_in_locale("cs_CZ").await;
    world.settings = world.settings.clone().with("redis_url", &redis.url());
    let mut relay = world.settings.start_ready().await;
    let client = world.postgres.client().await;
    // Each in a transaction of its own.
    for n in 1..=500 {
        insert(&client, n).await.unwrap();
    }
    world.until_marked().await;
    let entries = Consumer::new(&redis.url(), world::STREAM).read_all().await;
    Ledger::of_one_writer(&client).await.assert_same_events(&entries);
    relay.drain().await;
}

/// Small entries before large ones: what they grew its pages to must not fill the memory of Redis.
#[tokio::test]
async fn reading_backwards_from_small_entries_takes_few_large_ones_at_once() {
    let server = Redis::start_with(&[("appendonly", "no")]).await;
    let mut redis = server.connection().await;
    let large = "x".repeat(256 * 1024);
    for (count, payload) in [(400, large.as_str()), (700, "small")] {
        let mut pipe = redis::pipe();
        for _ in 0..count {
            pipe.cmd("XADD").arg(STREAM).arg("*").arg("event_id").arg("e").arg(payload).arg("");
            pipe.ignore();
        }
        pipe.query_async::<()>(&mut redis).await.unwrap();
    }
    let mut command = redis::cmd("EVAL");
    command.arg(RECENT).arg(1).arg(STREAM).arg("+").arg(2_000);
    let reply: Vec<Value> = command.query_async(&mut redis).await.unwrap();
    let Value::Int(read) = reply[1] else { panic!("{:?}", reply[1]) };
    assert!((701..=720).contains(&read), "{read} entries in one step");
}
