//! The small grammars of single values: durations, sizes, counts, switches, names.
//!
//! In: text. Out: a typed value, or a sentence that says what is wrong with the text. The sentence
//! never repeats the text (the caller knows whether it may be shown). Ranges are not here: they
//! stand in the catalogue.

use std::fmt;
use std::time::Duration;

use crate::quote;

/// PostgreSQL cuts identifiers to this many bytes (NAMEDATALEN - 1), silently but for a notice.
const IDENTIFIER_BYTES_MAX: usize = 63;
/// What the name of a bookmark's slot begins with, and no other slot of ours.
pub const BOOKMARK_PREFIX: &str = "walrelay_bookmark_";
/// Longer keys are legal in Redis, and always a mistake.
const STREAM_NAME_BYTES_MAX: usize = 512;
/// Sixteen random letters take longer than anybody lives.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

const SECONDS: &[(&str, u64)] = &[("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
const BYTES: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

type Outcome<T> = Result<T, &'static str>;

/// Splits `12.5ms` into its number and its unit, lower-cased.
fn number_and_unit(text: &str) -> (&str, String) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    (number, unit.trim().to_ascii_lowercase())
}

/// `500ms`, `5s`, `2m`, `1h`, `1d`, or seconds without a unit (`5`, `0.5`).
pub fn duration(text: &str) -> Outcome<Duration> {
    const WRONG: &str = "is not a duration";
    let (number, unit) = number_and_unit(text.trim());
    // Digits on both sides of the point: "." and "5." are typing errors, not numbers.
    if number.split('.').any(str::is_empty) {
        return Err(WRONG);
    }
    let number: f64 = number.parse().map_err(|_| WRONG)?;
    let seconds = match unit.as_str() {
        "ms" => number / 1_000.0,
        "" => number,
        unit => {
            let (_, length) = SECONDS.iter().find(|(name, _)| *name == unit).ok_or(WRONG)?;
            number * Duration::from_secs(*length).as_secs_f64()
        }
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| "is longer than any clock counts")
}

/// An age, read as a duration, in seconds: at most a hundred years, which is longer than any outbox
/// lives and short enough for PostgreSQL's clock.
pub fn age_seconds(text: &str) -> Outcome<f64> {
    const MAX: f64 = 100.0 * 365.25 * 86_400.0;
    duration(text).map(|age| age.as_secs_f64().min(MAX))
}

/// Prints a duration as [`duration`] reads it, in the largest unit that needs no fraction.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole =
        units.iter().find(|(length, _)| millis >= *length && millis.is_multiple_of(*length));
    whole.map_or_else(
        || format!("{millis}ms"),
        |(length, unit)| format!("{}{unit}", millis / length),
    )
}

/// `1MB`, `512KiB`, or bytes without a unit.
pub fn size(text: &str) -> Outcome<u64> {
    const WRONG: &str = "is not a size";
    let (number, unit) = number_and_unit(text.trim());
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    let (_, factor) = BYTES.iter().find(|(name, _)| *name == unit).ok_or(WRONG)?;
    number.checked_mul(*factor).ok_or("is larger than any memory")
}

/// Prints a size as [`size`] reads it, in the largest unit that needs no fraction.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    let units: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.iter().find(|(length, _)| bytes >= *length && bytes.is_multiple_of(*length));
    whole.map_or_else(|| format!("{bytes}B"), |(length, unit)| format!("{}{unit}", bytes / length))
}

/// A whole number.
pub fn count(text: &str) -> Outcome<u64> {
    text.trim().parse().map_err(|_| "is not a whole number")
}

/// A number, perhaps with a fraction: `2`, `1.5`.
pub fn decimal(text: &str) -> Outcome<f64> {
    const WRONG: &str = "is not a number";
    let text = text.trim();
    // Digits on both sides of the point; no sign, no exponent, no `inf`.
    let is_plain = text.split('.').count() <= 2
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if is_plain { text.parse().map_err(|_| WRONG) } else { Err(WRONG) }
}

/// `true` or `false`, and what people write instead.
pub fn switch(text: &str) -> Outcome<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("is neither true nor false"),
    }
}

/// A slot's name: PostgreSQL allows fewer characters in it than in other identifiers.
pub fn slot_name(text: &str) -> Outcome<String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !text.bytes().all(plain) {
        return Err("has a character that a slot's name cannot have");
    }
    identifier(text)
}

/// The slot of a relay: one that is not taken for a bookmark, whatever the number of shards.
pub fn line_slot_name(text: &str) -> Outcome<String> {
    if text.starts_with(BOOKMARK_PREFIX.trim_end_matches('_')) {
        return Err("begins as the slots of bookmarks do");
    }
    slot_name(text)
}

/// A bookmark's name: what is behind the prefix in the name of its slot. In words what is wrong.
pub fn bookmark_name(text: &str) -> Outcome<String> {
    if text.is_empty() {
        return Err("is empty");
    }
    slot_name(&format!("{BOOKMARK_PREFIX}{text}")).map_err(|_| {
        "is no bookmark's name: 1 to 45 of a-z, 0-9 and _, for it becomes part of a slot's name"
    })?;
    Ok(text.to_owned())
}

/// Any name that PostgreSQL can keep whole; quoting is the SQL room's business.
pub fn identifier(text: &str) -> Outcome<String> {
    if text.is_empty() {
        Err("is empty")
    } else if text.len() > IDENTIFIER_BYTES_MAX {
        Err("is longer than the 63 bytes that PostgreSQL keeps of a name")
    } else if text.contains('\0') {
        Err("holds a NUL character")
    } else {
        Ok(text.to_owned())
    }
}

/// The key of a Redis Stream.
pub fn stream_name(text: &str) -> Outcome<String> {
    if text.is_empty() {
        Err("is empty")
    } else if text.len() > STREAM_NAME_BYTES_MAX {
        Err("is longer than 512 bytes")
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Err("holds a space or a control character")
    } else {
        Ok(text.to_owned())
    }
}

/// What changes things over HTTP: long enough not to be guessed, and fit for a header.
pub fn token(text: &str) -> Outcome<String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("holds a space or something that is no ASCII letter, digit or sign")
    } else if !TOKEN_BYTES.contains(&text.len()) {
        Err("is shorter than 16 letters or longer than 256")
    } else {
        Ok(text.to_owned())
    }
}

/// A table with its schema. Both names are as PostgreSQL stores them: folded, without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// The schema's name.
    pub schema: String,
    /// The table's name.
    pub name: String,
}

impl TableName {
    /// Its name for SQL.
    #[must_use]
    pub fn quoted(&self) -> String {
        quote::qualified(&self.schema, &self.name)
    }

    /// `schema.table`; a part in double quotes keeps its letters, others are folded to lower case.
    pub fn parse(text: &str) -> Outcome<Self> {
        let (schema, rest) = part(text.trim(), '.')?;
        let Some(rest) = rest.strip_prefix('.') else {
            return Err("does not say in which schema the table is");
        };
        let (name, rest) = part(rest, '.')?;
        if rest.is_empty() { Ok(Self { schema, name }) } else { Err("has more than two parts") }
    }
}

/// The first of several names with `between` between them, and what follows it.
pub(super) fn part(text: &str, between: char) -> Outcome<(String, &str)> {
    const OPEN: &str = "has a double quote that is never closed";
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(between).unwrap_or(text.len());
        let (word, rest) = text.split_at_checked(end).ok_or(OPEN)?;
        let start = |c: char| c.is_alphabetic() || c == '_';
        if !word.chars().all(|c| start(c) || c.is_ascii_digit() || c == '$')
            || !word.chars().take(1).all(start)
        {
            return Err("has a character that needs double quotes around the name");
        }
        return Ok((identifier(&word.to_ascii_lowercase())?, rest));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"').ok_or(OPEN)?;
        name.push_str(before);
        // Two quotes inside a quoted name stand for one.
        let Some(more) = after.strip_prefix('"') else {
            return Ok((identifier(&name)?, after));
        };
        name.push('"');
        rest = more;
    }
}

impl fmt::Display for TableName {
    /// As one would type it: quoted where PostgreSQL needs it. Not for SQL: see `quote`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |part: &str| {
            part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                && !part.starts_with(|c: char| c.is_ascii_digit())
        };
        let shown = |part: &str| {
            if plain(part) { part.to_owned() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
        };
        write!(f, "{}.{}", shown(&self.schema), shown(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("5", 5_000),
            ("0.5", 500),
            ("1.5 S", 1_500),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", ".", "5.", ".5", "1.2.3", "-1", "1e3", "inf", "nan", "5 weeks", "5ss"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration("99999999999999999999d").is_err());
    }

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in [
            ("1MB", 1_000_000),
            ("512KiB", 524_288),
            ("4096", 4096),
            ("16 mib", 16 << 20),
            ("7b", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "-1", "1.5MB", "1XB", "18446744073709551615GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn decimals_are_plain_numbers() {
        assert_eq!(decimal(" 2 "), Ok(2.0));
        assert_eq!(decimal("0.25"), Ok(0.25));
        for text in ["", ".", "1.", ".5", "1.2.3", "-1", "1e3", "inf", "NaN", "+1"] {
            assert!(decimal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for millis in [0, 1, 500, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000, 86_400_000] {
            let length = Duration::from_millis(millis);
            assert_eq!(duration(&duration_text(length)), Ok(length));
        }
        for bytes in [0, 1, 1023, 1024, 1 << 20, (1 << 20) + 1, 16 << 20, 1 << 30] {
            assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn tables_are_read_as_postgresql_reads_them() {
        let table =
            |schema: &str, name: &str| TableName { schema: schema.into(), name: name.into() };
        for (text, expected, shown) in [
            ("identity.outbox", table("identity", "outbox"), "identity.outbox"),
            ("Identity.OutBox", table("identity", "outbox"), "identity.outbox"),
            (
                r#""My Schema"."out""box""#,
                table("My Schema", "out\"box"),
                r#""My Schema"."out""box""#,
            ),
            (r#""a.b".c$1"#, table("a.b", "c$1"), r#""a.b"."c$1""#),
            ("büro.ablage", table("büro", "ablage"), "\"büro\".ablage"),
        ] {
            let parsed = TableName::parse(text).unwrap();
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(TableName::parse(shown), Ok(parsed), "{shown}");
        }
        let long = format!("a.{}", "x".repeat(64));
        for text in [
            "", "outbox", "a.", ".b", "a.b.c", "\"a.b", "a.\"b", "\"\".b", "a b.c", "1a.b",
            "a;b.c", &long,
        ] {
            assert!(TableName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_held_to_what_the_servers_take() {
        assert!(slot_name("walrelay_2").is_ok());
        for text in ["", "Walrelay", "wal-relay", "wal relay", &"a".repeat(64)] {
            assert!(slot_name(text).is_err(), "{text}");
        }
        assert!(identifier("any \"thing\"; at all").is_ok());
        assert!(identifier("\0").is_err());
        assert!(stream_name("identity.{user}.v1").is_ok());
        for text in ["", "a b", "a\n", &"a".repeat(513)] {
            assert!(stream_name(text).is_err(), "{text}");
        }
    }
}
