//! The schemas that payloads are held against: read and compiled as a relay would at its start.
//!
//! In: settings. Out: a finding where `schema_dir` is set. Where nothing is held against them yet a
//! wrong one is a warning: it will hurt when something is.

use super::finding::{Finding, Level, on_settings};
use crate::config::{SchemaValidation, Settings};

/// Reads files, and asks no server.
pub(super) fn examine(settings: &Settings) -> Option<Finding> {
    let dir = settings.schema_dir.as_ref()?;
    let subject = on_settings(format!("schema_dir {}", dir.display()));
    let validation = settings.schema_validation;
    let error = match settings.read_contract() {
        Ok(contract) => {
            let (count, word) = (contract.len(), validation.name());
            let schemas = if count == 1 { "schema" } else { "schemas" };
            return Some(subject.ok(format!("{count} {schemas}, schema_validation = {word}")));
        }
        Err(error) => error,
    };
    let (level, why) = match validation {
        SchemaValidation::Off => (Level::Warning, "with schema_validation on no relay would start"),
        SchemaValidation::Warn | SchemaValidation::Reject => {
            (Level::Failure, "a relay with these settings does not start")
        }
    };
    let again = "walrelay schema check --only rows";
    let fix = error.next_step().map_or(again.to_owned(), |step| format!("# {step}\n{again}"));
    Some(subject.bad(level, error.to_string(), why, fix))
}
