//! Layers, origins and complaints, all the way from texts to [`Settings`].

use std::path::PathBuf;

use super::*;
use crate::error::EXIT_USAGE;

const DATABASE: (&str, &str) = ("RELAY_DATABASE_URL", "postgresql://app:hunter2@db/shop");
const REDIS: (&str, &str) = ("RELAY_REDIS_URL", "redis://:hunter2@cache");

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn loaded(pairs: &[(&str, &str)]) -> crate::error::Result<Loaded> {
    load(&Inputs { environment: environment(pairs), ..Inputs::default() })
}

fn shown(loaded: &Loaded, name: &str) -> (Option<String>, String) {
    let found = loaded.shown().into_iter().find(|shown| shown.setting.name == name).unwrap();
    (found.value, found.origin.to_string())
}

fn temporary(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn every_default_is_a_value_that_its_setting_allows() {
    let settings = loaded(&[DATABASE, REDIS]).unwrap().settings().unwrap();
    assert_eq!(settings.slot_name, "walrelay");
    assert_eq!(settings.outbox_table.to_string(), "identity.outbox");
    assert_eq!(settings.stream_name, "identity.user.v1");
    assert_eq!(settings.batch_size.get(), 256);
    assert_eq!(settings.batch_bytes, 1 << 20);
    assert_eq!(settings.stream_maxlen, None);
    assert_eq!(settings.durability, Durability::Fsync);
    // The others go through the check as if they had been set.
    let defaults: Vec<(String, String)> = SETTINGS
        .iter()
        .filter_map(|setting| match setting.fallback {
            Fallback::Value(text) => Some((setting.variable(), text.to_owned())),
            Fallback::Required | Fallback::Derived(_) => None,
        })
        .collect();
    load(&Inputs { environment: defaults, ..Inputs::default() }).unwrap();
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let file = temporary("slot_name = 'from_file'\nbatch_size = 10\nauto_create = false\n");
    let inputs = |environment, flags| Inputs {
        file: Some(file.path().to_owned()),
        environment,
        flags,
        table: None,
    };
    let flag = ("slot_name".to_owned(), "from_flag".to_owned(), "--set".to_owned());
    let variable = environment(&[("RELAY_SLOT_NAME", "from_variable")]);
    let slot = |inputs: &Inputs| shown(&load(inputs).unwrap(), "slot_name");
    let path = file.path().display().to_string();
    assert_eq!(slot(&inputs(vec![], vec![])), (Some("from_file".into()), path));
    let (value, origin) = slot(&inputs(variable.clone(), vec![]));
    assert_eq!((value.as_deref(), origin.as_str()), (Some("from_variable"), "RELAY_SLOT_NAME"));
    let all = inputs(variable, vec![flag]);
    assert_eq!(slot(&all), (Some("from_flag".into()), "--set".into()));
    let loaded = load(&all).unwrap();
    assert_eq!(shown(&loaded, "batch_size").0.as_deref(), Some("10"));
    assert_eq!(shown(&loaded, "publication_name"), (Some("walrelay".into()), "default".into()));
}

#[test]
fn a_value_may_stand_in_a_file_that_a_variable_names() {
    let file = temporary("postgresql://app:hunter2@db/shop\n");
    let path = file.path().to_str().unwrap();
    let loaded = loaded(&[("RELAY_DATABASE_URL_FILE", path), REDIS]).unwrap();
    let settings = loaded.settings().unwrap();
    assert_eq!(settings.database_url.connection.get_dbname(), Some("shop"));
    let (value, origin) = shown(&loaded, "database_url");
    assert_eq!(value.as_deref(), Some("postgresql://app:***@db/shop"));
    assert_eq!(origin, format!("RELAY_DATABASE_URL_FILE ({path})"));
}

#[test]
fn the_names_that_people_use_already_keep_working() {
    let loaded = loaded(&[
        ("RELAY_DATABASE_URL", "postgresql+asyncpg://app:hunter2@db/shop"),
        ("RELAY_REDIS_URL", "redis://cache:6379/0"),
        ("RELAY_BATCH_SIZE", "100"),
        ("RELAY_POLL_INTERVAL", "5.0"),
        ("RELAY_MAX_RETRY_ATTEMPTS", "5"),
        ("RELAY_RETRY_BASE_DELAY", "60"),
        ("RELAY_STREAM_NAME", "identity.user.v1"),
        ("RELAY_DLQ_STREAM_NAME", "identity.user.v1.dlq"),
        ("RELAY_LOG_LEVEL", "WARNING"),
        ("RELAY_HTTP_PORT", "9090"),
        // Set and empty, as compose files pass them on.
        ("RELAY_STREAM_MAXLEN", ""),
    ])
    .unwrap();
    let settings = loaded.settings().unwrap();
    assert_eq!((settings.batch_size.get(), settings.http_port), (100, 9090));
    assert_eq!(loaded.log().unwrap().1, LogLevel::Warn);
    assert_eq!(settings.database_url.connection.get_user(), Some("app"));
}

#[test]
fn a_complaint_names_setting_value_origin_and_what_is_allowed() {
    for (name, value, expected) in [
        (
            "RELAY_BATCH_SIZE",
            "0",
            "batch_size = \"0\" (set in RELAY_BATCH_SIZE) is out of range; allowed: 1 to 4096",
        ),
        ("RELAY_BATCH_SIZE", "many", "is not a whole number"),
        ("RELAY_DURABILITY", "disk", "allowed: memory, fsync"),
        ("RELAY_CONNECT_TIMEOUT", "5 weeks", "is not a duration; allowed: 100ms to 1h"),
        ("RELAY_BATCH_BYTES", "1GiB", "allowed: 1KiB to 64MiB"),
        ("RELAY_AUTO_CREATE", "maybe", "allowed: true or false"),
        ("RELAY_SLOT_NAME", "Wal-Relay", "allowed: 1 to 63 of a-z, 0-9 and _"),
        ("RELAY_OUTBOX_TABLE", "outbox", "allowed: SCHEMA.TABLE"),
        ("RELAY_HTTP_PORT", "65536", "allowed: 0 to 65535"),
        ("RELAY_HTTP_ADDRESS", "localhost", "is no IP address"),
        ("RELAY_STREAM_MAXLEN", "0", "allowed: off, or 1 to"),
        ("RELAY_DLQ_STREAM_NAME", "identity.user.v1", "are both \"identity.user.v1\""),
        (
            "RELAY_BATCHSIZE",
            "1",
            "RELAY_BATCHSIZE: unknown setting; did you mean RELAY_BATCH_SIZE?",
        ),
        ("RELAY_DATABSE_URL_FILE", "/x", "did you mean RELAY_DATABASE_URL_FILE?"),
        ("RELAY_slot_name", "x", "did you mean RELAY_SLOT_NAME?"),
        ("RELAY_SLOT_NAME", " ", "is empty"),
        ("RELAY_HTTP_PORT", "tcp://10.0.0.1:80", "enableServiceLinks: false"),
        ("RELAY_STREAM_NAME_FILE", "/dev/zero", "larger than 64KiB"),
        ("RELAY_DLQ_STREAM_NAME", "identity.user.v1", "(set in RELAY_DLQ_STREAM_NAME)"),
        ("RELAY_WHATEVER_ELSE", "1", "there are database_url, redis_url"),
        ("RELAY_REDIS_URL_FILE", "/nowhere", "RELAY_REDIS_URL_FILE: cannot read /nowhere"),
    ] {
        let error = loaded(&[(name, value)]).expect_err(name);
        assert_eq!(error.exit_code(), EXIT_USAGE);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_no_secret_with_it() {
    let error = loaded(&[
        ("RELAY_DATABASE_URL", "mysql://app:hunter2@db/shop"),
        ("RELAY_REDIS_URL", "http://:hunter2@cache"),
        ("RELAY_BATCH_SIZE", "-1"),
    ])
    .unwrap_err();
    let text = error.to_string();
    for name in ["database_url (set in", "redis_url (set in", "batch_size = \"-1\""] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_missing_url_is_said_with_the_ways_to_set_it() {
    let loaded = loaded(&[]).unwrap();
    let error = loaded.settings().unwrap_err();
    assert_eq!(error.exit_code(), EXIT_USAGE);
    for way in ["RELAY_DATABASE_URL_FILE", "RELAY_REDIS_URL,", "--config"] {
        assert!(error.to_string().contains(way), "{error}");
    }
    assert_eq!(shown(&loaded, "redis_url"), (None, "default".into()));
}

#[test]
fn a_file_that_cannot_be_read_or_understood_is_named_without_its_secrets() {
    let file = |path: PathBuf| load(&Inputs { file: Some(path), ..Inputs::default() });
    let error = file("/nowhere/walrelay.toml".into()).unwrap_err();
    assert!(error.to_string().contains("cannot read /nowhere/walrelay.toml"), "{error}");
    let broken = temporary("database_url = \"postgresql://app:hunter2@db/shop\nslot_name = 1");
    let error = file(broken.path().to_owned()).unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let nested = temporary("[relay]\nslot_name = 'x'\n");
    let error = file(nested.path().to_owned()).unwrap_err();
    assert!(error.to_string().contains("unknown setting \"relay\""), "{error}");
}

#[test]
fn a_value_and_its_file_together_are_refused() {
    let file = temporary("redis://cache");
    let pair = ("RELAY_REDIS_URL_FILE", file.path().to_str().unwrap());
    for pairs in [[REDIS, pair], [pair, REDIS]] {
        let error = loaded(&pairs).unwrap_err();
        assert!(error.to_string().contains("both set"), "{error}");
    }
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_are_told_from_typing_errors() {
    let error = loaded(&[
        ("RELAY_PORT", "tcp://10.0.0.11:80"),
        ("RELAY_SERVICE_HOST", "10.0.0.11"),
        ("RELAY_SERVICE_PORT_HTTP", "80"),
        ("RELAY_PORT_80_TCP_ADDR", "10.0.0.11"),
    ])
    .unwrap_err()
    .to_string();
    assert_eq!(error.matches("enableServiceLinks: false").count(), 1, "{error}");
    assert!(error.contains("RELAY_PORT, RELAY_SERVICE_HOST, RELAY_SERVICE_PORT_HTTP"), "{error}");
    assert!(!error.contains("unknown setting"), "{error}");
}

#[test]
fn a_secret_where_a_name_should_be_is_not_repeated() {
    let flag = |text: &str| {
        let (name, value) = text.split_once('=').unwrap();
        let flags = vec![(name.to_owned(), value.to_owned(), "--set".to_owned())];
        load(&Inputs { flags, ..Inputs::default() }).unwrap_err().to_string()
    };
    let error = flag("postgresql://app:hunter2@db/shop?sslmode=require");
    assert!(error.starts_with("--set: ") && !error.contains("hunter2"), "{error}");
    assert!(flag("slot-name=x").contains("did you mean slot_name?"));
    for text in [
        "postgresql://app:hunter2@db/shop",
        "'postgresql://app:hunter2@db/shop' = 1",
        "database_url = postgresql://app:hunter2@db/shop",
        "database_url = \"postgresql://app:\\hunter2@db/shop\"",
        "database_url = 'x'\ndatabase_url = 'postgresql://app:hunter2@db/shop'",
        "database_url = '''\npostgresql://app:hunter2@db\n",
        "[database_url]\npassword = 'hunter2'",
    ] {
        let file = temporary(text);
        let file = Some(file.path().to_owned());
        let error = load(&Inputs { file, ..Inputs::default() }).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn debug_output_shows_no_secret() {
    let loaded = loaded(&[DATABASE, REDIS]).unwrap();
    let text = format!("{loaded:?} {:?}", loaded.settings().unwrap());
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("postgresql://app:***@db/shop"), "{text}");
}

#[test]
fn messages_do_not_go_with_what_cannot_deliver_them() {
    let messages = ("RELAY_MESSAGES", "true");
    assert!(loaded(&[DATABASE, REDIS, messages]).unwrap().settings().unwrap().messages);
    assert!(!loaded(&[DATABASE, REDIS]).unwrap().settings().unwrap().messages);
    for (name, value) in [
        ("shards", "2"),
        ("mode", "poll"),
        ("outbox_preset", "debezium"),
        ("columns", "payload = body"),
    ] {
        let variable = format!("RELAY_{}", name.to_ascii_uppercase());
        let other = (variable.as_str(), value);
        loaded(&[DATABASE, REDIS, other]).unwrap();
        let error = loaded(&[DATABASE, REDIS, messages, other]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("RELAY_MESSAGES") && text.contains(&variable), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
