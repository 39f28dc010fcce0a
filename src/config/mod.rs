//! Settings: from a TOML file, the environment and flags to one validated [`Settings`].
//!
//! In: texts, each with the place it was set. Out: typed values, or an error that names the
//! setting, the value, what is allowed and where it was set. It must stay true that every setting
//! is defined once ([`SETTINGS`]: name, default, what is allowed, help), that a flag beats the
//! environment, the environment the file and the file the default, and that no text in here shows a
//! secret. After this room there is no string duration and no second default. Not here: the command
//! line's grammar (cli).

mod catalogue;
mod columns;
mod conflicts;
mod contract;
mod database_url;
mod durability;
mod kind;
mod outbox;
mod redis_url;
mod retry;
mod settings;
mod shards;
mod shown;
mod source;
mod spelling;
mod tables;
mod template;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_tables;
mod values;
mod words;

pub use catalogue::{Fallback, SETTINGS, Setting};
pub use columns::{Columns, PARTS, Preset, ROW_NUMBER, Source};
pub use database_url::{DatabaseUrl, SslMode, Tls};
pub use durability::Durability;
pub use kind::Kind;
pub use outbox::{Outbox, Parts};
pub use retry::Retry;
pub use settings::{Loaded, Settings, load};
pub use shards::{SHARDS_MAX, Shard, Shards};
pub use shown::Shown;
pub use source::{CONFIG_VARIABLE, Inputs, Origin};
pub use tables::TABLES_MAX;
pub use template::Template;
pub use values::{BOOKMARK_PREFIX, TableName, age_seconds, bookmark_name, duration, stream_name};
pub use words::SchemaValidation;
pub use words::{AfterPublish, Backlog, EntryFormat, LogFormat, LogLevel, Mode, Ordering};
