//! What `identity.emit_event` costs a transaction beside the INSERT that it stands for.
//!
//! In: the scene's PostgreSQL. Out: the median of the time that one transaction takes for each way
//! to write the same, with the commit flushed and not, and the difference. It must stay true that
//! the ways take turns, transaction by transaction: what slows the machine down slows both.

use std::error::Error;
use std::time::{Duration, Instant};

use tokio_postgres::Statement;

use crate::figures::{median, percentile};
use crate::marks::Marks;
use crate::report::Report;
use crate::scene::{PAYLOAD_BYTES, Scene};

/// Transactions of each way in a round.
const TRANSACTIONS: usize = 1_000;

/// The same written by statements of one's own and by a call.
struct Pair {
    name: &'static str,
    plain: &'static str,
    call: &'static str,
}

const PAIRS: [Pair; 2] = [
    Pair {
        name: "an event",
        plain: "INSERT INTO identity.outbox (event_type, aggregate_id, payload)
                VALUES ('UserCreated', gen_random_uuid(), ($1::text)::jsonb)",
        call: "SELECT identity.emit_event('UserCreated', gen_random_uuid(), ($1::text)::jsonb)",
    },
    Pair {
        name: "a user and its event",
        plain: "WITH person AS (
                    INSERT INTO identity.users (email, display_name)
                    VALUES (gen_random_uuid()::text, left($1::text, 20)) RETURNING *
                )
                INSERT INTO identity.outbox (event_type, aggregate_id, tenant_id, payload)
                SELECT 'UserCreated', id, tenant_id, to_jsonb(person) FROM person",
        call: "SELECT identity.create_user(gen_random_uuid()::text, left($1::text, 20))",
    },
];

/// Measures both pairs with each commit on disk and without, and says so.
pub async fn measure(
    scene: &mut Scene,
    report: &Report,
    rounds: usize,
    marks: &mut Marks,
) -> Result<(), Box<dyn Error>> {
    report.line("");
    report.line(&format!(
        "One transaction, by INSERT and by a call: median of {rounds} medians of {TRANSACTIONS}"
    ));
    report.line("");
    report.line(&format!(
        "  {:<24}{:<22}{:>10}{:>10}{:>12}",
        "", "synchronous_commit", "INSERT", "call", "difference"
    ));
    for pair in &PAIRS {
        for commit in ["on", "off"] {
            let (plain, call) = pair.times(scene, commit, rounds).await?;
            let difference = call - plain;
            let name = pair.name;
            report.line(&format!(
                "  {name:<24}{commit:<22}{plain:>7.3} ms{call:>7.3} ms{difference:>9.3} ms"
            ));
            // The wait for the disk is the same for both and many times as long: it hides what is
            // asked here.
            if name == PAIRS[0].name && commit == "off" {
                marks.note("emit", difference);
            }
        }
    }
    scene.sql.batch_execute("TRUNCATE identity.outbox; TRUNCATE identity.users").await?;
    Ok(())
}

impl Pair {
    /// Milliseconds.
    async fn times(
        &self,
        scene: &Scene,
        commit: &str,
        rounds: usize,
    ) -> Result<(f64, f64), Box<dyn Error>> {
        let sql = &scene.sql;
        sql.batch_execute(&format!("SET synchronous_commit = {commit}")).await?;
        let ways = [sql.prepare(self.plain).await?, sql.prepare(self.call).await?];
        let payload = format!("{{\"pad\": \"{}\"}}", "x".repeat(PAYLOAD_BYTES - 11));
        let payload = if self.name == PAIRS[0].name { payload } else { "Ada Lovelace".to_owned() };
        let mut medians = [Vec::new(), Vec::new()];
        // The first round warms plans and caches, and is not counted.
        for round in 0..=rounds {
            let mut taken = [Vec::new(), Vec::new()];
            for _ in 0..TRANSACTIONS {
                for (way, taken) in ways.iter().zip(&mut taken) {
                    taken.push(one(scene, way, &payload).await?);
                }
            }
            for (taken, medians) in taken.iter_mut().zip(&mut medians).filter(|_| round > 0) {
                taken.sort_unstable();
                medians.push(percentile(taken, 500).as_secs_f64() * 1e3);
            }
        }
        sql.batch_execute("RESET synchronous_commit").await?;
        Ok((median(&medians[0]), median(&medians[1])))
    }
}

/// A transaction of its own, from sending it to its answer.
async fn one(scene: &Scene, way: &Statement, text: &str) -> Result<Duration, Box<dyn Error>> {
    let began = Instant::now();
    scene.sql.query(way, &[&text]).await?;
    Ok(began.elapsed())
}
