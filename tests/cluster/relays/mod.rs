//! Whole relays over the model of the engine: real shards, with invented sockets and clients that speak WebSocket.
//!
//! The world beside this one proves the protocol with invented owners. This one proves that the relay keeps the same promises to
//! its clients, with a share of the same faults: each message that a client hears is the next one, whoever misses something is
//! told, and all that a client has sent comes back unless it is told otherwise.

mod reader;
mod recovery;
mod relay;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use libtest_mimic::{Failed, Trial};

use self::world::World;

/// The seeds in an ordinary run.
const SEEDS: u64 = 60;

/// Events that an ordinary run must see.
const CORNERS: [&str; 15] = [
    "described",
    "heard",
    "posted",
    "post declined",
    "refused with 503",
    "resumed without a loss",
    "resumed with a loss",
    "resumed from nowhere",
    "told of an epoch",
    "told of a gap",
    "told of a break",
    "closed in a drain",
    "closed at a break",
    "closed in an outage",
    "drained",
];

pub(crate) fn trials() -> [Trial; 2] {
    [
        Trial::test("no_seed_breaks_a_promise_of_whole_relays", || {
            run().map_err(Failed::from)
        }),
        Trial::test("replay_of_relays", || replay().map_err(Failed::from)),
    ]
}

fn run_seed(seed: u64, is_told: bool) -> Result<BTreeMap<&'static str, u64>, String> {
    let mut world = World::new(seed, is_told);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let text = text.unwrap_or_else(|| "a panic without a text".into());
        format!("relays of seed {seed}, step {}: {text}", world.step())
    })
}

fn run() -> Result<(), String> {
    let seeds = std::env::var("FANWIRE_RELAY_SEEDS").ok();
    let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    let (next, totals) = (AtomicU64::new(0), Mutex::new((BTreeMap::new(), None)));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let outcome = run_seed(seed, false);
            let mut totals = totals.lock().expect("nobody panics with it");
            match outcome {
                Ok(tally) => {
                    for (what, times) in tally {
                        *totals.0.entry(what).or_insert(0) += times;
                    }
                }
                Err(failure) => {
                    next.store(seeds, Ordering::Relaxed);
                    totals.1.get_or_insert(failure);
                }
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let (tally, failure) = totals.into_inner().expect("nobody panics with it");
    if let Some(failure) = failure {
        return Err(failure);
    }
    eprintln!("{seeds} seeds: {tally:#?}");
    match CORNERS.iter().find(|what| !tally.contains_key(*what)) {
        Some(what) if seeds >= SEEDS => Err(format!("{what}: never, in {tally:#?}")),
        Some(_) | None => Ok(()),
    }
}

/// Runs the seed in `FANWIRE_SEED`, or else the first one, and prints what happens.
fn replay() -> Result<(), String> {
    let seed = std::env::var("FANWIRE_SEED").ok();
    let number = seed.as_ref().map(|seed| seed.parse().expect("a seed"));
    run_seed(number.unwrap_or(0), seed.is_some()).map(|_| ())
}
