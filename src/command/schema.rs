//! `walrelay schema check`: would the table and its streams pass?
//!
//! In: settings, and what was asked. Out: the report on `out`, and a failure where something breaks
//! its schema: that is the exit code. What `schema_validation` says does not matter: this is asked
//! before it says `reject`.

use std::io::Write;
use std::time::Instant;

use super::dlq::say;
use super::schema_report;
use super::terminal::Style;
use super::verify::{Steps, asked};
use crate::cli::{Schema, SchemaCheck, Side};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::verify::{Conformity, Held, check_schemas};

/// Does what was asked, and writes the answer to `out`.
pub async fn run(settings: &Settings, typed: &Schema, out: &mut impl Write) -> Result<()> {
    let Schema::Check(typed) = typed;
    let mut settings = settings.clone();
    settings.schema_strict |= typed.strict;
    let contract = settings.read_contract()?;
    let began = Instant::now();
    let mut steps = Steps::default();
    let ended = Box::pin(check_schemas(&settings, &contract, &held(typed), &mut steps)).await;
    steps.end();
    let found = ended?;
    let text = if typed.json {
        format!("{}\n", schema_report::document(&found, began.elapsed()))
    } else {
        schema_report::text(&found, began.elapsed(), Style::of_stdout())
    };
    say(out, &text)?;
    verdict(&found)
}

fn held(typed: &SchemaCheck) -> Held {
    Held {
        asked: asked(&typed.range),
        types: typed.types.clone(),
        has_rows: typed.only != Some(Side::Entries),
        has_entries: typed.only != Some(Side::Rows),
        shown_max: usize::try_from(typed.limit).unwrap_or(usize::MAX),
    }
}

fn verdict(found: &Conformity) -> Result<()> {
    let (are, what) = match found.broken {
        0 => return Ok(()),
        1 => ("is", "event that breaks its schema"),
        _ => ("are", "events that break their schemas"),
    };
    let text = format!("there {are} {} {what}, table {}", found.broken, found.table);
    Err(Error::definite(text)
        .hint("correct the schema or what writes such events: docs/schemas.md"))
}
