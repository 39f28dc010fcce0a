//! The slot: is it ours, is it read, and how long can it hold out?
//!
//! In: the slot as PostgreSQL shows it. Out: findings. It must stay true that a slot which the
//! relay mends by itself is no failure.

use super::finding::{Finding, Level, bytes_text, on_postgres};
use super::fix;
use super::server::{Server, VERSION_FAILOVER};
use super::session::Session;
use super::wal::{self, Rate};
use crate::config::{Backlog, Settings};
use crate::error::Result;
use crate::lsn::Lsn;

const SLOT: &str = include_str!("../../sql/queries/check_slot.sql");

/// What a slot that nobody reads may keep before that is worth a word.
const IDLE_BYTES_MAX: f64 = 1_073_741_824.0;
/// A night, and half an hour to get up.
const HOURS_WARNING: f64 = 8.0;
const HOURS_FAILURE: f64 = 0.5;

/// A slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub plugin: Option<String>,
    pub database: Option<String>,
    pub is_temporary: bool,
    pub active_pid: Option<i32>,
    pub application: Option<String>,
    pub sync_state: Option<String>,
    pub wal_status: Option<String>,
    pub safe_bytes: Option<f64>,
    pub invalidation_reason: Option<String>,
    pub is_failover: Option<bool>,
    pub restart_lsn: Option<String>,
    pub confirmed: Lsn,
    pub retained_bytes: f64,
}

pub(super) async fn ask(session: &Session, name: &str) -> Result<Option<Slot>> {
    let rows = session.rows(SLOT, &[&name]).await?;
    Ok(rows.first().map(|row| {
        let confirmed: Option<String> = row.get("confirmed_lsn");
        Slot {
            plugin: row.get("plugin"),
            database: row.get("database"),
            is_temporary: row.get("temporary"),
            active_pid: row.get("active_pid"),
            application: row.get("application"),
            sync_state: row.get("sync_state"),
            wal_status: row.get("wal_status"),
            safe_bytes: row.get("safe_bytes"),
            invalidation_reason: row.get("invalidation_reason"),
            is_failover: row.get("is_failover"),
            restart_lsn: row.get("restart_lsn"),
            confirmed: confirmed.and_then(|text| text.parse().ok()).unwrap_or(Lsn::NONE),
            retained_bytes: row.get::<_, Option<f64>>("retained_bytes").unwrap_or(0.0),
        }
    }))
}

impl Slot {
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation_reason.is_some()
    }
}

/// What a slot is judged by.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub settings: &'a Settings,
    pub name: &'a str,
    pub database: &'a str,
    pub server: &'a Server,
    pub rate: Option<Rate>,
    /// Rows that nobody has published; `None` where that is not known.
    pub has_backlog: Option<bool>,
}

impl Expected<'_> {
    fn object(&self) -> String {
        format!("slot {}", self.name)
    }

    pub fn judge(&self, found: Option<&Slot>) -> Vec<Finding> {
        let Some(slot) = found else { return vec![self.missing()] };
        if let Some(finding) = self.strange(slot) {
            return vec![finding];
        }
        if slot.is_lost() {
            return vec![self.lost(slot)];
        }
        let mut findings = vec![self.reading(slot)];
        findings.extend(self.keeping(slot));
        findings.extend(self.synchronous(slot));
        findings.extend(self.failover(slot));
        findings
    }

    fn missing(&self) -> Finding {
        let subject = on_postgres(self.object());
        let publishes = self.settings.backlog == Backlog::Publish;
        if self.settings.auto_create {
            return subject.ok(match self.has_backlog {
                Some(true) if publishes => {
                    "not there yet: `walrelay run` makes it, and publishes the rows from before it"
                }
                _ => "not there yet: `walrelay run` makes it",
            });
        }
        let why = "auto_create is off, so the relay does not start without it";
        if publishes && self.has_backlog != Some(false) {
            let fix = "RELAY_AUTO_CREATE=true   # once: only with the relay's own snapshot are the \
                       rows from before the slot published";
            return subject.failure("not there, and there are unpublished rows", why, fix);
        }
        let is_failover = self.server.version_num >= VERSION_FAILOVER;
        subject.failure("not there", why, fix::create_slot(self.name, is_failover))
    }

    /// A slot of somebody else's.
    fn strange(&self, slot: &Slot) -> Option<Finding> {
        let plugin = slot.plugin.as_deref().unwrap_or("none (a physical slot)");
        let database = slot.database.as_deref().unwrap_or_default();
        let found = if plugin != "pgoutput" {
            format!("of plugin {plugin}")
        } else if database != self.database {
            format!("of database {database}, not {}", self.database)
        } else if slot.is_temporary {
            "temporary: it goes with its connection".to_owned()
        } else {
            return None;
        };
        let fix = format!("RELAY_SLOT_NAME={}_events", self.settings.slot_base);
        let why = "the relay cannot read from it and does not start; names of slots are shared by \
                   all databases of a server";
        Some(on_postgres(self.object()).failure(found, why, fix))
    }

    fn lost(&self, slot: &Slot) -> Finding {
        let reason = slot.invalidation_reason.as_deref().unwrap_or("its WAL is gone");
        let found = format!("lost: {reason}");
        let subject = on_postgres(self.object());
        let heals = self.settings.auto_create && self.settings.backlog == Backlog::Publish;
        if heals {
            let why = "the relay replaces it at its start and publishes what the table holds \
                       unpublished: events whose rows are gone by now are lost";
            return subject.warning(found, why, fix::drop_slot(self.name));
        }
        let why = "nothing can be read from it any more, and with backlog = ignore or auto_create \
                   = false nobody publishes what it had not sent";
        let fix = format!(
            "{}\nwalrelay run --set auto_create=true --set backlog=publish",
            fix::drop_slot(self.name)
        );
        subject.failure(found, why, fix)
    }

    /// Who reads from it, if anybody.
    fn reading(&self, slot: &Slot) -> Finding {
        let subject = on_postgres(self.object());
        let kept = format!(
            "keeps {} of WAL, from {}",
            bytes_text(slot.retained_bytes),
            slot.restart_lsn.as_deref().unwrap_or("nowhere")
        );
        let Some(pid) = slot.active_pid else {
            if slot.retained_bytes <= IDLE_BYTES_MAX {
                return subject.ok(format!("nobody reads it; {kept}"));
            }
            let why = "it keeps more and more until somebody reads it, or the disk is full";
            let fix = format!("walrelay run   # or, to give it up: {}", fix::drop_slot(self.name));
            return subject.warning(format!("nobody reads it; {kept}"), why, fix);
        };
        match slot.application.as_deref() {
            Some(name) if !name.starts_with("walrelay") => subject.warning(
                format!("read by pid {pid} ({name}); {kept}"),
                "that is no relay: as long as it has the slot, every relay stands by, and what it \
                 confirms is never published",
                fix::terminate(pid),
            ),
            Some(name) => subject.ok(format!("read by pid {pid} ({name}); {kept}")),
            None => subject.ok(format!("read by pid {pid}; {kept}")),
        }
    }

    /// How long until its WAL is removed.
    fn keeping(&self, slot: &Slot) -> Option<Finding> {
        let status = slot.wal_status.as_deref().unwrap_or("unknown");
        let subject = on_postgres(format!("WAL of slot {}", self.name));
        let raise = wal::keep_for_a_day(self.rate);
        if status == "unreserved" {
            return Some(subject.failure(
                "unreserved: past max_slot_wal_keep_size",
                "the next checkpoint removes what it needs, and the slot is lost",
                raise,
            ));
        }
        let room = slot.safe_bytes?;
        let found = format!("{status}; {}", wal::room_text(room, self.rate));
        let hours = self.rate.and_then(|rate| wal::hours(room, rate)).unwrap_or(f64::INFINITY);
        let level = match hours {
            // Whoever reads keeps the room: it is how long the next outage may last.
            _ if hours >= HOURS_WARNING => return Some(subject.ok(found)),
            _ if hours >= HOURS_FAILURE || slot.active_pid.is_some() => Level::Warning,
            _ => Level::Failure,
        };
        let why = "a relay that is away for longer than that loses its slot";
        Some(subject.bad(level, found, why, raise))
    }

    fn synchronous(&self, slot: &Slot) -> Option<Finding> {
        let state = slot.sync_state.as_deref().filter(|state| *state != "async")?;
        Some(on_postgres(format!("walsender of slot {}", self.name)).failure(
            format!("sync_state {state}"),
            "commits wait for the relay, and the relay for them",
            fix::reload("synchronous_standby_names", "''"),
        ))
    }

    fn failover(&self, slot: &Slot) -> Option<Finding> {
        let is_failover = slot.is_failover?;
        let subject = on_postgres(format!("failover of slot {}", self.name));
        if is_failover {
            return Some(subject.ok("true"));
        }
        if !self.server.needs_failover() {
            return None;
        }
        Some(subject.warning(
            "false",
            "it is not copied to the standbys: after a failover the relay begins again from what \
             the table holds unpublished",
            format!(
                "psql 'dbname={} replication=database' -c 'ALTER_REPLICATION_SLOT {} (FAILOVER)'   \
                 # while the relay is stopped",
                self.database, self.name
            ),
        ))
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
