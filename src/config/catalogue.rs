//! Every setting, defined once: name, default, what is allowed, and what it does.
//!
//! `walrelay config`, the messages about wrong values and docs/settings.md come from this list (a
//! test compares the last), so they cannot drift apart.

use super::columns::Preset;
use super::kind::Kind;

/// Where a value comes from when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This.
    Value(&'static str),
    /// Nowhere: it must be set.
    Required,
    /// From another setting; in words.
    Derived(&'static str),
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the file; `RELAY_` and this in capitals in the environment.
    pub name: &'static str,
    /// Without being set.
    pub fallback: Fallback,
    /// What is allowed.
    pub kind: Kind,
    /// What it does, in a sentence.
    pub help: &'static str,
}

impl Setting {
    /// Whether its value must never be shown whole.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::DatabaseUrl | Kind::RedisUrl | Kind::Token)
    }

    /// Its name in the environment.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("RELAY_{}", self.name.to_ascii_uppercase())
    }
}

const fn setting(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    help: &'static str,
) -> Setting {
    Setting { name, fallback: Fallback::Value(default), kind, help }
}

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// All of them, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "database_url",
        fallback: Fallback::Required,
        kind: Kind::DatabaseUrl,
        help: "PostgreSQL; `postgresql+asyncpg://` and the like are understood. sslmode: \
               disable, prefer (default), no-verify, verify-ca, verify-full; require means \
               verify-full",
    },
    Setting {
        name: "redis_url",
        fallback: Fallback::Required,
        kind: Kind::RedisUrl,
        help: "Redis or Valkey, a primary",
    },
    setting(
        "slot_name",
        "walrelay",
        Kind::SlotName,
        "The replication slot; one relay leads per slot",
    ),
    setting(
        "publication_name",
        "walrelay",
        Kind::Identifier,
        "The publication that covers the outbox",
    ),
    setting("outbox_table", "identity.outbox", Kind::Table, "The outbox"),
    setting(
        "outbox_preset",
        "identity",
        Kind::Word(Preset::NAMES),
        "Which columns the outbox has: docs/your-table.md",
    ),
    Setting {
        name: "columns",
        fallback: Fallback::Derived("those of outbox_preset"),
        kind: Kind::Columns,
        help: "What differs: `payload = body, tenant_id = $.tenant.id, topic = none`",
    },
    setting(
        "shards",
        "1",
        Kind::Count(1, 16),
        "How many lines share the outbox, by a hash of the aggregate, each with a slot and a \
         publication of its own; above 1 from PostgreSQL 15 on, and not for polling",
    ),
    setting("shard", "all", Kind::ShardList, "Which of the shards run in this process"),
    setting(
        "stream_name",
        "identity.user.v1",
        Kind::StreamName,
        "The stream of rows whose topic is NULL",
    ),
    Setting {
        name: "stream_template",
        fallback: Fallback::Derived("none; with the preset debezium outbox.event.{aggregate_type}"),
        kind: Kind::Template,
        help: "The stream of such rows by what they say, instead of stream_name",
    },
    Setting {
        name: "dlq_stream_name",
        fallback: Fallback::Derived("<stream>.dlq"),
        kind: Kind::StreamName,
        help: "The dead letter stream for all events; without it each stream has its own",
    },
    setting(
        "messages",
        "false",
        Kind::Switch,
        "Publish what identity.emit_message writes into the WAL, too: docs/emitting.md. From \
         PostgreSQL 14 on; not with shards, and not for polling",
    ),
    setting(
        "mode",
        "wal",
        Kind::Word(&["wal", "poll", "auto"]),
        "wal: by logical replication. poll: by claiming unpublished rows, with any number of \
         instances. auto: wal where the server allows it, else poll",
    ),
    setting(
        "ordering",
        "per-aggregate",
        Kind::Word(&["per-aggregate", "none"]),
        "While an event is parked, later ones of its aggregate wait behind it, or overtake it",
    ),
    setting(
        "backlog",
        "publish",
        Kind::Word(&["publish", "ignore"]),
        "What a new slot does about the unpublished rows from before it",
    ),
    setting(
        "entry_format",
        "fields",
        Kind::Word(&["fields", "json", "cloudevents"]),
        "How an entry is written: a field per value, or one field `data` with JSON",
    ),
    setting(
        "stream_maxlen",
        "off",
        Kind::CountOrOff(1, 1_000_000_000_000),
        "Trim each stream to about so many entries, also those that no consumer has read yet",
    ),
    setting(
        "after_publish",
        "mark",
        Kind::Word(&["mark", "delete", "keep"]),
        "What happens to a row once its entry is safe: published = true, DELETE, or nothing",
    ),
    setting(
        "durability",
        "fsync",
        Kind::Durability,
        "When an entry counts as safe: when Redis has answered; when its append-only file is on \
         disk too; when N replicas have it as well",
    ),
    setting("auto_create", "true", Kind::Switch, "Create a missing publication or slot at start"),
    setting("batch_size", "256", Kind::Count(1, 4096), "Most events in one script call"),
    setting(
        "batch_bytes",
        "1MiB",
        Kind::Size(KIB, 64 * MIB),
        "About the most bytes in one script call",
    ),
    setting(
        "batches_in_flight",
        "4",
        Kind::Count(1, 32),
        "Most unanswered script calls per stream",
    ),
    setting(
        "max_rate",
        "off",
        Kind::CountOrOff(1, 10_000_000),
        "Most events a second that go to Redis, over all shards and pollers of the table in this \
         process: what catches up with a backlog leaves the servers to those who write",
    ),
    Setting {
        name: "schema_dir",
        fallback: Fallback::Derived("none"),
        kind: Kind::Path,
        help: "JSON Schemas of payloads, STREAM/TYPE.json: docs/schemas.md",
    },
    setting(
        "schema_validation",
        "off",
        Kind::Word(&["off", "warn", "reject"]),
        "What becomes of an event whose payload breaks its schema: it is not even looked at; it \
         is published and told; it goes to the dead letters",
    ),
    setting(
        "schema_strict",
        "false",
        Kind::Switch,
        "Whether an event whose type has no schema breaks it",
    ),
    setting(
        "max_event_bytes",
        "16MiB",
        Kind::Size(KIB, 512 * MIB),
        "A larger event goes to the dead letters; Redis itself refuses values over 512 MB",
    ),
    setting(
        "feedback_interval",
        "1s",
        Kind::Duration(10, 60 * SECOND),
        "How often the slot is told what may be forgotten; never less than 4 times \
         per wal_sender_timeout",
    ),
    setting(
        "heartbeat_interval",
        "5s",
        Kind::DurationOrOff(100, HOUR),
        "How often the leader writes a message to PostgreSQL that must come back through the WAL \
         and past Redis; /readyz goes by it",
    ),
    setting("connect_timeout", "10s", Kind::Duration(100, HOUR), "Longest wait for a connection"),
    setting(
        "redis_timeout",
        "10s",
        Kind::Duration(100, HOUR),
        "Longest wait for a reply of Redis; then the connection is given up",
    ),
    setting(
        "reconnect_delay_max",
        "5s",
        Kind::Duration(100, HOUR),
        "Longest wait between two tries; it doubles from 100 ms, with jitter",
    ),
    setting(
        "shutdown_grace",
        "8s",
        Kind::Duration(0, HOUR),
        "Longest drain after SIGTERM; what is left then is sent again by the slot and skipped \
         if it is there",
    ),
    setting(
        "http_address",
        "127.0.0.1",
        Kind::Address,
        "Where the page, /livez, /readyz, /status and /metrics are served",
    ),
    setting("http_port", "8080", Kind::Count(0, 65_535), "Their port; 0 for none"),
    Setting {
        name: "http_token",
        fallback: Fallback::Derived("none"),
        kind: Kind::Token,
        help: "Whoever has it sees dead and parked events on the page, retries and discards \
               them; without one they are shown on a loopback address only, and nothing is \
               changed",
    },
    setting(
        "log_level",
        "info",
        Kind::Word(&["error", "warn", "info", "debug", "trace", "warning", "critical"]),
        "How much is logged; in any case of letters",
    ),
    setting(
        "log_format",
        "auto",
        Kind::Word(&["auto", "text", "json"]),
        "auto: text on a terminal, else a JSON object a line",
    ),
    setting(
        "poll_interval",
        "5s",
        Kind::Duration(10, 24 * HOUR),
        "Longest pause between two looks for rows that are due",
    ),
    setting(
        "max_retry_attempts",
        "5",
        Kind::Count(1, 1_000),
        "Attempts after which a refused event goes to the dead letters",
    ),
    setting(
        "retry_base_delay",
        "60s",
        Kind::Duration(1, 24 * HOUR),
        "Pause after the first refused attempt",
    ),
    setting(
        "retry_multiplier",
        "2",
        Kind::Decimal(100, 1_000),
        "Each further pause is so many times as long",
    ),
    setting(
        "retry_max_delay",
        "1h",
        Kind::Duration(1, 30 * 24 * HOUR),
        "Longest pause between two attempts",
    ),
    setting(
        "retry_jitter",
        "0.1",
        Kind::Decimal(0, 100),
        "Each pause is longer by a random part of up to this fraction of it",
    ),
    setting(
        "retention",
        "off",
        Kind::DurationOrOff(60 * SECOND, 3_650 * 24 * HOUR),
        "Settled rows older than this are deleted in small batches, or with their partition",
    ),
];

/// The setting with this name.
#[must_use]
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The setting that this variable sets. Names in the environment are in capitals and nothing else.
#[must_use]
pub(super) fn find_variable(variable: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.variable() == variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_the_environment() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(SETTINGS[..index].iter().all(|other| other.name != setting.name));
            assert!(setting.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(!setting.name.ends_with("_file"), "{} collides with _FILE", setting.name);
        }
    }
}
