//! The compiled schemas, and which of them speaks of an event.
//!
//! In: the names of an event and its payload. Out: whether it may be published. It must stay true
//! that finding the schema allocates nothing, and that the most specific one decides alone: that
//! of the stream before that of any stream, and there that of the version before that of any.

use std::collections::HashMap;
use std::path::Path;

use super::compile::{Schema, compile};
use super::layout::{self, Meant};
use super::telling::Telling;
use super::violation::Violation;
use crate::error::{Error, Result};

/// What becomes of an event that breaks its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// It is published, and that is told.
    Told,
    /// It is refused.
    Refused,
}

/// What becomes of an event that no schema speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is fine.
    Passes,
    /// It breaks the contract.
    Breaks,
}

/// The names by which an event's schema is found, and the event.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The stream it belongs to.
    pub topic: &'a [u8],
    /// What happened.
    pub event_type: &'a [u8],
    /// Version of the payload's schema.
    pub version: &'a [u8],
    /// Which it is.
    pub event_id: &'a [u8],
}

/// By event type.
type Types = HashMap<Vec<u8>, Versions>;

/// The schemas of one type of event, by their places.
#[derive(Debug, Default)]
struct Versions {
    each: Vec<(Vec<u8>, usize)>,
    any: Option<usize>,
}

impl Versions {
    fn find(&self, version: &[u8]) -> Option<usize> {
        let named = self.each.iter().find(|(known, _)| known == version);
        named.map(|(_, place)| *place).or(self.any)
    }

    /// False where there is one already.
    fn add(&mut self, version: Option<String>, place: usize) -> bool {
        let Some(version) = version.map(String::into_bytes) else {
            return self.any.replace(place).is_none();
        };
        let is_new = self.each.iter().all(|(known, _)| *known != version);
        self.each.push((version, place));
        is_new
    }
}

/// The schemas of a directory.
#[derive(Debug)]
pub struct Contract {
    schemas: Vec<Schema>,
    in_any: Types,
    by_topic: HashMap<Vec<u8>, Types>,
    breach: Breach,
    unknown: Unknown,
    telling: Telling,
}

impl Contract {
    /// Reads and compiles a directory. Whatever is wrong in it is a usage error that names the
    /// file.
    pub fn read(dir: &Path, breach: Breach, unknown: Unknown) -> Result<Self> {
        let compiled = compile(layout::read(dir)?)?;
        let mut this = Self {
            telling: Telling::new(compiled.len()),
            schemas: Vec::with_capacity(compiled.len()),
            in_any: Types::new(),
            by_topic: HashMap::new(),
            breach,
            unknown,
        };
        for (meant, schema) in compiled {
            this.add(meant, schema)?;
        }
        Ok(this)
    }

    fn add(&mut self, meant: Meant, schema: Schema) -> Result<()> {
        let Meant { topic, event_type, version } = meant;
        let types = match topic {
            Some(topic) => self.by_topic.entry(topic.into_bytes()).or_default(),
            None => &mut self.in_any,
        };
        let versions = types.entry(event_type.into_bytes()).or_default();
        if !versions.add(version, self.schemas.len()) {
            let what = format!("schema {}: another file speaks of the same events", schema.name);
            return Err(Error::usage(what));
        }
        self.schemas.push(schema);
        Ok(())
    }

    /// Whether an event may be published. One that may although it breaks its schema is told.
    pub fn admit(&self, subject: &Subject<'_>, payload: &[u8]) -> Result<(), Violation> {
        let place = self.place(subject);
        let Some(violation) = self.violation(place, payload) else { return Ok(()) };
        if self.breach == Breach::Refused {
            return Err(violation);
        }
        self.telling.tell(place, subject, &violation);
        Ok(())
    }

    /// What is wrong with an event, which is told to nobody.
    #[must_use]
    pub fn check(&self, subject: &Subject<'_>, payload: &[u8]) -> Option<Violation> {
        self.violation(self.place(subject), payload)
    }

    fn violation(&self, place: Option<usize>, payload: &[u8]) -> Option<Violation> {
        match place.and_then(|place| self.schemas.get(place)) {
            Some(schema) => schema.check(payload),
            None => (self.unknown == Unknown::Breaks).then(Violation::unknown),
        }
    }

    fn place(&self, subject: &Subject<'_>) -> Option<usize> {
        let find = |types: &Types| types.get(subject.event_type)?.find(subject.version);
        self.by_topic.get(subject.topic).and_then(find).or_else(|| find(&self.in_any))
    }

    /// The file that speaks of an event.
    #[must_use]
    pub fn schema_of(&self, subject: &Subject<'_>) -> Option<&str> {
        self.place(subject).and_then(|place| self.schemas.get(place)).map(|schema| &*schema.name)
    }

    /// How many files speak of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.schemas.len()
    }

    /// Never: a directory without schemas is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.schemas.is_empty()
    }

    /// How many events were published although they break their schema, by its file; those without
    /// a schema under `none`.
    pub fn told(&self) -> impl Iterator<Item = (&str, u64)> {
        let names = self.schemas.iter().map(|schema| &*schema.name).chain(["none"]);
        names.zip(self.telling.counts())
    }
}
