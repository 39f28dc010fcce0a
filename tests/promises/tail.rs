//! `walrelay tail`: entries as they arrive, whoever wrote them and whatever Redis goes through.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use redis::cmd;
use serde_json::Value;

use crate::harness::redis::Redis;
use crate::harness::relay::{Said, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, insert_many};

/// Awaits a reader that is blocked in XREAD.
async fn until_reading(redis: &Redis) {
    wait::until("somebody waits for entries", PATIENCE, async || {
        let list: String =
            cmd("CLIENT").arg("LIST").query_async(&mut redis.connection().await).await.ok()?;
        list.contains("cmd=xread").then_some(())
    })
    .await;
}

/// The objects among what was printed.
fn objects(output: &str) -> Vec<Value> {
    let lines = output.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last number in each payload.
fn numbers(output: &str) -> Vec<i64> {
    objects(output).iter().map(|line| line["event"]["payload"]["n"].as_i64().unwrap()).collect()
}

/// A Redis alone, and settings that know nothing else.
async fn redis_alone() -> (Redis, Settings) {
    let redis = Redis::start().await;
    let settings = Settings::new("postgresql://nobody@127.0.0.1:1/nowhere", &redis.url());
    (redis, settings)
}

async fn add(redis: &Redis, stream: &str, id: &str, fields: &[(&str, &[u8])]) {
    let mut command = cmd("XADD");
    command.arg(stream).arg(id);
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    let () = command.query_async(&mut redis.connection().await).await.unwrap();
}

#[tokio::test]
async fn entries_are_printed_as_they_arrive_through_a_restart_of_redis_and_each_once() {
    let mut world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = world.settings.start_ready().await;
    insert_many(&client, 1, 3).await.unwrap();
    world.until_marked().await;
    let mut tail = world.settings.clone().with_arguments(&["--json"]).spawn("tail");
    until_reading(&world.redis).await;
    insert_many(&client, 4, 6).await.unwrap();
    tail.until_output("\"n\": 6").await;
    let first = &objects(&tail.output())[0];
    assert_eq!((&first["stream"], &first["event"]["topic"]), (&STREAM.into(), &STREAM.into()));
    assert_eq!(first["event"]["event_type"], "UserCreated");
    assert!(first["id"].is_string() && first["added_at"].as_str().unwrap().ends_with('Z'));
    assert!(first["latency_ms"].as_i64().unwrap() >= 0, "one clock: {first}");

    world.redis.stop().await;
    tail.until_output("is away").await;
    insert_many(&client, 7, 8).await.unwrap();
    world.redis.restart().await;
    tail.until_output("\"n\": 8").await;
    assert_eq!(numbers(&tail.output()), [4, 5, 6, 7, 8], "none twice, none left out");
    tail.until_output("is back").await;
    relay.drain().await;

    // Redis has lost what was printed: that is said, and lower ids are read as well.
    until_reading(&world.redis).await;
    world.redis.run(&format!("DEL {STREAM}")).await;
    world.redis.run("CLIENT KILL TYPE normal SKIPME yes").await;
    tail.until_output("has come back with less than it had: its last id is 0-0").await;
    add(&world.redis, STREAM, "5-1", &[("payload", b"{\"n\": 9}")]).await;
    tail.until_output("\"5-1\"").await;
    tail.interrupt();
    assert_eq!(tail.exit_code(PATIENCE).await, Some(0), "{}", tail.output());
}

#[tokio::test]
async fn all_formats_that_a_relay_writes_are_shown_alike() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    for (n, format) in [(1, "fields"), (2, "json"), (3, "cloudevents")] {
        let mut relay = world.settings.clone().with("entry_format", format).start_ready().await;
        insert_many(&client, n, n).await.unwrap();
        world.until_marked().await;
        relay.drain().await;
    }
    let tail = |arguments: &[&str]| world.settings.clone().with_arguments(arguments).say("tail");
    let said = tail(&["--from-start", "--count", "3", "--json"]);
    assert_eq!(numbers(&said.stdout), [1, 2, 3], "{said:?}");
    let client = world.postgres.client().await;
    for (at, line) in objects(&said.stdout).iter().enumerate() {
        let query = "SELECT event_id::text, aggregate_id::text FROM identity.outbox
                     ORDER BY id OFFSET $1 LIMIT 1";
        let row = client.query_one(query, &[&i64::try_from(at).unwrap()]).await.unwrap();
        let event = &line["event"];
        assert_eq!(event["event_id"], row.get::<_, &str>(0), "{line}");
        assert_eq!(event["aggregate_id"], row.get::<_, &str>(1), "{line}");
        assert_eq!(
            (&event["event_type"], &event["aggregate_type"]),
            (&"UserCreated".into(), &"user".into())
        );
        assert!(line["latency_ms"].as_i64().unwrap() >= 0, "{line}");
    }
    let said = tail(&["--from-start", "--count", "3"]);
    assert_eq!((said.code, said.stdout.lines().count()), (Some(0), 3), "{said:?}");
    assert!(
        said.stdout.lines().all(|line| line.contains("UserCreated") && line.contains(" ms  {"))
    );
}

fn tail(settings: &Settings, arguments: &[&str]) -> Said {
    settings.clone().with_arguments(arguments).say("tail")
}

#[tokio::test]
async fn it_begins_where_it_is_told_prints_what_is_asked_for_and_no_more() {
    let (redis, settings) = redis_alone().await;
    for n in 1..=30_u8 {
        let payload = format!("{{\"n\": {n}}}");
        let kind: &[u8] = if n % 2 == 0 { b"Even" } else { b"Odd" };
        let aggregate: &[u8] = if n % 3 == 0 { b"three" } else { b"none" };
        let id = format!("{n}-0");
        let fields =
            [("event_type", kind), ("aggregate_id", aggregate), ("payload", payload.as_bytes())];
        add(&redis, STREAM, &id, &fields).await;
    }
    add(&redis, STREAM, "*", &[("payload", b"{\"n\": 31}")]).await;
    add(&redis, "orders", "*", &[("payload", b"{\"n\": 32}")]).await;
    for (arguments, expected) in [
        (&["--from-start", "--count", "2"][..], &[1, 2][..]),
        (&["--last", "3", "--count", "3"], &[29, 30, 31]),
        (&["--last", "31", "--count", "1"], &[1]),
        (&["--last", "15", "--count", "1"], &[17]),
        (&["--last", "1000", "--count", "1"], &[1]),
        (&["--since", "1h", "--count", "1"], &[31]),
        (&["--from-start", "--type", "Even", "--count", "2"], &[2, 4]),
        (&["--from-start", "--aggregate", "three", "--type", "Odd", "--count", "2"], &[3, 9]),
        (&["--stream", "orders", "--from-start", "--count", "1"], &[32]),
        (&["--stream", "orders", "--stream", STREAM, "--last", "1", "--count", "2"], &[31, 32]),
    ] {
        let said = tail(&settings, &[arguments, &["--json"]].concat());
        assert_eq!(
            (said.code, numbers(&said.stdout)),
            (Some(0), expected.to_vec()),
            "{arguments:?}"
        );
    }
    // A reader who has seen enough is no failure: it ends with the first line that nobody reads.
    let fill = "for n = 1, 9999 do redis.call('XADD', KEYS[1], n .. '-0', 'payload', '{}') end";
    let mut fill_long = cmd("EVAL");
    fill_long.arg(fill).arg(1).arg("long");
    let () = fill_long.query_async(&mut redis.connection().await).await.unwrap();
    let binary = env!("CARGO_BIN_EXE_walrelay");
    let line = format!("{{ {binary} tail --stream long --from-start; echo $? >&2; }} | head -n 1");
    let mut command = Command::new("sh");
    command.args(["-c", &line]).env("RELAY_REDIS_URL", redis.url());
    let done = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout).lines().count(), 1);
    assert_eq!(String::from_utf8_lossy(&done.stderr), "0\n");
}

#[tokio::test]
async fn hostile_bytes_move_no_cursor_and_what_cannot_be_read_is_named() {
    let (redis, settings) = redis_alone().await;
    let hostile = b"\x1b[2J\x1b]0;title\x07\r\n\xc2\x9b31m\xff\x7f";
    let fields: &[(&str, &[u8])] =
        &[("event_type", hostile), ("payload", hostile), ("event_id", hostile)];
    add(&redis, STREAM, "1-0", fields).await;
    add(&redis, STREAM, "2-0", &[("\x1b[31m", hostile)]).await;
    for how in [&[][..], &["--full"], &["--json"]] {
        let said = tail(&settings, &[how, &["--from-start", "--count", "2"]].concat());
        assert_eq!((said.code, said.stdout.lines().count()), (Some(0), 2), "{said:?}");
        let moves = |letter: char| letter.is_control() && letter != '\n';
        assert!(!said.stdout.chars().any(moves), "{how:?}: {:?}", said.stdout);
    }
    redis.run("SET plain 1").await;
    let said = tail(&settings, &["--stream", "plain"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("WRONGTYPE") && said.stderr.contains("hint:"), "{said:?}");
    let said = tail(&settings, &["--since", "soon"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    let nowhere = settings.with("redis_url", "redis://127.0.0.1:1/0");
    let said = tail(&nowhere, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("127.0.0.1:1"), "{said:?}");
}

/// Where in the kernel a process waits.
fn waits_in(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default()
}

#[tokio::test]
async fn it_ends_when_asked_though_nobody_reads_what_it_prints() {
    let (redis, settings) = redis_alone().await;
    for number in 1..=200 {
        add(&redis, STREAM, &format!("{number}-1"), &[("payload", &[b'x'; 1_000])]).await;
    }
    let home = tempfile::tempdir().unwrap();
    let (pipe, script) = (home.path().join("pipe"), home.path().join("walrelay"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let relay = env!("CARGO_BIN_EXE_walrelay");
    let text = format!("#!/bin/sh\nexec '{relay}' \"$@\" >'{}'\n", pipe.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    // Open at both ends, so that it waits for nobody and is never broken.
    let _unread = File::options().read(true).write(true).open(&pipe).unwrap();
    let asked = settings.with_other_binary(&script).with_arguments(&["--from-start", "--json"]);
    let mut tail = asked.spawn("tail");
    // A pipe takes 64 kB, and the entries have 200.
    wait::until("it stands in a write", PATIENCE, async || {
        waits_in(tail.pid()).contains("pipe_write").then_some(())
    })
    .await;
    tail.terminate();
    assert_eq!(tail.exit_code(PATIENCE).await, Some(130));
}
