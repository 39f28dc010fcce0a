//! What a PostgreSQL error means: the one place that maps a SQLSTATE to a class and a next step.
//!
//! In: an error of either connection. Out: [`Error`] with its class and, where one is known, the
//! hint. Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>. An unknown code
//! is transient: a relay that waits and says so loses nothing, one that exits may be left dead.

use std::io;

use postgres_protocol::message::backend::ErrorFields;

use fallible_iterator::FallibleIterator;

use crate::error::{Class, Error};

/// An error response on the replication connection, field by field.
#[derive(Debug)]
pub(super) struct ServerError {
    pub code: String,
    pub message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl ServerError {
    /// Reads the fields of an ErrorResponse or NoticeResponse. Fields that are absent stay empty.
    pub fn parse(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        let mut error =
            Self { code: String::new(), message: String::new(), detail: None, hint: None };
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => error.code = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                _ => {}
            }
        }
        Ok(error)
    }

    /// As an [`Error`] that begins with what was being done.
    pub fn into_error(self, doing: &str) -> Error {
        build(doing, &self.code, &self.message, self.detail.as_deref(), self.hint.as_deref())
    }
}

/// An error of the SQL connection, with what was being done.
#[must_use]
pub fn from_sql(doing: &str, error: tokio_postgres::Error) -> Error {
    if let Some(db) = error.as_db_error() {
        return build(doing, db.code().code(), db.message(), db.detail(), db.hint());
    }
    if let Some(error) = certificate(doing, &error) {
        return error;
    }
    let text = error.to_string();
    if text.starts_with("invalid configuration") {
        return Error::definite(doing).because(error).hint("check database_url");
    }
    Error::transient(doing).because(error)
}

/// An I/O error of the replication connection, with what was being done.
pub(super) fn from_io(doing: &str, error: io::Error) -> Error {
    certificate(doing, &error).unwrap_or_else(|| Error::transient(doing).because(error))
}

/// Whether the statement gave up waiting for a row lock, or was picked to end a deadlock.
#[must_use]
pub fn is_lock_conflict(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| matches!(code.code(), "55P03" | "40P01"))
}

/// Whether the statement named a column that the table does not have.
#[must_use]
pub fn is_undefined_column(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == "42703")
}

/// A certificate that does not verify stays so until somebody changes something.
fn certificate(doing: &str, error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        if let Some(tls @ rustls::Error::InvalidCertificate(_)) = tls {
            return Some(Error::definite(format!("{doing}: {tls}")).hint(
                "name the authority that signed the server's certificate with sslrootcert=FILE in \
                 database_url, or encrypt without checking with sslmode=no-verify. A self-signed \
                 certificate made with CA:TRUE cannot be used by a server: sign one with CA:FALSE",
            ));
        }
        cause = error.source();
    }
    None
}

fn build(
    doing: &str,
    code: &str,
    message: &str,
    detail: Option<&str>,
    hint: Option<&str>,
) -> Error {
    let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
    let what = format!("{doing}: {message}{detail} [SQLSTATE {code}]");
    let error = match class(code) {
        Class::SlotInUse => Error::slot_in_use(what),
        Class::Definite => Error::definite(what),
        Class::Transient | Class::Usage => Error::transient(what),
    };
    match next_step(code, message).or(hint) {
        Some(step) => error.hint(step),
        None => error,
    }
}

/// Who can end an error with this SQLSTATE.
fn class(code: &str) -> Class {
    match code {
        "55006" => Class::SlotInUse,
        // The server is starting, stopping, out of memory, connections or disk; a lock; a cancel.
        _ if ["08", "40", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class))
            && !matches!(code, "53400" | "58P01") =>
        {
            Class::Transient
        }
        // Password, missing database, privilege, missing object, wrong syntax or setting.
        _ if ["0A", "22", "28", "3D", "3F", "42"].iter().any(|class| code.starts_with(class)) => {
            Class::Definite
        }
        // wal_level, an invalidated slot; no slot free; WAL or a library file is gone.
        "55000" | "53400" | "58P01" => Class::Definite,
        _ => Class::Transient,
    }
}

fn next_step(code: &str, message: &str) -> Option<&'static str> {
    match code {
        "28P01" => Some("correct the password in database_url"),
        "28000" if message.contains("pg_hba.conf") => Some(
            "allow this host in pg_hba.conf (a replication=database connection is matched by its \
             database name)",
        ),
        "28000" => Some("create the role, or correct the user in database_url"),
        "3D000" => Some("create the database, or correct its name in database_url"),
        "42501" if message.contains("replication") || message.contains("REPLICATION") => {
            Some("give the role the attribute: ALTER ROLE ... REPLICATION")
        }
        "42501" => {
            Some("grant the privilege: `walrelay setup --print` shows the least that is needed")
        }
        "42P01" | "42703" | "3F000" => Some("create what is missing with `walrelay setup`"),
        "53400" => Some(
            "raise max_replication_slots, or drop a slot that nobody uses (see \
             pg_replication_slots)",
        ),
        "55000" if message.contains("wal_level") => {
            Some("set wal_level = logical in postgresql.conf and restart PostgreSQL")
        }
        "55000" | "58P01" if message.contains("slot") => Some(
            "the slot is lost: drop it with pg_drop_replication_slot and run `walrelay setup`; \
             events since its last confirmed position are still in the table",
        ),
        "55006" => {
            Some("another connection holds the slot: see active_pid in pg_replication_slots")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_are_waited_for_and_mistakes_are_reported() {
        for code in ["57P01", "57P03", "08006", "53300", "40001", "XX000", "58030", "P0001"] {
            assert_eq!(class(code), Class::Transient, "{code}");
        }
        for code in ["28P01", "28000", "3D000", "42501", "42P01", "42704", "55000", "53400"] {
            assert_eq!(class(code), Class::Definite, "{code}");
        }
        assert_eq!(class("55006"), Class::SlotInUse);
    }

    #[test]
    fn the_text_names_the_act_the_cause_and_the_state() {
        let error = build("cannot log in", "28P01", "password authentication failed", None, None);
        let text = error.to_string();
        assert_eq!(text, "cannot log in: password authentication failed [SQLSTATE 28P01]");
        assert_eq!(error.next_step(), Some("correct the password in database_url"));
    }
}
