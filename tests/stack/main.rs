//! The containers as they are shipped, on a real engine: docker-compose.yml and
//! docker/compose.sidecar.yml bring a relay up that is locked in, heals, and goes when it is told.
//!
//! In: an engine with the images that the files name (`make stack` sees to both). Out: a verdict,
//! and nothing left but layers; where there is no engine it says SKIPPED. Not here: what needs no
//! engine (compose.rs); what the relay promises wherever it runs (promises).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

mod engine;
mod project;
#[path = "../harness/wait.rs"]
#[allow(dead_code, reason = "shared with tests that use all of it")]
mod wait;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use engine::{Engine, POSTGRES, REDIS};
use project::{Container, PATIENCE, Project};

const STREAM: &str = "identity.user.v1";

/// Somebody's project, as the sidecar file takes it to be.
const SOMEBODYS: &str = "services:
  postgres:
    image: POSTGRES
    command: [postgres, -c, wal_level=logical]
    environment: {POSTGRES_HOST_AUTH_METHOD: trust}
  redis:
    image: REDIS
    command: [redis-server, --appendonly, 'yes', --maxmemory-policy, noeviction]
";

/// An event of another table: it makes the relay look, and is nobody's.
const ELSEWHERE: &str = "INSERT INTO identity.mislaid (event_type, aggregate_id, payload)
    VALUES ('Numbered', gen_random_uuid(), '{\"n\": 0}')";

/// Containers that relay, and how many events they were given.
struct Stack {
    relay: Container,
    redis: Container,
    postgres: Container,
    database: &'static str,
    inserted: i64,
}

impl Stack {
    fn new(project: &Project, relay: &str, database: &'static str) -> Self {
        let [relay, redis, postgres] =
            [relay, "redis", "postgres"].map(|service| project.container(service));
        Self { relay, redis, postgres, database, inserted: 0 }
    }

    fn psql(&self, statement: &str) -> Result<String, String> {
        let psql = ["psql", "--quiet", "--username=postgres", "--dbname", self.database];
        self.postgres.exec(&[&psql[..], &["--command", statement]].concat())
    }

    /// Commits so many more events, each with its number.
    fn insert(&mut self, count: i64) {
        let (first, last) = (self.inserted + 1, self.inserted + count);
        let statement = format!(
            "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
             SELECT 'Numbered', gen_random_uuid(), json_build_object('n', n)
             FROM generate_series({first}, {last}) AS n ORDER BY n"
        );
        self.psql(&statement).unwrap();
        self.inserted = last;
    }

    /// The numbers in the stream, in its order; none while Redis is away.
    fn numbers(&self) -> Option<Vec<i64>> {
        let entries = self.redis.exec(&["redis-cli", "XRANGE", STREAM, "-", "+"]).ok()?;
        let mut lines = entries.lines();
        let mut numbers = Vec::new();
        while lines.any(|line| line == "payload") {
            let digits = |letter: &char| letter.is_ascii_digit();
            let number: String = lines.next()?.chars().filter(digits).collect();
            numbers.push(number.parse().ok()?);
        }
        Some(numbers)
    }

    /// Awaits every event in the stream: each once, in the order of commit.
    async fn until_published(&self) {
        let wanted: Vec<i64> = (1..=self.inserted).collect();
        let seen = wait::until("as many entries as events", PATIENCE, async || {
            self.numbers().filter(|seen| seen.len() >= wanted.len())
        });
        assert_eq!(seen.await, wanted);
    }

    /// What the kernel says of the process: who it is, what it may do, where it may write.
    fn assert_locked_in(&self) {
        let status = self.relay.proc("status");
        let is = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(is("Uid:"), "65532 65532 65532 65532");
        assert_eq!(is("Gid:"), "65532 65532 65532 65532");
        for capabilities in ["CapEff:", "CapPrm:", "CapBnd:"] {
            assert_eq!(is(capabilities), "0000000000000000", "{capabilities}");
        }
        assert_eq!(is("NoNewPrivs:"), "1");
        let mounts = self.relay.proc("mountinfo");
        let root = mounts.lines().find_map(|line| line.split_once(" / / ")).expect("a root");
        assert!(root.1.starts_with("ro,"), "the root file system is writable: {root:?}");
        self.relay.exec(&["walrelay", "health"]).expect("the binary asks by itself");
        self.relay.exec(&["sh", "-c", ":"]).expect_err("a shell in the image");
    }

    /// SIGTERM, and it ends by itself: 137 would be the engine's SIGKILL after the grace.
    fn assert_stops(&mut self, project: &Project, service: &str) {
        project.compose(&["stop", service]);
        assert_eq!(self.relay.fact(".State.ExitCode"), "0", "of a relay that is stopped");
        self.insert(5);
    }

    /// Back after a stop, with what was committed meanwhile.
    async fn assert_starts(&self) {
        self.relay.tell(&["start"]);
        self.until_published().await;
        self.relay.until_health("healthy").await;
    }
}

/// The project of docker-compose.yml as it stands, on a port of its own.
fn shipped(engine: Engine, port: u16) -> Project {
    let environment = [("WALRELAY_PORT", port.to_string())];
    Project::new(
        engine,
        Path::new(env!("CARGO_MANIFEST_DIR")),
        &["docker-compose.yml"],
        &environment,
    )
}

/// The body of a page of the relay, from this host.
fn page(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the published port");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn the_compose_file_gives_each_event_once_through_kills_freezes_restarts_and_stops() {
    let Some(engine) = Engine::at_hand() else { return };
    let port = wait::free_port();
    let project = shipped(engine, port);
    project.compose(&["up", "--build", "--detach", "relay"]);
    let mut stack = Stack::new(&project, "relay", "app");
    stack.relay.until_health("healthy").await;
    stack.assert_locked_in();
    assert_eq!(stack.relay.tell(&["port"]).trim(), format!("8080/tcp -> 127.0.0.1:{port}"));
    let status = page(port, "/status");
    assert!(status.contains("\"state\": \"streaming\""), "{status}");
    stack.insert(20);
    stack.until_published().await;

    for (victim, hurt, heal) in [
        ("relay", "kill", "start"),
        ("redis", "kill", "start"),
        ("postgres", "kill", "start"),
        ("relay", "pause", "unpause"),
        ("redis", "pause", "unpause"),
        ("postgres", "pause", "unpause"),
    ] {
        let container = project.container(victim);
        // Some are on their way when it strikes, some come meanwhile.
        stack.insert(50);
        container.tell(&[hurt]);
        if victim != "postgres" {
            stack.insert(50);
        }
        if (victim, hurt) == ("redis", "kill") {
            stack.relay.until_health("unhealthy").await;
        }
        container.tell(&[heal]);
        if victim == "postgres" {
            container.until_health("healthy").await;
            stack.insert(50);
        }
        stack.until_published().await;
        stack.relay.until_health("healthy").await;
    }
    assert_eq!(stack.relay.fact(".RestartCount"), "0", "it heals by itself");

    // What no relay can heal ends it: the engine starts it again until it is mended.
    stack.psql("ALTER TABLE identity.outbox RENAME TO mislaid").unwrap();
    stack.psql(ELSEWHERE).unwrap();
    wait::until("the engine starts it again", PATIENCE, async || {
        (stack.relay.fact(".RestartCount").parse::<u32>().unwrap() >= 2).then_some(())
    })
    .await;
    stack.psql("ALTER TABLE identity.mislaid RENAME TO outbox").unwrap();
    stack.until_published().await;
    stack.relay.until_health("healthy").await;

    stack.insert(500);
    stack.assert_stops(&project, "relay");
    stack.assert_starts().await;
    // The longest way out: it has events on their way to somebody who does not answer.
    stack.redis.tell(&["pause"]);
    stack.insert(500);
    stack.assert_stops(&project, "relay");
    stack.redis.tell(&["unpause"]);
    stack.assert_starts().await;
    project.down();
}

#[tokio::test]
async fn the_demo_profile_shows_each_event_of_its_producer_as_it_arrives() {
    let Some(engine) = Engine::at_hand() else { return };
    let project = shipped(engine, wait::free_port());
    project.compose(&["--profile", "demo", "up", "--build", "--detach"]);
    let [producer, tail, redis] =
        ["producer", "tail", "redis"].map(|service| project.container(service));
    let shown = wait::until("ten events in the log of tail", PATIENCE, async || {
        let log = tail.tell(&["logs"]);
        let lines = log.lines().filter(|line| line.contains("UserUpdated")).map(str::to_owned);
        Some(lines.collect::<Vec<_>>()).filter(|lines| lines.len() >= 10)
    });
    let shown = shown.await;
    let once: HashSet<&String> = shown.iter().collect();
    assert_eq!(once.len(), shown.len(), "each once: {shown:?}");
    let entries = redis.exec(&["redis-cli", "XLEN", STREAM]).unwrap();
    assert!(entries.trim().parse::<usize>().unwrap() >= shown.len(), "{entries}");
    project.compose(&["--profile", "demo", "stop", "producer", "tail"]);
    assert_eq!(producer.fact(".State.ExitCode"), "0", "of a producer that is stopped");
    assert_eq!(tail.fact(".State.ExitCode"), "0", "of a tail that is stopped");
    project.down();
}

#[tokio::test]
async fn the_sidecar_file_adds_a_relay_to_the_project_of_somebody_else() {
    let Some(engine) = Engine::at_hand() else { return };
    let builder = shipped(engine, wait::free_port());
    builder.compose(&["build", "relay"]);
    let image = engine.image_of(builder.name(), "relay");
    let home = tempfile::Builder::new().prefix("walrelay-sidecar-").tempdir().unwrap();
    let somebodys = SOMEBODYS.replace("POSTGRES\n", &format!("{POSTGRES}\n"));
    let somebodys = somebodys.replace("REDIS\n", &format!("{REDIS}\n"));
    std::fs::write(home.path().join("compose.yml"), somebodys).unwrap();
    let sidecar = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/compose.sidecar.yml");
    std::fs::copy(sidecar, home.path().join("compose.sidecar.yml")).unwrap();
    let files = ["compose.yml", "compose.sidecar.yml"];
    let project = Project::new(engine, home.path(), &files, &[("WALRELAY_IMAGE", image)]);
    project.compose(&["up", "--detach", "postgres", "redis"]);
    let postgres = project.container("postgres");
    wait::until("PostgreSQL to answer", PATIENCE, async || {
        postgres.exec(&["pg_isready", "--quiet", "--host=127.0.0.1", "--username=postgres"]).ok()
    })
    .await;

    let check = ["run", "--rm", "-T", "walrelay", "check", "--allow-warnings"];
    let missing = project.try_compose(&check).expect_err("a check that finds no table");
    assert!(missing.contains("identity.outbox"), "{missing}");
    project.compose(&["run", "--rm", "-T", "walrelay", "setup"]);
    project.compose(&check);
    project.compose(&["up", "--detach", "walrelay"]);
    let mut stack = Stack::new(&project, "walrelay", "postgres");
    stack.relay.until_health("healthy").await;
    stack.assert_locked_in();
    stack.insert(20);
    stack.until_published().await;
    stack.assert_stops(&project, "walrelay");
    stack.assert_starts().await;
    project.down();
    builder.down();
}
