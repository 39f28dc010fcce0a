//! `walrelay verify` on systems that are sound, though they do not look it: odd clocks.

use crate::harness::world::World;
use crate::verify::{delete, found, report};

/// Rows whose time is ahead of every clock, as of sessions east of UTC that write it without one.
const AHEAD: &str = "INSERT INTO identity.outbox (event_type, aggregate_id, payload, created_at)
    SELECT 'Ahead', gen_random_uuid(), '{}', now() + interval '2 hours'
    FROM generate_series(1, $1::int8)";

#[tokio::test]
async fn rows_whose_time_is_ahead_are_found_before_it_and_not_published_again() {
    let world = World::new().await;
    let client = world.postgres.client().await;
    let settings = world.settings.clone().with("durability", "memory");
    let mut relay = settings.start_ready().await;
    client.execute(AHEAD, &[&10_i64]).await.unwrap();
    world.until_marked().await;
    let sound = report(&settings, &["--from-id", "1"], 0).await;
    assert_eq!(sound["entries"]["read"], 10, "{sound}");
    report(&settings, &["--from-id", "1", "--repair"], 0).await;
    let entries = world.consumer().read_all().await;
    assert_eq!(entries.len(), 10);
    // What is nowhere is missing, as ever.
    delete(&world, &entries[4]).await;
    let lacking = report(&settings, &["--from-id", "1"], 1).await;
    assert_eq!(found(&lacking), [("missing", 1, vec![5])], "{lacking}");
    relay.drain().await;
}
