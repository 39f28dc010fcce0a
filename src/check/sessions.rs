//! Transactions that somebody forgot: what they hold back.
//!
//! In: open transactions and prepared ones. Out: findings. A slot is made only once they are over,
//! its restart_lsn stays before the oldest, VACUUM leaves what they may see (every mark makes a
//! dead version), and pollers wait for those that write.

use super::finding::{Finding, on_postgres, seconds_text};
use super::fix;
use super::session::Session;
use crate::error::Result;
use crate::postgres::quote;

const SESSIONS: &str = include_str!("../../sql/queries/check_sessions.sql");

/// A program that holds a transaction open between two statements for so long does not work on it.
const IDLE_SECONDS: f64 = 10.0;
/// A statement may take long; a transaction of this age holds up others, whatever it does.
const OPEN_SECONDS: f64 = 600.0;

/// A transaction that has been open for too long.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub pid: Option<i32>,
    /// Of a prepared one.
    pub gid: Option<String>,
    pub database: Option<String>,
    pub role: Option<String>,
    pub application: Option<String>,
    pub open_seconds: f64,
    pub idle_seconds: Option<f64>,
}

/// Those, and how many sessions are hidden from this role.
pub(super) async fn ask(session: &Session) -> Result<(Vec<Held>, i64)> {
    let rows = session.rows(SESSIONS, &[&IDLE_SECONDS, &OPEN_SECONDS]).await?;
    let hidden = rows.first().map_or(0, |row| row.get("hidden"));
    let held = |row: &tokio_postgres::Row| {
        Some(Held {
            open_seconds: row.get::<_, Option<f64>>("open_seconds")?,
            pid: row.get("pid"),
            gid: row.get("gid"),
            database: row.get("database"),
            role: row.get("role"),
            application: row.get("application"),
            idle_seconds: row.get("idle_seconds"),
        })
    };
    Ok((rows.iter().filter_map(held).collect(), hidden))
}

pub(super) fn judge(held: &[Held], hidden: i64, role: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = held.iter().filter_map(one).collect();
    if findings.is_empty() {
        let subject = on_postgres("old transactions");
        findings.push(subject.ok(match hidden {
            0 => "none".to_owned(),
            hidden => format!(
                "none to be seen; {hidden} sessions of other roles are hidden (GRANT \
                 pg_read_all_stats TO {role} shows them)"
            ),
        }));
    }
    findings
}

fn one(held: &Held) -> Option<Finding> {
    let why = "it holds back VACUUM and the slot's restart_lsn, so WAL is kept; a new slot waits \
               for its end";
    let role = held.role.as_deref().unwrap_or("unknown");
    if let Some(gid) = &held.gid {
        let database = held.database.as_deref().unwrap_or_default();
        return Some(on_postgres(format!("prepared transaction {gid}")).warning(
            format!("of {role} in {database}, for {}", seconds_text(held.open_seconds)),
            why,
            format!("ROLLBACK PREPARED {};   -- in database {database}", quote::literal(gid)),
        ));
    }
    let pid = held.pid?;
    let doing = match held.idle_seconds {
        Some(seconds) => format!("idle in transaction for {}", seconds_text(seconds)),
        None => format!("in a transaction for {}", seconds_text(held.open_seconds)),
    };
    let application = match held.application.as_deref() {
        None | Some("") => String::new(),
        Some(name) => format!(", {name}"),
    };
    let found = format!("{doing} ({role}{application})");
    Some(on_postgres(format!("session {pid}")).warning(found, why, fix::terminate(pid)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::Level;

    #[test]
    fn each_is_named_with_the_statement_that_ends_it() {
        let idle = Held { pid: Some(7), idle_seconds: Some(200.0), ..Held::default() };
        let prepared = Held { gid: Some("it's".into()), open_seconds: 60.0, ..Held::default() };
        let findings = judge(&[idle, prepared], 0, "relay");
        let fix = |at: usize| findings[at].advice.as_ref().unwrap().fix.clone();
        assert_eq!(
            (findings[0].object.as_str(), fix(0).as_str()),
            ("session 7", "SELECT pg_terminate_backend(7);")
        );
        assert!(fix(1).starts_with("ROLLBACK PREPARED 'it''s';"), "{}", fix(1));
    }

    #[test]
    fn what_is_hidden_is_said() {
        let findings = judge(&[], 3, "relay");
        assert_eq!(findings[0].level, Level::Ok);
        assert!(findings[0].found.contains("3 sessions of other roles are hidden"));
    }
}
