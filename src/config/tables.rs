//! Several tables in one process: what a section `[tables.NAME]` of the file makes of the settings.
//!
//! In: the layers of the process. Out: settings for each table. It must stay true that a table has
//! every setting of the process but those that its section changes; that what is typed beats both,
//! and with `--table` is for that table only; that what makes a table's names is its own by default
//! (`conflicts` refuses the rest); and that what belongs to the process stands in no section.

use super::catalogue::{self, Fallback};
use super::settings::{Loaded, wrong_values};
use super::source::{Layers, Origin, Texts};
use crate::error::{Error, Result};

/// Most tables: each is a walsender that decodes all of the WAL.
pub const TABLES_MAX: usize = 32;
/// Bytes of a name: it becomes a part of others.
const NAME_BYTES_MAX: usize = 32;
/// What stands where a section should.
pub(super) const EXPECTED: &str = "sections [tables.NAME] are expected";
/// What a section may be called.
pub(super) const NAMES: &str = "its name is to be 1 to 32 of a-z, 0-9 and _, with a letter first";
/// What is the process's, whatever its tables.
const OF_THE_PROCESS: [&str; 11] = [
    "database_url",
    "redis_url",
    "connect_timeout",
    "redis_timeout",
    "reconnect_delay_max",
    "shutdown_grace",
    "http_address",
    "http_port",
    "http_token",
    "log_level",
    "log_format",
];

/// Whether a section may be called so: the name becomes a part of a slot's, and a label of numbers.
/// With a letter first, what is made of it never looks like a shard's.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(fits)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
}

/// The settings of each table that is meant: of `table`, or all. What is wrong is complained about,
/// also in the other tables.
pub(super) fn split(
    layers: &Layers,
    table: Option<&str>,
    complaints: &mut Vec<String>,
) -> Vec<Loaded> {
    let names: Vec<&str> = layers.sections.keys().map(String::as_str).collect();
    complaints.extend(table.and_then(|table| unknown(table, &names)));
    if names.len() > TABLES_MAX {
        complaints.push(format!("there are {} tables: {TABLES_MAX} at most", names.len()));
    }
    let is_meant = |name: &str| table.is_none_or(|table| table == name);
    let mut all = Vec::with_capacity(names.len());
    for (name, section) in &layers.sections {
        for (setting, (_, origin)) in section {
            if OF_THE_PROCESS.contains(setting) {
                complaints.push(format!(
                    "{setting} in {origin}: it is the process's, not a table's; set it before the \
                     first section"
                ));
            }
        }
        let texts = texts(layers, name, section, is_meant(name));
        let is_own = |origin: &Origin| matches!(origin, Origin::Section(..) | Origin::Derived(_));
        complaints.extend(wrong_values(&texts, is_own));
        all.push(Loaded { texts, table: Some(name.clone()), tables: Vec::new() });
    }
    if complaints.is_empty() {
        complaints.extend(conflicts(&all));
    }
    all.retain(|loaded| loaded.table.as_deref().is_some_and(is_meant));
    all
}

fn unknown(table: &str, names: &[&str]) -> Option<String> {
    if names.contains(&table) {
        return None;
    }
    if names.is_empty() {
        return Some("--table: there are no sections [tables.NAME] in a file of settings".into());
    }
    Some(format!("--table {table:?}: there are {}", names.join(", ")))
}

/// What the process says, what the section says instead, and what is typed.
fn texts(layers: &Layers, name: &str, section: &Texts, is_meant: bool) -> Texts {
    let mut texts = if is_meant { &layers.texts } else { &layers.below_flags }.clone();
    let typed: Vec<&str> = texts
        .iter()
        .filter(|(_, (_, origin))| matches!(origin, Origin::Flag(_)))
        .map(|(setting, _)| *setting)
        .collect();
    for (setting, said) in section.iter().filter(|(setting, _)| !typed.contains(setting)) {
        texts.insert(setting, said.clone());
    }
    let is_own = |setting: &str| section.contains_key(setting) || typed.contains(&setting);
    for setting in ["slot_name", "publication_name"] {
        if !is_own(setting) {
            let told = texts.get(setting).map(|(text, _)| text.as_str());
            let base = told.unwrap_or_else(|| fallback(setting)).trim();
            let made = (format!("{base}_{name}"), Origin::Derived(name.to_owned()));
            texts.insert(setting, made);
        }
    }
    texts
        .entry("stream_name")
        .or_insert_with(|| (name.to_owned(), Origin::Derived(name.to_owned())));
    texts
}

fn fallback(setting: &str) -> &'static str {
    match catalogue::find(setting).map(|setting| setting.fallback) {
        Some(Fallback::Value(text)) => text,
        Some(Fallback::Required | Fallback::Derived(_)) | None => "",
    }
}

fn conflicts(all: &[Loaded]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for loaded in all {
        let table = loaded.table.as_deref().unwrap_or_default();
        let within = loaded.conflicts().into_iter();
        found.extend(within.map(|complaint| format!("[tables.{table}]: {complaint}")));
    }
    for (at, one) in all.iter().enumerate() {
        for other in all.iter().skip(at + 1) {
            match one.conflicts_with(other) {
                Ok(complaints) => found.extend(complaints),
                Err(error) => found.push(error.to_string()),
            }
        }
    }
    found
}

impl Loaded {
    /// The name of the table's section; none where there are no sections.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    /// Those of each table that is meant; without sections these.
    #[must_use]
    pub fn each(&self) -> Vec<&Self> {
        if self.tables.is_empty() { vec![self] } else { self.tables.iter().collect() }
    }

    /// What `read` makes of each.
    pub fn of_each<T>(&self, read: impl Fn(&Self) -> Result<T>) -> Result<Vec<T>> {
        self.each().into_iter().map(read).collect()
    }

    /// Those of one table, for what is about one.
    pub fn one(&self) -> Result<&Self> {
        match self.tables.as_slice() {
            [] => Ok(self),
            [table] => Ok(table),
            tables => {
                let names: Vec<&str> = tables.iter().filter_map(Self::table).collect();
                let what = format!("there are several tables: {}", names.join(", "));
                Err(Error::usage(what).hint("say which one is meant: --table NAME"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SETTINGS, Shard};

    #[test]
    fn what_is_the_process_s_are_settings() {
        for name in OF_THE_PROCESS {
            assert!(SETTINGS.iter().any(|setting| setting.name == name), "{name}");
        }
    }

    #[test]
    fn a_name_fits_into_a_slot_s_and_is_no_shard_s() {
        for name in ["orders", "a", "of4", "eu_1", "x1of4", &"x".repeat(32)] {
            assert!(is_name(name), "{name}");
            assert_eq!(Shard::of_name("walrelay", &format!("walrelay_{name}")), None, "{name}");
        }
        for name in ["", "1of4", "Orders", "a-b", "a.b", "_a", "1a", "\u{fc}", &"x".repeat(33)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
