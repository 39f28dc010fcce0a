//! Several tables, all the way from a file to [`Settings`] for each.

use super::*;
use crate::error::{EXIT_USAGE, Error, Result};

const SERVERS: &str = "database_url = 'postgresql://app@db/shop'\nredis_url = 'redis://cache'\n";
const TWO: &str = "batch_size = 7
    [tables.orders]
    outbox_table = 'shop.orders'
    batch_size = 9
    [tables.users]
    mode = 'poll'
    [tables.users.columns]
    payload = 'body'
";

fn read(text: &str, table: Option<&str>, flags: &[(&str, &str)]) -> Result<Loaded> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SERVERS}{text}")).unwrap();
    let flag = |(name, value): &(&str, &str)| {
        ((*name).to_owned(), (*value).to_owned(), "--set".to_owned())
    };
    load(&Inputs {
        file: Some(file.path().to_owned()),
        environment: vec![("RELAY_MAX_RETRY_ATTEMPTS".into(), "3".into())],
        flags: flags.iter().map(flag).collect(),
        table: table.map(str::to_owned),
    })
}

fn settings(text: &str, table: Option<&str>, flags: &[(&str, &str)]) -> Vec<Settings> {
    read(text, table, flags).unwrap().of_each(Loaded::settings).unwrap()
}

fn refused(text: &str) -> String {
    let error: Error = read(text, None, &[]).map(drop).unwrap_err();
    assert_eq!(error.exit_code(), EXIT_USAGE);
    error.to_string()
}

#[test]
fn a_table_has_what_its_section_says_then_what_the_process_says_and_names_of_its_own() {
    let all = settings(TWO, None, &[]);
    let [orders, users] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(orders.table.as_deref(), Some("orders"));
    assert_eq!(orders.outbox_table.to_string(), "shop.orders");
    assert_eq!(users.outbox_table.to_string(), "identity.outbox");
    assert_eq!((orders.batch_size.get(), users.batch_size.get()), (9, 7));
    assert_eq!((orders.mode, users.mode), (Mode::Wal, Mode::Poll));
    assert_eq!(
        users.outbox_table.columns,
        Columns::new(Preset::Identity, "payload = body").unwrap()
    );
    assert_eq!(users.retry.attempts_max, 3);
    for (settings, name) in [(orders, "orders"), (users, "users")] {
        assert_eq!(settings.slot_name, format!("walrelay_{name}"));
        assert_eq!(settings.slot_base, settings.slot_name);
        assert_eq!(settings.publication_name, format!("walrelay_{name}"));
        assert_eq!(settings.stream_name, name);
    }
    let named = "slot_name = 'relay'\n[tables.orders]\nslot_name = 'old'\noutbox_table = 'a.b'\n
        [tables.users]\nstream_name = 'identity.user.v1'";
    let all = settings(named, None, &[]);
    assert_eq!((&*all[0].slot_name, &*all[1].slot_name), ("old", "relay_users"));
    assert_eq!(all[1].stream_name, "identity.user.v1");
}

#[test]
fn what_is_typed_beats_the_section_and_is_for_the_table_that_is_meant() {
    let flags = [("batch_size", "11"), ("slot_name", "mine")];
    let all = settings(TWO, Some("orders"), &flags);
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].batch_size.get(), &*all[0].slot_name), (11, "mine"));
    let all = settings(TWO, None, &flags[..1]);
    assert_eq!(all.iter().map(|of| of.batch_size.get()).collect::<Vec<_>>(), [11, 11]);
    let error = read(TWO, None, &flags).unwrap_err().to_string();
    assert!(error.contains("would share slot_name \"mine\" (set in --set"), "{error}");
}

#[test]
fn what_is_about_one_table_says_which_there_are() {
    let loaded = read(TWO, None, &[]).unwrap();
    let error = loaded.one().unwrap_err();
    assert_eq!(error.to_string(), "there are several tables: orders, users");
    assert!(error.next_step().unwrap().contains("--table NAME"));
    assert_eq!(read(TWO, Some("users"), &[]).unwrap().one().unwrap().table(), Some("users"));
    assert_eq!(read("[tables.a]", None, &[]).unwrap().one().unwrap().table(), Some("a"));
    assert_eq!(read("", None, &[]).unwrap().one().unwrap().table(), None);
    let error = read(TWO, Some("mails"), &[]).unwrap_err().to_string();
    assert!(error.contains("--table \"mails\": there are orders, users"), "{error}");
    let error = read("", Some("mails"), &[]).unwrap_err().to_string();
    assert!(error.contains("there are no sections [tables.NAME]"), "{error}");
}

#[test]
fn tables_share_no_name_by_accident_and_are_refused_by_name_where_they_would() {
    let two = |ours: &str, theirs: &str| {
        format!(
            "[tables.a]\noutbox_table = 's.a'\n{ours}\n[tables.b]\noutbox_table = 's.b'\n{theirs}"
        )
    };
    read(&two("", ""), None, &[]).unwrap();
    for (text, said) in [
        ("[tables.a]\n[tables.b]".to_owned(), "would share outbox_table \"identity.outbox\""),
        (two("slot_name = 'x'", "slot_name = 'x'"), "would share slot_name \"x\""),
        (two("slot_name = 'x'", "slot_name = 'x_1of2'"), "would share slot_name \"x\""),
        (two("publication_name = 'walrelay_b'", ""), "would share publication_name \"walrelay_b\""),
        (two("stream_name = 'b'", ""), "would both write dead letters into \"b.dlq\""),
        (
            format!("stream_name = 'x'\n{}", two("", "")),
            "would both write dead letters into \"x.dlq\"",
        ),
        (format!("dlq_stream_name = 'x'\n{}", two("", "")), "dead letters into \"x\""),
        (
            format!("outbox_preset = 'debezium'\n{}", two("", "")),
            "would both write dead letters into \"outbox.event.{aggregate_type}.dlq\"",
        ),
        (two("stream_name = 'b.dlq'", ""), "[tables.a] would write events into \"b.dlq\""),
        (two("", "stream_name = 'a.dlq'"), "[tables.b] would write events into \"a.dlq\""),
        (two("shards = 2\nshard = '3'", ""), "[tables.a]: shard = \"3\""),
        (two("dlq_stream_name = 'a'", ""), "[tables.a]: stream_name"),
    ] {
        let error = refused(&text);
        assert!(error.contains(said), "{said} is not in {error}");
    }
    // On purpose.
    read(&two("stream_name = 'x'\ndlq_stream_name = 'a.d'", "stream_name = 'x'"), None, &[])
        .unwrap();
}

#[test]
fn what_is_no_section_and_what_is_the_process_s_is_told() {
    for (text, said) in [
        ("tables = 3", "sections [tables.NAME] are expected"),
        ("[tables]\norders = 3", "sections [tables.NAME] are expected"),
        ("[tables.orders]\nhttp_port = 1", "it is the process's, not a table's"),
        ("[tables.orders]\nslot = 'x'", "unknown setting \"slot\""),
        ("[tables.orders]\nbatch_size = 0", "[tables.orders]) is out of range"),
        ("[tables.orders]\nbatch_size = [1]", "a table or a list, but one value is expected"),
        ("[tables.bookmark_x]", "begins as the slots of bookmarks do"),
        ("[tables.'1of4']", "with a letter first"),
    ] {
        let error = refused(text);
        assert!(error.contains(said), "{said} is not in {error}");
    }
    let secret = refused("[tables.'postgresql://app:hunter2@db/shop']\nx = 1");
    assert!(!secret.contains("hunter2"), "{secret}");
    let many: Vec<String> =
        (0..=TABLES_MAX).map(|n| format!("[tables.t{n}]\noutbox_table = 's.t{n}'\n")).collect();
    assert!(refused(&many.concat()).contains("there are 33 tables: 32 at most"));
}
