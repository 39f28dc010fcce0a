//! The server behind the URL changes: a standby, a promoted one, several hosts, a stream that is
//! not where SQL is.

use std::time::Duration;

use walrelay::config::DatabaseUrl;
use walrelay::error::Class;
use walrelay::postgres::{self, Replication, Target};

use crate::harness::postgres::{PASSWORD, Postgres, Stop};
use crate::harness::wait;
use crate::harness::world::{SLOT, World, insert};

fn target(url: &str) -> Target {
    let url = DatabaseUrl::parse(&url.to_owned().into()).unwrap();
    Target::new(&url, Duration::from_secs(10)).unwrap()
}

async fn replication(target: &Target) -> Replication {
    target.replication(1024 * 1024).await.unwrap()
}

/// Starts the server again as a standby that follows nobody; `pg_promote()` ends that.
async fn become_standby(postgres: &mut Postgres) {
    let data = postgres.text("SHOW data_directory").await;
    postgres.stop(Stop::Fast).await;
    std::fs::write(std::path::Path::new(&data).join("standby.signal"), "").unwrap();
    postgres.restart().await;
}

fn url_of(hosts: &str, query: &str) -> String {
    format!("postgresql://postgres:{PASSWORD}@{hosts}/postgres{query}")
}

#[tokio::test]
async fn the_slot_knows_the_process_that_streams_to_us_and_no_other() {
    let world = World::new().await;
    let target = target(&world.postgres.url());
    let client = target.sql().await.unwrap();
    let mut stream = replication(&target).await;
    let error = postgres::walsender(&client, SLOT, &mut stream).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "nobody holds it: {error}");
    stream.start(SLOT, "walrelay").await.unwrap();
    let walsender = postgres::walsender(&client, SLOT, &mut stream).await.unwrap();
    let confirmed = "SELECT confirmed_flush_lsn FROM pg_replication_slots";
    assert_eq!(walsender.confirmed.to_string(), world.postgres.text(confirmed).await);
    assert_eq!(walsender.sync_state.as_deref(), Some("async"));
    let mut other = replication(&target).await;
    for slot in [SLOT, "another"] {
        let error = postgres::walsender(&client, slot, &mut other).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{slot}: {error}");
    }
}

#[tokio::test]
async fn a_promoted_server_tells_where_the_old_timeline_was_left() {
    let mut world = World::new().await;
    let mut stream = replication(&target(&world.postgres.url())).await;
    let before = stream.identify().await.unwrap();
    assert_eq!(stream.timeline_history(before.timeline).await.unwrap(), []);
    drop(stream);
    become_standby(&mut world.postgres).await;
    assert_eq!(world.postgres.text("SELECT pg_promote()").await, "t");
    let mut stream = replication(&target(&world.postgres.url())).await;
    let now = stream.identify().await.unwrap();
    assert_eq!((now.timeline, &now.system_id), (before.timeline + 1, &before.system_id));
    let history = stream.timeline_history(now.timeline).await.unwrap();
    let [(ancestor, left)] = history[..] else { panic!("one ancestor, not {history:?}") };
    assert_eq!(ancestor, before.timeline);
    assert!(before.wal_end <= left && left <= now.wal_end, "{before:?}, left at {left}, {now:?}");
    let error = stream.timeline_history(99).await.unwrap_err();
    assert!(error.to_string().contains("history of timeline 99"), "{error}");
    stream.identify().await.expect("the connection is of use after a refusal");
}

#[tokio::test]
async fn a_standby_is_waited_for_until_it_is_promoted() {
    let mut world = World::new().await;
    become_standby(&mut world.postgres).await;
    let mut relay = world.settings.clone().with("reconnect_delay_max", "500ms").start();
    relay.until_output("is a standby").await;
    relay.until_output("a failover is under way").await;
    assert_eq!(world.postgres.text("SELECT pg_promote()").await, "t");
    relay.ready().await;
    insert(&world.postgres.client().await, 1).await.unwrap();
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn of_several_hosts_the_primary_is_found() {
    let world = World::new().await;
    let mut other = Postgres::start().await;
    become_standby(&mut other).await;
    let primary = format!("127.0.0.1:{}", world.postgres.port());
    let url = url_of(&format!("127.0.0.1:{},{primary}", other.port()), "");
    let stream = replication(&target(&url)).await;
    assert_eq!(stream.label(), format!("{primary}/postgres"));
    world.assert_relays(&world.settings.clone().with("database_url", &url)).await;
}

#[tokio::test]
async fn a_first_host_that_accepts_and_never_answers_is_passed_over() {
    let world = World::new().await;
    let silent = std::net::TcpListener::bind(("127.0.0.1", wait::free_port())).unwrap();
    let hosts = format!("{},127.0.0.1:{}", silent.local_addr().unwrap(), world.postgres.port());
    let settings = world.settings.clone().with("connect_timeout", "1s");
    world.assert_relays(&settings.with("database_url", &url_of(&hosts, ""))).await;
}

#[tokio::test]
async fn both_connections_go_where_hostaddr_says() {
    let world = World::new().await;
    let nowhere = format!("no-such-host.invalid:{}", world.postgres.port());
    let url = url_of(&nowhere, "?hostaddr=127.0.0.1");
    world.assert_relays(&world.settings.clone().with("database_url", &url)).await;
}

#[tokio::test]
async fn a_slot_older_than_its_publication_is_told_what_helps() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    client.batch_execute("DROP PUBLICATION walrelay").await.unwrap();
    insert(&client, 1).await.unwrap();
    let publication = "CREATE PUBLICATION walrelay FOR TABLE identity.outbox";
    client.batch_execute(publication).await.unwrap();
    let done = world.settings.finish("run").await;
    assert_eq!(done.code, Some(1), "{}", done.output);
    for words in ["publication \"walrelay\"", "pg_replication_slot_advance", "the slot is older"] {
        assert!(done.output.contains(words), "{words:?} is not in:\n{}", done.output);
    }
    let advance = "SELECT pg_replication_slot_advance('walrelay', pg_current_wal_lsn())";
    client.query(advance, &[]).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    insert(&client, 2).await.unwrap();
    world.consumer().until_len(1).await;
    relay.drain().await;
}

/// As after a promotion: each stream is to be tied to the new timeline, and before that it is asked
/// whether the slot is still ours. The server of this test takes 60 connections.
#[tokio::test]
async fn a_new_timeline_of_very_many_streams_takes_few_connections() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let write = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
        SELECT 'Changed', gen_random_uuid(), '{}', 'stream' || n FROM generate_series(1, 300) AS n";
    let mut relay = world.settings.start_ready().await;
    client.execute(write, &[]).await.unwrap();
    world.until_marked().await;
    relay.drain().await;
    let system = world.postgres.text("SELECT system_identifier FROM pg_control_system()").await;
    let key = |n: i32| format!("walrelay:{{stream{n}}}:{SLOT}@{system}");
    for n in 1..=300 {
        world.redis.run(&format!("HSET {} timeline 0", key(n))).await;
    }
    client.execute(write, &[]).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    world.until_marked().await;
    let mut asking = redis::cmd("HGET");
    asking.arg(key(300)).arg("timeline");
    let timeline = asking.query_async::<String>(&mut world.redis.connection().await).await;
    assert_eq!(timeline.unwrap(), "1", "tied to the timeline of this server");
    let lines = relay.status().await["reconnects"]["lines"].take();
    assert_eq!(lines, 1, "{}", relay.output());
    relay.drain().await;
}
