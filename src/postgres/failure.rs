//! What a PostgreSQL error means: the one place that maps a SQLSTATE to a class and a next step.
//!
//! In: an error of either connection. Out: [`Error`] with its class and, where one is known, the
//! hint. Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>. An unknown code
//! is transient: a relay that waits and says so loses nothing, one that exits may be left dead. It
//! must stay true that no value of a row gets out: PostgreSQL prints the row that a constraint
//! refuses, and triggers print what they like.

use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;
use tokio_postgres::error::DbError;

use crate::error::{Class, Error};

/// Classes whose messages PostgreSQL makes of names and settings, never of a row's values.
const NAMES_ONLY: &[&str] = &[
    "08", "0A", "25", "26", "28", "2B", "34", "3D", "3F", "40", "42", "53", "54", "55", "57", "58",
    "F0", "XX",
];
/// Those of them whose DETAIL and HINT are made of nothing else either.
const DETAIL_TOO: &[&str] = &["08", "28", "42", "53", "55", "57", "58"];

const STANDBY: &str = "a failover is under way, or database_url names a standby: name the primary, \
                       or all hosts separated by commas";
/// What helps with a slot whose WAL is gone.
pub(super) const SLOT_IS_LOST: &str = "where wal_status in pg_replication_slots is lost, the relay \
     replaces the slot and publishes what the table still holds unpublished; else drop it (SELECT \
     pg_drop_replication_slot(...)), and the relay does the same";
const SLOT_IS_OLDER: &str = "if it exists now, the slot is older: it stands at WAL from before the \
     publication was created, which PostgreSQL cannot decode for it. Move the slot past that point \
     (SELECT pg_replication_slot_advance(slot, lsn)) and it sends none of the rows in between, or \
     drop it: the relay then publishes what the table still holds unpublished";

/// An error response of either connection, field by field.
#[derive(Debug, Default)]
pub(super) struct ServerError {
    pub code: String,
    pub message: String,
    detail: Option<String>,
    hint: Option<String>,
    schema: Option<String>,
    table: Option<String>,
    constraint: Option<String>,
}

impl ServerError {
    /// Reads the fields of an ErrorResponse or NoticeResponse. Fields that are absent stay empty.
    pub fn parse(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        let mut error = Self::default();
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => error.code = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b's' => error.schema = Some(value),
                b't' => error.table = Some(value),
                b'n' => error.constraint = Some(value),
                _ => {}
            }
        }
        Ok(error)
    }

    fn from_db(error: &DbError) -> Self {
        let owned = |field: Option<&str>| field.map(str::to_owned);
        Self {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: owned(error.detail()),
            hint: owned(error.hint()),
            schema: owned(error.schema()),
            table: owned(error.table()),
            constraint: owned(error.constraint()),
        }
    }

    /// As an [`Error`] that begins with what was being done.
    pub fn into_error(self, doing: &str) -> Error {
        let said = self.said();
        let what = format!("{doing}: {said} [SQLSTATE {}]", self.code);
        let error = match self.class() {
            Class::SlotInUse => Error::slot_in_use(what),
            Class::Definite => Error::definite(what),
            Class::Transient | Class::Usage => Error::transient(what),
        };
        let own = self.next_step();
        match own.or_else(|| self.hint.filter(|_| is_in(DETAIL_TOO, &self.code))) {
            Some(step) => error.hint(step),
            None => error,
        }
    }

    /// The message, or what can be said in its place.
    fn said(&self) -> String {
        if is_in(NAMES_ONLY, &self.code) {
            let detail = self.detail.as_deref().filter(|_| is_in(DETAIL_TOO, &self.code));
            let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
            return format!("{}{detail}", self.message);
        }
        match self.code.get(..2) {
            Some("23" | "44") => format!("{} refuses it", self.refusing()),
            Some("22") => "the server refuses a value".to_owned(),
            _ => "a function or a trigger in the database raised an error, and what it says may \
                  hold a row: see the server's log"
                .to_owned(),
        }
    }

    /// The constraint that refused a row, as far as the server names it.
    fn refusing(&self) -> String {
        let table = match (&self.schema, &self.table) {
            (Some(schema), Some(table)) => format!("table {schema}.{table}"),
            _ => "the table".to_owned(),
        };
        match &self.constraint {
            Some(constraint) => format!("constraint {constraint:?} of {table}"),
            None => format!("a constraint of {table}"),
        }
    }

    /// Who can end it.
    fn class(&self) -> Class {
        match self.code.as_str() {
            // Two relays created the same thing at once; the other one has.
            "23505" if self.schema.as_deref() == Some("pg_catalog") => Class::Transient,
            "55000" if self.is_on_standby() => Class::Transient,
            // The next start finds it lost, and mends that.
            _ if self.is_lost_slot() => Class::Transient,
            code => class(code),
        }
    }

    /// A slot that is the copy of the primary's, on a standby (PostgreSQL 17 on).
    fn is_on_standby(&self) -> bool {
        self.message.starts_with("cannot use replication slot")
            && self.detail.as_deref().is_some_and(|detail| detail.contains("being synchroni"))
    }

    /// WAL that the slot needs is gone: the wordings of 13 to 18.
    fn is_lost_slot(&self) -> bool {
        match self.code.as_str() {
            "55000" => [
                "cannot read from logical replication slot ",
                "can no longer get changes from replication slot ",
                "can no longer access replication slot ",
            ]
            .iter()
            .any(|start| self.message.starts_with(start)),
            "58P01" => {
                self.message.starts_with("requested WAL segment ")
                    && self.message.ends_with(" has already been removed")
            }
            _ => false,
        }
    }

    /// The stream met WAL in which the publication is not there: an error up to 17, then a warning.
    fn is_unknown_publication(&self) -> bool {
        match self.code.as_str() {
            "42704" => self.message.starts_with("publication "),
            "55000" => self.message.starts_with("skipped loading publication "),
            _ => false,
        }
    }

    fn next_step(&self) -> Option<String> {
        if self.class() == Class::Definite && matches!(self.code.get(..2), Some("23" | "44")) {
            return Some(format!(
                "change {} so that it accepts what after_publish does to a row that was published \
                 (mark: published = true, published_at = now(); delete: the row goes), or set \
                 after_publish to keep",
                self.refusing()
            ));
        }
        let step = match () {
            () if self.is_on_standby() => STANDBY,
            () if self.is_lost_slot() => SLOT_IS_LOST,
            () if self.is_unknown_publication() => SLOT_IS_OLDER,
            () => next_step(&self.code, &self.message)?,
        };
        Some(step.to_owned())
    }
}

/// The complaint about a server that is not the primary. It ends by itself: at a failover, or when
/// somebody corrects where the name points.
pub(super) fn standby(what: &str) -> Error {
    Error::transient(what).hint(STANDBY)
}

fn is_in(classes: &[&str], code: &str) -> bool {
    code.get(..2).is_some_and(|class| classes.contains(&class))
}

/// An error of the SQL connection, with what was being done.
#[must_use]
pub fn from_sql(doing: &str, error: tokio_postgres::Error) -> Error {
    if let Some(db) = error.as_db_error() {
        return ServerError::from_db(db).into_error(doing);
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
        // Or a constraint: what it refused once it refuses again.
        _ if ["0A", "22", "23", "28", "3D", "3F", "42", "44"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
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
        "25006" => Some(
            "default_transaction_read_only is on for this role or database: ALTER ROLE ... SET \
             default_transaction_read_only = off",
        ),
        "42P01" | "42703" | "3F000" => Some("create what is missing with `walrelay setup`"),
        "53400" => Some(
            "raise max_replication_slots, or drop a slot that nobody uses (see \
             pg_replication_slots)",
        ),
        "55000" if message.contains("wal_level") => {
            Some("set wal_level = logical in postgresql.conf and restart PostgreSQL")
        }
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
        for code in
            ["28P01", "28000", "3D000", "42501", "42P01", "42704", "55000", "53400", "23514"]
        {
            assert_eq!(class(code), Class::Definite, "{code}");
        }
        assert_eq!(class("55006"), Class::SlotInUse);
    }

    fn server_error(code: &str, message: &str, detail: &str) -> ServerError {
        ServerError {
            code: code.to_owned(),
            message: message.to_owned(),
            detail: Some(detail.to_owned()),
            ..ServerError::default()
        }
    }

    #[test]
    fn the_text_names_the_act_the_cause_and_the_state() {
        let error = server_error("28P01", "password authentication failed", "no such role");
        let error = error.into_error("cannot log in");
        let text = error.to_string();
        let wanted =
            "cannot log in: password authentication failed (no such role) [SQLSTATE 28P01]";
        assert_eq!(text, wanted);
        assert_eq!(error.next_step(), Some("correct the password in database_url"));
    }

    #[test]
    fn no_error_tells_a_value_of_a_row() {
        for code in
            ["22P02", "22001", "23502", "23505", "23514", "44000", "P0001", "38000", "ABCDE"]
        {
            let secret = "Failing row contains (4711)";
            let error = ServerError {
                hint: Some(secret.to_owned()),
                schema: Some("identity".to_owned()),
                table: Some("outbox".to_owned()),
                constraint: Some("once".to_owned()),
                ..server_error(code, secret, secret)
            };
            let error = error.into_error("cannot mark");
            let text = format!("{error} {error:?} {:?}", error.next_step());
            assert!(!text.contains("4711"), "{text}");
            assert!(text.contains(code), "{text}");
            let names_constraint = code.starts_with("23") || code.starts_with("44");
            assert_eq!(text.contains("identity.outbox"), names_constraint, "{text}");
        }
        let error = server_error("40001", "could not serialize", "4711").into_error("x");
        assert_eq!(error.to_string(), "x: could not serialize [SQLSTATE 40001]");
    }

    #[test]
    fn two_who_create_the_same_at_once_try_again() {
        let schema = Some("pg_catalog".to_owned());
        let error = ServerError { schema, ..server_error("23505", "", "") }.into_error("x");
        assert_eq!((error.class(), error.next_step()), (Class::Transient, None));
        assert_eq!(server_error("23505", "", "").into_error("x").class(), Class::Definite);
    }

    #[test]
    fn only_a_lost_slot_is_replaced() {
        let invalidated = "This slot has been invalidated because it exceeded the maximum size.";
        for (code, message) in [
            ("55000", "can no longer get changes from replication slot \"walrelay\""),
            ("55000", "cannot read from logical replication slot \"walrelay\""),
            ("55000", "can no longer access replication slot \"walrelay\""),
            ("58P01", "requested WAL segment 000000010000000000000001 has already been removed"),
        ] {
            let error = server_error(code, message, invalidated).into_error("x");
            assert_eq!(error.next_step(), Some(SLOT_IS_LOST), "{error}");
            assert_eq!(error.class(), Class::Transient, "{error}");
        }
        let copied = server_error(
            "55000",
            "cannot use replication slot \"walrelay\" for logical decoding",
            "This replication slot is being synchronized from the primary server.",
        );
        let error = copied.into_error("x");
        assert_eq!((error.class(), error.next_step()), (Class::Transient, Some(STANDBY)));
        let other = server_error("55000", "cannot copy unfinished replication slot", "");
        assert_eq!(other.into_error("x").next_step(), None);
    }

    #[test]
    fn a_slot_older_than_its_publication_is_told_so() {
        for (code, message) in [
            ("42704", "publication \"walrelay\" does not exist"),
            ("55000", "skipped loading publication \"walrelay\""),
        ] {
            let error = server_error(code, message, "").into_error("x");
            assert_eq!((error.class(), error.next_step()), (Class::Definite, Some(SLOT_IS_OLDER)));
        }
    }
}
