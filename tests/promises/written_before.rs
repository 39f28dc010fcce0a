//! What a life has written before it ended without settling it is found by the next one: it is not
//! written again, and not given up, however often that happens to the same row.

use tokio_postgres::Client;

use crate::dead_letters::{self, DLQ};
use crate::harness::parked::{column, park};
use crate::harness::relay::Settings;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::{STREAM, World, count};
use crate::poll::polled;

/// No stream has such a name: such a row is dead at once.
const UNFIT: &str = "no\nname";
/// Ends after which a parked row is not tried again without a look for the reason.
const ENDS: u32 = 5;

/// A gate in PostgreSQL at which every row waits that is to be settled.
struct Gate {
    keeper: Client,
}

impl Gate {
    async fn closed(world: &World) -> Self {
        let gate = "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0
                AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NEW; END';
            CREATE TRIGGER gate BEFORE UPDATE OF published, dead_lettered_at ON identity.outbox
                FOR EACH ROW EXECUTE FUNCTION gate()";
        world.postgres.run(gate).await;
        let keeper = world.postgres.client().await;
        keeper.execute("SELECT pg_advisory_lock(7)", &[]).await.unwrap();
        Self { keeper }
    }

    /// Starts a relay and kills it when it has written and waits for its settling; so many times.
    async fn kill_at_it(&self, settings: &Settings, times: u32) {
        let waiting = "pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted";
        let end = format!("SELECT pg_terminate_backend(pid) FROM {waiting}");
        for _ in 0..times {
            let mut relay = settings.start();
            let at_the_gate = async || count(&self.keeper, waiting).await;
            wait::until_equal("a row at the gate", 1, PATIENCE, at_the_gate).await;
            relay.kill9();
            // Its session would wait on, with the row locked.
            self.keeper.execute(&end, &[]).await.unwrap();
            wait::until_equal("nobody at the gate", 0, PATIENCE, at_the_gate).await;
        }
    }

    async fn open(self) {
        self.keeper.execute("SELECT pg_advisory_unlock(7)", &[]).await.unwrap();
    }
}

fn eager(settings: &Settings) -> Settings {
    dead_letters::eager(settings).with("max_retry_attempts", "1")
}

/// What is due is written and cannot be settled, so many times.
async fn written_and_left(world: &World, settings: &Settings, times: u32) {
    let gate = Gate::closed(world).await;
    gate.kill_at_it(settings, times).await;
    gate.open().await;
}

/// A relay with these settings settles it.
async fn settle_at_last(world: &World, settings: &Settings) {
    let mut relay = settings.start_ready().await;
    let settled = "identity.outbox WHERE published OR dead_lettered_at IS NOT NULL";
    let client = world.postgres.client().await;
    wait::until_equal("a settled row", 1, PATIENCE, async || count(&client, settled).await).await;
    relay.drain().await;
}

async fn assert_one_letter(world: &World, why: &str) {
    let letters = world.consumer_of(DLQ).read_all().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].get("error_message").contains(why), "{letters:?}");
    let client = world.postgres.client().await;
    assert_eq!(count(&client, "identity.outbox WHERE dead_lettered_at IS NOT NULL").await, 1);
    let message = column(&client, "error_message").await.unwrap();
    assert!(message.contains("its dead letter"), "{message}");
}

async fn assert_one_entry(world: &World) {
    assert_eq!(world.consumer().read_all().await.len(), 1);
    assert_eq!(world.consumer_of(DLQ).read_all().await.len(), 0, "it was published");
    assert_eq!(column(&world.postgres.client().await, "published").await.unwrap(), "true");
}

#[tokio::test]
async fn a_dead_letter_is_not_written_again() {
    let world = World::new().await;
    park(&world.postgres.client().await, (1, 1), 1, UNFIT).await;
    // A refusal would be tried again: the letter must be found before that.
    let settings = eager(&world.settings).with("max_retry_attempts", "3");
    written_and_left(&world, &settings, ENDS).await;
    settle_at_last(&world, &settings).await;
    assert_one_letter(&world, "control characters").await;
}

#[tokio::test]
async fn nor_is_it_by_a_relay_that_would_try_more_often() {
    let world = World::new().await;
    park(&world.postgres.client().await, (1, 1), 1, "broken").await;
    world.redis.run("SET broken x").await;
    let settings = eager(&world.settings).with("dlq_stream_name", DLQ);
    written_and_left(&world, &settings, 1).await;
    settle_at_last(&world, &settings.with("max_retry_attempts", "3")).await;
    assert_one_letter(&world, "WRONGTYPE").await;
}

#[tokio::test]
async fn a_published_event_is_not_given_up() {
    let world = World::new().await;
    park(&world.postgres.client().await, (1, 1), 1, STREAM).await;
    written_and_left(&world, &eager(&world.settings), ENDS).await;
    settle_at_last(&world, &eager(&world.settings)).await;
    assert_one_entry(&world).await;
}

/// One event that no relay has met yet is written once by a poller and left; and by what Redis
/// counts, delivering it has ended that many processes that the next one will not try it.
async fn left_by_pollers(world: &World, settings: &Settings, topic: &str) {
    let row = format!(
        "INSERT INTO identity.outbox (event_type, aggregate_id, payload, topic)
         VALUES ('Any', gen_random_uuid(), '{{}}', '{topic}')"
    );
    world.postgres.run(&row).await;
    written_and_left(world, settings, 1).await;
    let system = world.postgres.text("SELECT system_identifier FROM pg_control_system()").await;
    let begun = format!("walrelay:{{{STREAM}}}:identity.outbox@{system}:begun");
    world.redis.run(&format!("HSET {begun} from:1 3 one:1 5")).await;
}

#[tokio::test]
async fn a_poller_does_not_write_a_dead_letter_again() {
    let world = polled(&[]).await;
    let settings = eager(&world.settings).with("max_retry_attempts", "3");
    left_by_pollers(&world, &settings, UNFIT).await;
    settle_at_last(&world, &settings).await;
    assert_one_letter(&world, "control characters").await;
}

#[tokio::test]
async fn a_poller_does_not_give_up_a_published_event() {
    let world = polled(&[]).await;
    left_by_pollers(&world, &eager(&world.settings), STREAM).await;
    settle_at_last(&world, &eager(&world.settings)).await;
    assert_one_entry(&world).await;
}
