//! What people do wrong, and what they are told: the message, the exit code, never a secret.

use crate::BINARY;
use crate::harness::postgres::PASSWORD;
use crate::harness::relay::Plan;
use crate::harness::{Postgres, STREAM, Stream, World, eventually};
use crate::writers::{insert, record, truth};

/// The relay must end with `code` and have said `words`.
fn refused(plan: &Plan, code: i32, words: &[&str]) {
    let mut relay = plan.spawn();
    let ended = relay.exit_code();
    // Inside JSON quotes are escaped.
    let said = relay.output().replace("\\\"", "\"");
    assert_eq!(ended, code, "{said}");
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
    let world = World::start(BINARY).await;
    let plan = world.relay(BINARY);
    let url = |user, password, database| url_of(&world.postgres, user, password, database);
    let with = |url: String| plan.clone().set("database_url", &url);
    refused(
        &with(url("postgres", "wrong", "postgres")),
        1,
        &["password authentication failed", "28P01", "hint"],
    );
    refused(
        &with(url("postgres", PASSWORD, "nowhere")),
        1,
        &["\"nowhere\" does not exist", "3D000"],
    );
    world.postgres.run("CREATE ROLE plain LOGIN PASSWORD 'plain-secret'").await;
    refused(&with(url("plain", "plain-secret", "postgres")), 1, &["no REPLICATION", "ALTER ROLE"]);
    world.postgres.run("ALTER ROLE plain REPLICATION").await;
    refused(
        &with(url("plain", "plain-secret", "postgres")),
        1,
        &["may not do that on table identity.outbox", "GRANT"],
    );
}

#[tokio::test]
async fn a_server_that_cannot_serve_ends_with_the_setting_to_change() {
    let world = World::bare(&["wal_level=replica"], &[]).await;
    refused(&world.relay(BINARY), 1, &["wal_level = replica", "wal_level = logical"]);
    let setup = world.relay(BINARY).command("setup");
    assert_eq!(setup.code(), 1);
    let world = World::bare(&["max_replication_slots=1"], &[]).await;
    world.postgres.run("SELECT pg_create_physical_replication_slot('taken')").await;
    let setup = world.relay(BINARY).command("setup");
    assert_eq!(setup.code(), 1);
    assert!(setup.text().contains("max_replication_slots"), "{}", setup.text());
}

#[tokio::test]
async fn what_is_missing_is_named_with_the_way_to_make_it() {
    let world = World::bare(&[], &[]).await;
    let plan = world.relay(BINARY);
    refused(&plan, 1, &["identity.outbox does not exist", "walrelay setup"]);
    plan.command("setup").success();
    world.postgres.run("ALTER TABLE identity.outbox DROP COLUMN payload").await;
    refused(&plan, 1, &["lacks the column payload"]);
    world
        .postgres
        .run("ALTER TABLE identity.outbox ADD COLUMN payload jsonb, DROP COLUMN published")
        .await;
    refused(&plan, 1, &["after_publish = mark", "lacks the column published", "walrelay setup"]);
    plan.command("setup").success();
    let strict = plan.clone().set("auto_create", "false");
    refused(
        &strict.clone().set("slot_name", "other"),
        1,
        &["replication slot \"other\" does not exist"],
    );
    refused(&strict.set("publication_name", "other"), 1, &["publication \"other\" does not exist"]);
}

#[tokio::test]
async fn a_publication_that_hides_events_is_refused() {
    let world = World::start(BINARY).await;
    let plan = world.relay(BINARY);
    world.postgres.run("ALTER PUBLICATION walrelay SET (publish = 'update')").await;
    refused(&plan, 1, &["does not publish INSERTs", "SET (publish = 'insert')"]);
    let other = "ALTER PUBLICATION walrelay SET (publish = 'insert'); CREATE TABLE other (id int); \
                 ALTER PUBLICATION walrelay SET TABLE other";
    world.postgres.run(other).await;
    refused(&plan, 1, &["does not cover table identity.outbox", "ADD TABLE"]);
    world
        .postgres
        .run("ALTER PUBLICATION walrelay SET TABLE identity.outbox WHERE (event_type <> 'x')")
        .await;
    let relay = plan.start().await;
    assert!(relay.output().contains("row filter"), "{}", relay.output());
}

#[tokio::test]
async fn a_slot_that_is_not_ours_is_refused() {
    let world = World::start(BINARY).await;
    record(&world.postgres).await;
    let plan = world.relay(BINARY).set("slot_name", "truth");
    refused(&plan, 1, &["another plugin: test_decoding"]);
    assert_eq!(plan.command("setup").code(), 1);
    world.postgres.run("CREATE DATABASE other").await;
    let elsewhere = url_of(&world.postgres, "postgres", PASSWORD, "other");
    let plan = world.relay(BINARY).set("database_url", &elsewhere);
    let setup = plan.command("setup");
    assert_eq!(setup.code(), 1);
    assert!(setup.text().contains("belongs to database \"postgres\""), "{}", setup.text());
}

#[tokio::test]
async fn a_redis_that_cannot_be_used_ends_with_the_reason() {
    let world = World::with(BINARY, &[], &["requirepass letmein"]).await;
    let plan = world.relay(BINARY);
    refused(&plan, 1, &["NOAUTH", "redis_url"]);
    let port = world.redis.port();
    let with = |password: &str| {
        plan.clone().set("redis_url", &format!("redis://:{password}@127.0.0.1:{port}"))
    };
    refused(&with("wrong"), 1, &["redis_url"]);
    let relay = with("letmein").start().await;
    assert!(!relay.output().contains("letmein"));
    drop(relay);
    let world = World::with(BINARY, &[], &["appendonly no"]).await;
    refused(&world.relay(BINARY), 1, &["appendonly", "durability = memory"]);
    world.relay(BINARY).set("durability", "memory").start().await;
}

#[tokio::test]
async fn a_key_of_the_wrong_type_stops_the_line_and_names_the_stream() {
    let world = World::start(BINARY).await;
    world.redis.run("SET wrong text").await;
    let mut relay = world.relay(BINARY).start().await;
    let client = world.postgres.client().await;
    insert(&client, 10).await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic) \
               VALUES ('E', gen_random_uuid(), '\"secret payload\"', 'wrong')";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(relay.exit_code(), 1);
    let said = relay.output().replace("\\\"", "\"");
    assert!(said.contains("WRONGTYPE") && said.contains("\"wrong\""), "{said}");
    assert!(!said.contains("secret payload"));
    // Somebody mends it: nothing is lost.
    world.redis.run("DEL wrong").await;
    let _relay = world.relay(BINARY).start().await;
    Stream::open(&world.redis, "wrong").await.reaches(1).await;
    Stream::open(&world.redis, STREAM).await.reaches(10).await;
    assert_eq!(Stream::open(&world.redis, STREAM).await.len().await, 10);
}

#[tokio::test]
async fn a_row_that_is_no_event_stops_the_line_behind_all_before_it() {
    let world = World::start(BINARY).await;
    world
        .postgres
        .run("ALTER TABLE identity.outbox DROP CONSTRAINT outbox_topic_is_not_empty")
        .await;
    record(&world.postgres).await;
    let plan = world.relay(BINARY).set("max_event_bytes", "100KiB");
    let mut relay = plan.start().await;
    let client = world.postgres.client().await;
    insert(&client, 100).await;
    let expected = truth(&world.postgres).await;
    let sql = "INSERT INTO identity.outbox (event_type, aggregate_id, payload) \
               VALUES ('E', gen_random_uuid(), to_jsonb(repeat('x', 200000)))";
    client.batch_execute(sql).await.unwrap();
    insert(&client, 10).await;
    assert_eq!(relay.exit_code(), 1);
    let said = relay.output();
    assert!(
        said.contains("row id=101 of identity.outbox") && said.contains("max_event_bytes"),
        "{said}"
    );
    let mut stream = Stream::open(&world.redis, STREAM).await;
    stream.holds_exactly(&expected).await;
    // A larger limit is all it needs.
    let _relay = world.relay(BINARY).start().await;
    let expected = truth(&world.postgres).await;
    stream.holds_exactly(&expected).await;
}

#[tokio::test]
async fn a_wrong_setting_ends_before_any_server_is_asked() {
    let plan = Plan::new(BINARY, "postgresql://a:hunter2@127.0.0.1:1/d", "redis://127.0.0.1:1");
    refused(
        &plan.clone().set("batchsize", "1"),
        2,
        &["unknown setting", "did you mean RELAY_BATCH_SIZE"],
    );
    refused(
        &plan.clone().set("durability", "disk"),
        2,
        &["durability = \"disk\"", "memory, fsync"],
    );
    refused(&plan.clone().set("database_url", "mysql://a:hunter2@h/d"), 2, &["database_url"]);
    refused(&plan.clone().unset("redis_url"), 2, &["redis_url is not set"]);
    assert_eq!(plan.command("run --nonsense").code(), 2);
    assert_eq!(plan.command("").code(), 2);
}

#[tokio::test]
async fn config_shows_every_value_and_its_origin_and_hides_secrets() {
    let plan = Plan::new(BINARY, "postgresql+asyncpg://a:hunter2@h/d", "redis://:hunter2@h");
    let shown =
        plan.clone().set("batch_size", "99").command("config --set slot_name=mine").success();
    let line = |name: &str| {
        let text = shown.stdout();
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
    assert!(!shown.text().contains("hunter2"));
    let json = plan.command("config --json").success();
    let json: serde_json::Value = serde_json::from_str(&json.stdout()).unwrap();
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
    let plan = world.relay(BINARY);
    let first = plan.command("setup --role relay").success();
    assert!(first.stdout().contains("added"), "{}", first.stdout());
    assert_eq!(world.postgres.text(file).await, before, "the table was rewritten");
    let second = plan.command("setup --role relay").success();
    assert!(
        !second.stdout().contains("added") && !second.stdout().contains("created"),
        "{}",
        second.stdout()
    );
    // The role it made is enough to run.
    world.postgres.run("ALTER ROLE relay PASSWORD 'relay-secret'").await;
    let url = url_of(&world.postgres, "relay", "relay-secret", "postgres");
    let _relay = plan.set("database_url", &url).start().await;
    insert(&world.postgres.client().await, 5).await;
    Stream::open(&world.redis, STREAM).await.reaches(5).await;
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
    let plan = world.relay(BINARY).set("publication_name", "it's \"quoted\"");
    let nowhere = plan.clone().set("database_url", "postgresql://a@127.0.0.1:1/d");
    let script = nowhere.command("setup --print --role relay").success().stdout();
    let psql = std::process::Command::new(crate::harness::postgres::bin_folder().join("psql"))
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
    let said = plan.command("setup --role relay").success();
    assert!(
        !said.stdout().contains("created") && !said.stdout().contains("added"),
        "{}",
        said.stdout()
    );
    let _relay = plan.start().await;
    insert(&world.postgres.client().await, 5).await;
    Stream::open(&world.redis, STREAM).await.reaches(5).await;
}

#[tokio::test]
async fn health_and_the_pages_say_how_it_is() {
    let world = World::start(BINARY).await;
    let plan = world.relay(BINARY);
    assert_eq!(plan.command("health").code(), 1, "nothing runs yet");
    let mut relay = plan.start().await;
    assert_eq!(plan.command("health").success().stdout(), "streaming\n");
    assert_eq!(relay.get("/livez").unwrap(), (200, "ok\n".to_owned()));
    insert(&world.postgres.client().await, 5).await;
    Stream::open(&world.redis, STREAM).await.reaches(5).await;
    eventually("the page counts", async || {
        let (code, page) = relay.get("/metrics").unwrap();
        assert_eq!(code, 200);
        if page.contains("walrelay_events_published_total 5") { Ok(()) } else { Err(page) }
    })
    .await;
    assert_eq!(relay.get("/nowhere").unwrap().0, 404);
    let second = plan.spawn().exit_code();
    assert_eq!(second, 1, "the port is taken");
    assert_eq!(relay.stop(), 0);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let world = World::start(BINARY).await;
    let plan = world.relay(BINARY).set("shutdown_grace", "1h");
    let mut relay = plan.start().await;
    // A locked row keeps the drain from ending.
    let client = world.postgres.client().await;
    insert(&client, 1).await;
    client.batch_execute("BEGIN; SELECT FROM identity.outbox FOR UPDATE").await.unwrap();
    Stream::open(&world.redis, STREAM).await.reaches(1).await;
    relay.signal("TERM");
    relay.becomes("draining").await;
    relay.signal("INT");
    assert_eq!(relay.exit_code(), 130);
}
