//! `retention`: what is settled and old goes; nothing else does, and nobody is held up.

use tokio_postgres::Client;

use crate::harness::relay::{Relay, Settings};
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{World, count, insert_many};

/// An event that was settled an hour ago: gone soon.
const OLD: &str = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, published,
        published_at)
    SELECT 'Old', gen_random_uuid(), '{}', true, now() - interval '1 hour'
    FROM generate_series(1, $1::int8)";

async fn insert_old(client: &Client, rows: i64) {
    client.execute(OLD, &[&rows]).await.unwrap();
}

async fn ids(client: &Client) -> String {
    let query = "SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM identity.outbox";
    client.query_one(query, &[]).await.unwrap().get(0)
}

async fn until_none(client: &Client, from: &str) {
    wait::until_equal(from, 0, PATIENCE, async || count(client, from).await).await;
}

/// Awaits that the keeper has looked at everything that is there now: the round that runs now may
/// have begun before, and an age is known by what an earlier round saw.
async fn until_looked(relay: &Relay) {
    let rounds = async || relay.status().await["retention"]["rounds"].as_u64().unwrap();
    let enough = rounds().await + 4;
    // After a failure, such as a lock that it did not get in time, it rests for half a minute.
    wait::until("four rounds of the keeper", PATIENCE * 3, async || {
        (rounds().await >= enough).then_some(())
    })
    .await;
}

async fn start(world: &World) -> Relay {
    world.settings.clone().with("retention", "1m").start_ready().await
}

#[tokio::test]
async fn of_all_states_only_what_is_settled_and_old_goes() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let mut relay = start(&world).await;
    client
        .batch_execute(
            "INSERT INTO identity.outbox (id, event_type, aggregate_id, payload, created_at,
                 published, published_at, next_attempt_at, dead_lettered_at)
             SELECT id, 'A', gen_random_uuid(), '{}', now() - created::interval, published,
                 now() - at::interval, now() + due::interval, now() - died::interval
             FROM (VALUES
                 (101, '9h', true, '8h', NULL, NULL),
                 (102, '9h', true, NULL, NULL, NULL),
                 (103, '9h', true, '8h', '1d', '8h'),
                 (104, '9h', true, '1s', NULL, NULL),
                 (105, '1s', true, NULL, NULL, NULL),
                 (106, '9h', false, NULL, '1d', NULL),
                 (107, '9h', false, NULL, NULL, '8h'),
                 (108, '9h', false, NULL, '1d', '8h'),
                 (109, '9h', false, NULL, NULL, NULL)
             ) AS rows (id, created, published, at, due, died)",
        )
        .await
        .unwrap();
    until_none(&client, "identity.outbox WHERE id IN (101, 102, 103)").await;
    insert_old(&client, 1).await;
    until_none(&client, "identity.outbox WHERE event_type = 'Old'").await;
    assert_eq!(ids(&client).await, "104 105 106 107 108 109", "103 was discarded");
    let (_, page) = relay.get("/metrics").await.unwrap();
    assert!(page.contains("walrelay_rows_expired_total 4"), "{page}");
    assert_eq!(relay.status().await["retention"]["rows_deleted"], 4);
    relay.drain().await;
}

#[tokio::test]
async fn a_row_that_the_slot_has_not_confirmed_stays_also_where_rows_bear_no_mark() {
    let mut world = World::new().await;
    let client = world.postgres.client().await;
    world.settings = world.settings.with("after_publish", "keep");
    let mut relay = start(&world).await;
    insert_many(&client, 1, 3).await.unwrap();
    world.until_confirmed().await;
    world.redis.freeze();
    let old = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, created_at)
        SELECT 'Kept', gen_random_uuid(), '{}', now() - interval '1 hour'
        FROM generate_series(1, 700)";
    client.batch_execute(old).await.unwrap();
    until_looked(&relay).await;
    assert_eq!(count(&client, "identity.outbox").await, 703, "nothing is confirmed");
    world.redis.thaw();
    until_none(&client, "identity.outbox WHERE event_type = 'Kept'").await;
    assert_eq!(world.consumer().read(703).await.len(), 703);
    assert_eq!(ids(&client).await, "1 2 3", "these are young");
    relay.drain().await;
}

#[tokio::test]
async fn rows_that_somebody_holds_are_left_for_later_and_the_others_go() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    insert_old(&client, 1_700).await;
    client
        .batch_execute("BEGIN; SELECT FROM identity.outbox WHERE id IN (3, 600) FOR UPDATE")
        .await
        .unwrap();
    let observer = world.postgres.client().await;
    let mut relay = start(&world).await;
    until_none(&observer, "identity.outbox WHERE id NOT IN (3, 600)").await;
    assert_eq!(ids(&observer).await, "3 600");
    client.batch_execute("COMMIT").await.unwrap();
    until_none(&observer, "identity.outbox").await;
    relay.drain().await;
}

#[tokio::test]
async fn without_the_right_to_delete_the_relay_goes_on_and_says_so() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    world.settings.clone().with_arguments(&["--role", "relay"]).setup().await;
    let rights =
        "ALTER ROLE relay PASSWORD 'Odd-Secret-5'; REVOKE DELETE ON identity.outbox FROM relay";
    client.batch_execute(rights).await.unwrap();
    insert_old(&client, 3).await;
    let url = world.postgres.url_of("relay", "Odd-Secret-5");
    let settings = world.settings.clone().with("database_url", &url).with("retention", "1m");
    let mut relay = settings.start_ready().await;
    relay.until_output("may not delete from table identity.outbox").await;
    insert_many(&client, 1, 5).await.unwrap();
    world.until_marked().await;
    assert_eq!(count(&client, "identity.outbox").await, 8);
    relay.drain().await;
}

/// An outbox in partitions, by `keys`.
async fn partitioned(keys: &str, partitions: &[(&str, &str)]) -> (World, Client) {
    let world = World::bare(&[], &[]).await;
    let client = world.postgres.client().await;
    let create = format!(
        "CREATE SCHEMA identity;
         CREATE TABLE identity.outbox (
             id bigserial, event_id uuid NOT NULL DEFAULT gen_random_uuid(),
             event_type text NOT NULL, aggregate_id uuid NOT NULL, payload jsonb NOT NULL,
             created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, created_at)
         ) PARTITION BY RANGE ({keys});
         CREATE TABLE identity.rest PARTITION OF identity.outbox DEFAULT"
    );
    client.batch_execute(&create).await.unwrap();
    for (name, range) in partitions {
        let create = format!("CREATE TABLE identity.{name} PARTITION OF identity.outbox {range}");
        client.batch_execute(&create).await.unwrap();
    }
    world.settings.setup().await;
    (world, client)
}

#[tokio::test]
async fn with_shards_nothing_goes_before_every_slot_has_confirmed_it() {
    let world = World::bare(&[], &[]).await;
    let of = |shard: &str| {
        let another = Settings::new(&world.postgres.url(), &world.redis.url());
        another.with("shards", "2").with("shard", shard).with("retention", "1m")
    };
    of("1").setup().await;
    let client = world.postgres.client().await;
    let mut first = of("1").start_ready().await;
    insert_old(&client, 10).await;
    until_looked(&first).await;
    assert_eq!(count(&client, "identity.outbox").await, 10, "one slot has confirmed nothing");
    let mut second = of("2").start_ready().await;
    until_none(&client, "identity.outbox").await;
    assert_eq!(second.status().await["retention"]["rounds"], 0, "the first keeps house");
    first.drain().await;
    second.drain().await;
}

async fn tables(client: &Client) -> String {
    let query = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'identity'::regnamespace AND relname <> 'users'";
    client.query_one(query, &[]).await.unwrap().get(0)
}

async fn until_tables(client: &Client, wanted: &str) {
    let seen = async || tables(client).await;
    wait::until_equal("the tables", wanted.to_owned(), PATIENCE, seen).await;
}

#[tokio::test]
async fn a_partition_of_old_days_is_dropped_whole_once_nobody_reads_it() {
    let (world, client) = partitioned(
        "created_at",
        &[
            ("a", "FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')"),
            ("b", "FOR VALUES FROM ('2001-02-01') TO ('2001-03-01')"),
            ("c", "FOR VALUES FROM ('2001-03-01') TO ('2101-01-01')"),
            ("d", "FOR VALUES FROM ('2101-01-01') TO ('2102-01-01')"),
        ],
    )
    .await;
    let rows = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, created_at,
            published, dead_lettered_at)
        SELECT 'A', gen_random_uuid(), '{}', at::timestamptz, is_published, died::timestamptz
        FROM (VALUES ('2001-01-15', true, NULL), ('2001-02-15', true, NULL),
            ('2001-02-16', false, '2001-02-17'), ('1999-01-01', true, NULL),
            ('2002-01-01', true, NULL)) AS rows (at, is_published, died), generate_series(1, 10)";
    client.batch_execute(rows).await.unwrap();
    let reader = world.postgres.client().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM identity.outbox").await.unwrap();
    let mut relay = start(&world).await;
    until_none(&client, "identity.b WHERE published").await;
    until_looked(&relay).await;
    assert_eq!(tables(&client).await, "a b c d rest", "somebody reads");
    assert_eq!(count(&reader, "identity.a").await, 10);
    insert_many(&client, 1, 3).await.unwrap();
    until_none(&client, "identity.c WHERE NOT published").await;
    reader.batch_execute("COMMIT").await.unwrap();
    until_tables(&client, "b c d rest").await;
    until_none(&client, "identity.rest").await;
    assert_eq!(count(&client, "identity.b").await, 10, "the dead stay");
    assert_eq!(count(&client, "identity.c WHERE created_at < '2003-01-01'").await, 10);
    assert_eq!(relay.status().await["retention"]["partitions_dropped"], 1);
    relay.drain().await;
}

/// Partitions of a hundred ids each, up to `last`, and so many old rows in them.
async fn partitioned_by_id(last: &str, rows: i32) -> (World, Client) {
    let last = format!("FOR VALUES FROM (301) TO ({last})");
    let (world, client) = partitioned(
        "id",
        &[
            ("a", "FOR VALUES FROM (1) TO (101)"),
            ("b", "FOR VALUES FROM (101) TO (201)"),
            ("c", "FOR VALUES FROM (201) TO (301)"),
            ("d", &last),
        ],
    )
    .await;
    let insert = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, created_at,
            published)
        SELECT 'A', gen_random_uuid(), '{}', now() - interval '1 hour', true
        FROM generate_series(1, $1::int4)";
    client.execute(insert, &[&rows]).await.unwrap();
    (world, client)
}

#[tokio::test]
async fn a_partition_of_ids_is_dropped_once_ids_have_long_passed_it() {
    let (world, client) = partitioned_by_id("1000", 150).await;
    let mut relay = start(&world).await;
    until_tables(&client, "b c d rest").await;
    until_looked(&relay).await;
    assert_eq!(tables(&client).await, "b c d rest", "ids have not passed b, nor reached c and d");
    assert_eq!(count(&client, "identity.b").await, 50);
    insert_many(&client, 1, 3).await.unwrap();
    world.until_marked().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_partition_without_an_end_is_the_newest() {
    let (world, client) = partitioned_by_id("MAXVALUE", 150).await;
    let mut relay = start(&world).await;
    until_tables(&client, "b c d rest").await;
    until_looked(&relay).await;
    assert_eq!(tables(&client).await, "b c d rest");
    relay.drain().await;
}

#[tokio::test]
async fn a_partition_that_cannot_be_dropped_is_told_and_the_others_go() {
    let (world, client) = partitioned_by_id("1000", 250).await;
    let view = "CREATE VIEW identity.seen AS SELECT id FROM identity.a";
    client.batch_execute(view).await.unwrap();
    let mut relay = start(&world).await;
    until_tables(&client, "a c d rest").await;
    until_looked(&relay).await;
    until_looked(&relay).await;
    let told = "cannot drop partition identity.a";
    assert_eq!(relay.output().matches(told).count(), 1, "{}", relay.output());
    client.batch_execute("DROP VIEW identity.seen").await.unwrap();
    until_tables(&client, "c d rest").await;
    relay.drain().await;
}
