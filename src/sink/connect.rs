//! A connection to Redis, and the facts about the server that the line hangs on.
//!
//! In: redis_url. Out: a [`Sink`] with the script loaded, and [`Facts`]. The facts are read at
//! every connect, not assumed. There is no reconnecting in here: a broken or timed-out connection
//! may have lost a batch in the middle of the chain, so the caller throws the sink away and
//! restarts the line.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo};
use secrecy::{ExposeSecret, SecretString};

use super::failure::{Failure, Verdict};
use crate::error::{Error, Result};

const PUBLISH: &str = concat!(include_str!("entry.lua"), include_str!("publish.lua"));

/// What the server is.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `Redis 7.0.15` or `Valkey 8.0.1`.
    pub version: String,
    /// Whether the append-only file is on; `None` when the server does not tell.
    pub aof_enabled: Option<bool>,
    /// `always`, `everysec` or `no`; `None` when the server does not tell.
    pub appendfsync: Option<String>,
    /// Whether it does not sync while it rewrites that file.
    pub is_rewrite_unsynced: bool,
    /// The largest value that it takes.
    pub bulk_bytes_max: Option<usize>,
    /// What is thrown away when memory is full.
    pub maxmemory_policy: Option<String>,
    /// Whether it can be asked to wait for its disk: Redis 7.2 and newer, and Valkey.
    pub has_waitaof: bool,
    /// Whether WAITAOF can be believed: before Redis 8.0, and in Valkey, it may answer before the
    /// disk when the last sync is less than a second ago (<https://github.com/redis/redis/pull/13793>).
    pub is_waitaof_sound: bool,
    /// Replicas that are connected and have their first copy: one without counts for no `WAIT`.
    pub replicas: Option<u32>,
    /// Names this run of the server: another one may have forgotten what this one was told.
    pub run_id: Option<String>,
}

impl Facts {
    /// The run as a number; 0 where the server hides it.
    #[must_use]
    pub fn run(&self) -> u32 {
        let digits = self.run_id.as_deref().and_then(|id| id.get(..8));
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default()
    }
}

/// A connection to Redis. Clones share it.
#[derive(Clone)]
pub struct Sink {
    connection: MultiplexedConnection,
    publish_sha: Arc<str>,
}

impl Sink {
    /// Connects, logs in and loads the publish script; every wait has a bound.
    pub async fn connect(url: &SecretString, timeouts: Timeouts) -> Result<Self, Failure> {
        let mut connection = connect(url, timeouts).await?;
        let publish_sha = load(&mut connection, PUBLISH).await?;
        Ok(Self { connection, publish_sha })
    }

    /// Connects and logs in, and leaves nothing behind: not even a script. It cannot publish.
    pub async fn connect_to_look(url: &SecretString, timeouts: Timeouts) -> Result<Self, Failure> {
        let connection = connect(url, timeouts).await?;
        Ok(Self { connection, publish_sha: "".into() })
    }

    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// The hash that names the publish script in the server's script cache.
    #[must_use]
    pub fn publish_sha(&self) -> Arc<str> {
        Arc::clone(&self.publish_sha)
    }

    /// Reads the facts. What an ACL hides stays unknown.
    pub async fn facts(&self) -> Result<Facts, Failure> {
        let mut connection = self.connection();
        let info: redis::RedisResult<String> =
            redis::cmd("INFO").query_async(&mut connection).await;
        let info = optional(info)?.unwrap_or_default();
        let lines: HashMap<&str, &str> =
            info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        // One name a call: Redis before 7.0 takes no more.
        let mut config = HashMap::new();
        for name in ["appendfsync", "no-appendfsync-on-rewrite", "proto-max-bulk-len"] {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg(name);
            let answer: redis::RedisResult<HashMap<String, String>> =
                command.query_async(&mut connection).await;
            config.extend(optional(answer)?.unwrap_or_default());
        }
        // Asked for nothing it answers at once; older servers do not know it.
        let mut command = redis::cmd("WAITAOF");
        command.arg(0).arg(0).arg(0);
        let answer: redis::RedisResult<redis::Value> = command.query_async(&mut connection).await;
        let has_waitaof = optional(answer)?.is_some();
        let owned = |key: &str| lines.get(key).map(|value| (*value).to_owned());
        let version = match (lines.get("valkey_version"), lines.get("redis_version")) {
            (Some(version), _) => format!("Valkey {version}"),
            (None, Some(version)) => format!("Redis {version}"),
            (None, None) => "Redis (version hidden)".to_owned(),
        };
        Ok(Facts {
            version,
            aof_enabled: lines.get("aof_enabled").map(|value| *value == "1"),
            is_rewrite_unsynced: config
                .get("no-appendfsync-on-rewrite")
                .is_some_and(|v| v == "yes"),
            bulk_bytes_max: config.get("proto-max-bulk-len").and_then(|bytes| bytes.parse().ok()),
            appendfsync: config.remove("appendfsync"),
            maxmemory_policy: owned("maxmemory_policy"),
            has_waitaof,
            is_waitaof_sound: is_waitaof_sound(&lines),
            run_id: owned("run_id"),
            replicas: replicas(&lines),
        })
    }
}

/// A connection that is logged in; every wait on it has a bound.
pub(super) async fn connect(
    url: &SecretString,
    timeouts: Timeouts,
) -> Result<MultiplexedConnection, Failure> {
    let client = client(url).map_err(|error| Failure {
        verdict: Verdict::Definite,
        code: "URL".to_owned(),
        text: error.to_string(),
    })?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeouts.connect))
        .set_response_timeout(Some(timeouts.reply));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|error| connect_failure(&error))
}

/// Puts a script into the server's cache. Returns the hash that names it there.
pub(super) async fn load(
    connection: &mut MultiplexedConnection,
    script: &str,
) -> Result<Arc<str>, Failure> {
    let mut command = redis::cmd("SCRIPT");
    let loaded: redis::RedisResult<String> =
        command.arg("LOAD").arg(script).query_async(connection).await;
    loaded.map(Arc::from).map_err(|error| connect_failure(&error))
}

/// By version, for nothing else tells. Valkey says which Redis it is compatible with, and which
/// Valkey it is.
fn is_waitaof_sound(info: &HashMap<&str, &str>) -> bool {
    let major = info.get("redis_version").and_then(|version| version.split('.').next());
    let is_new = major.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 8);
    is_new && !info.contains_key("valkey_version")
}

/// How long to wait for Redis.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For a reply.
    pub reply: Duration,
}

/// A refused permission is "unknown"; any other failure is a failure.
fn optional<T>(answer: redis::RedisResult<T>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) => match Failure::of(&error) {
            failure if matches!(failure.code.as_str(), "NOPERM" | "ERR") => Ok(None),
            failure => Err(failure),
        },
    }
}

/// A log-in that is refused at connect is somebody's mistake, not an outage.
fn connect_failure(error: &redis::RedisError) -> Failure {
    let mut failure = Failure::of(error);
    if matches!(failure.code.as_str(), "NOAUTH" | "WRONGPASS" | "AUTH") {
        failure.verdict = Verdict::Definite;
    }
    failure
}

fn client(url: &SecretString) -> redis::RedisResult<Client> {
    let info = connection_info(url)?;
    // Nagle would hold the second of two small batches back until the first is answered.
    let tcp = TcpSettings::default().set_nodelay(true);
    Client::open(info.set_tcp_settings(tcp))
}

pub(super) fn connection_info(url: &SecretString) -> redis::RedisResult<ConnectionInfo> {
    url.expose_secret().into_connection_info()
}

/// Checks `redis_url` without connecting; the complaint does not repeat it.
pub fn check_url(url: &SecretString) -> Result<()> {
    connection_info(url).map(drop).map_err(|error| {
        Error::usage(format!("redis_url: {error}"))
            .hint("expected redis://USER:PASSWORD@HOST:PORT/DB, rediss:// for TLS, or unix:///PATH")
    })
}

/// The server's address for people: never the password.
#[must_use]
pub fn label(url: &SecretString) -> String {
    connection_info(url).map_or_else(|_| "redis".to_owned(), |info| info.addr().to_string())
}

/// `slave0:ip=…,port=…,state=online,…`; a service that hides these lines still tells how many.
fn replicas(info: &HashMap<&str, &str>) -> Option<u32> {
    let number = |name: &str| name.strip_prefix("slave").is_some_and(|n| n.parse::<u16>().is_ok());
    let copies = || info.iter().filter(|(name, _)| number(name)).map(|(_, line)| line);
    if copies().next().is_none() {
        return info.get("connected_slaves")?.parse().ok();
    }
    let online = copies().filter(|line| line.split(',').any(|part| part == "state=online"));
    u32::try_from(online.count()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_counts_once_it_has_its_first_copy() {
        let online = "ip=127.0.0.1,port=6380,state=online,offset=14,lag=0";
        let waiting = "ip=127.0.0.1,port=6381,state=wait_bgsave,offset=0,lag=0";
        let of = |lines: &[(&'static str, &'static str)]| {
            replicas(&lines.iter().copied().collect::<HashMap<_, _>>())
        };
        let two = ("connected_slaves", "2");
        assert_eq!(of(&[two, ("slave0", online), ("slave1", waiting)]), Some(1));
        assert_eq!(of(&[two, ("slave0", waiting), ("slave1", waiting)]), Some(0));
        assert_eq!(of(&[two, ("slave_read_only", "1")]), Some(2));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn waitaof_is_believed_from_redis_8_on() {
        let sound = |lines: &[(&'static str, &'static str)]| {
            is_waitaof_sound(&lines.iter().copied().collect())
        };
        assert!(sound(&[("redis_version", "8.0.2")]));
        assert!(sound(&[("redis_version", "10.1.0")]));
        assert!(!sound(&[("redis_version", "7.4.2")]));
        assert!(!sound(&[("redis_version", "7.2.4"), ("valkey_version", "8.0.1")]));
        assert!(!sound(&[("redis_version", "8.0.0"), ("valkey_version", "9.0.0")]));
        assert!(!sound(&[("redis_version", "unstable")]));
        assert!(!sound(&[]));
    }
}
