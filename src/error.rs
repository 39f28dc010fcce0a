//! What went wrong, to which object, and what to do next.
//!
//! One type for the whole program. A failure is classified where it is understood, once:
//! *transient* (wait and try again, for ever) or *definite* (stop and tell somebody). The exit code
//! follows from the class. It must stay true that no text in here carries a secret or a payload.

use std::fmt;

/// Everything went as it should; for `run`: drained after SIGTERM or SIGINT.
pub const EXIT_OK: u8 = 0;
/// Something outside must be changed first: the message says what.
pub const EXIT_FAILURE: u8 = 1;
/// The command line or a setting is wrong.
pub const EXIT_USAGE: u8 = 2;

/// Result with the program's own error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who can end a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Time: an outage. Try again with backoff.
    Transient,
    /// The slot is held by another connection: wait as a standby.
    SlotInUse,
    /// A person: the object named must be changed.
    Definite,
    /// A person: a setting or an argument is wrong.
    Usage,
}

/// A failure: what happened to which object, why, and the next step.
#[derive(Debug)]
pub struct Error {
    class: Class,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    fn new(class: Class, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), hint: None, source: None }
    }

    /// An outage: it ends by itself.
    pub fn transient(what: impl Into<String>) -> Self {
        Self::new(Class::Transient, what)
    }

    /// Nothing but a change from outside ends this.
    pub fn definite(what: impl Into<String>) -> Self {
        Self::new(Class::Definite, what)
    }

    /// A wrong setting or argument.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Class::Usage, what)
    }

    /// Another connection holds the slot.
    pub fn slot_in_use(what: impl Into<String>) -> Self {
        Self::new(Class::SlotInUse, what)
    }

    /// What to do next, in the operator's words.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure underneath; printed behind a colon.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same, of one of several tables.
    #[must_use]
    pub fn of_table(mut self, table: Option<&str>) -> Self {
        if let Some(table) = table {
            self.what = format!("[tables.{table}] {}", self.what);
        }
        self
    }

    /// Who can end it.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The next step, where one is known.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The process's exit code for this failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.class {
            Class::Usage => EXIT_USAGE,
            Class::Transient | Class::SlotInUse | Class::Definite => EXIT_FAILURE,
        }
    }
}

impl fmt::Display for Error {
    /// The whole chain on one line, without the hint: `what: cause: its cause`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut said = self.what.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            // Many libraries print their source inside their own text: say each thing once.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(&text);
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_chain_is_one_line_and_says_each_thing_once() {
        let io = std::io::Error::other("connection refused");
        let inner = Error::transient("cannot reach 127.0.0.1:5432: connection refused").because(io);
        let outer = Error::transient("cannot start").because(inner).hint("start it");
        let text = outer.to_string();
        assert_eq!(text, "cannot start: cannot reach 127.0.0.1:5432: connection refused");
        assert_eq!(outer.next_step(), Some("start it"));
    }

    #[test]
    fn the_class_decides_the_exit_code() {
        assert_eq!(Error::usage("x").exit_code(), EXIT_USAGE);
        assert_eq!(Error::definite("x").exit_code(), EXIT_FAILURE);
        assert_eq!(Error::transient("x").exit_code(), EXIT_FAILURE);
    }
}
