//! `walrelay setup`: repeated or by hand, it makes what `walrelay run` needs and never more.

use tokio_postgres::Client;

use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count, insert, insert_many};

/// What `setup` makes, in one text that shows any difference.
const MADE: &str = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT 'slot ' || slot_name || ' ' || plugin AS line FROM pg_replication_slots
    UNION ALL SELECT concat_ws(' ', 'publication', pubname, pubinsert, pubupdate, pubdelete,
        pubtruncate, pubviaroot, schemaname, tablename)
        FROM pg_publication JOIN pg_publication_tables USING (pubname)
    UNION ALL SELECT concat_ws(' ', 'column', table_name, ordinal_position, column_name, data_type,
        is_nullable, column_default)
        FROM information_schema.columns WHERE table_schema = 'identity'
    UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'identity'
    UNION ALL SELECT concat_ws(' ', 'function', oid::regprocedure, md5(prosrc), proconfig,
        obj_description(oid, 'pg_proc'))
        FROM pg_proc WHERE pronamespace = 'identity'::regnamespace
    UNION ALL SELECT concat_ws(' ', 'role', rolname, rolcanlogin, rolreplication, rolsuper)
        FROM pg_roles WHERE rolname = 'relay'
    UNION ALL SELECT concat_ws(' ', 'grant', grantee, privilege_type, table_name)
        FROM information_schema.role_table_grants WHERE grantee = 'relay'
    UNION ALL SELECT concat_ws(' ', 'grant', grantee, privilege_type, table_name, column_name)
        FROM information_schema.role_column_grants WHERE grantee = 'relay'
) AS lines";

#[tokio::test]
async fn setup_repeated_changes_nothing() {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    world.settings.setup().await;
    insert(&client, 1).await.unwrap();
    let made = world.postgres.text(MADE).await;
    let again = world.settings.finish("setup").await;
    assert_eq!(again.code, Some(0), "{}", again.output);
    assert!(!again.output.contains("created"), "{}", again.output);
    assert_eq!(world.postgres.text(MADE).await, made);
    let mut relay = world.settings.start_ready().await;
    world.assert_all_published().await;
    relay.drain().await;
}

#[tokio::test]
async fn the_printed_sql_run_by_hand_makes_what_setup_makes_and_can_be_repeated() {
    let arguments = ["--role", "relay"];
    let by_setup = World::bare(&[], &[]).await;
    by_setup.settings.clone().with_arguments(&arguments).setup().await;
    let by_hand = World::bare(&[], &[]).await;
    let print = by_hand.settings.clone().with_arguments(&arguments).with_arguments(&["--print"]);
    let print = print.finish("setup").await;
    assert_eq!(print.code, Some(0), "{}", print.output);
    let client = by_hand.postgres.client().await;
    assert_eq!(count(&client, "pg_replication_slots").await, 0, "to print is to do nothing");
    let wanted = by_setup.postgres.text(MADE).await;
    for _ in 0..2 {
        by_hand.postgres.psql(&print.output);
        assert_eq!(by_hand.postgres.text(MADE).await, wanted);
    }
    let mut relay = by_hand.settings.start_ready().await;
    insert_many(&client, 1, 10).await.unwrap();
    by_hand.assert_all_published().await;
    by_hand.until_marked().await;
    relay.drain().await;
}

/// A table whose key is no number, with three rows that nobody has published.
const FOREIGN: &str = "CREATE TABLE public.outbox (
        id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
        aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL,
        type varchar(255) NOT NULL, payload jsonb);
    INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload)
    SELECT 'order', 'a', 'Placed', jsonb_build_object('n', n) FROM generate_series(1, 3) AS n";
const UNNUMBERED: &str = "public.outbox WHERE walrelay_id IS NULL";
const WHOLE_INDEX: &str = "pg_index WHERE indexrelid = to_regclass('public.outbox_walrelay_id')
    AND indisvalid";

async fn foreign() -> (World, Client, Settings) {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    client.batch_execute(FOREIGN).await.unwrap();
    let settings = world.settings.clone().with("outbox_table", "public.outbox");
    let settings = settings.with("outbox_preset", "debezium").with("poll_interval", "100ms");
    (world, client, settings)
}

async fn set_up_says(settings: &Settings, words: &str) {
    let done = settings.finish("setup").await;
    assert_eq!(done.code, Some(0), "{}", done.output);
    assert!(done.output.contains(words), "{words:?} is not in:\n{}", done.output);
}

async fn until_published(client: &Client) {
    wait::until_equal("published rows", 3, PATIENCE, async || {
        count(client, "public.outbox WHERE published").await
    })
    .await;
}

#[tokio::test]
async fn a_setup_that_was_interrupted_is_finished_by_the_next() {
    let (world, client, settings) = foreign().await;
    let settings = settings.with("mode", "poll");
    let print = settings.clone().with_arguments(&["--print"]).finish("setup").await;
    for step in ["-- Who may insert rows", "-- Numbers the rows", "-- By this index"] {
        let (begun, _) = print.output.split_once(step).expect("a step of the script");
        let again = "DROP TABLE public.outbox; DROP SEQUENCE IF EXISTS outbox_walrelay_id_seq;";
        client.batch_execute(again).await.unwrap();
        client.batch_execute(FOREIGN).await.unwrap();
        world.postgres.psql(begun);
        settings.setup().await;
        assert_eq!(count(&client, UNNUMBERED).await, 0, "up to {step:?}");
        assert_eq!(count(&client, WHOLE_INDEX).await, 1, "up to {step:?}");
    }
    let unfinished = "UPDATE public.outbox SET walrelay_id = NULL;
        DROP INDEX public.outbox_walrelay_id";
    client.batch_execute(unfinished).await.unwrap();
    set_up_says(&settings, "numbered 3 rows, created the index on walrelay_id").await;
    let cut_off = "UPDATE pg_index SET indisvalid = false
        WHERE indexrelid = 'public.outbox_walrelay_id'::regclass";
    client.batch_execute(cut_off).await.unwrap();
    set_up_says(&settings, "found, created the index on walrelay_id anew").await;
    assert_eq!(count(&client, WHOLE_INDEX).await, 1);
    set_up_says(&settings, "found\n").await;
    let mut relay = settings.start_ready().await;
    let entries = world.consumer_of("outbox.event.order").read(3).await;
    let told: Vec<&str> = entries.iter().map(|entry| entry.get("payload")).collect();
    assert_eq!(told, [1, 2, 3].map(|n| format!("{{\"n\": {n}}}")), "in the order of writing");
    until_published(&client).await;
    relay.drain().await;
}

#[tokio::test]
async fn a_row_without_a_number_ends_a_backlog_before_it_is_published() {
    let (world, client, settings) = foreign().await;
    settings.setup().await;
    let third = "UPDATE public.outbox SET walrelay_id = NULL WHERE walrelay_id = 3";
    client.batch_execute(third).await.unwrap();
    let mut relay = settings.spawn("run");
    assert_eq!(relay.exit_code(PATIENCE).await, Some(1), "{}", relay.output());
    for words in ["public.outbox", "walrelay_id", "walrelay setup"] {
        assert!(relay.output().contains(words), "{words:?} is not in:\n{}", relay.output());
    }
    assert_eq!(world.consumer_of("outbox.event.order").len().await.unwrap_or(0), 0);
    set_up_says(&settings, "numbered 1 row").await;
    let mut relay = settings.start_ready().await;
    world.consumer_of("outbox.event.order").read(3).await;
    until_published(&client).await;
    relay.drain().await;

    // As if its line had been gone before it could mark it, and the number with it.
    let lost = "UPDATE public.outbox SET published = false, walrelay_id = NULL
        WHERE payload ->> 'n' = '2'";
    client.batch_execute(lost).await.unwrap();
    let mut relay = settings.clone().with("mode", "poll").start_ready().await;
    assert_eq!(count(&client, "public.outbox WHERE published").await, 2);
    relay.drain().await;
}
