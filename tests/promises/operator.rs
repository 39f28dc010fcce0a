//! What somebody who made a mistake gets to read: one message, the next step, the right exit code,
//! and never a secret.

use serde_json::Value;
use tokio_postgres::Client;

use crate::harness::postgres::PASSWORD;
use crate::harness::redis::Redis;
use crate::harness::relay::{Finished, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, insert, insert_many};

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The relay must end with this code, saying all of these, and must not say the password.
async fn assert_refused(settings: &Settings, code: i32, says: &[&str]) {
    let done = settings.finish("run").await;
    assert_says(&done, code, says);
}

fn assert_says(done: &Finished, code: i32, says: &[&str]) {
    let output = &done.output;
    assert_eq!(done.code, Some(code), "exit code {:?}:\n{output}", done.code);
    for words in says {
        assert!(output.contains(words), "{words:?} is not in:\n{output}");
    }
    assert!(output.contains("error: "), "no error line:\n{output}");
    assert!(!output.contains(PASSWORD), "the password is in:\n{output}");
    assert!(!output.contains("panicked"), "a panic:\n{output}");
}

#[tokio::test]
async fn a_wrong_password_database_or_role_is_named() {
    let world = World::new().await;
    let with = |url: &str| world.settings.clone().with("database_url", url);
    let wrong = with(&world.postgres.url_of("postgres", "Wrong-One-77"));
    let done = wrong.finish("run").await;
    assert_says(&done, 1, &["password authentication failed", "hint: correct the password"]);
    assert!(!done.output.contains("Wrong-One-77"), "a wrong password is a secret too");
    let nobody = with(&world.postgres.url_of("nobody_here", PASSWORD));
    assert_refused(&nobody, 1, &["nobody_here"]).await;
    let elsewhere = world.postgres.url().replace("/postgres", "/nowhere");
    let elsewhere = elsewhere.replace("nowhere:", "postgres:");
    assert_refused(&with(&elsewhere), 1, &["nowhere"]).await;
}

#[tokio::test]
async fn a_role_without_replication_is_told_which_attribute_it_lacks() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    run(&client, &format!("CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")).await;
    run(&client, "GRANT USAGE ON SCHEMA identity TO plain").await;
    run(&client, "GRANT ALL ON identity.outbox TO plain").await;
    let settings = world.settings.clone();
    let settings = settings.with("database_url", &world.postgres.url_of("plain", PASSWORD));
    assert_refused(&settings, 1, &["REPLICATION", "ALTER ROLE \"plain\" REPLICATION"]).await;
}

#[tokio::test]
async fn a_role_that_may_not_mark_is_told_before_anything_is_published() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    run(&client, &format!("CREATE ROLE reader LOGIN REPLICATION PASSWORD '{PASSWORD}'")).await;
    run(&client, "GRANT USAGE ON SCHEMA identity TO reader").await;
    run(&client, "GRANT SELECT ON identity.outbox TO reader").await;
    insert(&client, 1).await.unwrap();
    let settings = world.settings.clone();
    let settings = settings.with("database_url", &world.postgres.url_of("reader", PASSWORD));
    assert_refused(&settings, 1, &["after_publish = mark", "GRANT SELECT, UPDATE"]).await;
    assert_eq!(world.consumer().len().await, Some(0));
    let mut relay = settings.with("after_publish", "keep").start_ready().await;
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_wal_level_below_logical_is_told_how_to_be_raised() {
    let mut world = World::bare(&[("wal_level", "replica")], &[]).await;
    assert_refused(&world.settings, 1, &["wal_level = replica", "wal_level = logical"]).await;
    let done = world.settings.finish("setup").await;
    assert_says(&done, 1, &["wal_level = logical"]);
    world.postgres.stop(crate::harness::postgres::Stop::Fast).await;
    world.postgres.set("wal_level", "logical");
    world.postgres.restart().await;
    world.settings.setup().await;
}

#[tokio::test]
async fn no_free_slot_is_told_which_setting_to_raise() {
    let world = World::bare(&[("max_replication_slots", "1")], &[]).await;
    let client = world.postgres.client().await;
    run(&client, "SELECT pg_create_physical_replication_slot('taken')").await;
    let done = world.settings.finish("setup").await;
    assert_says(&done, 1, &["all replication slots are in use", "max_replication_slots"]);
    assert_refused(&world.settings, 1, &["max_replication_slots"]).await;
}

#[tokio::test]
async fn a_missing_table_or_column_is_named() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    let says = ["identity.outbox does not exist", "walrelay setup"];
    assert_refused(&world.settings, 1, &says).await;
    world.settings.setup().await;
    let elsewhere = world.settings.clone().with("outbox_table", "app.outbox");
    assert_refused(&elsewhere, 1, &["app.outbox does not exist"]).await;
    run(&client, "ALTER TABLE identity.outbox DROP COLUMN aggregate_id").await;
    assert_refused(&world.settings, 1, &["lacks the column aggregate_id"]).await;
}

#[tokio::test]
async fn a_publication_that_hides_events_is_refused() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    run(&client, "CREATE TABLE other (id int PRIMARY KEY)").await;
    run(&client, "CREATE PUBLICATION lacks FOR TABLE other").await;
    let says = ["\"lacks\" does not cover", "ADD TABLE \"identity\".\"outbox\""];
    let settings = world.settings.clone();
    assert_refused(&settings.clone().with("publication_name", "lacks"), 1, &says).await;
    let create = "CREATE PUBLICATION updates FOR TABLE identity.outbox WITH (publish = 'update')";
    run(&client, create).await;
    let says = ["\"updates\" does not publish INSERTs", "SET (publish = 'insert')"];
    assert_refused(&settings.clone().with("publication_name", "updates"), 1, &says).await;
    let create = "CREATE PUBLICATION narrow FOR TABLE identity.outbox (id, event_id, event_type)";
    run(&client, create).await;
    insert(&client, 1).await.unwrap();
    let says = ["lacks the columns aggregate_id, payload"];
    assert_refused(&settings.with("publication_name", "narrow"), 1, &says).await;
}

#[tokio::test]
async fn a_slot_of_another_plugin_or_kind_is_refused() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    run(&client, "SELECT pg_create_logical_replication_slot('theirs', 'test_decoding')").await;
    run(&client, "SELECT pg_create_physical_replication_slot('physical')").await;
    let settings = world.settings.clone();
    let says = ["\"theirs\" belongs to another plugin: test_decoding"];
    assert_refused(&settings.clone().with("slot_name", "theirs"), 1, &says).await;
    assert_refused(&settings.with("slot_name", "physical"), 1, &["physical slot"]).await;
}

#[tokio::test]
async fn a_redis_password_that_is_missing_or_wrong_is_told_and_the_right_one_works() {
    const REDIS_PASSWORD: &str = "redis-Secret-42aa";
    let world = World::new().await;
    let guarded = Redis::start_with(&[("requirepass", REDIS_PASSWORD)]).await;
    let missing = format!("redis://127.0.0.1:{}", guarded.port());
    let settings = world.settings.clone();
    assert_refused(&settings.clone().with("redis_url", &missing), 1, &["redis_url"]).await;
    let wrong = format!("redis://:Wrong-One-78@127.0.0.1:{}", guarded.port());
    let done = settings.clone().with("redis_url", &wrong).finish("run").await;
    assert_says(&done, 1, &["redis_url"]);
    assert!(!done.output.contains("Wrong-One-78"), "{}", done.output);
    let settings = settings.with("redis_url", &guarded.url());
    let config = settings.finish("config").await;
    assert!(!config.output.contains(REDIS_PASSWORD), "{}", config.output);
    let mut relay = settings.start_ready().await;
    insert(&world.postgres.client().await, 1).await.unwrap();
    crate::harness::consumer::Consumer::new(&guarded.url(), "identity.user.v1").until_len(1).await;
    assert!(!relay.output().contains(REDIS_PASSWORD), "{}", relay.output());
    relay.drain().await;
}

/// A table from before events were parked.
const WITHOUT_PARKING: &str = "ALTER TABLE identity.outbox DROP COLUMN wal_position";

#[tokio::test]
async fn where_nothing_can_be_parked_a_stream_of_another_type_stops_the_relay() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    run(&client, WITHOUT_PARKING).await;
    let mut redis = world.redis.connection().await;
    redis::Cmd::set("taken", "a string").query_async::<()>(&mut redis).await.unwrap();
    insert_many(&client, 1, 10).await.unwrap();
    run(
        &client,
        "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
         VALUES ('Refused', gen_random_uuid(), '{}', 'taken')",
    )
    .await;
    assert_refused(&world.settings, 1, &["WRONGTYPE", "taken", "no stream"]).await;
    redis::Cmd::del("taken").query_async::<()>(&mut redis).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    world.consumer_of("taken").until_len(1).await;
    world.consumer().until_len(10).await;
    world.until_marked().await;
    assert_eq!(world.consumer().len().await, Some(10), "nothing was doubled by the stop");
    relay.drain().await;
}

#[tokio::test]
async fn a_default_stream_that_is_taken_is_told_before_the_first_event() {
    let world = World::new().await;
    let mut redis = world.redis.connection().await;
    redis::Cmd::set(STREAM, "a string").query_async::<()>(&mut redis).await.unwrap();
    let mut relay = world.settings.start_ready().await;
    wait::until("it is told", PATIENCE, async || {
        let output = relay.output();
        let is_told = output.contains("WRONGTYPE") && output.contains("takes no events");
        is_told.then_some(())
    })
    .await;
    relay.drain().await;
    run(&world.postgres.client().await, WITHOUT_PARKING).await;
    assert_refused(&world.settings, 1, &["WRONGTYPE", STREAM, "no stream"]).await;
}

#[tokio::test]
async fn where_nothing_can_be_parked_a_payload_that_is_not_json_stops_the_relay() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    run(&client, "ALTER TABLE identity.outbox ALTER COLUMN payload TYPE text").await;
    run(&client, WITHOUT_PARKING).await;
    insert_many(&client, 1, 10).await.unwrap();
    run(
        &client,
        "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
         VALUES ('Broken', gen_random_uuid(), '{\"secret-value\": tru')",
    )
    .await;
    let done = world.settings.finish("run").await;
    assert_says(&done, 1, &["row id=11 of identity.outbox", "payload is not JSON"]);
    assert!(!done.output.contains("secret-value"), "no payload in a message:\n{}", done.output);
    assert_eq!(world.consumer().read_all().await.len(), 10, "everything before it is published");
}

#[tokio::test]
async fn where_nothing_can_be_parked_an_event_over_the_limit_stops_the_relay_until_it_is_raised() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    run(&client, WITHOUT_PARKING).await;
    insert(&client, 1).await.unwrap();
    run(
        &client,
        "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
         VALUES ('Large', gen_random_uuid(), jsonb_build_object('x', repeat('y', 100000)))",
    )
    .await;
    let tight = world.settings.clone().with("max_event_bytes", "64KiB");
    assert_refused(&tight, 1, &["row id=2", "max_event_bytes is 65536"]).await;
    let mut relay = world.settings.start_ready().await;
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn wrong_settings_are_named_with_what_is_allowed_and_where_they_were_set() {
    let world = Settings::new("postgresql://a:b@127.0.0.1:1/c", "redis://127.0.0.1:1");
    let cases: &[(&str, &str, &[&str])] = &[
        ("batch_size", "many", &["batch_size", "many", "1 to 4096", "RELAY_BATCH_SIZE"]),
        ("batch_size", "0", &["batch_size", "1 to 4096"]),
        ("after_publish", "burn", &["after_publish", "burn", "mark, delete, keep"]),
        ("durability", "maybe", &["durability", "memory, fsync"]),
        ("feedback_interval", "soon", &["feedback_interval", "soon"]),
        ("slot_name", "Not-A-Slot", &["slot_name", "a-z"]),
        ("outbox_table", "a.b.c", &["outbox_table"]),
        ("auto_create", "perhaps", &["auto_create", "true or false"]),
        ("bathc_size", "1", &["RELAY_BATHC_SIZE", "RELAY_BATCH_SIZE"]),
    ];
    for (name, value, says) in cases {
        assert_refused(&world.clone().with(name, value), 2, says).await;
    }
    let without = world.clone().without("redis_url");
    assert_refused(&without, 2, &["redis_url"]).await;
    for url in [format!("postgresql://a:{PASSWORD}@[::1/c"), format!("mysql://a:{PASSWORD}@h/c")] {
        assert_refused(&world.clone().with("database_url", &url), 2, &["database_url"]).await;
    }
    let url = format!("http://:{PASSWORD}@127.0.0.1:1");
    assert_refused(&world.clone().with("redis_url", &url), 2, &["redis_url"]).await;
}

#[tokio::test]
async fn where_the_log_is_json_the_last_word_is_too() {
    let world = World::bare(&[], &[]).await;
    let mut relay = world.settings.start();
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1), "{}", relay.output());
    let output = relay.output();
    let last: Value = serde_json::from_str(output.lines().last().unwrap()).expect("a JSON line");
    assert_eq!(last["level"], "ERROR");
    assert!(last["hint"].as_str().unwrap().contains("walrelay setup"), "{last}");
}

#[tokio::test]
async fn a_settings_file_is_read_and_its_mistakes_are_placed() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("relay.toml");
    let world = Settings::new("postgresql://a:b@127.0.0.1:1/c", "redis://127.0.0.1:1");
    let path = file.to_str().unwrap();
    let settings = world.with_arguments(&["--config", path]);
    std::fs::write(&file, "batch_size = 7\n").unwrap();
    let done = settings.finish("config").await;
    assert_eq!(done.code, Some(0), "{}", done.output);
    let line = done.output.lines().find(|line| line.contains("batch_size")).unwrap().to_owned();
    assert!(line.contains('7') && line.contains("relay.toml"), "{line}");
    std::fs::write(&file, "batch_sizes = 7\n").unwrap();
    assert_refused(&settings, 2, &["batch_sizes", "relay.toml"]).await;
    std::fs::write(&file, "batch_size = \n").unwrap();
    assert_refused(&settings, 2, &["relay.toml"]).await;
    std::fs::remove_file(&file).unwrap();
    assert_refused(&settings, 2, &["relay.toml"]).await;
}

#[tokio::test]
async fn the_old_url_scheme_works() {
    let world = World::new().await;
    let url = world.postgres.url().replace("postgresql://", "postgresql+asyncpg://");
    let mut relay = world.settings.clone().with("database_url", &url).start_ready().await;
    insert(&world.postgres.client().await, 1).await.unwrap();
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn pages_and_health_tell_the_truth() {
    let world = World::new().await;
    let down = world.settings.finish("health").await;
    assert_eq!(down.code, Some(1), "{}", down.output);
    let mut relay = world.settings.start_ready().await;
    relay.until_state("streaming").await;
    insert_many(&world.postgres.client().await, 1, 100).await.unwrap();
    world.until_marked().await;
    assert_eq!(world.settings.finish("health").await.code, Some(0));
    let (code, metrics) = relay.get("/metrics").await.unwrap();
    assert_eq!(code, 200);
    assert!(metrics.contains("walrelay_events_published_total 100\n"), "{metrics}");
    assert!(metrics.contains("walrelay_rows_marked_total 100\n"), "{metrics}");
    assert_eq!(relay.get("/nothing").await.unwrap().0, 404);
    world.until_confirmed().await;
    wait::until("the positions agree", PATIENCE, async || {
        let positions = relay.status().await["positions"].take();
        let all = ["published", "settled", "confirmed"].map(|name| positions[name].clone());
        all.iter().all(|position| *position == positions["received"]).then_some(())
    })
    .await;
    relay.drain().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let world = World::new().await;
    let mut relay = world.settings.start_ready().await;
    assert_refused(&world.settings, 1, &["http_port"]).await;
    relay.drain().await;
}

/// What was published before the refusal is settled, not only sent.
#[tokio::test]
async fn before_an_event_that_redis_refuses_everything_is_marked_and_confirmed() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    run(&client, WITHOUT_PARKING).await;
    world.redis.run("SET taken x").await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    let refused = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
                   VALUES ('Refused', gen_random_uuid(), '{}', 'taken')";
    run(&client, refused).await;
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1), "{}", relay.output());
    let left = world
        .postgres
        .text("SELECT string_agg(topic, ',') FROM identity.outbox WHERE NOT published");
    assert_eq!(left.await, "taken");
    assert!(relay.output().contains("row id=101"), "{}", relay.output());
    world.redis.run("DEL taken").await;
    let mut relay = world.settings.start_ready().await;
    world.until_marked().await;
    relay.drain().await;
}
