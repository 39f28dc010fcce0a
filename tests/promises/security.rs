//! Who may look and who may act: encrypted wires, least privilege, and secrets that stay secret.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::harness::postgres::{PASSWORD, give_away};
use crate::harness::redis::Redis;
use crate::harness::relay::Settings;
use crate::harness::wait;
use crate::harness::world::{STREAM, World, insert, insert_many};

/// A certificate authority, and a server certificate of it for 127.0.0.1, as files.
struct Certificates {
    home: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("walrelay-tls-").tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let names = vec![Ipv4Addr::LOCALHOST.to_string()];
        let server = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let this = Self { home };
        give_away(this.home.path());
        this.write("ca.pem", &authority.pem(), 0o644);
        this.write("server.pem", &server.pem(), 0o644);
        // PostgreSQL refuses a key that others can read.
        this.write("server.key", &key.serialize_pem(), 0o600);
        this
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        give_away(&path);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn tls_world(certificates: &Certificates) -> World {
    let (cert, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let tls = [("ssl", "on"), ("ssl_cert_file", text(&cert)), ("ssl_key_file", text(&key))];
    World::with(&tls, &[]).await
}

#[tokio::test]
async fn both_connections_to_postgres_are_encrypted_and_checked_when_asked() {
    let certificates = Certificates::new();
    let world = tls_world(&certificates).await;
    let ca = certificates.path("ca.pem");
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", world.postgres.url(), text(&ca));
    let settings = world.settings.clone().with("database_url", &url);
    let mut relay = settings.start_ready().await;
    let client = world.postgres.client().await;
    insert(&client, 1).await.unwrap();
    world.assert_all_published().await;
    let query = "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl
                 JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'walrelay%'";
    let row = client.query_one(query, &[]).await.unwrap();
    let (all, encrypted): (i64, i64) = (row.get(0), row.get(1));
    assert!(all >= 2, "a connection for SQL and one for the WAL: {all}");
    assert_eq!(encrypted, all, "connections that are encrypted");
    relay.drain().await;
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_is_refused() {
    let certificates = Certificates::new();
    let world = tls_world(&certificates).await;
    let other = Certificates::new();
    let wrong = format!("sslmode=verify-full&sslrootcert={}", text(&other.path("ca.pem")));
    for parameters in [wrong.as_str(), "sslmode=require", "sslmode=verify-ca"] {
        let url = format!("{}?{parameters}", world.postgres.url());
        assert_complains(&world.settings.clone().with("database_url", &url), "certificate").await;
    }
}

#[tokio::test]
async fn channel_binding_can_be_required() {
    let certificates = Certificates::new();
    let world = tls_world(&certificates).await;
    let url = format!("{}?sslmode=no-verify&channel_binding=require", world.postgres.url());
    world.assert_relays(&world.settings.clone().with("database_url", &url)).await;
    let url = format!("{}?sslmode=disable&channel_binding=require", world.postgres.url());
    assert_complains(&world.settings.clone().with("database_url", &url), "channel binding").await;
}

/// The relay goes on trying, for certificates are renewed, and says what is wrong.
async fn assert_complains(settings: &Settings, of: &str) {
    let mut relay = settings.start();
    let said = wait::until("the relay complains", wait::PATIENCE, async || {
        let output = relay.output();
        output.contains(of).then_some(output)
    })
    .await;
    assert!(!said.contains(PASSWORD), "{said}");
    relay.kill9();
}

#[tokio::test]
async fn a_server_without_tls_is_refused_when_tls_is_asked_for() {
    let world = World::new().await;
    let url = format!("{}?sslmode=no-verify", world.postgres.url());
    let settings = world.settings.clone().with("database_url", &url);
    assert_complains(&settings, "does not support TLS").await;
}

#[tokio::test]
async fn a_unix_socket_is_a_way_too() {
    let world = World::new().await;
    let settings = world.settings.clone().with("database_url", &world.postgres.socket_url());
    world.assert_relays(&settings).await;
}

#[tokio::test]
async fn redis_is_reached_by_tls_and_its_certificate_is_checked() {
    let certificates = Certificates::new();
    let world = World::new().await;
    let (cert, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let ca = certificates.path("ca.pem");
    let port = wait::free_port().to_string();
    let redis = Redis::start_with(&[
        ("tls-port", &port),
        ("tls-cert-file", text(&cert)),
        ("tls-key-file", text(&key)),
        ("tls-ca-cert-file", text(&ca)),
        ("tls-auth-clients", "no"),
    ])
    .await;
    let settings =
        world.settings.clone().with("redis_url", &format!("rediss://127.0.0.1:{port}/0"));
    assert_complains(&settings, "certificate").await;
    let mut relay = settings.with_variable("SSL_CERT_FILE", text(&ca)).start_ready().await;
    insert(&world.postgres.client().await, 1).await.unwrap();
    crate::harness::consumer::Consumer::new(&redis.url(), STREAM).until_len(1).await;
    relay.drain().await;
}

/// The README's line is what people paste: it must be enough, and name nothing by accident.
#[tokio::test]
async fn the_redis_user_of_the_readme_is_enough_to_run() {
    let world = World::new().await;
    let readme = include_str!("../../README.md");
    let line = readme.lines().find(|line| line.starts_with("ACL SETUSER walrelay ")).unwrap();
    let password = "redis-Secret-43bb";
    world.redis.run(&line.replace("PASSWORD", password)).await;
    let url = format!("redis://walrelay:{password}@127.0.0.1:{}/0", world.redis.port());
    let mut relay = world.settings.clone().with("redis_url", &url).start_ready().await;
    insert_many(&world.postgres.client().await, 1, 100).await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    world.redis.run("SCRIPT FLUSH").await;
    insert_many(&world.postgres.client().await, 101, 200).await.unwrap();
    world.assert_all_published().await;
    let output = relay.output();
    assert!(output.contains("Redis 7") || output.contains("Valkey"), "facts are read: {output}");
    relay.drain().await;
    let mut denied = world.redis.connection().await;
    let log: Vec<redis::Value> =
        redis::cmd("ACL").arg("LOG").query_async(&mut denied).await.unwrap();
    assert!(log.is_empty(), "something was denied: {log:?}");
}

#[tokio::test]
async fn the_role_that_setup_makes_is_enough_to_run() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let with_role = world.settings.clone().with_arguments(&["--role", "relay"]);
    with_role.setup().await;
    world.postgres.run(&format!("ALTER ROLE relay PASSWORD '{PASSWORD}'")).await;
    let settings = world.settings.clone();
    let settings = settings.with("database_url", &world.postgres.url_of("relay", PASSWORD));
    let mut relay = settings.start_ready().await;
    insert_many(&client, 1, 100).await.unwrap();
    world.assert_all_published().await;
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_secret_can_come_from_a_file_and_is_never_printed() {
    let world = World::new().await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("url");
    std::fs::write(&file, format!("{}\n", world.postgres.url())).unwrap();
    let settings = world.settings.clone().without("database_url");
    let settings = settings.with_variable("RELAY_DATABASE_URL_FILE", file.to_str().unwrap());
    for subcommand in ["config", "setup"] {
        let done = settings.finish(subcommand).await;
        assert_eq!(done.code, Some(0), "{}", done.output);
        assert!(!done.output.contains(PASSWORD), "{}", done.output);
    }
    let mut relay = settings.clone().with("log_level", "trace").start_ready().await;
    insert(&world.postgres.client().await, 1).await.unwrap();
    world.assert_all_published().await;
    let status = relay.status().await.to_string();
    relay.drain().await;
    assert!(!relay.output().contains(PASSWORD), "the log tells the password");
    assert!(!status.contains(PASSWORD), "{status}");
}

/// A row that PostgreSQL quotes in an error, a trigger prints in one or in a notice.
#[tokio::test]
async fn a_row_that_cannot_be_marked_is_not_printed() {
    const SECRET: &str = "4711-0815";
    let trigger = |body: &str| {
        format!(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
             CREATE TRIGGER tell BEFORE UPDATE ON identity.outbox
             FOR EACH ROW EXECUTE FUNCTION tell()"
        )
    };
    let constraint = "ALTER TABLE identity.outbox ADD CONSTRAINT never CHECK (NOT published)";
    let cases = [
        (constraint.to_owned(), "constraint \\\"never\\\" of table identity.outbox"),
        (trigger("RAISE EXCEPTION 'no: %', NEW;"), "see the server's log"),
        (trigger("RAISE WARNING 'no: %', NEW; RETURN NEW;"), "streaming"),
    ];
    for (obstacle, says) in cases {
        let world = World::new().await;
        world.postgres.run(&obstacle).await;
        let insert = format!(
            "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
             VALUES ('UserCreated', gen_random_uuid(), '{{\"n\": 1, \"card\": \"{SECRET}\"}}')"
        );
        world.postgres.run(&insert).await;
        let mut relay = world.settings.clone().with("log_level", "trace").start();
        relay.until_output(says).await;
        wait::until("PostgreSQL tells the row", wait::PATIENCE, async || {
            world.postgres.log().contains(SECRET).then_some(())
        })
        .await;
        if relay.running() {
            if let Some((_, page)) = relay.get("/status").await {
                assert!(!page.contains(SECRET), "{page}");
            }
            relay.kill9();
        }
        assert!(!relay.output().contains(SECRET), "{}", relay.output());
    }
}
