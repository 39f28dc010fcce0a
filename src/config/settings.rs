//! The settings, typed: what the rest of the program sees.
//!
//! In: texts with their origins. Out: [`Settings`], or every complaint at once, each naming the
//! setting, the value (unless it is a secret), what is allowed, and where it was set.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::catalogue::{self, Fallback, SETTINGS};
use super::columns::{Columns, Preset};
use super::database_url::DatabaseUrl;
use super::durability::Durability;
use super::outbox::Outbox;
use super::retry::Retry;
use super::shards::{Shard, Shards};
use super::source::{Inputs, Layers, Origin, Texts, is_service_address};
use super::tables;
use super::template::Template;
use super::values::{self, TableName};
use super::words::SchemaValidation;
use super::words::{AfterPublish, Backlog, EntryFormat, LogFormat, LogLevel, Mode, Ordering};
use crate::contract::Contract;
use crate::error::{Error, Result};
use crate::rate::Limit;

/// Kubernetes knows nothing of our names: RELAY_HTTP_PORT is also the port of Service `relay-http`.
const OF_A_SERVICE: &str =
    "; if Kubernetes set it for a Service, put `enableServiceLinks: false` into the pod's spec";

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the table's section, where there are sections.
    pub table: Option<String>,
    /// PostgreSQL.
    pub database_url: DatabaseUrl,
    /// Redis.
    pub redis_url: SecretString,
    /// The replication slot of the line.
    pub slot_name: String,
    /// The publication of the line.
    pub publication_name: String,
    /// What `slot_name` is set to: with shards, the beginning of their names.
    pub slot_base: String,
    /// The same of `publication_name`.
    pub publication_base: String,
    /// The lines of the outbox, and those of this process.
    pub shards: Shards,
    /// The rows of the line.
    pub shard: Shard,
    /// The outbox.
    pub outbox_table: Outbox,
    /// The stream of rows without a topic.
    pub stream_name: String,
    /// How entries are written.
    pub entry_format: EntryFormat,
    /// Entries that a stream is trimmed to, about.
    pub stream_maxlen: Option<NonZeroU64>,
    /// What happens to rows.
    pub after_publish: AfterPublish,
    /// When an entry is safe.
    pub durability: Durability,
    /// Whether a missing publication or slot is created.
    pub auto_create: bool,
    /// Events in a batch.
    pub batch_size: NonZeroUsize,
    /// Bytes in a batch.
    pub batch_bytes: usize,
    /// Batches in flight per stream.
    pub batches_in_flight: NonZeroUsize,
    /// Events a second; one limit for all shards and pollers.
    pub max_rate: Limit,
    /// Bytes of an event.
    pub max_event_bytes: usize,
    /// Between two status updates.
    pub feedback_interval: Duration,
    /// Between two heartbeats.
    pub heartbeat_interval: Option<Duration>,
    /// For a connection.
    pub connect_timeout: Duration,
    /// For a reply of Redis.
    pub redis_timeout: Duration,
    /// Between two tries.
    pub reconnect_delay_max: Duration,
    /// For the drain.
    pub shutdown_grace: Duration,
    /// Where pages are served.
    pub http_address: IpAddr,
    /// Their port; 0 for none.
    pub http_port: u16,
    /// What changes things by them.
    pub http_token: Option<SecretString>,
    /// Whether messages are events, too.
    pub messages: bool,
    /// How events are found.
    pub mode: Mode,
    /// What events do behind a parked one.
    pub ordering: Ordering,
    /// What becomes of rows from before a new slot.
    pub backlog: Backlog,
    /// The one stream for all dead letters.
    pub dlq_stream_name: Option<String>,
    /// Between two looks for due rows.
    pub poll_interval: Duration,
    /// When a refused event is tried again.
    pub retry: Retry,
    /// Age at which settled rows are deleted.
    pub retention: Option<Duration>,
    /// Where the schemas of payloads are.
    pub schema_dir: Option<PathBuf>,
    /// What becomes of an event that breaks its schema.
    pub schema_validation: SchemaValidation,
    /// Whether one whose type has no schema breaks it.
    pub schema_strict: bool,
    /// The schemas, compiled; none before [`Settings::with_contract`], nor where they are off.
    pub contract: Option<Arc<Contract>>,
}

impl Settings {
    /// The same for the line of one shard.
    #[must_use]
    pub fn of_shard(&self, shard: Shard) -> Self {
        Self {
            slot_name: shard.name(&self.slot_base),
            publication_name: shard.name(&self.publication_base),
            shard,
            ..self.clone()
        }
    }
}

/// What was found, checked value by value; the URLs may be missing. With sections `[tables.NAME]`
/// these are the process's, and each table has its own.
pub struct Loaded {
    pub(super) texts: Texts,
    /// Whose, where it is a table's.
    pub(super) table: Option<String>,
    /// Those of the tables that are meant.
    pub(super) tables: Vec<Self>,
}

impl fmt::Debug for Loaded {
    /// As `walrelay config` shows it: without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.shown().iter().map(|shown| (shown.setting.name, &shown.value)))
            .finish()
    }
}

/// Reads and checks every setting. A usage error lists everything that is wrong.
pub fn load(inputs: &Inputs) -> Result<Loaded> {
    let mut layers = Layers::read(inputs);
    let mut complaints = std::mem::take(&mut layers.complaints);
    complaints.extend(wrong_values(&layers.texts, |_| true));
    let tables = tables::split(&layers, inputs.table.as_deref(), &mut complaints);
    let loaded = Loaded { texts: layers.texts, table: None, tables };
    if layers.sections.is_empty() {
        complaints.extend(loaded.conflicts());
    }
    if complaints.is_empty() {
        return Ok(loaded);
    }
    // `walrelay config` would end in here too.
    Err(wrong(&complaints).hint("`walrelay --help` says where settings come from"))
}

/// What is wrong with the values that were set in places of this kind, each by itself.
pub(super) fn wrong_values(texts: &Texts, is_meant: impl Fn(&Origin) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for setting in SETTINGS {
        let Some((text, origin)) = texts.get(setting.name) else { continue };
        if !is_meant(origin) {
            continue;
        }
        if let Err(reason) = setting.kind.check(text) {
            let value = if setting.is_secret() { String::new() } else { format!(" = {text:?}") };
            let (name, allowed) = (setting.name, setting.kind);
            let is_of_a_service = matches!(origin, Origin::Variable(_)) && is_service_address(text);
            let advice = if is_of_a_service { OF_A_SERVICE } else { "" };
            complaints.push(format!(
                "{name}{value} (set in {origin}) {reason}; allowed: {allowed}{advice}"
            ));
        }
    }
    complaints
}

fn wrong(complaints: &[String]) -> Error {
    Error::usage(complaints.join("\n       "))
}

pub(super) fn word(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

impl Loaded {
    fn schema_dir(&self) -> Option<PathBuf> {
        let dir = self.text("schema_dir").filter(|dir| !dir.trim().is_empty());
        dir.map(PathBuf::from)
    }

    /// Schemas that are asked for and are nowhere.
    pub(super) fn missing_schemas(&self) -> Option<String> {
        let validation = self.text("schema_validation").map(word).filter(|word| word != "off")?;
        self.schema_dir().is_none().then(|| {
            let origin = self.origin("schema_validation");
            format!("schema_validation = {validation:?} (set in {origin}) needs schema_dir")
        })
    }

    pub(super) fn origin(&self, name: &str) -> Origin {
        self.texts.get(name).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        if let Some((text, _)) = self.texts.get(name) {
            return Some(text);
        }
        match catalogue::find(name)?.fallback {
            Fallback::Value(text) => Some(text),
            Fallback::Required | Fallback::Derived(_) => None,
        }
    }

    /// The value of `name` as `parse` reads it. Texts were checked before, defaults by a test.
    fn value<T, E>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T> {
        let text = self.text(name).ok_or_else(|| not_set(name))?;
        parse(text).map_err(|_| Error::usage(format!("{name} cannot be read")))
    }

    fn word<T>(&self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        self.value(name, |text| parse(&word(text)).ok_or(()))
    }

    pub(super) fn whole<T: TryFrom<u64>>(&self, name: &str) -> Result<T> {
        self.value(name, |text| {
            let count = values::count(text).or_else(|_| values::size(text))?;
            T::try_from(count).map_err(|_| "is too large for this machine")
        })
    }

    /// How lines are logged, and how many; known before anything else is.
    pub fn log(&self) -> Result<(LogFormat, LogLevel)> {
        let level = self.word("log_level", |word| match word {
            "warning" => Some(LogLevel::Warn),
            "critical" => Some(LogLevel::Error),
            word => LogLevel::parse(word),
        })?;
        Ok((self.word("log_format", LogFormat::parse)?, level))
    }

    /// Where the pages are served.
    pub fn http(&self) -> Result<(IpAddr, u16)> {
        let address = self.value("http_address", |text| text.trim().parse::<IpAddr>())?;
        Ok((address, self.whole("http_port")?))
    }

    /// The names that `setup --print` needs: outbox, publication, slot.
    pub fn names(&self) -> Result<(Outbox, String, String)> {
        Ok((
            self.outbox()?,
            self.value("publication_name", values::identifier)?,
            self.value("slot_name", values::slot_name)?,
        ))
    }

    /// The outbox, with its columns.
    pub fn outbox(&self) -> Result<Outbox> {
        let preset = self.word("outbox_preset", Preset::parse)?;
        let list = self.text("columns").unwrap_or_default();
        let columns =
            Columns::new(preset, list).map_err(|why| Error::usage(format!("columns {why}")))?;
        let template = self.template()?;
        let unreadable = |why| Error::usage(format!("stream_template {why}"));
        let template = template.map(Template::parse).transpose().map_err(unreadable)?;
        Ok(Outbox { table: self.value("outbox_table", TableName::parse)?, columns, template })
    }

    pub(super) fn template(&self) -> Result<Option<&str>> {
        let preset = self.word("outbox_preset", Preset::parse)?;
        Ok(self.text("stream_template").or(preset.template()).map(str::trim))
    }

    /// The lines of the outbox, and those of this process.
    pub fn shards(&self) -> Result<Shards> {
        let of = self.whole("shards")?;
        self.value("shard", |text| Shards::parse(of, text))
    }

    /// The stream of rows without a topic.
    pub fn stream_name(&self) -> Result<String> {
        self.value("stream_name", values::stream_name)
    }

    /// How events are found.
    pub fn mode(&self) -> Result<Mode> {
        self.word("mode", Mode::parse)
    }

    /// Whether messages are events, too.
    pub fn messages(&self) -> Result<bool> {
        self.value("messages", values::switch)
    }

    /// PostgreSQL.
    pub fn database_url(&self) -> Result<DatabaseUrl> {
        self.value("database_url", |text| DatabaseUrl::parse(&text.to_owned().into()))
    }

    /// Redis.
    pub fn redis_url(&self) -> Result<SecretString> {
        self.value("redis_url", |text| Ok::<_, ()>(text.trim().to_owned().into()))
    }

    /// The largest event.
    pub fn max_event_bytes(&self) -> Result<usize> {
        self.whole("max_event_bytes")
    }

    /// What happens to rows.
    pub fn after_publish(&self) -> Result<AfterPublish> {
        self.word("after_publish", AfterPublish::parse)
    }

    /// A duration among the settings.
    pub fn duration(&self, name: &str) -> Result<Duration> {
        self.value(name, values::duration)
    }

    /// All settings; the URLs must be set by now.
    pub fn settings(&self) -> Result<Settings> {
        let missing: Vec<String> = SETTINGS
            .iter()
            .filter(|setting| setting.fallback == Fallback::Required)
            .filter(|setting| self.text(setting.name).is_none())
            .map(|setting| not_set(setting.name).to_string())
            .collect();
        if !missing.is_empty() {
            let hint = "`walrelay config` shows every setting, its value and where it was set";
            return Err(wrong(&missing).hint(hint));
        }
        let (outbox_table, publication_name, slot_name) = self.names()?;
        let (http_address, http_port) = self.http()?;
        Ok(Settings {
            table: self.table.clone(),
            database_url: self.database_url()?,
            redis_url: self.redis_url()?,
            slot_base: slot_name.clone(),
            publication_base: publication_name.clone(),
            slot_name,
            publication_name,
            shards: self.shards()?,
            shard: Shard::WHOLE,
            outbox_table,
            stream_name: self.stream_name()?,
            entry_format: self.word("entry_format", EntryFormat::parse)?,
            stream_maxlen: self.or_off("stream_maxlen", counted)?,
            after_publish: self.after_publish()?,
            durability: self.value("durability", Durability::parse)?,
            auto_create: self.value("auto_create", values::switch)?,
            batch_size: self.at_least_one("batch_size")?,
            batch_bytes: self.whole("batch_bytes")?,
            batches_in_flight: self.at_least_one("batches_in_flight")?,
            max_rate: Limit::new(self.or_off("max_rate", counted)?),
            max_event_bytes: self.max_event_bytes()?,
            feedback_interval: self.duration("feedback_interval")?,
            connect_timeout: self.duration("connect_timeout")?,
            redis_timeout: self.duration("redis_timeout")?,
            reconnect_delay_max: self.duration("reconnect_delay_max")?,
            shutdown_grace: self.duration("shutdown_grace")?,
            http_address,
            http_port,
            http_token: self.text("http_token").map(SecretString::from),
            messages: self.messages()?,
            mode: self.word("mode", Mode::parse)?,
            ordering: self.word("ordering", Ordering::parse)?,
            backlog: self.backlog()?,
            dlq_stream_name: self.text("dlq_stream_name").map(str::to_owned),
            poll_interval: self.duration("poll_interval")?,
            retry: self.retry()?,
            heartbeat_interval: self.or_off("heartbeat_interval", values::duration)?,
            retention: self.or_off("retention", values::duration)?,
            schema_dir: self.schema_dir(),
            schema_validation: self.word("schema_validation", SchemaValidation::parse)?,
            schema_strict: self.value("schema_strict", values::switch)?,
            contract: None,
        })
    }

    fn or_off<T, E>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>> {
        self.word(name, |word| match word {
            "off" => Some(None),
            other => parse(other).ok().map(Some),
        })
    }

    /// What becomes of rows from before a new slot.
    pub fn backlog(&self) -> Result<Backlog> {
        self.word("backlog", Backlog::parse)
    }

    fn retry(&self) -> Result<Retry> {
        Ok(Retry {
            attempts_max: self.whole("max_retry_attempts")?,
            base_delay: self.duration("retry_base_delay")?,
            multiplier: self.value("retry_multiplier", values::decimal)?,
            max_delay: self.duration("retry_max_delay")?,
            jitter: self.value("retry_jitter", values::decimal)?,
        })
    }

    fn at_least_one(&self, name: &str) -> Result<NonZeroUsize> {
        self.whole(name).map(|count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN))
    }
}

/// As many as `T` can hold.
fn counted<T: TryFrom<u64>>(text: &str) -> Result<T, &'static str> {
    T::try_from(values::count(text)?).map_err(|_| "is out of range")
}

fn not_set(name: &str) -> Error {
    let variable = format!("RELAY_{}", name.to_ascii_uppercase());
    Error::usage(format!(
        "{name} is not set: set {variable}, {variable}_FILE, or {name} in the file that \
         --config names"
    ))
}
