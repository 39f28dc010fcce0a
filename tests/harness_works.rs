//! The test harness keeps its own promises: servers start, come back on the same port with the same
//! data, and leave nothing behind.
mod harness;

use std::path::Path;
use std::process::Command;

use harness::consumer::Consumer;
use harness::ledger::Ledger;
use harness::postgres::{Postgres, Stop};
use harness::process::Process;
use harness::proxy::Proxy;
use harness::redis::Redis;
use harness::wait::{self, PATIENCE};

#[tokio::test]
async fn postgres_comes_back_on_the_same_port_with_its_data() {
    let mut postgres = Postgres::start().await;
    let port = postgres.port();
    let client = postgres.client().await;
    client.batch_execute("CREATE TABLE t AS SELECT 1 AS n").await.unwrap();
    postgres.stop(Stop::Fast).await;
    postgres.restart().await;
    postgres.stop(Stop::Immediate).await;
    postgres.restart().await;
    postgres.kill9();
    postgres.restart().await;
    assert_eq!(postgres.port(), port);
    let client = postgres.client().await;
    let level: String = client.query_one("SHOW wal_level", &[]).await.unwrap().get(0);
    assert_eq!(level, "logical");
    assert_eq!(client.query_one("SELECT n FROM t", &[]).await.unwrap().get::<_, i32>(0), 1);
}

#[tokio::test]
async fn postgres_asks_for_its_password_over_tcp() {
    let postgres = Postgres::start().await;
    let connect = async |url: String| tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
    assert!(connect(postgres.url()).await.is_ok());
    assert!(connect(postgres.url_of("postgres", "wrong")).await.is_err());
}

#[tokio::test]
async fn redis_comes_back_on_the_same_port_with_its_data() {
    let mut redis = Redis::start().await;
    let mut connection = redis.connection().await;
    let mut add = redis::cmd("XADD");
    add.arg("s").arg("*").arg("event_id").arg("a");
    add.query_async::<String>(&mut connection).await.unwrap();
    redis.kill9();
    redis.restart().await;
    redis.stop().await;
    redis.restart().await;
    let entries = Consumer::new(&redis.url(), "s").read(1).await;
    Ledger::new(vec!["a".to_owned()]).assert_exactly_once(&entries);
}

#[tokio::test]
async fn redis_that_loses_power_keeps_what_it_had_synced() {
    let mut redis = Redis::start_with_power_loss(&[("appendfsync", "always")]).await;
    redis.run("XADD s * event_id a").await;
    assert_eq!(redis.power_loss(), 0);
    redis.set("appendfsync", "no");
    redis.restart().await;
    redis.run("XADD s * event_id b").await;
    redis.kill9();
    redis.restart().await;
    assert_eq!(Consumer::new(&redis.url(), "s").read_all().await.len(), 2, "SIGKILL takes nothing");
    assert!(redis.power_loss() > 0);
    redis.restart().await;
    let entries = Consumer::new(&redis.url(), "s").read_all().await;
    Ledger::new(vec!["a".to_owned()]).assert_exactly_once(&entries);
}

#[tokio::test]
async fn the_judge_sees_what_is_lost_doubled_and_out_of_order() {
    let ledger = Ledger::new(["a", "b", "c"].map(str::to_owned).to_vec());
    assert_eq!(ledger.fault(&["a", "b", "c"]), None);
    assert!(ledger.fault(&["a", "c"]).unwrap().contains("1 lost, 0 doubled"));
    assert!(ledger.fault(&["a", "b", "b", "c"]).unwrap().contains("0 lost, 1 doubled"));
    assert!(ledger.fault(&["a", "c", "b"]).unwrap().contains("difference is at 1"));
    assert!(ledger.fault(&["a", "b", "c", "x"]).unwrap().contains("1 of nobody's"));
}

#[tokio::test]
async fn a_wire_can_be_cut_held_and_mended() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port());
    let url = redis.url_at(proxy.port());
    let mut connection = harness::redis::try_connection(&url).await.unwrap();
    proxy.hold_replies();
    let mut incr = redis::cmd("INCR");
    incr.arg("n");
    let asked = tokio::spawn(async move { incr.query_async::<i64>(&mut connection).await });
    let mut direct = redis.connection().await;
    wait::until_equal("the request got through", Some(1), PATIENCE, async || {
        redis::cmd("GET").arg("n").query_async::<Option<i64>>(&mut direct).await.unwrap()
    })
    .await;
    assert!(!asked.is_finished());
    proxy.cut_and_refuse();
    assert!(asked.await.unwrap().is_err());
    assert!(harness::redis::try_connection(&url).await.is_none());
    proxy.mend();
    assert!(harness::redis::try_connection(&url).await.is_some());
}

/// Not a test of its own: what the next one kills.
#[tokio::test]
#[ignore = "runs for ever; the test below starts and kills it"]
async fn victim() {
    let postgres = Postgres::start().await;
    let redis = Redis::start().await;
    let file = std::env::var("WALRELAY_VICTIM").unwrap();
    let ports = format!("{} {}", postgres.port(), redis.port());
    std::fs::write(format!("{file}.new"), ports).unwrap();
    std::fs::rename(format!("{file}.new"), file).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn servers_end_with_a_test_that_is_killed() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("ports");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "victim", "--ignored", "--nocapture"]);
    command.env("WALRELAY_VICTIM", &file).env("TMPDIR", home.path());
    let log = home.path().join("log");
    let mut victim = Process::spawn("victim", &mut command, &log, Path::new("/nonexistent"));
    let ports =
        wait::until("the victim's servers", PATIENCE, async || std::fs::read_to_string(&file).ok())
            .await;
    let ports: Vec<u16> = ports.split(' ').map(|port| port.parse().unwrap()).collect();
    assert!(ports.iter().all(|&port| listens(port)));
    // Itself only: whoever kills a test with SIGKILL does not know its children.
    victim.signal("KILL");
    wait::until("both servers' end", PATIENCE, async || {
        ports.iter().all(|&port| !listens(port)).then_some(())
    })
    .await;
    wait::until("their directories' removal", PATIENCE, async || {
        let left = std::fs::read_dir(home.path()).unwrap().flatten();
        let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("walrelay"));
        (left.count() == 0).then_some(())
    })
    .await;
}

#[test]
fn a_port_is_nobody_elses_while_the_test_that_has_it_lives() {
    let port = wait::free_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    drop(listener);
    // What another process would have to get first.
    let held = std::net::UdpSocket::bind(("127.0.0.1", port));
    assert!(held.is_err(), "port {port} is to be had again");
}

fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn an_append_only_file_is_cut_back_to_before_a_torn_transaction_and_no_further() {
    let home = tempfile::tempdir().expect("temp dir");
    let file = home.path().join("appendonly.aof.1.incr.aof");
    let command = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|w| format!("${}\r\n{w}\r\n", w.len())).collect();
        format!("*{}\r\n{}", words.len(), words.concat())
    };
    let sound = [command(&["multi"]), command(&["SET", "a", "b"]), command(&["EXEC"])].concat();
    let torn =
        [command(&["MULTI"]), command(&["SET", "a", "EXEC"]), "*1\r\n$4\r\nEX".into()].concat();
    for (written, kept) in [
        (sound.clone() + &torn, sound.len()),
        (sound.clone() + &sound, 2 * sound.len()),
        (sound.clone() + "*3\r\n$3\r\nSE", sound.len() + 10),
    ] {
        std::fs::write(&file, &written).expect("a file");
        harness::aof::mend(home.path());
        assert_eq!(std::fs::read(&file).expect("the file").len(), kept, "{written:?}");
    }
}
