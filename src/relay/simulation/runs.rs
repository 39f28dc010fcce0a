//! The tests: many seeds, one seed again, and what happens without a safeguard.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::history::History;
use super::redis::Safeguard;
use super::world::World;

/// A seed to replay with its history, or a range of them: `4711`, `100000..900000`.
const SEED_VARIABLE: &str = "WALRELAY_SIMULATION_SEED";
/// Seeds of one test: a few seconds.
const SEEDS: u64 = 16_000;

/// Runs `seed`; what was broken, or the panic, and the history if it was kept.
fn run(seed: u64, without: Option<Safeguard>, history: History) -> Result<(), (String, String)> {
    let mut world = World::new(seed, without, history);
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
    if run(seed, None, History::default()).is_ok() {
        return;
    }
    let (broken, history) = run(seed, None, History::kept()).unwrap_err();
    panic!(
        "{history}\n\nseed {seed}: {broken}\nreplay: {SEED_VARIABLE}={seed} cargo test --lib \
         simulation::runs::every_event"
    );
}

#[test]
fn every_event_is_published_once_and_in_order_whatever_breaks() {
    let Ok(wanted) = std::env::var(SEED_VARIABLE) else { return (0..SEEDS).for_each(check) };
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    match wanted.split_once("..") {
        Some((first, end)) => (number(first)..number(end)).for_each(check),
        None => check(number(&wanted)),
    }
}

/// A safeguard is needed when some run fails without it, and with the words that it deserves.
#[test]
fn without_any_one_safeguard_a_run_fails() {
    let without = [
        (Safeguard::Fence, "is not"),
        (Safeguard::Chain, "is not safe in stream"),
        (Safeguard::Skip, "is there twice"),
        (Safeguard::Gate, "is not safe in stream"),
        (Safeguard::Meet, "is not"),
        (Safeguard::ParkFirst, "is not safe in stream"),
        (Safeguard::Queue, "comes behind event"),
    ];
    for (safeguard, words) in without {
        let caught = (0..SEEDS).find_map(|seed| {
            let (broken, _) = run(seed, Some(safeguard), History::default()).err()?;
            broken.contains(words).then_some(seed)
        });
        assert!(caught.is_some(), "no run fails by {words:?} without {safeguard:?}");
    }
}
