//! `walrelay config`: every setting, its value and where it was set.
//!
//! In: what was loaded; no server is asked. Out: an aligned table, or one JSON object with all that
//! is known of each setting. It must stay true that one setting is one line, and that no secret is
//! shown (the texts come from [`Loaded::shown`], which hides them).

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
    let rows: Vec<[String; 3]> = shown.iter().map(row).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (name_width, value_width) = (width(0), width(1));
    let mut text = String::new();
    for [name, value, origin] in &rows {
        // Writing into memory cannot fail.
        let _infallible = writeln!(text, "{name:<name_width$}  {value:<value_width$}  {origin}");
    }
    text
}

fn row(shown: &Shown) -> [String; 3] {
    let name = shown.setting.name.to_owned();
    match &shown.value {
        Some(value) => [name, one_line(value), one_line(&shown.origin.to_string())],
        None => [name, "not set".to_owned(), format!("set {}", shown.setting.variable())],
    }
}

/// A quoted name may hold a line break or an escape sequence; neither may reach the terminal.
fn one_line(text: &str) -> String {
    let shown =
        |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

fn document(shown: &[Shown]) -> Value {
    let one = |shown: &Shown| {
        let about = json!({
            "value": shown.value,
            "origin": shown.value.as_ref().map(|_| shown.origin.to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, SETTINGS, load};

    fn written(pairs: &[(&str, &str)], as_json: bool) -> String {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let loaded = load(&Inputs { environment, ..Inputs::default() }).unwrap();
        let mut out = Vec::new();
        run(&loaded, as_json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_setting_is_one_line_with_its_value_and_where_it_was_set() {
        let text = written(&[("RELAY_BATCH_SIZE", "7")], false);
        assert_eq!(text.lines().count(), SETTINGS.len());
        let line = |name: &str| {
            let found = text.lines().find(|line| line.starts_with(name)).unwrap();
            found.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(line("batch_size"), ["batch_size", "7", "RELAY_BATCH_SIZE"]);
        assert_eq!(line("slot_name"), ["slot_name", "walrelay", "default"]);
        assert_eq!(line("redis_url"), ["redis_url", "not set", "set RELAY_REDIS_URL"]);
        let column = |needle: &str| text.lines().filter_map(|line| line.find(needle)).min();
        assert_eq!(column("default"), column("RELAY_BATCH_SIZE"));
    }

    #[test]
    fn neither_form_shows_a_secret() {
        let pairs = [
            ("RELAY_DATABASE_URL", "postgresql+asyncpg://app:hunter2@db/shop"),
            ("RELAY_REDIS_URL", "rediss://app:hunter2@cache:6380/1"),
        ];
        for as_json in [false, true] {
            let text = written(&pairs, as_json);
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("postgresql://app:***@db/shop"), "{text}");
            assert!(text.contains("rediss://app:***@cache:6380/1"), "{text}");
        }
    }

    #[test]
    fn a_name_with_a_line_break_stays_on_its_line() {
        let text = written(&[("RELAY_PUBLICATION_NAME", "a\n\u{1b}[31mb")], false);
        assert_eq!(text.lines().count(), SETTINGS.len());
        assert!(text.contains(r"a\n\u{1b}[31mb"), "{text}");
    }

    #[test]
    fn as_json_each_setting_says_all_that_is_known_of_it() {
        let document: Value = serde_json::from_str(&written(&[], true)).unwrap();
        assert_eq!(document.as_object().unwrap().len(), SETTINGS.len());
        assert_eq!(document["redis_url"]["value"], Value::Null);
        assert_eq!(document["redis_url"]["origin"], Value::Null);
        let size = &document["batch_size"];
        assert_eq!(size["value"], "256");
        assert_eq!(size["origin"], "default");
        assert_eq!(size["variable"], "RELAY_BATCH_SIZE");
        assert_eq!(size["allowed"], "1 to 4096");
    }
}
