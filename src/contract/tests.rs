//! Directories of schemas, and what they say of payloads.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::error::{EXIT_USAGE, Result};

/// What must be said of nobody.
const SECRET: &str = "hunter2";

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn contract(files: &[(&str, &str)], unknown: Unknown) -> Result<Contract> {
    Contract::read(directory(files).path(), Breach::Refused, unknown)
}

fn subject<'a>(topic: &'a str, event_type: &'a str, version: &'a str) -> Subject<'a> {
    let [topic, event_type, version] = [topic, event_type, version].map(str::as_bytes);
    Subject { topic, event_type, version, event_id: b"e" }
}

/// What `schema` says of `payload`.
fn said(schema: &str, payload: &str) -> String {
    let contract = contract(&[("A.json", schema)], Unknown::Passes).unwrap();
    let violation = contract.admit(&subject("s", "A", "1"), payload.as_bytes()).unwrap_err();
    assert_eq!(contract.check(&subject("s", "A", "1"), payload.as_bytes()).unwrap(), violation);
    violation.to_string()
}

#[test]
fn the_most_specific_schema_decides_alone() {
    let files = [
        ("A.json", "true"),
        ("A@2.json", "true"),
        ("s/A.json", "true"),
        ("s/A@2.json", "true"),
        ("t/A@3.json", "true"),
        ("README.md", "no schema"),
        (".git/x", "hidden"),
    ];
    let contract = contract(&files, Unknown::Breaks).unwrap();
    assert_eq!(contract.len(), 5);
    for (topic, version, file) in [
        ("s", "2", "s/A@2.json"),
        ("s", "1", "s/A.json"),
        ("t", "3", "t/A@3.json"),
        ("t", "2", "A@2.json"),
        ("u", "1", "A.json"),
    ] {
        assert_eq!(contract.schema_of(&subject(topic, "A", version)), Some(file));
        contract.admit(&subject(topic, "A", version), b"{}").unwrap();
    }
    assert_eq!(contract.schema_of(&subject("s", "B", "1")), None);
    let violation = contract.admit(&subject("s", "B", "1"), b"{}").unwrap_err();
    assert_eq!(violation.to_string(), "its type has no schema, and schema_strict is set");
    assert!(Violation::is_said_by(&violation.to_string()));
}

#[test]
fn a_type_without_a_schema_passes() {
    let contract = contract(&[("t/A.json", "false")], Unknown::Passes).unwrap();
    contract.admit(&subject("s", "A", "1"), b"{}").unwrap();
    assert!(contract.admit(&subject("t", "A", "1"), b"{}").is_err());
}

#[test]
fn a_violation_names_place_and_rule_and_no_value() {
    for (schema, payload, says) in [
        (
            r#"{"properties": {"n": {"type": "integer"}}}"#,
            r#"{"n": "hunter2"}"#,
            "/n against type integer",
        ),
        (r#"{"required": ["a"]}"#, r#"{"hunter2": 1}"#, "the whole against required \"a\""),
        (
            r#"{"properties": {"s": {"enum": ["x", "y"]}}}"#,
            r#"{"s": "hunter2"}"#,
            "/s against enum [\"x\",\"y\"]",
        ),
        (
            r#"{"properties": {"s": {"pattern": "^a"}}}"#,
            r#"{"s": "hunter2"}"#,
            "/s against pattern \"^a\"",
        ),
        (
            r#"{"properties": {"s": {"format": "uuid"}}}"#,
            r#"{"s": "hunter2"}"#,
            "/s against format uuid",
        ),
        (
            r#"{"properties": {"s": {"const": 1}}, "additionalProperties": false}"#,
            r#"{"hunter2": 1}"#,
            "the whole against additionalProperties",
        ),
        (
            r#"{"additionalProperties": {"properties": {"a~/": {"type": ["null", "array"]}}}}"#,
            r#"{"hunter2": {"a~/": "hunter2"}}"#,
            "/*/a~0~1 against type ",
        ),
        (r#"{"items": {"maximum": 7}}"#, "[1, 8]", "/1 against maximum 7"),
        (
            r#"{"propertyNames": {"maxLength": 3}}"#,
            r#"{"hunter2": 1}"#,
            "the whole against propertyNames maxLength 3",
        ),
        (
            r#"{"anyOf": [{"type": "null"}, {"const": 3}]}"#,
            "\"hunter2\"",
            "the whole against anyOf",
        ),
        (r#"{"required": ["a", "b", "c"]}"#, "{}", "the whole against required \"a\" (and 2 more)"),
        ("false", "\"hunter2\"", "the whole against falseSchema"),
    ] {
        let text = said(schema, payload);
        let wanted = format!("payload breaks schema A.json: {says}");
        assert!(text.starts_with(&wanted), "{text}\n{wanted}");
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn json_that_no_validator_holds_is_a_violation_and_no_panic() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    for payload in [deep.as_str(), "1e999", r#"{"a": "\ud800"}"#, "not json"] {
        let text = said("true", payload);
        assert!(text.contains("against JSON that a schema can be held against: "), "{text}");
    }
    let many = format!(r#"{{"enum": ["{}"]}}"#, "é".repeat(999));
    assert!(said(&many, "1").len() < 200);
}

#[test]
fn schemas_may_refer_to_each_other_and_to_nothing_else() {
    let shared = r#"{"$defs": {"n": {"type": "integer"}}}"#;
    let other = r#"{"$id": "https://x.example/other.json", "type": "integer"}"#;
    let refers = |to: &str| format!(r#"{{"properties": {{"n": {{"$ref": "{to}"}}}}}}"#);
    for to in ["../_shared.json#/$defs/n", "https://x.example/other.json", "#/$defs/n"] {
        let own = format!(r#"{{"$defs": {{"n": {{"type": "integer"}}}}, {}"#, &refers(to)[1..]);
        let files = [("_shared.json", shared), ("_d/other.json", other), ("s/A.json", &own)];
        let contract = contract(&files, Unknown::Passes).unwrap();
        contract.admit(&subject("s", "A", "1"), br#"{"n": 1}"#).unwrap();
        let violation = contract.admit(&subject("s", "A", "1"), br#"{"n": "x"}"#).unwrap_err();
        assert_eq!(&*violation.place, "/n", "{to}");
    }
    let outside = directory(&[("other.json", "true")]);
    let outside = format!("file://{}/other.json", outside.path().display());
    for to in
        [outside.as_str(), "../../etc/passwd", "https://x.example/a", "B.json", "#/$defs/none"]
    {
        let error = contract(&[("s/A.json", &refers(to))], Unknown::Passes).unwrap_err();
        assert_eq!(error.exit_code(), EXIT_USAGE, "{to}");
        assert!(error.to_string().contains("schema s/A.json is none"), "{to}: {error}");
    }
}

#[test]
fn schemas_that_refer_to_each_other_in_circles_end_where_the_payload_does() {
    let tree = r##"{"properties": {"n": {"type": "integer"}, "next": {"$ref": "#"}}}"##;
    let text = said(tree, r#"{"n": 1, "next": {"n": 2, "next": {"n": "hunter2"}}}"#);
    assert!(text.ends_with("/next/next/n against type integer"), "{text}");
    for files in [
        &[("A.json", r##"{"$ref": "#"}"##)][..],
        &[("A.json", r#"{"$ref": "B.json"}"#), ("B.json", r#"{"$ref": "A.json"}"#)],
    ] {
        let contract = contract(files, Unknown::Passes).unwrap();
        contract.admit(&subject("s", "A", "1"), b"{}").unwrap();
    }
}

#[test]
fn a_directory_that_is_wrong_is_refused_with_the_name_of_what_is() {
    for (files, says) in [
        (&[("A.json", "{")][..], "A.json is not JSON"),
        (&[("A.json", r#"{"type": "strnig"}"#)], "schema A.json is none at /type"),
        (&[("A.json", "7")], "schema A.json is none"),
        (&[("A.json", r#"{"pattern": "("}"#)], "schema A.json is none at /pattern"),
        (&[("A.json", "true"), ("%41.json", "true")], "speaks of the same events"),
        (
            &[("_a.json", r#"{"$id": "urn:x"}"#), ("B.json", r#"{"$id": "urn:x"}"#)],
            "another file has the $id urn:x",
        ),
        (&[("s/t/A.json", "true")], "is a directory inside that of a stream"),
        (&[("A@.json", "true")], "names no type of event"),
        (&[("_a.json", "true"), ("README.md", "")], "holds no schema"),
    ] {
        let error = contract(files, Unknown::Passes).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.exit_code(), EXIT_USAGE, "{error}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [Path::new("/nowhere/at/all"), file.path()] {
        let error = Contract::read(path, Breach::Told, Unknown::Passes).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert_eq!(error.exit_code(), EXIT_USAGE, "{error}");
    }
}

#[test]
fn what_is_told_is_counted_by_schema_and_published() {
    let files = directory(&[("A.json", "false"), ("B.json", "true")]);
    let contract = Contract::read(files.path(), Breach::Told, Unknown::Breaks).unwrap();
    for (event_type, times) in [("A", 3), ("B", 2), ("C", 1)] {
        for _ in 0..times {
            contract.admit(&subject("s", event_type, "1"), b"{}").unwrap();
        }
    }
    let told: Vec<(&str, u64)> = contract.told().collect();
    assert_eq!(told, [("A.json", 3), ("B.json", 0), ("none", 1)]);
}
