//! What PostgreSQL is and how it is set: version, role, WAL, room for slots and walsenders, and
//! what becomes of slots in a failover.
//!
//! In: one row of facts. Out: findings. Pure, but for the asking.

use super::finding::{Finding, on_postgres};
use super::fix;
use super::session::Session;
use crate::error::Result;
use crate::postgres::quote;

const SERVER: &str = include_str!("../../sql/queries/check_server.sql");

/// publish_via_partition_root and wal_status came with 13.
const VERSION_MIN: i32 = 130_000;
/// Failover slots.
pub(super) const VERSION_FAILOVER: i32 = 170_000;

/// What the server says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub version_num: i32,
    pub version: String,
    pub is_standby: bool,
    pub primary_address: Option<String>,
    pub wal_level: String,
    pub slots_max: i32,
    pub slots: i32,
    pub senders_max: i32,
    pub senders: i32,
    /// `max_slot_wal_keep_size`; `None` is without a bound.
    pub keep_bytes: Option<f64>,
    pub idle_slot_timeout: Option<String>,
    pub sync_slots: Option<String>,
    pub standby_slots: Option<String>,
    pub synchronous_names: String,
    pub physical_slots: Vec<String>,
    /// Names of connections that read the WAL and hold no logical slot: standbys.
    pub others: Vec<String>,
}

pub(super) async fn ask(session: &Session) -> Result<Server> {
    let row = session.row(SERVER, &[]).await?;
    let keep_mb: i64 = row.get("keep_mb");
    let keep_mb = i32::try_from(keep_mb).unwrap_or(i32::MAX);
    Ok(Server {
        version_num: row.get("version_num"),
        version: row.get("version"),
        is_standby: row.get("is_standby"),
        primary_address: row.get("primary_address"),
        wal_level: row.get("wal_level"),
        slots_max: row.get("slots_max"),
        slots: row.get("slots"),
        senders_max: row.get("senders_max"),
        senders: row.get("senders"),
        keep_bytes: (keep_mb >= 0).then(|| f64::from(keep_mb) * 1_048_576.0),
        idle_slot_timeout: row.get("idle_slot_timeout"),
        sync_slots: row.get("sync_slots"),
        standby_slots: row.get("standby_slots"),
        synchronous_names: row.get("synchronous_names"),
        physical_slots: row.get("physical_slots"),
        others: row.get("others"),
    })
}

impl Server {
    /// What every mode needs.
    pub fn judge(&self, user: &str) -> Vec<Finding> {
        vec![self.version(), self.standing(user)]
    }

    fn version(&self) -> Finding {
        let (subject, found) = (on_postgres("version"), self.version.clone());
        if self.version_num >= VERSION_MIN {
            return subject.ok(found);
        }
        subject.failure(
            found,
            "the relay needs what came with PostgreSQL 13",
            "pg_upgrade   # to PostgreSQL 13 or newer",
        )
    }

    fn standing(&self, user: &str) -> Finding {
        let subject = on_postgres("server role");
        if !self.is_standby {
            return subject.ok("primary");
        }
        let primary = self.primary_address.as_deref().unwrap_or("PRIMARY:5432");
        subject.failure(
            "standby",
            "a standby takes no marks, and only the primary has the slot that counts",
            format!("RELAY_DATABASE_URL=postgresql://{user}:PASSWORD@{primary}/DATABASE"),
        )
    }

    /// What is needed to stream: `slots` more slots, `senders` more walsenders.
    pub fn judge_wal(&self, slots: i32, senders: i32) -> Vec<Finding> {
        let mut findings = vec![self.wal_level()];
        let room = [
            ("max_replication_slots", self.slots_max, self.slots, slots, "slots"),
            ("max_wal_senders", self.senders_max, self.senders, senders, "walsenders"),
        ];
        for (name, max, used, needed, what) in room {
            let subject = on_postgres(format!("setting {name}"));
            let free = max.saturating_sub(used);
            let found = format!("{max}, {free} free, {needed} needed");
            findings.push(if free >= needed {
                subject.ok(found)
            } else {
                let value = used.saturating_add(needed).max(10).to_string();
                let why = format!("the relay finds no free {what} and cannot start");
                subject.failure(found, why, fix::restart(name, &value))
            });
        }
        findings.push(self.synchronous());
        findings.extend(self.idle_timeout());
        findings.extend(self.failover());
        findings
    }

    fn wal_level(&self) -> Finding {
        let (subject, found) = (on_postgres("setting wal_level"), self.wal_level.clone());
        if found == "logical" {
            return subject.ok(found);
        }
        let why = "PostgreSQL writes no logical changes, so there is nothing to stream; without a \
                   restart RELAY_MODE=poll works";
        subject.failure(found, why, fix::restart("wal_level", "logical"))
    }

    /// Our application_name is drawn anew for each process: no name but `*` means us.
    fn synchronous(&self) -> Finding {
        let names = &self.synchronous_names;
        let subject = on_postgres("setting synchronous_standby_names");
        let separators = |letter: char| letter.is_whitespace() || "(),\"".contains(letter);
        if !names.split(separators).any(|name| name == "*") {
            return subject.ok(if names.is_empty() { "empty" } else { names });
        }
        let standbys = self.others.iter().filter(|name| !name.starts_with("walrelay-"));
        let standbys: Vec<String> = standbys.map(|name| quote::ident(name)).collect();
        let value = match standbys.as_slice() {
            [] => "''".to_owned(),
            names => quote::literal(&format!("ANY 1 ({})", names.join(", "))),
        };
        subject.failure(
            names.clone(),
            "it takes the relay for a standby: commits would wait for the relay, and the relay for \
             them",
            fix::reload("synchronous_standby_names", &value),
        )
    }

    /// From PostgreSQL 18 on.
    fn idle_timeout(&self) -> Option<Finding> {
        let timeout = self.idle_slot_timeout.as_deref()?;
        let subject = on_postgres("setting idle_replication_slot_timeout");
        if timeout.trim_start_matches('0').is_empty() {
            return Some(subject.ok("0 (off)"));
        }
        Some(subject.warning(
            timeout,
            "PostgreSQL invalidates the slot of a relay that was stopped for so long; it then \
             begins again from what the table holds unpublished. max_slot_wal_keep_size bounds the \
             WAL without that",
            fix::reload("idle_replication_slot_timeout", "0"),
        ))
    }

    fn has_standbys(&self) -> bool {
        !self.others.is_empty() || !self.physical_slots.is_empty()
    }

    /// Whether slots must outlive a failover, and can (PostgreSQL 17 on).
    pub fn needs_failover(&self) -> bool {
        self.version_num >= VERSION_FAILOVER && self.has_standbys()
    }

    fn failover(&self) -> Vec<Finding> {
        if !self.needs_failover() {
            return Vec::new();
        }
        let subject = on_postgres("setting synchronized_standby_slots");
        let standby_slots = self.standby_slots.clone().unwrap_or_default();
        let first = if standby_slots.is_empty() {
            let slots: Vec<String> = self.physical_slots.iter().map(|s| quote::ident(s)).collect();
            let value = quote::literal(&slots.join(", "));
            let fix = if slots.is_empty() {
                fix::create_standby_slot()
            } else {
                fix::reload("synchronized_standby_slots", &value)
            };
            subject.warning(
                "empty, and there are standbys",
                "the relay may publish what no standby has yet: a failover then loses committed \
                 rows whose events are out",
                fix,
            )
        } else {
            subject.ok(standby_slots)
        };
        let subject = on_postgres("setting sync_replication_slots");
        let is_on = self.sync_slots.as_deref() == Some("on");
        let second = if is_on {
            subject.ok("on")
        } else {
            subject.warning(
                "off",
                "it is the standbys that read it, and they mostly share this configuration: where \
                 it is off the slot is not there after a failover",
                format!(
                    "{}\n-- on each standby, with hot_standby_feedback = on and a dbname in its \
                     primary_conninfo",
                    fix::reload("sync_replication_slots", "on")
                ),
            )
        };
        vec![first, second]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::{Level, worst};

    fn server() -> Server {
        Server {
            version_num: 180_001,
            version: "18.1".to_owned(),
            wal_level: "logical".to_owned(),
            slots_max: 10,
            senders_max: 10,
            idle_slot_timeout: Some("0".to_owned()),
            ..Server::default()
        }
    }

    fn fixes(findings: &[Finding]) -> Vec<(&str, Level, &str)> {
        let bad = findings.iter().filter(|finding| finding.level != Level::Ok);
        bad.map(|bad| (bad.object.as_str(), bad.level, bad.advice.as_ref().unwrap().fix.as_str()))
            .collect()
    }

    #[test]
    fn a_server_as_it_should_be_has_nothing_to_mend() {
        let findings = [server().judge("app"), server().judge_wal(2, 1)].concat();
        assert_eq!(worst(&findings), Level::Ok, "{findings:?}");
    }

    #[test]
    fn room_is_counted_against_what_is_needed() {
        let full = Server { slots: 9, senders: 10, ..server() };
        let judged = full.judge_wal(2, 1);
        let fixes = fixes(&judged);
        let [slots, senders] = fixes.as_slice() else { panic!("{fixes:?}") };
        assert!(slots.2.starts_with("ALTER SYSTEM SET max_replication_slots = 11;"), "{slots:?}");
        assert!(senders.2.starts_with("ALTER SYSTEM SET max_wal_senders = 11;"), "{senders:?}");
        assert_eq!(slots.1, Level::Failure);
    }

    #[test]
    fn only_a_star_makes_a_synchronous_standby_of_us() {
        let with = |names: &str| Server { synchronous_names: names.to_owned(), ..server() };
        for names in ["", "a, b", "FIRST 2 (a, \"b*\")", "walrelay"] {
            assert_eq!(worst(&with(names).judge_wal(0, 0)), Level::Ok, "{names}");
        }
        for names in ["*", "ANY 1 (*)", "FIRST 1 (a,\"*\")"] {
            let judged = with(names).judge_wal(0, 0);
            let fix = fixes(&judged)[0].2;
            assert!(fix.starts_with("ALTER SYSTEM SET synchronous_standby_names = '';"), "{fix}");
        }
        let others = vec!["walrelay-1".to_owned(), "b".to_owned()];
        let star = Server { others, version_num: 150_000, ..with("*") };
        let judged = star.judge_wal(0, 0);
        let fix = fixes(&judged)[0].2;
        assert!(fix.contains("= 'ANY 1 (\"b\")';"), "{fix}");
    }

    #[test]
    fn slots_that_time_out_are_told() {
        let timeout = |text: &str| Server { idle_slot_timeout: Some(text.into()), ..server() };
        let judged = timeout("1d").judge_wal(0, 0);
        assert_eq!(fixes(&judged)[0].0, "setting idle_replication_slot_timeout");
        assert_eq!(worst(&timeout("0").judge_wal(0, 0)), Level::Ok);
    }

    #[test]
    fn a_failover_needs_the_slots_of_the_standbys_from_17_on() {
        let slots = vec!["one".to_owned(), "two".to_owned()];
        let old = Server { physical_slots: slots, ..server() };
        let judged = old.judge_wal(0, 0);
        let all = fixes(&judged);
        assert!(all[0].2.contains("synchronized_standby_slots = '\"one\", \"two\"';"), "{all:?}");
        assert!(all[1].2.starts_with("ALTER SYSTEM SET sync_replication_slots = on;"), "{all:?}");
        let before = Server { version_num: 160_000, ..old.clone() };
        assert_eq!(worst(&before.judge_wal(0, 0)), Level::Ok);
        let (sync_slots, standby_slots) = (Some("on".into()), Some("one, two".into()));
        let done = Server { sync_slots, standby_slots, ..old };
        assert_eq!(worst(&done.judge_wal(0, 0)), Level::Ok);
    }

    #[test]
    fn a_standby_and_an_old_server_are_refused() {
        let address = Some("10.0.0.1:5432".to_owned());
        let old = Server { version_num: 120_003, is_standby: true, ..server() };
        let standby = Server { primary_address: address, ..old };
        let judged = standby.judge("app");
        assert_eq!(fixes(&judged).len(), 2);
        assert!(fixes(&judged)[1].2.contains("app:PASSWORD@10.0.0.1:5432/"), "{judged:?}");
    }
}
