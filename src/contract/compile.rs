//! Schemas to validators, and a payload to what is wrong with it.
//!
//! In: the files of a directory. Out: a [`Schema`] for each that speaks of events. It must stay
//! true that a schema that is wrong in any way is an error that names its file, and that a `$ref`
//! leads to a file of the same directory or nowhere: nothing is fetched, no other file is opened.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use jsonschema::{Retrieve, Uri, Validator};
use serde_json::Value;

use super::layout::{File, Meant};
use super::violation::Violation;
use crate::error::{Error, Result};

/// Where files lie for each other: no place that anybody could fetch from.
const BASE: &str = "walrelay://schemas/";
/// What is wrong besides the first is counted up to here.
const FAULTS_MAX: usize = 100;

/// The names of properties that the schemas of a directory know.
pub(super) type Names = BTreeSet<String>;

/// One file, compiled.
pub(super) struct Schema {
    pub name: Arc<str>,
    validator: Validator,
    names: Arc<Names>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.name).finish()
    }
}

impl Schema {
    /// What is wrong with a payload; the first of it.
    pub fn check(&self, payload: &[u8]) -> Option<Violation> {
        let value: Value = match serde_json::from_slice(payload) {
            Ok(value) => value,
            Err(error) => return Some(Violation::unreadable(&self.name, &error)),
        };
        if self.validator.is_valid(&value) {
            return None;
        }
        let mut errors = self.validator.iter_errors(&value);
        let first = errors.next();
        let more = errors.take(FAULTS_MAX).count();
        Some(Violation::new(&self.name, first.as_ref(), more, &self.names))
    }
}

/// Compiles what speaks of events, in the order of the files; the rest is there to be referred to.
pub(super) fn compile(files: Vec<File>) -> Result<Vec<(Meant, Schema)>> {
    let mut names = Names::new();
    let mut documents: HashMap<String, Arc<Value>> = HashMap::new();
    let mut meant = Vec::new();
    for File { name, meant: of, document } in files {
        collect(&document, &mut names);
        let document = Arc::new(document);
        let id = document.get("$id").and_then(Value::as_str).map(|id| id.trim_end_matches('#'));
        for uri in [Some(uri(&name)), id.map(str::to_owned)].into_iter().flatten() {
            if documents.insert(uri.clone(), Arc::clone(&document)).is_some() {
                return Err(Error::usage(format!("schema {name}: another file has the $id {uri}")));
            }
        }
        meant.extend(of.map(|of| (name, of, document)));
    }
    let (names, library) = (Arc::new(names), Arc::new(documents));
    let schema = |(name, of, document): (String, Meant, Arc<Value>)| {
        let validator = jsonschema::options()
            .with_base_uri(uri(&name))
            .with_retriever(Library(Arc::clone(&library)))
            .should_validate_formats(true)
            .build(&document)
            .map_err(|error| {
                let place = match error.instance_path().as_str() {
                    "" => String::new(),
                    path => format!(" at {path}"),
                };
                Error::usage(format!("schema {name} is none{place}: {error}"))
            })?;
        Ok((of, Schema { name: name.into(), validator, names: Arc::clone(&names) }))
    };
    meant.into_iter().map(schema).collect()
}

/// The files of the directory, by the URIs that they are referred to by.
struct Library(Arc<HashMap<String, Arc<Value>>>);

impl Retrieve for Library {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> std::result::Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        match self.0.get(uri.as_str()) {
            Some(document) => Ok(Value::clone(document)),
            None => {
                Err("a $ref leads to a file of schema_dir or nowhere, nothing is fetched".into())
            }
        }
    }
}

fn uri(name: &str) -> String {
    let mut uri = BASE.to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/@:".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // A String takes everything.
            let _always = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

/// Every name that a schema gives to a property.
fn collect(schema: &Value, names: &mut Names) {
    match schema {
        Value::Array(all) => all.iter().for_each(|one| collect(one, names)),
        Value::Object(members) => {
            for (keyword, value) in members {
                if let ("properties", Some(properties)) = (keyword.as_str(), value.as_object()) {
                    names.extend(properties.keys().cloned());
                }
                if let ("required", Some(required)) = (keyword.as_str(), value.as_array()) {
                    names.extend(required.iter().filter_map(Value::as_str).map(str::to_owned));
                }
                collect(value, names);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
