//! `walrelay config`: every setting, its value and where it was set; secrets hidden.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::{Map, Value, json};

use crate::config::{Fallback, Loaded, Shown};
use crate::error::{Error, Result};

/// Writes the settings as a table, or as one JSON object.
pub fn run(loaded: &Loaded, as_json: bool, out: &mut impl Write) -> Result<()> {
    let shown = loaded.shown();
    let text = if as_json { format!("{:#}\n", document(&shown)) } else { table(&shown) };
    out.write_all(text.as_bytes())
        .map_err(|error| Error::definite("cannot write to stdout").because(error))
}

fn table(shown: &[Shown]) -> String {
    let value = |shown: &Shown| shown.value.clone().unwrap_or_else(|| "not set".to_owned());
    let name_width = shown.iter().map(|shown| shown.setting.name.len()).max().unwrap_or(0);
    let value_width = shown.iter().map(|shown| value(shown).chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for line in shown {
        let (name, value, origin) = (line.setting.name, value(line), &line.origin);
        // Writing into memory cannot fail.
        let _infallible = writeln!(text, "{name:<name_width$}  {value:<value_width$}  {origin}");
    }
    text
}

fn document(shown: &[Shown]) -> Value {
    let one = |shown: &Shown| {
        let about = json!({
            "value": shown.value,
            "origin": shown.origin.to_string(),
            "variable": shown.setting.variable(),
            "default": match shown.setting.fallback {
                Fallback::Value(text) | Fallback::Derived(text) => Some(text),
                Fallback::Required => None,
            },
            "allowed": shown.setting.kind.to_string(),
            "help": shown.setting.help,
        });
        (shown.setting.name.to_owned(), about)
    };
    Value::Object(shown.iter().map(one).collect::<Map<_, _>>())
}
