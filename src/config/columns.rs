//! Which column of an outbox plays which part: a preset, and what is said against it.
//!
//! In: a preset's name and a list such as `payload = event_data, tenant_id = $.tenant.id`. Out:
//! [`Columns`]. It must stay true that what makes an event cannot be left out, and that a part
//! which is written is a column.

use super::values;

/// Every part that a column of an outbox can play. The names are those of our own table.
pub const PARTS: [&str; 20] = [
    "id",
    "event_id",
    "event_type",
    "aggregate_type",
    "aggregate_id",
    "payload",
    "created_at",
    "topic",
    "tenant_id",
    "correlation_id",
    "traceparent",
    "schema_version",
    "published",
    "published_at",
    "attempts",
    "started_attempts",
    "next_attempt_at",
    "error_message",
    "wal_position",
    "dead_lettered_at",
];
/// May be the same for every row.
const CONSTANT: [&str; 4] = ["event_type", "aggregate_type", "tenant_id", "schema_version"];
/// May be told by the payload.
const TOLD: [&str; 3] = ["tenant_id", "correlation_id", "traceparent"];
/// May be missing.
const OPTIONAL: [&str; 9] = [
    "aggregate_type",
    "created_at",
    "topic",
    "tenant_id",
    "correlation_id",
    "traceparent",
    "schema_version",
    "published",
    "published_at",
];
/// The column that `setup` adds to a table whose key is no whole number.
pub const ROW_NUMBER: &str = "walrelay_id";

/// Where a part comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From this column.
    Column(String),
    /// It is this for every row.
    Constant(String),
    /// From the payload, by these keys, one inside the other.
    Path(Vec<String>),
    /// From nowhere.
    Nothing,
}

/// Shapes of tables that people have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Our own.
    Identity,
    /// That of Debezium's outbox event router.
    Debezium,
    /// `event_outbox`: `event_data`, `published_at`, `retry_count`, `last_error`.
    EventOutbox,
    /// `outbox_events`: `event_data`, `processed_at`, `retry_count`, `error_message`.
    OutboxEvents,
}

impl Preset {
    /// By its name in the settings.
    pub const NAMES: &'static [&'static str] =
        &["identity", "debezium", "event-outbox", "outbox-events"];

    /// The preset of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "identity" => Some(Self::Identity),
            "debezium" => Some(Self::Debezium),
            "event-outbox" => Some(Self::EventOutbox),
            "outbox-events" => Some(Self::OutboxEvents),
            _ => None,
        }
    }

    /// What differs from our own table.
    fn differences(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Debezium => {
                "id = walrelay_id, event_id = id, event_type = type, \
                 aggregate_type = aggregatetype, aggregate_id = aggregateid, \
                 created_at = none, topic = none, tenant_id = none, \
                 correlation_id = none, traceparent = none, schema_version = none"
            }
            Self::EventOutbox => {
                "id = walrelay_id, event_id = id, payload = event_data, published = none, \
                 attempts = retry_count, error_message = last_error, tenant_id = none, \
                 correlation_id = none, traceparent = none, schema_version = none"
            }
            Self::OutboxEvents => {
                "id = walrelay_id, event_id = id, payload = event_data, published = none, \
                 published_at = processed_at, attempts = retry_count, aggregate_type = none, \
                 topic = none, tenant_id = none, correlation_id = none, traceparent = none, \
                 schema_version = none"
            }
        }
    }

    /// The streams of rows that name none, as consumers of such a table know them.
    #[must_use]
    pub fn template(self) -> Option<&'static str> {
        (self == Self::Debezium).then_some("outbox.event.{aggregate_type}")
    }
}

/// Which column plays which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// In the order of [`PARTS`].
    sources: Vec<Source>,
    /// Whether every part is a column, or nothing.
    is_plain: bool,
}

impl Default for Columns {
    /// Those of our own table.
    fn default() -> Self {
        let column = |part: &&str| Source::Column((*part).to_owned());
        Self { sources: PARTS.iter().map(column).collect(), is_plain: true }
    }
}

impl Columns {
    /// The columns of a preset but for what `list` says; in words what is wrong with it.
    pub fn new(preset: Preset, list: &str) -> Result<Self, String> {
        let mut columns = Self::default();
        columns.read(preset.differences())?;
        columns.read(list)?;
        let told = |source: &Source| matches!(source, Source::Constant(_) | Source::Path(_));
        columns.is_plain = !columns.sources.iter().any(told);
        Ok(columns)
    }

    fn read(&mut self, list: &str) -> Result<(), String> {
        let mut rest = list.trim();
        while !rest.is_empty() {
            let (part, behind) = rest
                .split_once('=')
                .ok_or_else(|| format!("has {rest:?} where PART = COLUMN is expected"))?;
            let part = part.trim();
            let (source, behind) =
                source(behind.trim_start()).map_err(|why| format!("{part} {why}"))?;
            self.set(part, source)?;
            let behind = behind.trim_start();
            rest = match behind.strip_prefix(',') {
                Some(next) => next.trim(),
                None if behind.is_empty() => "",
                None => return Err(format!("{part}: a comma is missing before {behind:?}")),
            };
        }
        Ok(())
    }

    fn set(&mut self, part: &str, source: Source) -> Result<(), String> {
        let place = PARTS.iter().position(|known| *known == part);
        let Some(slot) = place.and_then(|place| self.sources.get_mut(place)) else {
            return Err(format!("{part:?} is no part; there are {}", PARTS.join(", ")));
        };
        let (fits, allowed) = match &source {
            Source::Column(_) => (true, &PARTS[..]),
            Source::Constant(_) => (CONSTANT.contains(&part), &CONSTANT[..]),
            Source::Path(_) => (TOLD.contains(&part), &TOLD[..]),
            Source::Nothing => (OPTIONAL.contains(&part), &OPTIONAL[..]),
        };
        if !fits {
            let what = match source {
                Source::Constant(_) => "be the same for every row",
                Source::Path(_) => "come out of the payload",
                Source::Column(_) | Source::Nothing => "be missing",
            };
            return Err(format!("{part} cannot {what}; what can: {}", allowed.join(", ")));
        }
        *slot = source;
        Ok(())
    }

    /// Whether every part is a column, or nothing: then a row alone says what its event is.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Where a part comes from; none where there is no such part.
    #[must_use]
    pub fn source(&self, part: &str) -> Option<&Source> {
        let place = PARTS.iter().position(|known| *known == part)?;
        self.sources.get(place)
    }

    /// The same without the parts that `is_there` denies.
    #[must_use]
    pub fn without(&self, is_there: impl Fn(&str) -> bool) -> Self {
        let mut columns = self.clone();
        for (part, source) in PARTS.iter().zip(&mut columns.sources) {
            if matches!(source, Source::Column(_)) && !is_there(part) {
                *source = Source::Nothing;
            }
        }
        columns
    }

    /// The column that plays a part, where one does.
    #[must_use]
    pub fn column(&self, part: &str) -> Option<&str> {
        match self.source(part)? {
            Source::Column(name) => Some(name),
            Source::Constant(_) | Source::Path(_) | Source::Nothing => None,
        }
    }

    /// Parts with their columns.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        PARTS.into_iter().filter_map(|part| Some((part, self.column(part)?)))
    }
}

/// The head of `text` as a source, and what follows.
fn source(text: &str) -> Result<(Source, &str), String> {
    if let Some(quoted) = text.strip_prefix('\'') {
        return constant(quoted);
    }
    let end = text.find(',').unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    if let Some(path) = word.trim_end().strip_prefix("$.") {
        let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
        if keys.iter().any(String::is_empty) {
            return Err("has a path with an empty key".to_owned());
        }
        return Ok((Source::Path(keys), rest));
    }
    if word.trim_end() == "none" {
        return Ok((Source::Nothing, rest));
    }
    if text.starts_with('"') {
        let (name, rest) = values::part(text, ',')?;
        return Ok((Source::Column(name), rest));
    }
    let (name, _) = values::part(word.trim_end(), ',')?;
    Ok((Source::Column(name), rest))
}

/// A text up to its closing quote; two of them stand for one.
fn constant(mut text: &str) -> Result<(Source, &str), String> {
    let mut value = String::new();
    loop {
        let (before, behind) = text.split_once('\'').ok_or("has a quote that is never closed")?;
        value.push_str(before);
        let Some(more) = behind.strip_prefix('\'') else {
            return Ok((Source::Constant(value), behind));
        };
        value.push('\'');
        text = more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_reads() {
        for name in Preset::NAMES {
            let columns = Columns::new(Preset::parse(name).unwrap(), "").unwrap();
            for part in ["id", "event_id", "event_type", "aggregate_id", "payload"] {
                assert!(columns.column(part).is_some(), "{name}: {part}");
            }
        }
    }

    #[test]
    fn a_list_says_which_column_plays_which_part() {
        let list = " payload = \"Event, Data\" , tenant_id=$.tenant.id, event_type = 'it''s, so',\
                    topic = none, aggregate_id = Ref ";
        let columns = Columns::new(Preset::Identity, list).unwrap();
        assert_eq!(columns.column("payload"), Some("Event, Data"));
        assert_eq!(columns.column("aggregate_id"), Some("ref"));
        let path = Source::Path(vec!["tenant".into(), "id".into()]);
        assert_eq!(columns.source("tenant_id"), Some(&path));
        assert_eq!(columns.source("event_type"), Some(&Source::Constant("it's, so".into())));
        assert_eq!(columns.source("topic"), Some(&Source::Nothing));
        assert_eq!(columns.column("id"), Some("id"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        for (list, word) in [
            ("payload", "PART = COLUMN"),
            ("colour = red", "no part"),
            ("payload = none", "cannot be missing"),
            ("payload = 'x'", "the same for every row"),
            ("aggregate_id = $.a", "out of the payload"),
            ("tenant_id = $.a..b", "empty key"),
            ("event_type = 'x", "never closed"),
            ("payload = a b", "double quotes"),
            ("topic = 'x' y", "the same"),
            ("event_type = 'x' y", "comma"),
        ] {
            let reason = Columns::new(Preset::Identity, list).unwrap_err();
            assert!(reason.contains(word), "{list}: {reason}");
        }
    }
}
