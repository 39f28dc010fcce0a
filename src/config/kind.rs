//! What a setting takes: in words, and whether a text is that.
//!
//! In: a text. Out: a complaint, or none. It must stay true that no complaint repeats the text: it
//! may be a secret.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use super::columns::{Columns, Preset};
use super::database_url::DatabaseUrl;
use super::durability::Durability;
use super::settings::word;
use super::template::Template;
use super::values::{self, TableName};
use super::{redis_url, shards};

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A PostgreSQL URL.
    DatabaseUrl,
    /// A Redis URL.
    RedisUrl,
    /// A slot's name.
    SlotName,
    /// A name of PostgreSQL's.
    Identifier,
    /// A table with its schema.
    Table,
    /// A stream's name.
    StreamName,
    /// Which column plays which part.
    Columns,
    /// A stream's name with places for what a row says.
    Template,
    /// One of these words.
    Word(&'static [&'static str]),
    /// When an entry counts as safe.
    Durability,
    /// True or false.
    Switch,
    /// A whole number between these.
    Count(u64, u64),
    /// A whole number between these, or `off`.
    CountOrOff(u64, u64),
    /// Bytes between these.
    Size(u64, u64),
    /// Milliseconds between these.
    Duration(u64, u64),
    /// Milliseconds between these, or `off`.
    DurationOrOff(u64, u64),
    /// A number with a fraction, between these hundredths.
    Decimal(u32, u32),
    /// An IP address.
    Address,
    /// Some of the shards.
    ShardList,
    /// A word that only friends know.
    Token,
    /// A file or a directory.
    Path,
}

impl fmt::Display for Kind {
    /// What is allowed, as it stands in messages and in the README.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DatabaseUrl => f.write_str("postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
            Self::RedisUrl => {
                f.write_str("redis://USER:PASSWORD@HOST:PORT/DB, rediss:// or unix://")
            }
            Self::SlotName => f.write_str("1 to 63 of a-z, 0-9 and _"),
            Self::Identifier => f.write_str("1 to 63 bytes"),
            Self::Table => f.write_str("SCHEMA.TABLE"),
            Self::StreamName => f.write_str("1 to 512 bytes without spaces"),
            Self::Columns => f.write_str("PART = COLUMN, ..."),
            Self::Template => f.write_str("a name with {event_type} or {aggregate_type}"),
            Self::Word(words) => f.write_str(&words.join(", ")),
            Self::Durability => f.write_str("memory, fsync, replica:N"),
            Self::Switch => f.write_str("true or false"),
            Self::Count(min, max) => write!(f, "{min} to {max}"),
            Self::CountOrOff(min, max) => write!(f, "off, or {min} to {max}"),
            Self::Size(min, max) => {
                write!(f, "{} to {}", values::size_text(*min), values::size_text(*max))
            }
            Self::Duration(min, max) => {
                write!(f, "{} to {}", millis_text(*min), millis_text(*max))
            }
            Self::DurationOrOff(min, max) => {
                write!(f, "off, or {} to {}", millis_text(*min), millis_text(*max))
            }
            Self::Decimal(min, max) => {
                write!(f, "{} to {}", f64::from(*min) / 100.0, f64::from(*max) / 100.0)
            }
            Self::Address => f.write_str("an IP address"),
            Self::ShardList => f.write_str("all, or numbers like 1,3"),
            Self::Token => f.write_str("16 to 256 letters, digits and signs without spaces"),
            Self::Path => f.write_str("a path"),
        }
    }
}

fn millis_text(millis: u64) -> String {
    values::duration_text(Duration::from_millis(millis))
}

impl Kind {
    /// Complains about a text that is no such value.
    pub(super) fn check(self, text: &str) -> Result<(), String> {
        let within = |value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) { Ok(()) } else { Err("is out of range".to_owned()) }
        };
        // An empty path is none: that is how a layer takes back what one below it says.
        if text.trim().is_empty() && self != Self::Path {
            return Err("is empty".to_owned());
        }
        match self {
            Self::DatabaseUrl => DatabaseUrl::parse(&text.to_owned().into()).map(drop),
            Self::RedisUrl => redis_url::check(text.trim()),
            Self::SlotName => Ok(values::line_slot_name(text).map(drop)?),
            Self::Identifier => Ok(values::identifier(text).map(drop)?),
            Self::Table => Ok(TableName::parse(text).map(drop)?),
            Self::StreamName => Ok(values::stream_name(text).map(drop)?),
            Self::Columns => Columns::new(Preset::Identity, text).map(drop),
            Self::Template => Ok(Template::parse(text.trim()).map(drop)?),
            Self::Word(words) if words.contains(&word(text).as_str()) => Ok(()),
            Self::Word(_) => Err("is none of the words".to_owned()),
            Self::Durability => Ok(Durability::parse(text).map(drop)?),
            Self::Switch => Ok(values::switch(text).map(drop)?),
            Self::CountOrOff(..) | Self::DurationOrOff(..) if word(text) == "off" => Ok(()),
            Self::Count(min, max) | Self::CountOrOff(min, max) => {
                within(values::count(text)?, min, max)
            }
            Self::Size(min, max) => within(values::size(text)?, min, max),
            Self::Duration(min, max) | Self::DurationOrOff(min, max) => {
                let millis = values::duration(text)?.as_millis();
                within(u64::try_from(millis).unwrap_or(u64::MAX), min, max)
            }
            Self::Decimal(min, max) => {
                let (value, hundredths) =
                    (values::decimal(text)?, |whole| f64::from(whole) / 100.0);
                if (hundredths(min)..=hundredths(max)).contains(&value) {
                    Ok(())
                } else {
                    Err("is out of range".to_owned())
                }
            }
            Self::Address => match IpAddr::from_str(text.trim()) {
                Ok(_) => Ok(()),
                Err(_) => Err("is no IP address".to_owned()),
            },
            Self::ShardList => shards::numbers(text).map(drop),
            Self::Token => Ok(values::token(text).map(drop)?),
            Self::Path => Ok(()),
        }
    }
}
