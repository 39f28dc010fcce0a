//! Several tables in one process: each goes its own way, what is wrong with one is told and holds
//! no other back, and no two share by accident what belongs to one.

use std::io::Write as _;

use serde_json::Value;
use tempfile::NamedTempFile;
use tokio_postgres::Client;

use crate::harness::browser::{Browser, Key};
use crate::harness::ledger::Ledger;
use crate::harness::relay::{Finished, Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count};

/// Our own table, and one for Debezium with an outbox of its own shape.
const TABLES: &str = "
    durability = 'memory'
    poll_interval = '100ms'
    reconnect_delay_max = '200ms'
    [tables.users]
    stream_name = 'identity.user.v1'
    [tables.orders]
    outbox_table = 'shop.outbox'
    outbox_preset = 'debezium'
";
const SHOP: &str = "CREATE SCHEMA shop;
    CREATE TABLE shop.outbox (id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
        aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL,
        type varchar(255) NOT NULL, payload jsonb)";
const ORDERS: &str = "outbox.event.order";

/// Both tables, and settings in a file.
struct Scene {
    world: World,
    client: Client,
    settings: Settings,
    /// As long as it is used.
    _file: NamedTempFile,
}

impl Scene {
    async fn new(sections: &str) -> Self {
        let world = World::bare(&[], &[]).await;
        let client = world.postgres.client().await;
        client.batch_execute(SHOP).await.unwrap();
        let (settings, file) = with_file(&world.settings, sections);
        Self { world, client, settings, _file: file }
    }

    /// The same before `setup`, then set up.
    async fn set_up(sections: &str) -> Self {
        let scene = Self::new(sections).await;
        scene.settings.setup().await;
        scene
    }

    async fn say(&self, command: &str, arguments: &[&str]) -> Finished {
        self.settings.clone().with_arguments(arguments).finish(command).await
    }

    /// What must work, and what it printed.
    async fn done(&self, command: &str, arguments: &[&str]) -> String {
        let done = self.say(command, arguments).await;
        assert_eq!(done.code, Some(0), "{command} {arguments:?}:\n{}", done.output);
        done.output
    }

    /// Each event once, in the order of its table, and in its own stream.
    async fn assert_all_published(&self) {
        self.world.assert_all_published().await;
        let query = "SELECT id::text FROM shop.outbox ORDER BY walrelay_id";
        let rows = self.client.query(query, &[]).await.unwrap();
        let ledger = Ledger::new(rows.iter().map(|row| row.get(0)).collect());
        let entries = self.world.consumer_of(ORDERS).read(ledger.len()).await;
        ledger.assert_exactly_once(&entries);
    }

    async fn until_marked(&self) {
        let left = "(SELECT published FROM identity.outbox UNION ALL
            SELECT published FROM shop.outbox) AS all_rows WHERE NOT published";
        wait::until_equal("rows left to mark", 0, PATIENCE, async || {
            count(&self.client, left).await
        })
        .await;
    }
}

/// The same settings with a file.
fn with_file(settings: &Settings, text: &str) -> (Settings, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    (settings.clone().with_variable("RELAY_CONFIG", &path), file)
}

async fn write_user(client: &Client, n: i64) {
    crate::harness::world::insert(client, n).await.unwrap();
}

async fn write_order(client: &Client, n: i64) {
    let query = "INSERT INTO shop.outbox (aggregatetype, aggregateid, type, payload)
        VALUES ('order', 'o-' || $1::int8 % 7, 'Placed', jsonb_build_object('n', $1::int8))";
    client.execute(query, &[&n]).await.unwrap();
}

/// What each table is doing.
async fn state_of(relay: &Relay, table: &str) -> Value {
    let status = relay.status().await;
    let tables = status["tables"].as_array().expect("several tables");
    let found = tables.iter().find(|one| one["table"] == table).expect("the table");
    found["state"].clone()
}

async fn until_state_of(relay: &Relay, table: &str, state: &str) {
    wait::until_equal("the table's state", Value::from(state), PATIENCE, async || {
        state_of(relay, table).await
    })
    .await;
}

fn assert_has(text: &str, words: &[&str]) {
    for words in words {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
}

#[tokio::test]
async fn two_tables_of_different_shapes_are_relayed_each_once_through_sigkill() {
    const ROWS: i64 = 600;
    let scene = Scene::set_up(TABLES).await;
    let writers = [scene.world.postgres.client().await, scene.world.postgres.client().await];
    let [users, orders] = writers;
    let users = tokio::spawn(async move {
        for n in 1..=ROWS {
            write_user(&users, n).await;
        }
    });
    let orders = tokio::spawn(async move {
        for n in 1..=ROWS {
            write_order(&orders, n).await;
        }
    });
    for kill in 1..=3 {
        let mut relay = scene.settings.start_ready().await;
        scene.world.consumer().until_len(50 * kill).await;
        scene.world.consumer_of(ORDERS).until_len(50 * kill).await;
        relay.kill9();
    }
    let mut relay = scene.settings.start_ready().await;
    users.await.unwrap();
    orders.await.unwrap();
    scene.assert_all_published().await;
    scene.until_marked().await;
    let slots = scene
        .world
        .postgres
        .text("SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots");
    assert_eq!(slots.await, "walrelay_orders walrelay_users");
    // One table by polling beside one by the WAL, and only one of them.
    relay.drain().await;
    let sections = TABLES.replace("[tables.orders]", "[tables.orders]\nmode = 'poll'");
    let (mixed, _file) = with_file(&scene.settings, &sections);
    let mut relay = mixed.start_ready().await;
    assert_eq!(state_of(&relay, "orders").await, "polling");
    assert_eq!(state_of(&relay, "users").await, "streaming");
    write_user(&scene.client, ROWS + 1).await;
    write_order(&scene.client, ROWS + 1).await;
    scene.assert_all_published().await;
    relay.drain().await;
    let only = scene.settings.clone().with_arguments(&["--table", "users"]);
    let mut relay = only.start_ready().await;
    write_user(&scene.client, ROWS + 2).await;
    scene.world.assert_all_published().await;
    let status = relay.status().await;
    assert_eq!(status["tables"].as_array().map(Vec::len), Some(1), "{status}");
    relay.drain().await;
}

#[tokio::test]
async fn what_is_wrong_with_one_table_is_told_everywhere_and_holds_no_other_back() {
    let scene = Scene::set_up(TABLES).await;
    let mut relay = scene.settings.start_ready().await;
    let (_, words) = relay.get("/readyz").await.unwrap();
    assert_eq!(words, "orders: streaming, users: streaming\n");
    scene.client.batch_execute("ALTER TABLE shop.outbox RENAME TO elsewhere").await.unwrap();
    scene
        .client
        .batch_execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
            WHERE slot_name = 'walrelay_orders'",
        )
        .await
        .unwrap();
    until_state_of(&relay, "orders", "stopped").await;
    let lines = relay.get("/status?table=users").await.unwrap().1;
    for n in 1..=300 {
        write_user(&scene.client, n).await;
    }
    scene.world.assert_all_published().await;
    scene.world.until_marked().await;
    let lines_of = |text: &str| {
        let status: Value = serde_json::from_str(text).unwrap();
        status["reconnects"]["lines"].clone()
    };
    let now = relay.get("/status?table=users").await.unwrap().1;
    assert_eq!(lines_of(&lines), lines_of(&now), "the other line goes on");
    let (code, words) = relay.get("/readyz").await.unwrap();
    assert_eq!(code, 503);
    assert_has(&words, &["table orders: stopped", "shop.outbox"]);
    assert_eq!(relay.get("/readyz?table=users").await.unwrap().0, 200);
    assert_eq!(relay.get("/readyz?table=orders").await.unwrap().0, 503);
    assert_eq!(relay.get("/readyz?table=mails").await.unwrap().0, 404);
    assert_eq!(relay.get("/livez").await.unwrap().0, 200);
    let status = relay.status().await;
    assert_eq!(status["state"], "stopped");
    assert_has(&status["last_error"]["error"].to_string(), &["shop.outbox"]);
    let (_, page) = relay.get("/metrics").await.unwrap();
    for line in [
        "walrelay_state{table=\"orders\",state=\"stopped\"} 1",
        "walrelay_state{table=\"users\",state=\"streaming\"} 1",
        "walrelay_events_published_total{table=\"users\"} 300",
        "walrelay_events_published_total{table=\"orders\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    let told = scene.say("status", &[]).await;
    assert_eq!(told.code, Some(1), "{}", told.output);
    assert_has(&told.output, &["[tables.orders]\nstate       stopped", "[tables.users]"]);
    scene.done("status", &["--table", "users"]).await;
    scene.done("health", &["--table", "users"]).await;
    let ill = scene.say("health", &[]).await;
    assert_eq!(ill.code, Some(1), "{}", ill.output);
    let log = relay.output();
    let is_told = |line: &&str| line.contains("\"ERROR\"") && line.contains("\"orders\"");
    assert_eq!(log.lines().filter(is_told).count(), 1, "said once:\n{log}");
    // Mended, it goes on by itself.
    scene.client.batch_execute("ALTER TABLE shop.elsewhere RENAME TO outbox").await.unwrap();
    relay.ready().await;
    write_order(&scene.client, 1).await;
    scene.assert_all_published().await;
    // When nothing works any more, the process ends as that of one table does.
    let stop = "ALTER TABLE shop.outbox RENAME TO elsewhere;
        ALTER TABLE identity.outbox RENAME TO elsewhere;
        SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active";
    scene.client.batch_execute(stop).await.unwrap();
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1), "{}", relay.output());
}

/// In a browser: both are listed, and a link leads to the other.
async fn assert_page_is_about_one_of_them(relay: &Relay) {
    let Some(mut browser) = Browser::start().await else { return };
    // It is sent on to the address of one: for a moment there is no page.
    let is_about = |table: &str| {
        format!("document.getElementById('facts')?.textContent.includes('table {table}')")
    };
    browser.open(&relay.url()).await;
    browser.until(&is_about("orders"), "document.URL").await;
    browser.until_says("written", "1 published").await;
    browser.until_says("slot", "walrelay_orders").await;
    browser.until("document.querySelectorAll('#table-rows tr').length === 2", "''").await;
    browser.until_says("undelivered-says", "0 parked").await;
    browser.tab_to("at.href?.endsWith('?table=users')").await;
    browser.press(Key::Enter).await;
    browser.until(&is_about("users"), "document.URL").await;
    browser.until_says("slot", "walrelay_users").await;
    browser.until_says("written", "0 published").await;
    assert_eq!(browser.complaints(), Vec::<&str>::new());
}

#[tokio::test]
async fn commands_act_on_all_tables_or_on_the_one_that_is_named() {
    let scene = Scene::new(TABLES).await;
    let printed = scene.done("setup", &["--print"]).await;
    let (orders, users) = (printed.find("-- [tables.orders]"), printed.find("-- [tables.users]"));
    assert!(orders.is_some() && orders < users, "{printed}");
    scene.world.postgres.psql(&printed);
    let again = scene.done("setup", &[]).await;
    assert_has(&again, &["[tables.orders]", "slot         walrelay_orders          found"]);
    assert_has(&again, &["[tables.users]", "slot         walrelay_users           found"]);

    // A single pass tells all, and of the servers once.
    let checked = scene.say("check", &["--allow-warnings"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.output);
    assert_has(&checked.output, &["[tables.orders]", "columns of shop.outbox", " as above"]);
    assert_eq!(checked.output.matches("setting wal_level").count(), 1, "{}", checked.output);
    let checked = scene.say("check", &["--json"]).await.output;
    let tables: Vec<Value> = checked
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["table"].clone())
        .collect();
    assert_eq!(tables, ["orders", "users"]);
    let looked = scene.say("status", &["--json"]).await.output;
    let sections = looked.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let sections: Vec<Value> = sections.map(|one| one["section"].clone()).collect();
    assert_eq!(sections, ["orders", "users"], "{looked}");

    // About one table.
    let mut relay = scene.settings.start_ready().await;
    write_order(&scene.client, 1).await;
    scene.world.consumer_of(ORDERS).until_len(1).await;
    scene.until_marked().await;
    assert_page_is_about_one_of_them(&relay).await;
    for (command, arguments) in [
        ("dlq", &["list"][..]),
        ("bookmark", &["list"]),
        ("replay", &["--aggregate", "o-1", "--dry-run", "--stream", "copy"]),
        ("verify", &[]),
        ("tail", &["--last", "1"]),
        ("config", &[]),
    ] {
        let refused = scene.say(command, arguments).await;
        assert_eq!(refused.code, Some(2), "{command}:\n{}", refused.output);
        assert_has(&refused.output, &["there are several tables: orders, users", "--table NAME"]);
        if command != "tail" {
            let named = [arguments, &["--table", "orders"]].concat();
            scene.done(command, &named).await;
        }
    }
    let config = scene.done("config", &["--table", "orders"]).await;
    assert_has(&config, &["walrelay_orders", "the name of [tables.orders]", "shop.outbox"]);
    let (code, dead) = relay.get("/dead?table=orders").await.unwrap();
    assert_eq!(code, 200, "{dead}");
    let (code, dead) = relay.get("/dead").await.unwrap();
    assert_eq!(code, 400, "{dead}");
    assert_has(&dead, &["tables: orders, users"]);

    // It refuses under the relay, takes one, then all that is left.
    let refused = scene.say("teardown", &["--yes"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    assert_has(&refused.output, &["[tables.orders]", "a relay is connected"]);
    relay.drain().await;
    scene.done("teardown", &["--yes", "--table", "orders"]).await;
    let left = "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots";
    assert_eq!(scene.world.postgres.text(left).await, "walrelay_users");
    scene.done("teardown", &["--yes"]).await;
    assert_eq!(count(&scene.client, "pg_replication_slots").await, 0);
    assert_eq!(count(&scene.client, "pg_publication").await, 0);
}

#[tokio::test]
async fn an_entry_of_another_table_is_a_stranger_only_where_that_is_asked() {
    let scene = Scene::set_up(TABLES).await;
    let mut relay = scene.settings.start_ready().await;
    write_user(&scene.client, 1).await;
    let by_topic = "INSERT INTO identity.outbox (event_type, aggregate_id, topic, payload)
        VALUES ('Elsewhere', gen_random_uuid(), 'outbox.event.order', '{}')";
    scene.client.batch_execute(by_topic).await.unwrap();
    scene.until_marked().await;
    write_order(&scene.client, 1).await;
    scene.world.consumer_of(ORDERS).until_len(2).await;
    scene.until_marked().await;
    let users = scene.done("verify", &["--table", "users"]).await;
    assert_has(&users, &["2 streams", "nothing wrong"]);
    let strict = scene.say("verify", &["--table", "users", "--strict"]).await;
    assert_eq!(strict.code, Some(1), "{}", strict.output);
    assert_has(&strict.output, &["1 stranger"]);
    relay.drain().await;
}

#[tokio::test]
async fn what_two_tables_would_share_is_refused_before_anything_is_done() {
    let scene = Scene::new(&format!("{TABLES}\nslot_name = 'walrelay_users'")).await;
    for command in ["run", "setup", "check", "status", "teardown"] {
        let refused = scene.say(command, &[]).await;
        assert_eq!(refused.code, Some(2), "{command}:\n{}", refused.output);
        assert_has(
            &refused.output,
            &["[tables.orders] and [tables.users] would share slot_name \"walrelay_users\""],
        );
    }
    assert_eq!(count(&scene.client, "pg_replication_slots").await, 0);
    // Nor does one table that cannot be set up keep the other from it.
    let (settings, _file) =
        with_file(&scene.world.settings, &TABLES.replace("'shop.outbox'", "'shop.nowhere'"));
    let done = settings.finish("setup").await;
    assert_eq!(done.code, Some(1), "{}", done.output);
    assert_has(&done.output, &["error: [tables.orders] ", "shop.nowhere", "walrelay_users"]);
    let slots = "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots";
    assert_eq!(scene.world.postgres.text(slots).await, "walrelay_users");
}
