//! Runs many seeds on all cores, up to the first failure, and then checks that they covered everything.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::SEEDS;
use crate::server::Planted;
use crate::world::{Tally, World};

/// Events that an ordinary run must see, with the least number of each.
const CORNERS: [(&str, u64); 18] = [
    ("published", 20_000),
    ("delivered", 20_000),
    ("moved", 500),
    ("gap", 100),
    ("back", 20),
    ("unknown", 100),
    ("passed", 20),
    ("given up", 20),
    ("dropped", 20),
    ("unsure", 20),
    ("drained", 100),
    ("fences", 100),
    ("fills", 200),
    ("audits", 1_000),
    ("refused", 50),
    ("resumed here", 200),
    ("resumed from the stream", 50),
    ("resumed from nowhere", 50),
];

/// Runs one seed.
pub(crate) fn run_seed(seed: u64, planted: Planted, is_told: bool) -> Result<Tally, String> {
    let mut world = World::new(seed, planted, is_told);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    outcome.map_err(|panic| {
        let step = world.step();
        format!("seed {seed}, step {step}: {}", message(&*panic))
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    text.unwrap_or_else(|| "a panic without a text".into())
}

/// Runs the first `seeds` seeds.
pub(crate) fn run(seeds: u64, is_told: bool) -> Result<(), String> {
    let began = Instant::now();
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let totals = Mutex::new((Tally::new(), None));
    std::panic::set_hook(Box::new(|_| {}));
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let outcome = run_seed(seed, Planted::Nothing, false);
            let mut totals = totals.lock().expect("nobody panics with it");
            match outcome {
                Ok(tally) => {
                    for (what, times) in tally {
                        *totals.0.entry(what).or_default() += times;
                    }
                }
                Err(failure) => {
                    is_over.store(true, Ordering::Relaxed);
                    totals.1.get_or_insert(failure);
                }
            }
            if is_told && (seed + 1) % 1_000 == 0 {
                eprintln!("{} of {seeds} seeds, {:.0?}", seed + 1, began.elapsed());
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
    if is_told {
        eprintln!(
            "{seeds} seeds break no promise, {:.1?}: {tally:#?}",
            began.elapsed()
        );
    }
    if seeds < SEEDS {
        return Ok(());
    }
    for (what, least) in CORNERS {
        let times = tally.get(what).copied().unwrap_or_default();
        if times < least {
            return Err(format!("{what}: {times} times only, of {least}"));
        }
    }
    Ok(())
}

/// Runs the seed in `FANWIRE_SEED`, or else the first one, and prints what happens.
pub(crate) fn replay() -> Result<(), String> {
    let seed = std::env::var("FANWIRE_SEED").ok();
    let number = seed.as_ref().map(|seed| seed.parse().expect("a seed"));
    run_seed(number.unwrap_or(0), Planted::Nothing, seed.is_some()).map(|_| ())
}
