//! The bounds that an operator sets hold: events and bytes in a call, calls in flight; and a relay
//! that meets more streams than it remembers keeps the order of each.

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::harness::ledger::assert_rising_by;
use crate::harness::proxy::Proxy;
use crate::harness::relay::Relay;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, insert, insert_many};

async fn until_lagging(relay: &Relay, events: i64) {
    wait::until_equal("events that wait", Value::from(events), PATIENCE, async || {
        relay.status().await["lag"]["events"].take()
    })
    .await;
}

#[tokio::test]
async fn no_more_calls_are_in_flight_than_batches_in_flight_allows() {
    let world = World::new().await;
    let proxy = Proxy::start(world.redis.port());
    let settings = world.settings.clone().with("redis_url", &world.redis.url_at(proxy.port()));
    let settings = settings.with("batch_size", "1").with("batches_in_flight", "3");
    let mut relay = settings.start_ready().await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 10).await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    until_lagging(&relay, 0).await;
    proxy.hold_replies();
    // Three leave; each of the rest is met by a relay that could send it, were it allowed to.
    for n in 11..=17 {
        insert(&client, n).await.unwrap();
        until_lagging(&relay, n - 10).await;
    }
    let written = world.consumer().len().await.unwrap();
    assert!((11..=13).contains(&written), "{written} entries: 10, and three calls of one");
    proxy.mend();
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_transaction_leaves_in_one_call_where_it_fits() {
    const TRANSACTIONS: i64 = 20;
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.clone().with("durability", "memory").start_ready().await;
    let batches = async || relay.status().await["events"]["batches"].as_i64().unwrap();
    // The first transactions teach which fields vary.
    insert_many(&client, 1, 10).await.unwrap();
    insert_many(&client, 11, 20).await.unwrap();
    world.until_marked().await;
    let before = batches().await;
    for n in 2..TRANSACTIONS + 2 {
        insert_many(&client, n * 10 + 1, n * 10 + 10).await.unwrap();
        // Else two transactions could share a call.
        world.until_marked().await;
    }
    assert_eq!(batches().await - before, TRANSACTIONS, "calls for as many transactions of ten");
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_call_holds_no_more_events_than_batch_size_and_no_more_bytes_than_batch_bytes() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let batches = async |relay: &Relay| relay.status().await["events"]["batches"].as_i64().unwrap();
    let mut relay = world.settings.clone().with("batch_size", "10").start_ready().await;
    insert_many(&client, 1, 1_000).await.unwrap();
    world.until_marked().await;
    let made = batches(&relay).await;
    assert!(made >= 100, "1000 events in {made} calls of 10");
    relay.drain().await;

    // Two events of 40 kB fill a call of 64 KiB: the bound is looked at between events.
    let mut relay = world.settings.clone().with("batch_bytes", "64KiB").start_ready().await;
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                 SELECT 'Large', gen_random_uuid(), jsonb_build_object('x', repeat('y', 40000))
                 FROM generate_series(1, 100)";
    client.execute(query, &[]).await.unwrap();
    world.until_marked().await;
    let made = batches(&relay).await;
    assert!(made >= 50, "100 events of 40 kB in {made} calls of 64 KiB");
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn more_streams_than_are_remembered_keep_their_order_and_lose_nothing() {
    const STREAMS: i64 = 5_000;
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.clone().with("durability", "memory").start_ready().await;
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
                 SELECT 'Spread', gen_random_uuid(), jsonb_build_object('n', n),
                     'stream-' || n % $1
                 FROM generate_series(1::int8, $1::int8 * 3) AS n ORDER BY n";
    client.execute(query, &[&STREAMS]).await.unwrap();
    world.until_marked().await;
    for number in (0..STREAMS).step_by(97) {
        let entries = world.consumer_of(&format!("stream-{number}")).read_all().await;
        assert_eq!(entries.len(), 3, "in stream-{number}");
        assert_rising_by(&entries, "topic");
    }
    let events = relay.status().await["events"].take();
    assert_eq!(events["published"], STREAMS * 3, "{events}");
    assert_eq!(events["duplicates"], 0, "no line was broken by it: {events}");
    relay.drain().await;
}

/// A relay that drains `rows` rows into so many streams; its peak of memory in kB.
async fn peak_kb(streams: i64, rows: i64) -> u64 {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("stream_template", "{event_type}.v1");
    let mut relay = settings.with("durability", "memory").start_ready().await;
    let query = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
                 SELECT 'Type' || n % $1, gen_random_uuid(),
                     jsonb_build_object('n', n, 'x', repeat('y', 300)), NULL
                 FROM generate_series(1::int8, $2::int8) AS n ORDER BY n";
    client.execute(query, &[&streams, &rows]).await.unwrap();
    world.until_marked().await;
    for number in (0..streams).step_by(usize::try_from(streams / 10 + 1).unwrap()) {
        let entries = world.consumer_of(&format!("Type{number}.v1")).read_all().await;
        assert_eq!(i64::try_from(entries.len()).unwrap(), rows / streams, "in Type{number}.v1");
        let numbers: Vec<i64> = entries.iter().map(number_of).collect();
        assert!(numbers.is_sorted(), "in Type{number}.v1: {numbers:?}");
    }
    let events = relay.status().await["events"].take();
    assert_eq!((&events["published"], &events["duplicates"]), (&rows.into(), &0.into()));
    let peak = relay.peak_rss_kb();
    relay.drain().await;
    peak
}

fn number_of(entry: &crate::harness::consumer::Entry) -> i64 {
    let payload: Value = serde_json::from_str(entry.get("payload")).unwrap();
    payload["n"].as_i64().unwrap()
}

#[tokio::test]
async fn a_thousand_streams_take_about_the_memory_of_one() {
    const ROWS: i64 = 30_000;
    let (one, many) = (peak_kb(1, ROWS).await, peak_kb(1_000, ROWS).await);
    // A name, a checkpoint's key and a small buffer for each.
    assert!(many < one * 2, "{many} kB for 1,000 streams, {one} kB for one");
}

#[tokio::test]
async fn connections_that_say_nothing_are_ended_and_keep_nobody_from_the_pages() {
    const SILENT: usize = 200;
    const CONNECTIONS_MAX: usize = 64;
    let world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    let address = relay.url().replace("http://", "").replace('/', "");
    let folder = format!("/proc/{}/fd", relay.pid());
    let files = || std::fs::read_dir(&folder).expect("its files").count();
    let before = files();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    wait::until("an answer from /livez", PATIENCE, async || {
        relay.get("/livez").await.filter(|(code, _)| *code == 200)
    })
    .await;
    wait::until("no more files than connections may take", PATIENCE, async || {
        // The ticks of the relay open some for a moment.
        (files() <= before + CONNECTIONS_MAX + 4).then_some(())
    })
    .await;
    for stream in &mut silent {
        let ended = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await;
        assert!(matches!(ended.expect("an end"), Ok(0) | Err(_)), "nothing is said to silence");
    }
    relay.drain().await;
}
