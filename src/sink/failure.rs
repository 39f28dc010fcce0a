//! What an error reply of Redis means: the one place that decides.
//!
//! In: an error of the client, or the text of a refused XADD. Out: [`Failure`]. The table is
//! DESIGN's: an outage is waited for and burns nothing, a fence or a gap restarts the line, a
//! refused event is that event's own affair. An unknown error is an outage: to wait and to say so
//! loses nothing.

use std::fmt;

use redis::{ErrorKind, RedisError};

use crate::error::Error;

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Redis cannot take writes now: hold, and try again for ever.
    Outage,
    /// The state the line is built on is gone (script cache, chain): restart it from the slot.
    Restart,
    /// Another relay leads: stop writing, become a standby.
    Fenced,
    /// PostgreSQL uses positions a second time: what is in the stream is of another history.
    Rewound,
    /// This event is refused; others are not.
    Rejected,
    /// Somebody must change a setting or a privilege.
    Definite,
}

/// A failure with its verdict and its words. Redis's error texts name keys and commands, no values.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What to do.
    pub verdict: Verdict,
    /// The first word of the reply, or what became of the connection.
    pub code: String,
    /// The rest of it.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Of a call that failed as a whole.
    #[must_use]
    pub fn of(error: &RedisError) -> Self {
        let text = error.detail().map_or_else(|| error.to_string(), str::to_owned);
        match error.code().map(|code| code_inside(&text).unwrap_or(code)) {
            // A value is over the server's limit: the next line asks what that is by now.
            Some("ERR") if text.contains("invalid bulk length") => {
                Self { verdict: Verdict::Restart, code: "ERR".to_owned(), text }
            }
            Some("ERR") if is_for_good(&text) => {
                Self { verdict: Verdict::Definite, code: "ERR".to_owned(), text }
            }
            Some(code) => Self { verdict: verdict(code), code: code.to_owned(), text },
            None if error.kind() == ErrorKind::AuthenticationFailed => {
                Self { verdict: Verdict::Definite, code: "AUTH".to_owned(), text }
            }
            None => {
                let verdict = Verdict::Outage;
                Self { verdict, code: "CONNECTION".to_owned(), text: error.to_string() }
            }
        }
    }

    /// Of an answer that is none: the state the line is built on is not what it was taken for.
    #[must_use]
    pub fn nonsense(text: &str) -> Self {
        let text = text.to_owned();
        Self { verdict: Verdict::Restart, code: "REPLY".to_owned(), text }
    }

    /// Of one XADD inside the script, by the text of its error.
    #[must_use]
    pub fn of_entry(reply: &str) -> Self {
        let reply = reply.trim_start_matches('-');
        let (code, text) = reply.split_once(' ').unwrap_or((reply, ""));
        let verdict = match (code, verdict(code)) {
            // Inside the script these speak of the one key and the one entry.
            ("ERR" | "NOPERM", _) => Verdict::Rejected,
            (_, verdict) => verdict,
        };
        Self { verdict, code: code.to_owned(), text: text.to_owned() }
    }

    /// Whether an event was refused, which others may not be.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        self.verdict == Verdict::Rejected
    }

    /// Whether the batch does not follow what is in the stream: nothing was written.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.code == "GAP"
    }

    /// Whether the stream takes no event at all: its key holds something else, or is not ours to
    /// write. Not so a command that the user may not call on any key.
    #[must_use]
    pub fn refuses_stream(&self) -> bool {
        match self.code.as_str() {
            "WRONGTYPE" => true,
            "NOPERM" => self.text.contains("key"),
            _ => false,
        }
    }

    /// Whether it speaks of the stream, so that every event for it would be told the same.
    #[must_use]
    pub fn is_of_the_stream(&self) -> bool {
        matches!(self.code.as_str(), "WRONGTYPE" | "NOPERM")
    }

    /// As the program's error: an outage is transient, the rest is somebody's to mend.
    #[must_use]
    pub fn into_error(self, doing: &str) -> Error {
        let what = format!("{doing}: {self}");
        match self.verdict {
            Verdict::Outage | Verdict::Restart | Verdict::Fenced | Verdict::Rewound => {
                Error::transient(what)
            }
            Verdict::Rejected | Verdict::Definite => match next_step(&self.code) {
                Some(step) => Error::definite(what).hint(step),
                None => Error::definite(what),
            },
        }
    }
}

/// Before Redis 7.0 an error that a script met is told inside another: `ERR Error running script
/// (...): -READONLY You can't write`.
fn code_inside(text: &str) -> Option<&'static str> {
    ["OOM", "READONLY", "MISCONF", "NOREPLICAS"]
        .into_iter()
        .find(|code| text.contains(&format!("-{code} ")))
}

/// Errors without a code of their own that no waiting ends: our script fails, or the server does
/// not take what we send.
fn is_for_good(text: &str) -> bool {
    ["Protocol error", "user_script", "Error running script"].iter().any(|sign| text.contains(sign))
}

fn verdict(code: &str) -> Verdict {
    match code {
        "REWOUND" => Verdict::Rewound,
        "GAP" | "LATE" | "NOSCRIPT" => Verdict::Restart,
        "FENCED" => Verdict::Fenced,
        "WRONGTYPE" => Verdict::Rejected,
        "CHECKPOINT" | "NOPERM" | "CROSSSLOT" | "MOVED" | "ASK" | "WRONGPASS" => Verdict::Definite,
        // LOADING, READONLY, MASTERDOWN, CLUSTERDOWN, TRYAGAIN, OOM, MISCONF, NOREPLICAS, BUSY,
        // NOAUTH.
        _ => Verdict::Outage,
    }
}

fn next_step(code: &str) -> Option<&'static str> {
    match code {
        "WRONGTYPE" => Some("the key is no stream: rename or delete it, or choose another stream"),
        "NOPERM" => Some("allow the relay's user this command and key (README, Redis permissions)"),
        "CHECKPOINT" => Some(
            "something else wrote to the key of a checkpoint: delete it, and what the slot still \
             has is sent again",
        ),
        "MOVED" | "ASK" | "CROSSSLOT" => {
            Some("redis_url points at a Redis Cluster; this version needs a single primary")
        }
        "WRONGPASS" | "AUTH" | "NOAUTH" => Some("correct the user and password in redis_url"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_waited_for_and_only_an_event_is_rejected() {
        for code in [
            "LOADING",
            "READONLY",
            "MASTERDOWN",
            "CLUSTERDOWN",
            "TRYAGAIN",
            "OOM",
            "MISCONF",
            "NOREPLICAS",
            "BUSY",
            "NOAUTH",
            "SOMETHING",
        ] {
            assert_eq!(verdict(code), Verdict::Outage, "{code}");
            assert_eq!(Failure::of_entry(code).verdict, Verdict::Outage, "{code}");
        }
        assert_eq!(verdict("GAP"), Verdict::Restart);
        assert_eq!(verdict("NOSCRIPT"), Verdict::Restart);
        assert_eq!(verdict("FENCED"), Verdict::Fenced);
        assert_eq!(verdict("NOPERM"), Verdict::Definite);
    }

    #[test]
    fn an_outage_that_a_script_met_is_an_outage() {
        let old = "Error running script (call to f_1): @user_script:24: @user_script: 24: \
                   -READONLY You can't write against a read only replica.";
        assert_eq!(code_inside(old), Some("READONLY"));
        assert_eq!(code_inside("Error running script: attempt to index a nil value"), None);
    }

    #[test]
    fn a_stream_refuses_by_its_key_and_not_by_a_command() {
        for (reply, refuses) in [
            ("WRONGTYPE the key holds a string, not a stream", true),
            ("NOPERM No permissions to access a key", true),
            ("NOPERM this user has no permissions to access one of the keys used", true),
            ("NOPERM User relay has no permissions to run the 'evalsha' command", false),
            ("ERR string exceeds maximum allowed size", false),
            ("OOM command not allowed when used memory > 'maxmemory'.", false),
        ] {
            assert_eq!(Failure::of_entry(reply).refuses_stream(), refuses, "{reply}");
        }
    }

    #[test]
    fn a_refused_entry_is_rejected_alone() {
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(Failure::of_entry(wrong).verdict, Verdict::Rejected);
        assert_eq!(Failure::of_entry("NOPERM no permission").verdict, Verdict::Rejected);
        assert_eq!(Failure::of_entry("ERR string exceeds maximum").verdict, Verdict::Rejected);
        assert_eq!(Failure::of_entry("OOM command not allowed").verdict, Verdict::Outage);
    }
}
