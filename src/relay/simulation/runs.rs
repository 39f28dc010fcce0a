//! The tests: many seeds, one seed again, and what happens without a safeguard.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::history::History;
use super::redis::Rules;
use super::world::World;

/// Replays one seed and tells its history.
const SEED_VARIABLE: &str = "WALRELAY_SIMULATION_SEED";
/// Seeds of one test: a few seconds.
const SEEDS: u64 = 20_000;

/// Runs `seed`; what was broken, or the panic, and the history if it was kept.
fn run(seed: u64, rules: Rules, history: History) -> Result<(), (String, String)> {
    let mut world = World::new(seed, rules, history);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let broken = match ended {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(broken)) => broken.to_string(),
        Err(_) => "a panic, see above".to_owned(),
    };
    Err((broken, world.history.text()))
}

/// Runs `seed` and, if it fails, once more to tell what happened.
fn check(seed: u64) {
    if run(seed, Rules::ALL, History::default()).is_ok() {
        return;
    }
    let (broken, history) = run(seed, Rules::ALL, History::kept()).unwrap_err();
    panic!(
        "{history}\n\nseed {seed}: {broken}\nreplay: {SEED_VARIABLE}={seed} cargo test --lib \
         simulation::runs::every_event"
    );
}

#[test]
fn every_event_is_published_once_and_in_order_whatever_breaks() {
    match std::env::var(SEED_VARIABLE) {
        Ok(seed) => check(seed.parse().expect("a seed is a number")),
        Err(_) => (0..SEEDS).for_each(check),
    }
}

/// A safeguard is needed when some run fails without it, and with the words that it deserves.
#[test]
fn without_any_one_safeguard_a_run_fails() {
    let without: [(Rules, &str); 3] = [
        (Rules { chain: false, ..Rules::ALL }, "is not safe in stream"),
        (Rules { skip: false, ..Rules::ALL }, "is there twice"),
        (Rules { gate: false, ..Rules::ALL }, "is not safe in stream"),
    ];
    for (rules, words) in without {
        let caught = (0..SEEDS).find_map(|seed| {
            let (broken, _) = run(seed, rules, History::default()).err()?;
            broken.contains(words).then_some(seed)
        });
        assert!(caught.is_some(), "no run fails by {words:?} with {rules:?}");
    }
}
