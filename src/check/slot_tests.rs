//! Tests of what is told about a slot.

use super::*;
use crate::config::{Inputs, load};

fn settings(more: &[(&str, &str)]) -> Settings {
    let urls = [("RELAY_DATABASE_URL", "postgresql://a@b/c"), ("RELAY_REDIS_URL", "redis://d")];
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment = urls.iter().chain(more).map(owned).collect();
    load(&Inputs { environment, ..Inputs::default() }).unwrap().settings().unwrap()
}

fn slot() -> Slot {
    Slot {
        plugin: Some("pgoutput".into()),
        database: Some("c".into()),
        wal_status: Some("reserved".into()),
        restart_lsn: Some("0/1".into()),
        ..Slot::default()
    }
}

fn judged(settings: &Settings, rate: Option<Rate>, slot: Option<&Slot>) -> Vec<Finding> {
    let server = Server { version_num: 170_002, others: vec!["b".into()], ..Server::default() };
    let (name, database, server) = ("walrelay", "c", &server);
    Expected { settings, name, database, server, rate, has_backlog: Some(false) }.judge(slot)
}

fn one(settings: &Settings, slot: Option<&Slot>) -> (Level, String, String) {
    let judged = judged(settings, None, slot);
    let worst = judged.into_iter().max_by_key(|finding| finding.level).unwrap();
    (worst.level, worst.found, worst.advice.map(|advice| advice.fix).unwrap_or_default())
}

#[test]
fn a_slot_that_the_relay_makes_or_mends_is_no_failure() {
    let usual = settings(&[]);
    assert_eq!(one(&usual, None).0, Level::Ok);
    assert_eq!(one(&usual, Some(&slot())).0, Level::Ok);
    let lost = Slot { wal_status: Some("lost".into()), ..slot() };
    let (level, found, fix) = one(&usual, Some(&lost));
    assert_eq!((level, found.as_str()), (Level::Warning, "lost: its WAL is gone"));
    assert_eq!(fix, fix::drop_slot("walrelay"));
    assert_eq!(one(&settings(&[("RELAY_BACKLOG", "ignore")]), Some(&lost)).0, Level::Failure);
    let by_hand = settings(&[("RELAY_AUTO_CREATE", "false")]);
    let (level, _, fix) = one(&by_hand, None);
    assert_eq!(level, Level::Failure);
    assert!(fix.contains("slot('walrelay', 'pgoutput', false, false, true);"));
}

#[test]
fn a_slot_of_others_is_refused() {
    let physical = Slot { plugin: None, ..slot() };
    let elsewhere = Slot { database: Some("d".into()), ..slot() };
    for strange in [physical, elsewhere, Slot { is_temporary: true, ..slot() }] {
        let (level, found, fix) = one(&settings(&[]), Some(&strange));
        assert_eq!((level, fix.as_str()), (Level::Failure, "RELAY_SLOT_NAME=walrelay_events"));
        assert!(!found.is_empty());
    }
    let taken = Slot { active_pid: Some(7), application: Some("psql".into()), ..slot() };
    let (level, _, fix) = one(&settings(&[]), Some(&taken));
    assert_eq!((level, fix.as_str()), (Level::Warning, fix::terminate(7).as_str()));
}

#[test]
fn the_time_that_is_left_is_told_and_worse_where_nobody_reads() {
    let rate = Some(Rate { bytes_per_second: 1_048_576.0, how: "x" });
    let left = |seconds: f64, pid| {
        let slot = Slot { safe_bytes: Some(seconds * 1_048_576.0), active_pid: pid, ..slot() };
        let judged = judged(&settings(&[]), rate, Some(&slot));
        judged.into_iter().find(|finding| finding.object == "WAL of slot walrelay").unwrap()
    };
    assert_eq!(left(36_000.0, None).level, Level::Ok);
    assert_eq!(left(3_600.0, None).level, Level::Warning);
    assert_eq!(left(60.0, None).level, Level::Failure);
    let read = left(60.0, Some(7));
    assert_eq!(read.level, Level::Warning);
    assert!(read.found.starts_with("reserved; 60.0 MiB to go, 60 s at "), "{}", read.found);
    let gone = Slot { wal_status: Some("unreserved".into()), ..slot() };
    assert_eq!(one(&settings(&[]), Some(&gone)).0, Level::Failure);
}

#[test]
fn with_standbys_a_slot_must_outlive_a_failover() {
    let stays = Slot { is_failover: Some(false), ..slot() };
    let (level, _, fix) = one(&settings(&[]), Some(&stays));
    assert_eq!(level, Level::Warning);
    assert!(fix.contains("'ALTER_REPLICATION_SLOT walrelay (FAILOVER)'"), "{fix}");
    let goes = Slot { is_failover: Some(true), ..slot() };
    assert_eq!(one(&settings(&[]), Some(&goes)).0, Level::Ok);
}
