//! `walrelay check` on publication and slot: each condition is made, seen, mended by the printed
//! fix, and gone.

use std::process::Stdio;

use crate::harness::checked::{Checked, paste_setting};
use crate::harness::postgres::Stop;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::World;

const DROP_SLOT: &str = "SELECT pg_drop_replication_slot('walrelay');";

#[tokio::test]
async fn a_publication_that_would_hide_events_is_told_and_mended_by_what_is_printed() {
    let world = World::new().await;
    let publication = "publication walrelay";
    for (condition, level) in [
        ("SET (publish = 'update, delete')", "FAILURE"),
        ("DROP TABLE identity.outbox", "FAILURE"),
        ("SET TABLE identity.outbox WHERE (id > 5)", "WARNING"),
        ("SET TABLE identity.outbox (id, event_id, event_type, aggregate_id)", "FAILURE"),
    ] {
        let condition = format!("ALTER PUBLICATION walrelay {condition}");
        world.mend_by_sql(&condition, publication, level).await;
    }
    // What was written while the table was not in there is in nothing that its slot sends.
    assert_eq!(world.postgres.text("SELECT count(*) FROM pg_replication_slots").await, "0");
    world.settings.setup().await;
    // A slot cannot read from before its publication.
    world.mend_by_sql("DROP PUBLICATION walrelay", publication, "FAILURE").await;
    let by_hand = world.settings.clone().with("auto_create", "false");
    let checked = Checked::of(&by_hand).await;
    checked.assert(publication, "FAILURE");
    checked.assert("slot walrelay", "FAILURE");
    world.paste_sql(&checked.fix(publication));
    world.paste_sql(&checked.fix("slot walrelay"));
    let checked = Checked::of(&by_hand).await;
    assert_eq!(checked.bad(), ["setting max_slot_wal_keep_size"]);
    world.assert_relays(&by_hand).await;

    let partitioned = "
        CREATE TABLE public.events (id bigint GENERATED ALWAYS AS IDENTITY, event_id uuid, \
            event_type text, aggregate_id uuid, payload jsonb) PARTITION BY RANGE (id);
        CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM (0) TO (1000);
        CREATE PUBLICATION by_leaf FOR TABLE public.events WITH (publish = 'insert');";
    world.postgres.psql(partitioned);
    let settings = world.settings.clone().with("outbox_table", "public.events");
    let settings = settings.with("publication_name", "by_leaf");
    let checked = Checked::of(&settings).await;
    let objects = [
        "publication by_leaf",
        "fillfactor of public.events",
        "columns to mark rows of public.events",
        "columns to park rows of public.events",
        "index on id of public.events",
    ];
    for object in objects {
        world.paste_sql(&checked.fix(object));
    }
    let checked = Checked::of(&settings).await;
    for object in objects.iter().filter(|object| !object.starts_with("columns to mark")) {
        checked.assert(object, "OK");
    }
}

#[tokio::test]
async fn each_shard_has_its_own_filter() {
    let mut world = World::bare(&[], &[]).await;
    world.settings = world.settings.with("shards", "2");
    world.settings.setup().await;
    world.check().await.assert("publication walrelay_1of2", "OK");
    let condition = "ALTER PUBLICATION walrelay_2of2 SET TABLE identity.outbox WHERE (id > 5)";
    world.mend_by_sql(condition, "publication walrelay_2of2", "FAILURE").await;
    let checked = world.check().await;
    checked.assert("slot walrelay_1of2", "OK");
    assert!(checked.found("slot walrelay_2of2").1.starts_with("not there yet"));
    assert_eq!(checked.bad(), ["setting max_slot_wal_keep_size"]);
}

#[tokio::test]
async fn a_slot_in_trouble_is_told_with_what_ends_it() {
    let world = World::new().await;
    let slot = "slot walrelay";
    let mut reader = world.postgres.program("pg_recvlogical");
    let from = world.postgres.socket_url();
    reader.args(["--start", "--no-loop", "--slot", "walrelay", "--file", "-", "--dbname", &from]);
    reader.args(["--option", "proto_version=1", "--option", "publication_names=walrelay"]);
    let mut reader = reader.stdout(Stdio::null()).spawn().unwrap();
    wait::until("somebody else has the slot", PATIENCE, async || {
        (world.check().await.found(slot).0 == "WARNING").then_some(())
    })
    .await;
    let checked = world.check().await;
    assert!(checked.found(slot).1.contains("pg_recvlogical"), "{}", checked.found(slot).1);
    world.paste_sql(&checked.fix(slot));
    reader.wait().unwrap();
    wait::until("the slot is free", PATIENCE, async || {
        (world.check().await.found(slot).0 == "OK").then_some(())
    })
    .await;

    // Past its bound, and then over.
    let keep = "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'; SELECT pg_reload_conf();";
    world.postgres.psql(keep);
    let grow = "CREATE TABLE IF NOT EXISTS filler (n int); INSERT INTO filler VALUES (1);
                SELECT pg_switch_wal();";
    let wal = "WAL of slot walrelay";
    let checked = wait::until("the slot is past its bound", PATIENCE, async || {
        world.postgres.psql(grow);
        let checked = world.check().await;
        (checked.has(wal) && checked.found(wal).0 == "FAILURE").then_some(checked)
    })
    .await;
    assert!(checked.found(wal).1.starts_with("unreserved"), "{}", checked.found(wal).1);
    world.paste_sql(&checked.fix(wal));
    let mended = wait::until("the slot has room", PATIENCE, async || {
        let checked = world.check().await;
        (checked.found(wal).0 != "FAILURE").then_some(checked)
    })
    .await;
    assert!(mended.found(wal).1.contains("GiB to go"), "{}", mended.found(wal).1);
    assert!(mended.found("setting max_slot_wal_keep_size").1.contains("WAL grows by "));
    world.postgres.psql(keep);
    let checked = wait::until("the slot is lost", PATIENCE, async || {
        world.postgres.psql(&format!("{grow} CHECKPOINT;"));
        let checked = world.check().await;
        checked.found(slot).1.starts_with("lost: ").then_some(checked)
    })
    .await;
    checked.assert(slot, "WARNING");
    assert_eq!(checked.fix(slot), DROP_SLOT);
    world.paste_sql(&checked.fix(slot));
    world.check().await.assert(slot, "OK");

    world.postgres.psql("SELECT pg_create_physical_replication_slot('walrelay');");
    let checked = world.check().await;
    checked.assert(slot, "FAILURE");
    let other = paste_setting(&world.settings, &checked.fix(slot));
    Checked::of(&other).await.assert("slot walrelay_events", "OK");
}

#[tokio::test]
async fn a_standby_is_refused_and_the_primary_named() {
    let mut world = World::new().await;
    world.postgres.stop(Stop::Fast).await;
    let mut standby = world.postgres.standby();
    world.postgres.restart().await;
    standby.restart().await;
    wait::until("the standby follows", PATIENCE, async || {
        let query = "SELECT count(*) FROM pg_stat_replication";
        (world.postgres.text(query).await == "1").then_some(())
    })
    .await;
    let settings = world.settings.clone().with("database_url", &standby.url());
    let checked = Checked::of(&settings).await;
    checked.assert("server role", "FAILURE");
    checked.assert("columns of identity.outbox", "OK");
    assert!(!checked.has("slot walrelay"), "a standby's slots are nobody's concern");
    let fix = checked.fix("server role");
    assert!(fix.contains(&format!(":{}/", world.postgres.port())), "{fix}");
    let mended = paste_setting(&settings, &format!("RELAY_DATABASE_URL={}", world.postgres.url()));
    Checked::of(&mended).await.assert("server role", "OK");
}

/// PostgreSQL's version as a number: 170004.
async fn version(world: &World) -> i64 {
    world.postgres.text("SHOW server_version_num").await.parse().unwrap()
}

#[tokio::test]
async fn what_a_slot_needs_to_outlive_a_failover_is_told_where_the_server_can() {
    let world = World::new().await;
    let version = version(&world).await;
    if version < 170_000 {
        eprintln!("PostgreSQL {version} has no failover slots: nothing to see here");
        return;
    }
    world.check().await.assert("failover of slot walrelay", "OK");
    let (slots, sync) = ("setting synchronized_standby_slots", "setting sync_replication_slots");
    assert!(!world.check().await.has(slots), "no standby needs it");
    world.postgres.run("SELECT pg_create_physical_replication_slot('standby1')").await;
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    let plain = "SELECT pg_create_logical_replication_slot('walrelay', 'pgoutput')";
    world.postgres.run(plain).await;
    let checked = world.check().await;
    for object in [slots, sync, "failover of slot walrelay"] {
        checked.assert(object, "WARNING");
    }
    world.postgres.shell(&checked.fix("failover of slot walrelay"));
    world.paste_sql(&checked.fix(slots));
    let lines = checked.fix(sync);
    world.paste_sql(lines.split("\n--").next().unwrap());
    let mended = world.check().await;
    for object in [slots, sync, "failover of slot walrelay"] {
        mended.assert(object, "OK");
    }
    // What the relay makes itself can do it from the start.
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    world.settings.setup().await;
    world.check().await.assert("failover of slot walrelay", "OK");
    if version >= 180_000 {
        let idle = "setting idle_replication_slot_timeout";
        world
            .mend_by_sql(
                "ALTER SYSTEM SET idle_replication_slot_timeout = '1h'; SELECT pg_reload_conf();",
                idle,
                "WARNING",
            )
            .await;
    }
}
