//! What Redis is and how it is set: version, role, persistence, replicas.
//!
//! In: INFO and a few settings. Out: findings. It must stay true that what `durability` asks for is
//! said by `sink`: it is asked there. What an ACL hides is unknown, and no failure.

use std::collections::HashMap;

use super::finding::{Finding, on_redis};
use crate::config::{Durability, Settings};
use crate::sink::{self, Durable, Facts, Failure, Sink};

/// What the server says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Redis {
    /// INFO; empty where it may not be asked.
    pub info: HashMap<String, String>,
    pub settings: HashMap<&'static str, String>,
    pub facts: Facts,
}

/// What is asked by CONFIG GET, name by name.
const SETTINGS: [&str; 3] =
    ["min-replicas-to-write", "stop-writes-on-bgsave-error", "maxmemory-policy"];

/// The first failure that is not one of permission ends it.
pub(super) async fn ask(sink: &Sink) -> Result<Redis, Failure> {
    let info = visible(sink.info().await)?.unwrap_or_default();
    let facts = sink.facts().await?;
    let mut settings = HashMap::new();
    for name in SETTINGS {
        if let Some(value) = visible(sink.setting(name).await)?.flatten() {
            settings.insert(name, value);
        }
    }
    Ok(Redis { info, settings, facts })
}

/// None where the user may not ask: `acl` says so.
pub(super) fn visible<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.code == "NOPERM" || failure.code == "ERR" => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl Redis {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.info.get(name).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok()
    }

    /// A setting changed at run time, and kept where the server has a file for it.
    pub fn set(&self, name: &str, value: &str) -> String {
        let set = format!("CONFIG SET {name} {value}");
        match self.text("config_file") {
            Some(file) if !file.is_empty() => format!("{set}\nCONFIG REWRITE"),
            _ => set,
        }
    }

    pub fn judge(&self, settings: &Settings) -> Vec<Finding> {
        let mut findings = vec![on_redis("version").ok(self.facts.version.clone())];
        findings.extend(self.role());
        findings.extend(self.mode());
        findings.push(self.durability(settings.durability));
        findings.extend(self.rewriting(settings.durability));
        findings.extend(self.writing());
        findings.extend(self.replicas(settings));
        findings.extend(self.least_replicas());
        findings.extend(self.memory(settings));
        findings
    }

    fn role(&self) -> Option<Finding> {
        let subject = on_redis("replication role");
        if self.text("role")? == "master" {
            return Some(subject.ok("primary"));
        }
        let (host, port) = (self.text("master_host"), self.text("master_port"));
        let primary = format!("{}:{}", host.unwrap_or("PRIMARY"), port.unwrap_or("6379"));
        Some(subject.failure(
            format!("replica of {primary}"),
            "it takes no writes: nothing can be published here",
            format!("RELAY_REDIS_URL=redis://USER:PASSWORD@{primary}/0"),
        ))
    }

    pub fn is_cluster(&self) -> bool {
        self.text("redis_mode") == Some("cluster")
    }

    fn mode(&self) -> Option<Finding> {
        let subject = on_redis("cluster mode");
        self.text("redis_mode")?;
        if !self.is_cluster() {
            return Some(subject.ok("off"));
        }
        Some(subject.failure(
            "on",
            "this version needs one primary, with any number of replicas",
            "RELAY_REDIS_URL=redis://USER:PASSWORD@A-SINGLE-PRIMARY:6379/0",
        ))
    }

    /// Whether the promise can be kept.
    fn durability(&self, durability: Durability) -> Finding {
        let subject = on_redis("append-only file");
        let aof = match self.facts.aof_enabled {
            Some(true) => "on",
            Some(false) => "off",
            None => "not told",
        };
        let fsync = self.facts.appendfsync.as_deref().unwrap_or("not told");
        let found = format!("{aof}, appendfsync {fsync}, durability = {durability}");
        let Ok(durable) = Durable::of(durability, &self.facts) else {
            let why = "after a crash of Redis entries would be gone that PostgreSQL no longer has: \
                       the relay does not start";
            let fix = if self.facts.aof_enabled == Some(false) {
                self.set("appendonly", "yes")
            } else {
                self.set("appendfsync", "everysec")
            };
            return subject.failure(found, why, fix);
        };
        match durable.describe() {
            how if how.is_empty() => subject.ok(found),
            how => subject.ok(format!("{found} ({how})")),
        }
    }

    fn rewriting(&self, durability: Durability) -> Option<Finding> {
        let is_synced = durability == Durability::Memory || self.facts.aof_enabled == Some(false);
        if is_synced || !self.facts.is_rewrite_unsynced {
            return None;
        }
        Some(on_redis("setting no-appendfsync-on-rewrite").warning(
            "yes",
            "nothing is synced while the file is rewritten: a power loss then loses confirmed \
             entries",
            self.set("no-appendfsync-on-rewrite", "no"),
        ))
    }

    /// A server that could not write its files refuses everything (MISCONF).
    fn writing(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let why = "Redis refuses writes (MISCONF) until it can save: is its disk full, or not its \
                   own?";
        if self.text("aof_last_write_status") == Some("err") {
            findings.push(on_redis("append-only file, last write").failure(
                "failed",
                why,
                "df -h   # in the directory that CONFIG GET dir names",
            ));
        }
        let stops = self.settings.get("stop-writes-on-bgsave-error").is_none_or(|v| v == "yes");
        if self.text("rdb_last_bgsave_status") == Some("err") && stops {
            findings.push(on_redis("last BGSAVE").failure("failed", why, "BGSAVE"));
        }
        findings
    }

    fn replicas(&self, settings: &Settings) -> Option<Finding> {
        let durability = settings.durability;
        let subject = on_redis("replicas");
        let there = self.facts.replicas?;
        let Durability::Replica(wanted) = durability else {
            return Some(subject.ok(there.to_string()));
        };
        let found = format!("{there}, durability = {durability}");
        if there >= u32::from(wanted.get()) {
            return Some(subject.ok(found));
        }
        // `host:port`, or the path of a socket, which is no good to a replica.
        let address = sink::label(&settings.redis_url);
        let (host, port) = address.rsplit_once(':').unwrap_or(("PRIMARY", "6379"));
        Some(subject.failure(
            found,
            "nothing is confirmed until so many replicas have it: the slot keeps its WAL meanwhile",
            format!("REPLICAOF {host} {port}   # on the replica that is missing"),
        ))
    }

    fn least_replicas(&self) -> Option<Finding> {
        let least: u32 = self.settings.get("min-replicas-to-write")?.parse().ok()?;
        let subject = on_redis("setting min-replicas-to-write");
        // Those that lag too far do not count; the server says how many do once it is set.
        let good = self.text("min_slaves_good_slaves").and_then(|count| count.parse().ok());
        let there: u32 = good.or(self.facts.replicas)?;
        if there >= least {
            return Some(subject.ok(least.to_string()));
        }
        Some(subject.failure(
            format!("{least}, and {there} good replicas are there"),
            "Redis refuses every write (NOREPLICAS) until they are back",
            self.set("min-replicas-to-write", &there.to_string()),
        ))
    }
}

#[cfg(test)]
#[path = "redis_tests.rs"]
mod tests;
