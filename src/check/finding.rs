//! What was found: of which object, how bad, and what to do.
//!
//! In: facts. Out: [`Finding`]. It must stay true that whatever is not OK says why it matters and
//! how it is mended: there is no other way to make one.

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and will hurt one day.
    Warning,
    /// It does not work, or loses something.
    Failure,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Failure => "FAILURE",
        }
    }
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The source.
    Postgres,
    /// The sink.
    Redis,
    /// What the settings name beside the servers.
    Settings,
}

impl Area {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Settings => "Settings",
        }
    }
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whose.
    pub area: Area,
    /// What it is about: `setting wal_level`.
    pub object: String,
    /// How bad.
    pub level: Level,
    /// The value, in words.
    pub found: String,
    /// Why it matters, and the fix: SQL, Redis commands, or lines of a shell or a configuration.
    /// None where all is well.
    pub advice: Option<Advice>,
}

/// What a finding that is not OK must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// One sentence.
    pub why: String,
    /// To be pasted.
    pub fix: String,
}

/// An object that something is found about.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    area: Area,
    object: String,
}

/// Something in PostgreSQL.
pub(super) fn on_postgres(object: impl Into<String>) -> Subject {
    Subject { area: Area::Postgres, object: object.into() }
}

/// Something in Redis.
pub(super) fn on_redis(object: impl Into<String>) -> Subject {
    Subject { area: Area::Redis, object: object.into() }
}

/// Something that the settings name.
pub(super) fn on_settings(object: impl Into<String>) -> Subject {
    Subject { area: Area::Settings, object: object.into() }
}

impl Subject {
    pub fn ok(self, found: impl Into<String>) -> Finding {
        let Self { area, object } = self;
        Finding { area, object, level: Level::Ok, found: found.into(), advice: None }
    }

    pub fn warning(
        self,
        found: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        self.bad(Level::Warning, found, why, fix)
    }

    pub fn failure(
        self,
        found: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        self.bad(Level::Failure, found, why, fix)
    }

    /// One of the two.
    pub fn bad(
        self,
        level: Level,
        found: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        let advice = Some(Advice { why: why.into(), fix: fix.into() });
        let Self { area, object } = self;
        Finding { area, object, level, found: found.into(), advice }
    }
}

/// The level of all together.
#[must_use]
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

/// A number of bytes for people: three digits say enough.
pub(super) fn bytes_text(bytes: f64) -> String {
    let units = [(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1_024.0, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes:.0} B"),
    }
}

/// A number of seconds for people: the larger unit is enough.
pub(super) fn seconds_text(seconds: f64) -> String {
    let units = [(86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")];
    match units.into_iter().find(|(unit, _)| seconds >= 2.0 * unit) {
        Some((unit, name)) => format!("{:.0} {name}", seconds / unit),
        None => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts_and_nothing_is_fine() {
        let ok = on_postgres("a").ok("x");
        let warning = on_redis("b").warning("x", "y", "z");
        let failure = on_redis("c").failure("x", "y", "z");
        assert_eq!(worst(&[]), Level::Ok);
        assert_eq!(worst(&[ok.clone(), warning.clone()]), Level::Warning);
        assert_eq!(worst(&[failure, ok, warning]), Level::Failure);
    }

    #[test]
    fn numbers_are_told_in_the_unit_that_says_most() {
        let mebi = 1_048_576.0;
        assert_eq!([17.0, 1_536.0, 3.25 * mebi].map(bytes_text), ["17 B", "1.5 KiB", "3.2 MiB"]);
        assert_eq!(
            [0.0, 119.0, 120.0, 7_200.0].map(seconds_text),
            ["0 s", "119 s", "2 minutes", "2 hours"]
        );
    }
}
