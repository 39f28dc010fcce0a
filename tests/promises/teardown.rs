//! `walrelay teardown`: what it has shown is dropped, and nothing else, and never under a relay.

use tokio_postgres::Client;

use crate::harness::relay::{Said, Settings};
use crate::harness::world::{World, count, insert_many};

fn teardown(settings: &Settings, arguments: &[&str]) -> Said {
    settings.clone().with_arguments(arguments).say("teardown")
}

/// What must work, and what it printed.
fn done(settings: &Settings, arguments: &[&str], says: &[&str]) -> String {
    let said = teardown(settings, arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_says(&said, says);
    said.stdout
}

fn refused(settings: &Settings, arguments: &[&str], code: i32, says: &[&str]) {
    let said = teardown(settings, arguments);
    assert_eq!(said.code, Some(code), "{said:?}");
    assert_says(&said, says);
}

fn assert_says(said: &Said, words: &[&str]) {
    let all = format!("{}{}", said.stdout, said.stderr);
    for word in words {
        assert!(all.contains(word), "{word:?} is not in:\n{all}");
    }
}

/// Slots, publications, triggers and functions of ours that are there.
async fn objects(client: &Client) -> String {
    let query = "SELECT coalesce(string_agg(name, ', ' ORDER BY name COLLATE \"C\"), 'none') FROM (
            SELECT slot_name::text AS name FROM pg_replication_slots
            UNION ALL SELECT pubname::text FROM pg_publication
            UNION ALL SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT proname || '()' FROM pg_proc WHERE proname LIKE 'walrelay%'
        ) AS objects";
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn everything_of_a_configuration_goes_but_never_under_a_relay_and_twice_is_once() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    let notify = world.settings.clone().with_arguments(&["--notify"]);
    assert_eq!(notify.say("setup").code, Some(0));
    let settings = &world.settings;
    let all = "walrelay, walrelay, walrelay_notify, walrelay_notify()";
    assert_eq!(objects(&client).await, all);

    let mut leader = settings.start_ready().await;
    insert_many(&client, 1, 3).await.unwrap();
    world.until_marked().await;
    for arguments in [&["--yes"][..], &["--dry-run"]] {
        refused(settings, arguments, 1, &["a relay is connected", "walrelay-", "(pid ", "stop it"]);
    }
    leader.drain().await;

    let said = done(settings, &["--dry-run"], &["of WAL, nobody reads it", "--dry-run"]);
    for words in ["slot         walrelay", "publication  walrelay", "table identity.outbox with"] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    refused(settings, &[], 2, &["nobody is there to be asked", "--yes"]);
    assert_eq!(objects(&client).await, all);
    let on_terminal =
        |answer: &str| settings.say_on_terminal("teardown", "drop all of this: ", answer);
    let said = on_terminal("yes\n");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert_says(&said, &["that was not the slot's name"]);
    assert_eq!(objects(&client).await, all);
    let said = on_terminal("walrelay\n");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_says(&said, &["dropped      slot walrelay", "dropped      publication walrelay"]);
    assert_eq!(objects(&client).await, "none");
    done(settings, &["--yes"], &["Nothing was there to be dropped"]);
    assert_eq!(count(&client, "identity.outbox").await, 3);
    assert_eq!(world.consumer().read(3).await.len(), 3, "streams stay");
    settings.setup().await;
    done(settings, &["--yes"], &["dropped      slot walrelay"]);
}

#[tokio::test]
async fn shards_and_odd_names_go_and_what_may_serve_others_stays() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    let odd = r#"Pub"; DROP TABLE x; --"#;
    let create = "CREATE TABLE \"my \"\"table\" (id bigint PRIMARY KEY, event_id uuid,
            event_type text, aggregate_id uuid, payload jsonb);
        CREATE TABLE x (id int)";
    client.batch_execute(create).await.unwrap();
    let settings = world
        .settings
        .clone()
        .with("outbox_table", "public.\"my \"\"table\"")
        .with("publication_name", odd);
    settings.clone().with("shards", "2").setup().await;
    let others = "SELECT pg_create_logical_replication_slot('walrelay_9of9', 'test_decoding');
        SELECT pg_create_logical_replication_slot('walrelay_old', 'pgoutput');
        CREATE PUBLICATION \"Pub\"\"; DROP TABLE x; --\" FOR TABLE x, \"my \"\"table\";
        CREATE PUBLICATION \"Pub\"\"; DROP TABLE x; --_more\" FOR TABLE x";
    client.batch_execute(others).await.unwrap();
    // Shards of any number are the configuration's, whatever it says now.
    let says = ["slot walrelay_9of9: not ours, its plugin is test_decoding", "covers public.x as"];
    done(&settings, &["--yes"], &says);
    let left = format!("{odd}, {odd}_more, walrelay_9of9, walrelay_old");
    assert_eq!(objects(&client).await, left);
    let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
    client.batch_execute(drop).await.unwrap();

    // Pollers of the table are in its way as well, and those of another table are not.
    let second = settings.clone().with("outbox_table", "identity.outbox");
    let second = second.with("slot_name", "second").with("publication_name", "second");
    second.setup().await;
    let mut poller = settings.clone().with("mode", "poll").start_ready().await;
    done(&second, &["--yes"], &["dropped      slot second"]);
    settings.setup().await;
    refused(&settings, &["--yes"], 1, &["polls table public.\"my \"\"table\"", "(pid "]);
    poller.drain().await;
    done(&settings, &["--yes"], &["dropped      slot walrelay"]);
}

#[tokio::test]
async fn without_the_right_or_the_lock_nothing_is_half_dropped() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    let notify = world.settings.clone().with_arguments(&["--notify"]);
    assert_eq!(notify.say("setup").code, Some(0));
    let all = objects(&client).await;
    let role = "CREATE ROLE guest LOGIN PASSWORD 'guest'; GRANT USAGE ON SCHEMA identity TO guest;
        GRANT SELECT, UPDATE ON identity.outbox TO guest";
    client.batch_execute(role).await.unwrap();
    let guest =
        world.settings.clone().with("database_url", &world.postgres.url_of("guest", "guest"));
    let says = [
        "role \"guest\" has no REPLICATION",
        "ALTER ROLE \"guest\" REPLICATION",
        "publication \"walrelay\" belongs to role \"postgres\"",
        "does not own table identity.outbox",
        "nothing was dropped",
    ];
    refused(&guest, &["--yes"], 1, &says);
    assert_eq!(objects(&client).await, all);
    // Somebody reads the table for longer than the trigger's lock is waited for.
    client.batch_execute("BEGIN; SELECT FROM identity.outbox LIMIT 1").await.unwrap();
    let says = ["not dropped  slot walrelay", "not dropped  trigger", "cannot drop the trigger"];
    refused(&world.settings, &["--yes"], 1, &says);
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(objects(&client).await, all);
    // A standby would make the slot anew.
    let mut leader = world.settings.start_ready().await;
    let mut standby = Settings::new(&world.postgres.url(), &world.redis.url()).start();
    standby.until_state("standby").await;
    standby.freeze();
    leader.drain().await;
    refused(&world.settings, &["--yes"], 1, &["is connected: a standby would make the slot anew"]);
    standby.kill9();
    world.until_no_session().await;
    done(&world.settings, &["--yes"], &["dropped      slot walrelay"]);
    assert_eq!(objects(&client).await, "none");
}
