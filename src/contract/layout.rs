//! The layout of `schema_dir`: which file speaks of which events.
//!
//! In: a directory. Out: its schemas, unread JSON become values, each with what it is for. The
//! layout, in full: `TYPE.json` for a type of event in any stream, `STREAM/TYPE.json` for one
//! stream, `TYPE@VERSION.json` for one schema version; what begins with `_` is for others to refer
//! to. It must stay true that a file that looks like a schema is never passed over in silence, and
//! that memory is bounded whatever the directory is.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// Schemas of one directory.
const FILES_MAX: usize = 4_096;
/// One schema; the largest that people write by hand are a tenth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What a schema's file ends with.
const ENDING: &str = ".json";

/// Of which events a schema speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meant {
    /// Of this stream; none for any.
    pub topic: Option<String>,
    pub event_type: String,
    /// Of this schema version; none for any.
    pub version: Option<String>,
}

/// One file.
#[derive(Debug)]
pub(super) struct File {
    /// Below the directory, with `/` in between.
    pub name: String,
    /// None for what others refer to.
    pub meant: Option<Meant>,
    pub document: Value,
}

/// All schemas of a directory, in the order of their names.
pub(super) fn read(dir: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for (name, path, is_dir) in list(dir)? {
        if !is_dir {
            files.extend(file(None, &name, &path)?);
            continue;
        }
        for (inner, path, is_dir) in list(&path)? {
            if is_dir {
                return Err(Error::usage(format!(
                    "schema_dir: {} is a directory inside that of a stream",
                    path.display()
                ))
                .hint("schemas lie in SCHEMA_DIR/TYPE.json or SCHEMA_DIR/STREAM/TYPE.json"));
            }
            files.extend(file(Some(&name), &inner, &path)?);
        }
        if files.len() > FILES_MAX {
            break;
        }
    }
    if files.len() > FILES_MAX {
        let what = format!("schema_dir {} holds over {FILES_MAX} schemas", dir.display());
        return Err(Error::usage(what));
    }
    if files.iter().all(|file| file.meant.is_none()) {
        let what = format!("schema_dir {} holds no schema of any type of event", dir.display());
        return Err(Error::usage(what)
            .hint("one is called TYPE.json, or STREAM/TYPE.json: docs/schemas.md"));
    }
    Ok(files)
}

/// What a directory holds: name, path, and whether it is a directory itself. Hidden ones are the
/// business of whoever mounts it.
fn list(dir: &Path) -> Result<Vec<(String, PathBuf, bool)>> {
    let failed = |path: &Path, error: std::io::Error| {
        Error::usage(format!("schema_dir: cannot read {}", path.display())).because(error)
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| failed(dir, error))? {
        let path = entry.map_err(|error| failed(dir, error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            let what = format!("schema_dir: {} is not a name in UTF-8", path.display());
            return Err(Error::usage(what));
        };
        if name.starts_with('.') {
            continue;
        }
        // Through links: what is mounted into a container often is one.
        let is_dir = fs::metadata(&path).map_err(|error| failed(&path, error))?.is_dir();
        found.push((name, path, is_dir));
    }
    found.sort();
    Ok(found)
}

/// The schema in a file; none where it is something else.
fn file(dir: Option<&str>, name: &str, path: &Path) -> Result<Option<File>> {
    let Some(stem) = name.strip_suffix(ENDING) else { return Ok(None) };
    let is_shared = stem.starts_with('_') || dir.is_some_and(|dir| dir.starts_with('_'));
    let meant = if is_shared { None } else { Some(meant(dir, stem, path)?) };
    let name = dir.map_or_else(|| name.to_owned(), |dir| format!("{dir}/{name}"));
    Ok(Some(File { name, meant, document: document(path)? }))
}

fn meant(dir: Option<&str>, stem: &str, path: &Path) -> Result<Meant> {
    let (event_type, version) = match stem.rsplit_once('@') {
        Some((event_type, version)) => (event_type, Some(version)),
        None => (stem, None),
    };
    let read = |name: Option<&str>| name.map(|name| decoded(name).ok_or(())).transpose();
    let [Ok(Some(event_type)), Ok(version), Ok(topic)] = [Some(event_type), version, dir].map(read)
    else {
        return Err(unnamed(path));
    };
    if event_type.is_empty() || version.as_deref() == Some("") {
        return Err(unnamed(path));
    }
    Ok(Meant { topic, event_type, version })
}

fn unnamed(path: &Path) -> Error {
    Error::usage(format!("schema_dir: {} names no type of event", path.display()))
        .hint("TYPE.json or TYPE@VERSION.json; what no file can be called is written as %2F")
}

/// A name with `%XX` for what a file's name cannot hold.
fn decoded(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = behind;
            continue;
        }
        let (digits, behind) = behind.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

fn document(path: &Path) -> Result<Value> {
    let failed = || format!("schema {}", path.display());
    let mut text = Vec::new();
    let opened = fs::File::open(path);
    let read = opened.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text));
    read.map_err(|error| Error::usage(format!("{} cannot be read", failed())).because(error))?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(Error::usage(format!("{} is larger than {FILE_BYTES_MAX} bytes", failed())));
    }
    serde_json::from_slice(&text)
        .map_err(|error| Error::usage(format!("{} is not JSON", failed())).because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant_by(name: &str) -> Option<(Option<String>, String, Option<String>)> {
        let (dir, name) = match name.split_once('/') {
            Some((dir, name)) => (Some(dir), name),
            None => (None, name),
        };
        let meant = meant(dir, name.strip_suffix(ENDING).unwrap(), Path::new(name)).ok()?;
        Some((meant.topic, meant.event_type, meant.version))
    }

    #[test]
    fn a_name_says_stream_type_and_version() {
        let named = |topic: &str, event_type: &str, version: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Some((some(topic), event_type.to_owned(), some(version)))
        };
        assert_eq!(meant_by("UserCreated.json"), named("", "UserCreated", ""));
        assert_eq!(meant_by("user.created.v2.json"), named("", "user.created.v2", ""));
        assert_eq!(meant_by("a@b@2.json"), named("", "a@b", "2"));
        assert_eq!(meant_by("identity.user.v1/A@2.json"), named("identity.user.v1", "A", "2"));
        assert_eq!(meant_by("a%3Ab/com%2Fx%40y.json"), named("a:b", "com/x@y", ""));
        for name in [".json", "@2.json", "A@.json", "A%2.json", "A%zz.json", "A%+1.json"] {
            assert_eq!(meant_by(name), None, "{name}");
        }
        assert_eq!(meant_by("A%ff.json"), None, "no UTF-8");
    }
}
