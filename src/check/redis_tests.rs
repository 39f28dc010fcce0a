//! Tests of what is told about Redis itself.

use super::*;
use crate::check::finding::{Level, worst};
use crate::config::{Inputs, load};

fn settings(durability: &str) -> Settings {
    let environment = [
        ("RELAY_DATABASE_URL", "postgresql://a@b/c"),
        ("RELAY_REDIS_URL", "redis://d"),
        ("RELAY_DURABILITY", durability),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let inputs = Inputs { environment: environment.into(), ..Inputs::default() };
    load(&inputs).unwrap().settings().unwrap()
}

fn redis(info: &[(&str, &str)], facts: Facts) -> Redis {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Redis { info: info.iter().map(pair).collect(), settings: HashMap::new(), facts }
}

fn synced() -> Facts {
    let appendfsync = Some("everysec".to_owned());
    Facts { aof_enabled: Some(true), appendfsync, replicas: Some(1), ..Facts::default() }
}

fn bad(redis: &Redis, durability: &str) -> Vec<(String, Level, String)> {
    let judged = redis.judge(&settings(durability)).into_iter();
    let bad = judged.filter(|finding| finding.level != Level::Ok);
    bad.map(|bad| (bad.object, bad.level, bad.advice.unwrap().fix)).collect()
}

#[test]
fn an_acl_that_hides_all_is_no_failure_here() {
    assert_eq!(worst(&redis(&[], Facts::default()).judge(&settings("fsync"))), Level::Ok);
}

#[test]
fn a_promise_that_cannot_be_kept_is_a_failure() {
    let off = Facts { aof_enabled: Some(false), ..synced() };
    let lazy = Facts { appendfsync: Some("no".to_owned()), ..synced() };
    assert_eq!(bad(&redis(&[], off.clone()), "fsync")[0].2, "CONFIG SET appendonly yes");
    assert_eq!(bad(&redis(&[], off), "memory"), []);
    let file = [("config_file", "/etc/redis.conf")];
    let fix = "CONFIG SET appendfsync everysec\nCONFIG REWRITE";
    assert_eq!(bad(&redis(&file, lazy), "fsync")[0].2, fix);
    let unsynced = Facts { is_rewrite_unsynced: true, ..synced() };
    assert_eq!(bad(&redis(&[], unsynced), "fsync")[0].1, Level::Warning);
    assert_eq!(bad(&redis(&[], synced()), "replica:2")[0].0, "replicas");
    assert_eq!(bad(&redis(&[], synced()), "replica:1"), []);
}

#[test]
fn a_replica_and_a_cluster_are_refused_and_a_full_disk_is_told() {
    let at = [("role", "slave"), ("master_host", "10.0.0.1"), ("master_port", "6380")];
    let told = bad(&redis(&at, synced()), "fsync");
    assert_eq!(told[0].2, "RELAY_REDIS_URL=redis://USER:PASSWORD@10.0.0.1:6380/0");
    assert_eq!(bad(&redis(&[("redis_mode", "cluster")], synced()), "fsync")[0].0, "cluster mode");
    for info in [("aof_last_write_status", "err"), ("rdb_last_bgsave_status", "err")] {
        assert_eq!(bad(&redis(&[info], synced()), "fsync")[0].1, Level::Failure, "{info:?}");
    }
}

#[test]
fn memory_is_judged_by_policy_and_by_room() {
    let with = |policy: &str, limit: &str, used: &str| {
        let info = [("maxmemory_policy", policy), ("maxmemory", limit), ("used_memory", used)];
        bad(&redis(&info, synced()), "fsync")
            .into_iter()
            .map(|(object, level, _)| (object, level))
            .collect::<Vec<_>>()
    };
    let policy = || "setting maxmemory-policy".to_owned();
    assert_eq!(with("allkeys-lru", "100", "1"), [(policy(), Level::Failure)]);
    assert_eq!(with("allkeys-lru", "0", "1"), [(policy(), Level::Warning)]);
    assert_eq!(with("volatile-ttl", "100", "1"), []);
    assert_eq!(with("noeviction", "100", "95"), [("memory".to_owned(), Level::Warning)]);
}

#[test]
fn replicas_that_must_be_there_are_counted() {
    let mut two = redis(&[("min_slaves_good_slaves", "1")], synced());
    two.settings.insert("min-replicas-to-write", "2".to_owned());
    assert_eq!(bad(&two, "fsync")[0].2, "CONFIG SET min-replicas-to-write 1");
}
