//! What a schema holds against a payload, in words.
//!
//! In: an error of the validator. Out: a [`Violation`]: file, place, rule. It must stay true that
//! no value of the payload gets in here: of a place only those names are said that the schemas
//! themselves know, of a rule only what the schema says.

use std::fmt;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::paths::LocationSegment;
use serde_json::Value;

use super::compile::Names;

/// A place may be as deep as the payload, a rule as long as the schema.
const PLACE_BYTES_MAX: usize = 200;
const RULE_BYTES_MAX: usize = 120;
/// How it is said.
const BREAKS: &str = "payload breaks schema";
const UNKNOWN: &str = "its type has no schema, and schema_strict is set";
/// What stands for a name that no schema knows: it may be somebody's.
const SOMEBODYS: &str = "*";

/// What is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The schema's file; none where there is no schema, which `schema_strict` forbids.
    pub schema: Option<Box<str>>,
    /// Where in the payload, as a JSON Pointer; empty for the whole.
    pub place: Box<str>,
    /// Which keyword, and what it asks for.
    pub rule: Box<str>,
    /// How many faults there are besides, as far as they were counted.
    pub more: usize,
}

impl Violation {
    /// By the first error of the validator.
    pub(super) fn new(
        schema: &str,
        first: Option<&ValidationError<'_>>,
        more: usize,
        names: &Names,
    ) -> Self {
        Self {
            schema: Some(schema.into()),
            place: first.map(|error| place(error, names)).unwrap_or_default().into(),
            rule: first.map_or_else(|| "false".to_owned(), |error| rule(error.kind())).into(),
            more,
        }
    }

    /// Of JSON that PostgreSQL takes and no validator can hold.
    pub(super) fn unreadable(schema: &str, error: &serde_json::Error) -> Self {
        let rule = format!("JSON that a schema can be held against: {error}");
        let rule = cut(rule, RULE_BYTES_MAX);
        Self { schema: Some(schema.into()), place: "".into(), rule: rule.into(), more: 0 }
    }

    /// Of an event that no schema speaks of.
    pub(super) fn unknown() -> Self {
        Self { schema: None, place: "".into(), rule: UNKNOWN.into(), more: 0 }
    }

    /// Whether these are our words for one.
    #[must_use]
    pub fn is_said_by(text: &str) -> bool {
        text.starts_with(BREAKS) || text == UNKNOWN
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(schema) = &self.schema else { return f.write_str(&self.rule) };
        write!(f, "{BREAKS} {schema}: ")?;
        match &*self.place {
            "" => f.write_str("the whole")?,
            place => f.write_str(place)?,
        }
        write!(f, " against {}", self.rule)?;
        match self.more {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

fn place(error: &ValidationError<'_>, names: &Names) -> String {
    let mut place = String::new();
    for segment in error.instance_path() {
        if place.len() > PLACE_BYTES_MAX {
            break;
        }
        place.push('/');
        match segment {
            LocationSegment::Index(index) => place += &index.to_string(),
            LocationSegment::Property(name) if names.contains(&*name) => {
                place += &name.replace('~', "~0").replace('/', "~1");
            }
            LocationSegment::Property(_) => place += SOMEBODYS,
        }
    }
    cut(place, PLACE_BYTES_MAX)
}

/// The keyword, and what the schema says behind it. Unexpected names and the like are the
/// payload's: they are left out.
fn rule(kind: &Kind) -> String {
    let more = match kind {
        Kind::Type { kind: TypeKind::Single(kind) } => kind.to_string(),
        Kind::Type { kind: TypeKind::Multiple(kinds) } => {
            kinds.iter().map(|kind| kind.to_string()).collect::<Vec<_>>().join(" or ")
        }
        Kind::Required { property } => property.to_string(),
        Kind::Enum { options: value } | Kind::Constant { expected_value: value } => {
            value.to_string()
        }
        Kind::Pattern { pattern } => Value::from(pattern.as_str()).to_string(),
        Kind::Format { format: text }
        | Kind::ContentEncoding { content_encoding: text }
        | Kind::ContentMediaType { content_media_type: text } => text.clone(),
        Kind::Maximum { limit }
        | Kind::Minimum { limit }
        | Kind::ExclusiveMaximum { limit }
        | Kind::ExclusiveMinimum { limit } => limit.to_string(),
        Kind::MaxItems { limit }
        | Kind::MinItems { limit }
        | Kind::MaxLength { limit }
        | Kind::MinLength { limit }
        | Kind::MaxProperties { limit }
        | Kind::MinProperties { limit } => limit.to_string(),
        Kind::MultipleOf { multiple_of } => multiple_of.to_string(),
        Kind::PropertyNames { error } => rule(error.kind()),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            "that takes too long to match".to_owned()
        }
        Kind::AdditionalItems { .. }
        | Kind::AdditionalProperties { .. }
        | Kind::AnyOf { .. }
        | Kind::Contains
        | Kind::Custom { .. }
        | Kind::FalseSchema
        | Kind::FromUtf8 { .. }
        | Kind::Not { .. }
        | Kind::OneOfMultipleValid { .. }
        | Kind::OneOfNotValid { .. }
        | Kind::UnevaluatedItems { .. }
        | Kind::UnevaluatedProperties { .. }
        | Kind::UniqueItems
        | Kind::Referencing(_) => String::new(),
    };
    cut(format!("{} {more}", kind.keyword()).trim_end().to_owned(), RULE_BYTES_MAX)
}

/// At the end of a character.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
