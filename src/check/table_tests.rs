//! Tests of what is told about the outbox.

use super::*;
use crate::check::finding::Level;
use crate::config::{Preset, TableName};

const SETUP: &str = include_str!("../../sql/migrations/0002_outbox_columns.sql");

fn name() -> Outbox {
    TableName { schema: "identity".into(), name: "outbox".into() }.into()
}

fn table(columns: &[(&str, &str)]) -> Table {
    let column = |(name, type_name): &(&str, &str)| Column {
        name: (*name).to_owned(),
        type_oid: if *type_name == "bigint" { 20 } else { 25 },
        type_name: (*type_name).to_owned(),
        is_generated: false,
        may_select: true,
        may_update: true,
    };
    Table { columns: columns.iter().map(column).collect(), ..Table::default() }
}

#[test]
fn what_is_missing_is_added_as_setup_would() {
    for (name, definition) in DEFINITIONS.iter().filter(|(name, _)| !EVENT.contains(name)) {
        let line = format!("ADD COLUMN IF NOT EXISTS {name} {definition}");
        assert!(SETUP.contains(&line), "{line}");
    }
    let every = PARKING_COLUMNS.iter().chain(&EVENT);
    for wanted in every {
        assert!(DEFINITIONS.iter().any(|(name, _)| name == wanted), "{wanted}");
    }
    let bare = table(&[("id", "bigint"), ("payload", "jsonb")]);
    let finding = bare.event(&name());
    assert_eq!(
        (finding.level, finding.found.as_str()),
        (Level::Failure, "without event_id, event_type, aggregate_id")
    );
    assert_eq!(bare.parking(&name()).level, Level::Warning);
}

#[test]
fn a_column_of_another_type_is_named_with_what_makes_it_right() {
    let right = [
        ("id", "bigint"),
        ("published", "boolean"),
        ("published_at", "timestamp(3) with time zone"),
        ("error_message", "character varying(80)"),
        ("payload", "jsonb"),
    ];
    assert!(table(&right).types(&name()).is_empty(), "{:?}", table(&right).types(&name()));
    for (column, type_name) in [
        ("attempts", "text"),
        ("published", "integer"),
        ("published_at", "date"),
        ("payload", "integer"),
    ] {
        let findings = table(&[(column, type_name)]).types(&name());
        let [finding] = findings.as_slice() else { panic!("{column}: {findings:?}") };
        assert_eq!(finding.object, format!("column {column} of identity.outbox"));
        let fix = &finding.advice.as_ref().unwrap().fix;
        assert!(fix.contains(&format!("USING {}::text::", name_text(column))), "{fix}");
        assert_eq!(fix.contains("SET DEFAULT"), ["attempts", "published"].contains(&column));
    }
    let fix = table(&[("id", "uuid")]).types(&name()).remove(0).advice.unwrap().fix;
    assert!(fix.contains("columns = \"id = walrelay_id\""), "{fix}");
}

#[test]
fn the_columns_of_another_table_are_asked_for_by_their_names() {
    let mut outbox = name();
    outbox.columns = Columns::new(Preset::OutboxEvents, "").unwrap();
    let columns = [("id", "uuid"), ("aggregate_id", "uuid"), ("event_type", "text")];
    let mut bare = table(&columns);
    bare.parts = outbox.columns.clone();
    let finding = bare.event(&outbox);
    assert_eq!(finding.found, "without walrelay_id, event_data");
    assert_eq!(finding.advice.unwrap().fix, "walrelay setup");
    let fix = bare.parking(&outbox).advice.unwrap().fix;
    assert!(fix.contains("IF NOT EXISTS retry_count integer NOT NULL DEFAULT 0"), "{fix}");
    assert!(!fix.contains("published"), "no flag where a moment says it: {fix}");
}
