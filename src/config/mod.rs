//! Settings: from a TOML file, the environment and flags to one validated [`Settings`].
//!
//! In: texts, each with the place it was set. Out: typed values, or an error that names the
//! setting, the value, what is allowed and where it was set. It must stay true that every setting
//! is defined once ([`SETTINGS`]: name, default, what is allowed, help), that a flag beats the
//! environment, the environment the file and the file the default, and that no text in here shows a
//! secret. After this room there is no string duration and no second default. Not here: the command
//! line's grammar (cli).

mod catalogue;
mod database_url;
mod durability;
mod redis_url;
mod retry;
mod settings;
mod shards;
mod shown;
mod source;
#[cfg(test)]
mod tests;
mod values;
mod words;

pub use catalogue::{Fallback, Kind, SETTINGS, Setting};
pub use database_url::{DatabaseUrl, SslMode, Tls};
pub use durability::Durability;
pub use retry::Retry;
pub use settings::{Loaded, Settings, load};
pub use shards::{SHARDS_MAX, Shard, Shards};
pub use shown::Shown;
pub use source::{CONFIG_VARIABLE, Inputs, Origin};
pub use values::{BOOKMARK_PREFIX, TableName, bookmark_name, duration, stream_name};
pub use words::{AfterPublish, Backlog, EntryFormat, LogFormat, LogLevel, Mode, Ordering};
