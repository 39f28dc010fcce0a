//! What people do wrong, and what they are told: the message, the exit code, never a secret.

use crate::harness::postgres::{PASSWORD, Postgres};
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World};
use crate::support::{command, eventually, holds_exactly, insert, record, success, truth};

/// The relay must end with `code` and have said `words`.
async fn refused(plan: &Settings, code: i32, words: &[&str]) {
    let mut relay = plan.start();
    let ended = relay.exit_code(PATIENCE).await;
    // Inside JSON quotes are escaped.
    let said = relay.output().replace("\\\"", "\"");
    assert_eq!(ended, Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    assert!(!said.contains(PASSWORD), "the password is in: {said}");
}

fn url_of(postgres: &Postgres, user: &str, password: &str, database: &str) -> String {
    let port = postgres.port();
    format!("postgresql://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
}

#[tokio::test]
async fn a_login_that_cannot_work_ends_with_the_reason() {
    let world = World::new().await;
    let plan = world.settings.clone();
    let url = |user, password, database| url_of(&world.postgres, user, password, database);
    let with = |url: String| plan.clone().with("database_url", &url);
    refused(
        &with(url("postgres", "wrong", "postgres")),
        1,
        &["password authentication failed", "28P01", "hint"],
    )
    .await;
    refused(
        &with(url("postgres", PASSWORD, "nowhere")),
        1,
        &["\"nowhere\" does not exist", "3D000"],
    )
    .await;
    world.postgres.run("CREATE ROLE plain LOGIN PASSWORD 'plain-secret'").await;
    refused(&with(url("plain", "plain-secret", "postgres")), 1, &["no REPLICATION", "ALTER ROLE"])
        .await;
    world.postgres.run("ALTER ROLE plain REPLICATION").await;
    refused(
        &with(url("plain", "plain-secret", "postgres")),
        1,
        &["may not do that on table identity.outbox", "GRANT"],
    )
    .await;
}

#[tokio::test]
async fn a_server_that_cannot_serve_ends_with_the_setting_to_change() {
    let world = World::bare(&[("wal_level", "replica")], &[]).await;
    refused(&world.settings.clone(), 1, &["wal_level = replica", "wal_level = logical"]).await;
    let setup = command(&world.settings.clone(), "setup").await;
    assert_eq!(setup.code, Some(1));
    let world = World::bare(&[("max_replication_slots", "1")], &[]).await;
    world.postgres.run("SELECT pg_create_physical_replication_slot('taken')").await;
    let setup = command(&world.settings.clone(), "setup").await;
    assert_eq!(setup.code, Some(1));
    assert!(setup.output.contains("max_replication_slots"), "{}", setup.output);
}

#[tokio::test]
async fn what_is_missing_is_named_with_the_way_to_make_it() {
    let world = World::bare(&[], &[]).await;
    let plan = world.settings.clone();
    refused(&plan, 1, &["identity.outbox does not exist", "walrelay setup"]).await;
    success(&plan, "setup").await;
    world.postgres.run("ALTER TABLE identity.outbox DROP COLUMN payload").await;
    refused(&plan, 1, &["lacks the column payload"]).await;
    world
        .postgres
        .run("ALTER TABLE identity.outbox ADD COLUMN payload jsonb, DROP COLUMN published")
        .await;
    refused(&plan, 1, &["after_publish = mark", "lacks the column published", "walrelay setup"])
        .await;
    success(&plan, "setup").await;
    let strict = plan.clone().with("auto_create", "false");
    refused(
        &strict.clone().with("slot_name", "other"),
        1,
        &["replication slot \"other\" does not exist"],
    )
    .await;
    refused(
        &strict.with("publication_name", "other"),
        1,
        &["publication \"other\" does not exist"],
    )
    .await;
}

#[tokio::test]
async fn a_publication_that_hides_events_is_refused() {
    let world = World::new().await;
    let plan = world.settings.clone();
    world.postgres.run("ALTER PUBLICATION walrelay SET (publish = 'update')").await;
    refused(&plan, 1, &["does not publish INSERTs", "SET (publish = 'insert')"]).await;
    let other = "ALTER PUBLICATION walrelay SET (publish = 'insert'); CREATE TABLE other (id int); \
                 ALTER PUBLICATION walrelay SET TABLE other";
    world.postgres.run(other).await;
    refused(&plan, 1, &["does not cover table identity.outbox", "ADD TABLE"]).await;
    world
        .postgres
        .run("ALTER PUBLICATION walrelay SET TABLE identity.outbox WHERE (event_type <> 'x')")
        .await;
    let relay = plan.start_ready().await;
    assert!(relay.output().contains("row filter"), "{}", relay.output());
}

#[tokio::test]
async fn a_slot_that_is_not_ours_is_refused() {
    let world = World::new().await;
    record(&world.postgres).await;
    let plan = world.settings.clone().with("slot_name", "truth");
    refused(&plan, 1, &["another plugin: test_decoding"]).await;
    assert_eq!(command(&plan, "setup").await.code, Some(1));
    world.postgres.run("CREATE DATABASE other").await;
    let elsewhere = url_of(&world.postgres, "postgres", PASSWORD, "other");
    let plan = world.settings.clone().with("database_url", &elsewhere);
    let setup = command(&plan, "setup").await;
    assert_eq!(setup.code, Some(1));
    assert!(setup.output.contains("belongs to database \"postgres\""), "{}", setup.output);
}

#[tokio::test]
async fn a_redis_that_cannot_be_used_ends_with_the_reason() {
    let world = World::with(&[], &[("requirepass", "letmein")]).await;
    let plan = world.settings.clone();
    let port = world.redis.port();
    let bare = plan.clone().with("redis_url", &format!("redis://127.0.0.1:{port}"));
    refused(&bare, 1, &["NOAUTH", "redis_url"]).await;
    let with = |password: &str| {
        plan.clone().with("redis_url", &format!("redis://:{password}@127.0.0.1:{port}"))
    };
    refused(&with("wrong"), 1, &["redis_url"]).await;
    let relay = with("letmein").start_ready().await;
    assert!(!relay.output().contains("letmein"));
    drop(relay);
    let world = World::with(&[], &[("appendonly", "no")]).await;
    refused(&world.settings.clone(), 1, &["appendonly", "durability = memory"]).await;
    world.settings.clone().with("durability", "memory").start_ready().await;
}

#[tokio::test]
async fn a_key_of_the_wrong_type_stops_the_line_and_names_the_stream() {
    let world = World::new().await;
    world.redis.run("SET wrong text").await;
    let mut relay = world.settings.start_ready().await;
    let client = world.postgres.client().await;
    insert(&client, 10).await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic) \
               VALUES ('E', gen_random_uuid(), '\"secret payload\"', 'wrong')";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1));
    let said = relay.output().replace("\\\"", "\"");
    assert!(said.contains("WRONGTYPE") && said.contains("\"wrong\""), "{said}");
    assert!(!said.contains("secret payload"));
    // Somebody mends it: nothing is lost.
    world.redis.run("DEL wrong").await;
    let _relay = world.settings.start_ready().await;
    world.consumer_of("wrong").until_len(1).await;
    world.consumer_of(STREAM).until_len(10).await;
    assert_eq!(world.consumer_of(STREAM).len().await, Some(10));
}

#[tokio::test]
async fn a_row_that_is_no_event_stops_the_line_behind_all_before_it() {
    let world = World::new().await;
    world
        .postgres
        .run("ALTER TABLE identity.outbox DROP CONSTRAINT outbox_topic_is_not_empty")
        .await;
    record(&world.postgres).await;
    let plan = world.settings.clone().with("max_event_bytes", "100KiB");
    let mut relay = plan.start_ready().await;
    let client = world.postgres.client().await;
    insert(&client, 100).await;
    let expected = truth(&world.postgres).await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload) \
               VALUES ('E', gen_random_uuid(), to_jsonb(repeat('x', 200000)))";
    client.batch_execute(sql).await.unwrap();
    insert(&client, 10).await;
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1));
    let said = relay.output();
    assert!(
        said.contains("row id=101 of identity.outbox") && said.contains("max_event_bytes"),
        "{said}"
    );
    let mut stream = world.consumer_of(STREAM);
    holds_exactly(&mut stream, &expected).await;
    // A larger limit is all it needs.
    let _relay = world.settings.start_ready().await;
    let expected = truth(&world.postgres).await;
    holds_exactly(&mut stream, &expected).await;
}

#[tokio::test]
async fn a_wrong_setting_ends_before_any_server_is_asked() {
    let plan = Settings::new("postgresql://a:hunter2@127.0.0.1:1/d", "redis://127.0.0.1:1");
    refused(
        &plan.clone().with("batchsize", "1"),
        2,
        &["unknown setting", "did you mean RELAY_BATCH_SIZE"],
    )
    .await;
    refused(
        &plan.clone().with("durability", "disk"),
        2,
        &["durability = \"disk\"", "memory, fsync"],
    )
    .await;
    refused(&plan.clone().with("database_url", "mysql://a:hunter2@h/d"), 2, &["database_url"])
        .await;
    refused(&plan.clone().without("redis_url"), 2, &["redis_url is not set"]).await;
    assert_eq!(command(&plan, "run --nonsense").await.code, Some(2));
    assert_eq!(command(&plan, "").await.code, Some(2));
}

#[tokio::test]
async fn config_shows_every_value_and_its_origin_and_hides_secrets() {
    let plan = Settings::new("postgresql+asyncpg://a:hunter2@h/d", "redis://:hunter2@h");
    let shown =
        success(&plan.clone().with("batch_size", "99"), "config --set slot_name=mine").await;
    let line = |name: &str| {
        let text = &shown;
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        line("database_url"),
        ["database_url", "postgresql://a:***@h/d", "RELAY_DATABASE_URL"]
    );
    assert_eq!(line("redis_url"), ["redis_url", "redis://:***@h", "RELAY_REDIS_URL"]);
    assert_eq!(line("batch_size"), ["batch_size", "99", "RELAY_BATCH_SIZE"]);
    assert_eq!(line("slot_name"), ["slot_name", "mine", "--set"]);
    assert_eq!(line("durability"), ["durability", "fsync", "default"]);
    assert!(!shown.contains("hunter2"));
    let json = success(&plan, "config --json").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["batch_size"]["value"], "256");
}

#[tokio::test]
async fn setup_is_safe_to_repeat_and_completes_an_older_table_without_rewriting_it() {
    let world = World::bare(&[], &[]).await;
    let old = "CREATE SCHEMA identity; CREATE TABLE identity.outbox (id bigserial PRIMARY KEY, \
               event_id uuid UNIQUE DEFAULT gen_random_uuid(), event_type text, aggregate_type text, aggregate_id uuid, \
               payload jsonb, created_at timestamptz DEFAULT now(), published bool DEFAULT false, topic text); \
               INSERT INTO identity.outbox (event_type, payload) SELECT 'old', '1' FROM generate_series(1, 100)";
    world.postgres.run(old).await;
    let file = "SELECT pg_relation_filenode('identity.outbox')";
    let before = world.postgres.text(file).await;
    let plan = world.settings.clone();
    let first = success(&plan, "setup --role relay").await;
    assert!(first.contains("added"), "{}", first);
    assert_eq!(world.postgres.text(file).await, before, "the table was rewritten");
    let second = success(&plan, "setup --role relay").await;
    assert!(!second.contains("added") && !second.contains("created"), "{}", second);
    // The role it made is enough to run.
    world.postgres.run("ALTER ROLE relay PASSWORD 'relay-secret'").await;
    let url = url_of(&world.postgres, "relay", "relay-secret", "postgres");
    let _relay = plan.with("database_url", &url).start_ready().await;
    insert(&world.postgres.client().await, 5).await;
    world.consumer_of(STREAM).until_len(5).await;
    eventually("the role may mark", async || {
        let marked =
            world.postgres.text("SELECT count(*) FROM identity.outbox WHERE published").await;
        if marked == "5" { Ok(()) } else { Err(marked) }
    })
    .await;
}

#[tokio::test]
async fn setup_printed_and_fed_to_psql_does_the_same_as_setup() {
    let world = World::bare(&[], &[]).await;
    let plan = world.settings.clone().with("publication_name", "it's \"quoted\"");
    let nowhere = plan.clone().with("database_url", "postgresql://a@127.0.0.1:1/d");
    let script = success(&nowhere, "setup --print --role relay").await;
    let psql = std::process::Command::new(wait::in_path("psql").unwrap())
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &world.postgres.url(), "-c"])
        .arg("\\set x 1")
        .arg("-f")
        .arg("-")
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut psql| {
            std::io::Write::write_all(&mut psql.stdin.take().unwrap(), script.as_bytes())?;
            psql.wait_with_output()
        })
        .unwrap();
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
    let said = success(&plan, "setup --role relay").await;
    assert!(!said.contains("created") && !said.contains("added"), "{}", said);
    let _relay = plan.start_ready().await;
    insert(&world.postgres.client().await, 5).await;
    world.consumer_of(STREAM).until_len(5).await;
}

#[tokio::test]
async fn health_and_the_pages_say_how_it_is() {
    let world = World::new().await;
    let plan = world.settings.clone();
    assert_eq!(command(&plan, "health").await.code, Some(1), "nothing runs yet");
    let mut relay = plan.start_ready().await;
    assert_eq!(success(&plan, "health").await, "streaming\n");
    assert_eq!(relay.get("/livez").await.unwrap(), (200, "ok\n".to_owned()));
    insert(&world.postgres.client().await, 5).await;
    world.consumer_of(STREAM).until_len(5).await;
    eventually("the page counts", async || {
        let (code, page) = relay.get("/metrics").await.unwrap();
        assert_eq!(code, 200);
        if page.contains("walrelay_events_published_total 5") { Ok(()) } else { Err(page) }
    })
    .await;
    assert_eq!(relay.get("/nowhere").await.unwrap().0, 404);
    let second = plan.start().exit_code(PATIENCE).await;
    assert_eq!(second, Some(1), "the port is taken");
    relay.drain().await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let world = World::new().await;
    let plan = world.settings.clone().with("shutdown_grace", "1h");
    let mut relay = plan.start_ready().await;
    // A locked row keeps the drain from ending.
    let client = world.postgres.client().await;
    insert(&client, 1).await;
    client.batch_execute("BEGIN; SELECT FROM identity.outbox FOR UPDATE").await.unwrap();
    world.consumer_of(STREAM).until_len(1).await;
    relay.terminate();
    relay.until_state("draining").await;
    relay.interrupt();
    assert_eq!(relay.exit_code(PATIENCE).await, Some(130));
}
