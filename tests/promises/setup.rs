//! `walrelay setup`: repeated or by hand, it makes what `walrelay run` needs and never more.

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
