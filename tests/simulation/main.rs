//! One scheduler and many workers in one thread, joined by a seeded network that delays, lets
//! pairs of ranks overtake each other, loses workers and fails tasks.
//!
//! Every run has two phases: *safety*, with faults, every invariant checked after every step; then
//! *liveness*, without, in which everything must come to its end. A failure prints the line that
//! repeats it. `SEED=n` runs one seed, `SEEDS=n` runs that many, `FROM=n` begins with that one.

mod coverage;
mod editing;
mod growing;
mod oracle;
mod skipping;
mod world;

use coverage::Coverage;
use world::World;

const SEEDS: u64 = 2_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number: {text}")))
}

/// Runs one seed to its end and returns a digest of everything that happened.
fn run(seed: u64, coverage: &mut Coverage) -> u64 {
    let mut world = World::new(seed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    match outcome {
        Ok(digest) => {
            coverage.add(&world.coverage);
            digest
        }
        Err(panic) => {
            eprintln!("{}", world.story());
            eprintln!("repeat with: SEED={seed} cargo test --test simulation seeds -- --nocapture");
            std::panic::resume_unwind(panic)
        }
    }
}

#[test]
fn seeds_keep_every_promise_under_faults_and_come_to_an_end() {
    let mut coverage = Coverage::default();
    if let Some(seed) = variable("SEED") {
        run(seed, &mut coverage);
        return println!("{coverage}");
    }
    let seeds = variable("SEEDS").unwrap_or(SEEDS);
    let first = variable("FROM").unwrap_or(0);
    for seed in first..first + seeds {
        run(seed, &mut coverage);
    }
    println!("{seeds} seeds\n{coverage}");
    if seeds >= SEEDS {
        coverage.assert_complete();
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 77, 4_000_000_007] {
        let digest = run(seed, &mut Coverage::default());
        assert_eq!(digest, run(seed, &mut Coverage::default()), "seed {seed}");
    }
}
