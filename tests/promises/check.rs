//! `walrelay check` on PostgreSQL: each condition is made, seen with its fix, mended by just that,
//! and gone. Nothing is changed by the looking.

use crate::harness::checked::Checked;
use crate::harness::postgres::PASSWORD;
use crate::harness::preload;
use crate::harness::proxy::Proxy;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count, insert_many};

/// One of everything that is wrong at once, on tables that `setup` made.
const CONDITIONS: &str = "
    CREATE INDEX outbox_published_idx ON identity.outbox (published);
    CREATE INDEX outbox_pending ON identity.outbox (created_at) WHERE NOT published;
    DROP INDEX identity.outbox_next_attempt_at, identity.outbox_dead_lettered_at;
    ALTER TABLE identity.outbox RESET (fillfactor);
    ALTER TABLE identity.outbox DROP CONSTRAINT outbox_pkey;
    ALTER TABLE identity.outbox DROP COLUMN error_message;
    ALTER TABLE identity.outbox DROP COLUMN event_type;
    ALTER TABLE identity.outbox DROP COLUMN published_at;
    ALTER TABLE identity.outbox ALTER COLUMN attempts DROP DEFAULT, ALTER COLUMN attempts TYPE text;
    ALTER PUBLICATION walrelay SET (publish = 'delete');
    CREATE TABLE public.other (n int);
    BEGIN; INSERT INTO public.other VALUES (1); PREPARE TRANSACTION 'it''s forgotten';
    ALTER SYSTEM SET synchronous_standby_names = '*';
    SELECT pg_reload_conf();";

#[tokio::test]
async fn one_pass_tells_everything_that_is_wrong_and_every_fix_that_it_prints_works() {
    let world = World::with(&[("max_prepared_transactions", "2")], &[]).await;
    let forgetful = world.postgres.client().await;
    forgetful.batch_execute("CREATE TABLE public.held (n int)").await.unwrap();
    world.postgres.psql(CONDITIONS);
    forgetful.batch_execute("BEGIN; INSERT INTO public.held VALUES (1)").await.unwrap();
    let session =
        world.postgres.text("SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in%'");
    let session = format!("session {}", session.await);
    let prepared = "prepared transaction it's forgotten";
    wait::until("both are old enough", PATIENCE, async || {
        let checked = world.check().await;
        (checked.has(&session) && checked.has(prepared)).then_some(())
    })
    .await;
    let checked = world.check().await;
    let expected = [
        // Every statement below would wait for a standby that is none.
        ("setting synchronous_standby_names", "FAILURE"),
        (session.as_str(), "WARNING"),
        (prepared, "WARNING"),
        ("columns of identity.outbox", "FAILURE"),
        ("columns to mark rows of identity.outbox", "FAILURE"),
        ("columns to park rows of identity.outbox", "WARNING"),
        ("column attempts of identity.outbox", "FAILURE"),
        ("index outbox_published_idx on identity.outbox", "WARNING"),
        ("index outbox_pending on identity.outbox", "WARNING"),
        ("index on id of identity.outbox", "WARNING"),
        ("index on next_attempt_at of identity.outbox", "WARNING"),
        ("index on dead_lettered_at of identity.outbox", "WARNING"),
        ("fillfactor of identity.outbox", "WARNING"),
        ("setting max_slot_wal_keep_size", "WARNING"),
        ("publication walrelay", "FAILURE"),
    ];
    let mut bad = checked.bad();
    bad.sort_unstable();
    let mut wanted: Vec<&str> = expected.iter().map(|(object, _)| *object).collect();
    wanted.sort_unstable();
    assert_eq!(bad, wanted);
    assert_eq!((checked.code, checked.worst()), (2, "FAILURE"));
    for (object, level) in expected {
        checked.assert(object, level);
        world.paste_sql(&checked.fix(object));
    }
    // A reload comes into force a moment later.
    let mended = wait::until("all is OK", PATIENCE, async || {
        let checked = world.check().await;
        checked.bad().is_empty().then_some(checked)
    })
    .await;
    assert_eq!((mended.code, mended.worst()), (0, "OK"));
    let created_at = "SELECT count(*) FROM pg_indexes WHERE indexname = 'outbox_pending'
                      AND indexdef NOT LIKE '%WHERE%'";
    assert_eq!(world.postgres.text(created_at).await, "1", "what the index served stays");
    world.assert_relays(&world.settings).await;
}

#[tokio::test]
async fn what_takes_a_restart_is_told_and_auto_says_which_way_it_would_go() {
    let mut world = World::bare(
        &[("wal_level", "replica"), ("max_wal_senders", "0"), ("max_replication_slots", "0")],
        &[],
    )
    .await;
    let poll = Checked::of(&world.settings.clone().with("mode", "poll")).await;
    let auto = Checked::of(&world.settings.clone().with("mode", "auto")).await;
    assert_eq!(auto.found("setting mode").1, "auto: the relay would poll, for wal_level = replica");
    let checked = world.check().await;
    let settings = ["wal_level", "max_wal_senders", "max_replication_slots"];
    let objects = settings.map(|name| format!("setting {name}"));
    for object in &objects {
        checked.assert(object, "FAILURE");
        assert!(!poll.has(object) && !auto.has(object), "{object} is nothing to pollers");
    }
    assert!(!checked.has("replication connection"), "there is no walsender to ask");
    checked.assert("table identity.outbox", "FAILURE");
    let fixes = objects.each_ref().map(|object| checked.fix(object));
    world.paste_and_restart(&fixes).await;
    assert_eq!(checked.fix("table identity.outbox"), "walrelay setup");
    world.settings.setup().await;
    let checked = world.check().await;
    for object in &objects {
        checked.assert(object, "OK");
    }
    assert_eq!(checked.bad(), ["setting max_slot_wal_keep_size"]);
    assert_eq!(checked.code, 1, "a warning");
    let allows = world.settings.clone().with_arguments(&["--allow-warnings"]);
    let done = allows.finish("check").await;
    assert_eq!(done.code, Some(0), "{}", done.output);
    assert!(done.output.contains("no failures, 1 warning, "), "{}", done.output);
    let auto = Checked::of(&world.settings.clone().with("mode", "auto")).await;
    assert_eq!(auto.found("setting mode").1, "auto: the relay would take wal");
}

#[tokio::test]
async fn a_role_is_given_just_what_it_lacks() {
    let world = World::new().await;
    let create = format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'");
    world.postgres.run(&create).await;
    world.postgres.run("ALTER TABLE identity.outbox ENABLE ROW LEVEL SECURITY").await;
    let settings = world.settings.clone();
    let settings = settings.with("database_url", &world.postgres.url_of("app", PASSWORD));
    let settings = settings.with("retention", "7d");
    let checked = Checked::of(&settings).await;
    let expected = [
        ("role app", "FAILURE"),
        ("role app in schema identity", "FAILURE"),
        ("SELECT on identity.outbox for app", "FAILURE"),
        ("UPDATE on identity.outbox for app", "FAILURE"),
        ("parking on identity.outbox for app", "WARNING"),
        ("DELETE on identity.outbox for app", "WARNING"),
    ];
    for (object, level) in expected {
        checked.assert(object, level);
        world.paste_sql(&checked.fix(object));
    }
    let checked = Checked::of(&settings).await;
    for (object, _) in expected.iter().filter(|(object, _)| !object.starts_with("DELETE")) {
        if *object != "role app in schema identity" {
            checked.assert(object, "OK");
        }
    }
    assert_eq!(
        checked.bad(),
        ["row security of identity.outbox", "setting max_slot_wal_keep_size"]
    );
    world.paste_sql(&checked.fix("row security of identity.outbox"));
    let checked = Checked::of(&settings).await;
    assert_eq!(checked.bad(), ["setting max_slot_wal_keep_size"]);
    let mut relay = settings.start_ready().await;
    relay.drain().await;
}

#[tokio::test]
async fn looking_changes_nothing_and_a_black_hole_hides_nothing_of_the_other_server() {
    // Its workers write by themselves.
    let world = World::with(&[("autovacuum", "off")], &[]).await;
    world.postgres.run("SELECT pg_drop_replication_slot('walrelay')").await;
    world.postgres.run("DROP PUBLICATION walrelay").await;
    let client = world.postgres.client().await;
    insert_many(&client, 1, 3).await.unwrap();
    // The next transaction that writes gets this number.
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
    let before = world.postgres.text(next).await;
    let checked = world.check().await;
    assert!(checked.found("slot walrelay").1.contains("publishes the rows from before it"));
    checked.assert("publication walrelay", "OK");
    assert!(checked.found("setting max_replication_slots").1.ends_with("2 needed"));
    assert_eq!(world.postgres.text(next).await, before, "nothing was written");
    assert_eq!(count(&client, "pg_replication_slots").await, 0);
    assert_eq!(count(&client, "pg_publication").await, 0);
    let mut redis = world.redis.connection().await;
    let keys: i64 = redis::cmd("DBSIZE").query_async(&mut redis).await.unwrap();
    assert_eq!(keys, 0);

    let (postgres, redis) = (Proxy::start(world.postgres.port()), Proxy::start(world.redis.port()));
    postgres.stall();
    redis.stall();
    let short = world.settings.clone().with("connect_timeout", "3s");
    let no_postgres = short.clone().with("database_url", &world.postgres.url_at(postgres.port()));
    let no_redis = short.clone().with("redis_url", &world.redis.url_at(redis.port()));
    let neither = no_postgres.clone().with("redis_url", &world.redis.url_at(redis.port()));
    let server = format!("server 127.0.0.1:{}/postgres", postgres.port());
    let cache = format!("server 127.0.0.1:{}", redis.port());
    let (one, other, both) =
        tokio::join!(Checked::of(&no_postgres), Checked::of(&no_redis), Checked::of(&neither));
    one.assert(&server, "FAILURE");
    one.assert("append-only file", "OK");
    other.assert(&cache, "FAILURE");
    other.assert("columns of identity.outbox", "OK");
    both.assert(&server, "FAILURE");
    both.assert(&cache, "FAILURE");
    assert_eq!((one.code, other.code, both.code), (2, 2, 2));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told_beside_the_server_that_has_another() {
    let world = World::new().await;
    let right = world.check().await;
    assert_eq!(right.found("clock").0, "OK");
    let home = tempfile::tempdir().unwrap();
    let preloaded = preload::clock(home.path());
    for (ahead, said) in [("60", "behind this machine's"), ("-3600", "ahead of this machine's")] {
        let wrong = world.settings.clone().with_variable("WALRELAY_CLOCK_AHEAD", ahead);
        let wrong = wrong.with_variable("LD_PRELOAD", preloaded.to_str().unwrap());
        let checked = Checked::of(&wrong).await;
        let clocks = checked.all("clock");
        assert_eq!(clocks.len(), 2, "one of each server");
        for (level, found) in clocks {
            assert!(level == "WARNING" && found.ends_with(said), "{level}: {found}");
        }
    }
}
