//! The outbox: which table it is, which of its columns plays which part, and statements on it.
//!
//! In: a table's name, a preset and what was said against it. Out: [`Outbox`], which fills SQL in.
//! It must stay true that statements are written for the parts of our own table and that only this
//! file turns a part into a column: `o.payload` becomes that of the row `o`, `{attempts}` the bare
//! name of a column that is written. What a table lacks is read as NULL.

use std::fmt;
use std::ops::Deref;

use super::columns::{Columns, Source};
use super::template::Template;
use super::values::TableName;
use crate::quote;

/// An outbox. First of all it is a table: whatever only needs that takes its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// The table.
    pub table: TableName,
    /// Its columns.
    pub columns: Columns,
    /// How the stream of a row is called that names none; none: `stream_name`.
    pub template: Option<Template>,
}

impl Deref for Outbox {
    type Target = TableName;

    fn deref(&self) -> &TableName {
        &self.table
    }
}

impl fmt::Display for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

impl From<TableName> for Outbox {
    /// A table with the columns of our own.
    fn from(table: TableName) -> Self {
        Self { table, columns: Columns::default(), template: None }
    }
}

/// What is NULL of a column that is not there.
const MOMENTS: [&str; 4] = ["created_at", "published_at", "next_attempt_at", "dead_lettered_at"];
/// What is counted, and counts as zero where it is NULL.
const COUNTERS: [&str; 2] = ["attempts", "started_attempts"];

impl Outbox {
    /// `template` for this outbox: `{table}`, `{table_text}`, `{mark}`, `{unmark}`, each `o.part`
    /// and each `{part}`. Other places in braces are left to the caller.
    #[must_use]
    pub fn sql(&self, template: &str) -> String {
        let mut sql = String::with_capacity(template.len() + 64);
        let mut rest = template;
        while let Some(at) = rest.find(['o', '{']) {
            let (before, here) = rest.split_at_checked(at).unwrap_or((rest, ""));
            sql.push_str(before);
            let is_word = sql.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.'));
            let taken = match here.strip_prefix("o.") {
                Some(part) if !is_word => self.push_part(&mut sql, part).map(|bytes| bytes + 2),
                Some(_) => None,
                None => self.push_place(&mut sql, here),
            };
            let taken = taken.unwrap_or_else(|| {
                sql.push_str(here.get(..1).unwrap_or_default());
                1
            });
            rest = here.get(taken..).unwrap_or_default();
        }
        sql.push_str(rest);
        sql
    }

    /// The value of a part of the row `o`; how many bytes its name has.
    fn push_part(&self, sql: &mut String, text: &str) -> Option<usize> {
        let part = name(text);
        sql.push_str(&self.value(part)?);
        Some(part.len())
    }

    /// What stands for a place in braces; how many bytes that place has.
    fn push_place(&self, sql: &mut String, text: &str) -> Option<usize> {
        let place = name(text.strip_prefix('{')?);
        if !text.get(place.len() + 1..)?.starts_with('}') {
            return None;
        }
        let filled = match place {
            "table" => self.quoted(),
            "table_text" => quote::literal(&self.quoted()),
            "mark" => self.assignments("true", "pg_catalog.statement_timestamp()"),
            "unmark" => self.assignments("false", "NULL"),
            "own_stream" => self.own_stream(),
            part => bare(part, self.columns.column(part)?),
        };
        sql.push_str(&filled);
        Some(place.len() + 2)
    }

    /// A part of the row `o`, as an expression; none where there is no such part.
    fn value(&self, part: &str) -> Option<String> {
        let value = match self.columns.source(part)? {
            // A table without the flag says by the moment that a row is published.
            Source::Nothing if part == "published" => match self.columns.column("published_at") {
                Some(column) => format!("(o.{} IS NOT NULL)", quote::ident(column)),
                None => "false".to_owned(),
            },
            Source::Column(column) if COUNTERS.contains(&part) && column != part => {
                format!("coalesce(o.{}, 0)", quote::ident(column))
            }
            // Somebody else's flag may be NULL, and so may one of this name: it is not published.
            Source::Column(column) if part == "published" => {
                format!("(o.{} IS TRUE)", bare(part, column))
            }
            Source::Column(column) => format!("o.{}", bare(part, column)),
            Source::Constant(text) => format!("{}::text", quote::literal(text)),
            Source::Nothing if MOMENTS.contains(&part) => "NULL::timestamptz".to_owned(),
            // What the payload says is read from the payload.
            Source::Nothing | Source::Path(_) => "NULL::text".to_owned(),
        };
        Some(value)
    }

    /// What marks a row, or takes its mark away.
    fn assignments(&self, flag: &str, moment: &str) -> String {
        let set = |part: &str, value: &str| {
            self.columns.column(part).map(|column| format!("{} = {value}", bare(part, column)))
        };
        let parts = [set("published", flag), set("published_at", moment)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// The stream of a row `o` that names none, where there is a template for it; else NULL.
    fn own_stream(&self) -> String {
        let Some(template) = &self.template else { return "NULL::text".to_owned() };
        let text = |literal: &str| quote::literal(literal);
        let part = |part: &str| {
            let value = self.value(part).unwrap_or_else(|| "NULL".to_owned());
            format!("nullif({value}::text, '')")
        };
        template.pieces(text, part).join(" || ")
    }

    /// The parts that the table's columns play: what [`Columns`] names and the table has, each with
    /// its type. A table that says by a moment that a row is published has that flag, too.
    #[must_use]
    pub fn parts(&self, columns: &[(String, u32)]) -> Parts {
        let type_of = |column: &str| columns.iter().find(|(name, _)| name == column);
        let there = |(part, column)| Some((part, type_of(column)?.1));
        let mut parts = Parts(self.columns.named().filter_map(there).collect());
        if self.columns.column("published").is_none() && parts.has("published_at") {
            parts.0.push(("published", BOOL_OID));
        }
        parts
    }

    /// The same without the parts that `is_there` denies: they are read as NULL.
    #[must_use]
    pub fn without(&self, is_there: impl Fn(&str) -> bool) -> Self {
        Self { columns: self.columns.without(is_there), ..self.clone() }
    }

    /// A condition for those rows whose event id is in the list $`parameter`, texts. `parts` says
    /// of which type the column is: as text an index on a uuid would not serve.
    #[must_use]
    pub fn events_in(&self, parts: &Parts, parameter: u8) -> String {
        let (cast, list) =
            if parts.is_uuid("event_id") { ("", "text[]::uuid[]") } else { ("::text", "text[]") };
        self.sql(&format!("o.event_id{cast} = ANY (${parameter}::{list})"))
    }

    /// The names of the columns that the relay writes when it marks a row.
    #[must_use]
    pub fn marks(&self) -> Vec<&str> {
        ["published", "published_at"].iter().filter_map(|part| self.columns.column(part)).collect()
    }
}

const BOOL_OID: u32 = 16;
const UUID_OID: u32 = 2950;

/// The parts that a table has a column for, and the types of those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts(Vec<(&'static str, u32)>);

impl Parts {
    /// The type of the column that plays a part, where there is one.
    #[must_use]
    pub fn type_of(&self, part: &str) -> Option<u32> {
        self.0.iter().find(|(known, _)| *known == part).map(|(_, type_oid)| *type_oid)
    }

    /// Whether there is a column for a part.
    #[must_use]
    pub fn has(&self, part: &str) -> bool {
        self.type_of(part).is_some()
    }

    /// Whether the column for a part is a uuid.
    #[must_use]
    pub fn is_uuid(&self, part: &str) -> bool {
        self.type_of(part) == Some(UUID_OID)
    }
}

/// The letters and underscores at the head of `text`.
fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// A column's name for SQL; our own names need no quotes.
fn bare(part: &str, column: &str) -> String {
    if part == column { column.to_owned() } else { quote::ident(column) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::columns::Preset;

    fn outbox(preset: Preset, columns: &str) -> Outbox {
        let table = TableName { schema: "app".into(), name: "My Events".into() };
        Outbox { table, columns: Columns::new(preset, columns).unwrap(), template: None }
    }

    #[test]
    fn statements_on_our_own_table_are_as_they_stand_in_the_file() {
        let own = outbox(Preset::Identity, "");
        let sql = "SELECT o.id, foo.id, no.id, {list} FROM t AS o WHERE o.payload IS NULL -- {";
        assert_eq!(own.sql(sql), sql);
        assert_eq!(own.sql("{table} o {attempts}"), "\"app\".\"My Events\" o attempts");
        assert_eq!(
            own.sql("SET {mark}"),
            "SET published = true, published_at = pg_catalog.statement_timestamp()"
        );
    }

    #[test]
    fn parts_become_the_columns_that_play_them() {
        let other =
            outbox(Preset::EventOutbox, "payload = \"Data o.id\", aggregate_type = 'it''s'");
        let sql = other.sql("o.payload, o.published, NOT o.published, o.event_id, o.xmin");
        assert_eq!(
            sql,
            "o.\"Data o.id\", (o.\"published_at\" IS NOT NULL), \
             NOT (o.\"published_at\" IS NOT NULL), o.\"id\", o.xmin"
        );
        assert_eq!(other.sql("o.aggregate_type::text"), "'it''s'::text::text");
        assert_eq!(
            other.sql("{attempts} = o.attempts"),
            "\"retry_count\" = coalesce(o.\"retry_count\", 0)"
        );
        assert_eq!(other.sql("{mark}"), "published_at = pg_catalog.statement_timestamp()");
        assert_eq!(other.sql("{unmark}"), "published_at = NULL");
        assert_eq!(other.sql("{which}"), "{which}", "for the caller");
        let flagged = outbox(Preset::Identity, "published = sent");
        assert_eq!(flagged.sql("NOT o.published"), "NOT (o.\"sent\" IS TRUE)");
        let bare = outbox(Preset::Debezium, "published = none, published_at = none");
        assert_eq!(bare.sql("o.published, o.created_at"), "false, NULL::timestamptz");
    }

    #[test]
    fn a_stream_by_a_template_is_an_expression() {
        let mut debezium = outbox(Preset::Debezium, "");
        debezium.template = Some(Template::parse("x'{aggregate_type}.v1").unwrap());
        assert_eq!(
            debezium.sql("coalesce(o.topic::text, {own_stream}, $1)"),
            "coalesce(NULL::text::text, 'x''' || nullif(o.\"aggregatetype\"::text, '') \
             || '.v1', $1)"
        );
    }

    #[test]
    fn a_column_may_play_two_parts_and_a_moment_that_of_the_flag() {
        let columns =
            [("id".to_owned(), 20), ("processed_at".to_owned(), 1114), ("other".to_owned(), 25)];
        let events = outbox(Preset::OutboxEvents, "id = id");
        let parts = events.parts(&columns);
        for part in [("id", 20), ("event_id", 20), ("published_at", 1114), ("published", 16)] {
            assert!(parts.0.contains(&part), "{parts:?}");
        }
        assert_eq!(parts.0.len(), 4);
    }
}
