//! The relay in a world of its own: shards, what they say to one another, clients and their connections, all driven by
//! one seed, and checked after every turn against a model.
//!
//! A failure names the seed and the step. One command runs that seed again and tells what happens:
//!
//! ```text
//! FANWIRE_SEED=17 cargo test --test simulation replay -- --nocapture
//! ```
//!
//! `FANWIRE_SEEDS=5000` has the tests run that many seeds in all instead of the usual number, best with `--release`, and
//! `FANWIRE_TOTALS=1 … -- --nocapture` shows what happened in them.
//!
//! Whoever adds a promise plants a fault against it first and sees a seed fail. Limits of what is looked at here: the
//! event loop is this directory's own (`host.rs` follows `net::worker` step by step), and of a topic's log only its size
//! on one shard is known, not each member's share in it.

mod checks;
mod host;
mod model;
mod peer;
mod pipe;
mod plan;
mod rng;
mod stream;
mod world;

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use fanwire::metrics::stats::{Stat, Stats};

use crate::world::World;

/// Seeds in an ordinary run, over all of the tests below.
const SEEDS: u64 = 1_024;

/// Tests that share the seeds, so that they run side by side.
const PARTS: u64 = 4;

/// What must happen in the seeds of each part, or else they show nothing.
const CORNERS: [Stat; 24] = [
    Stat::Messages,
    Stat::Connections,
    Stat::Offered,
    Stat::Delivered,
    Stat::Dropped,
    Stat::Discarded,
    Stat::BytesIn,
    Stat::BytesOut,
    Stat::DisconnectedByClient,
    Stat::DisconnectedLost,
    Stat::DisconnectedProtocol,
    Stat::DisconnectedLag,
    Stat::DisconnectedStall,
    Stat::DisconnectedPong,
    Stat::DisconnectedShutdown,
    Stat::HandshakeBadRequest,
    Stat::HandshakeNotUpgrade,
    Stat::HandshakeMethod,
    Stat::HandshakePathTooLong,
    Stat::HandshakeTimeout,
    Stat::HandshakeLost,
    Stat::HandshakeShutdown,
    Stat::Envelopes,
    Stat::Turns,
];

/// Whether the totals of each part are to be shown.
fn is_told() -> bool {
    std::env::var_os("FANWIRE_TOTALS").is_some()
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number of seeds, or a seed"))
}

/// Runs one seed; a failure says how to see it again.
fn run(seed: u64, is_told: bool) -> Stats {
    let step = Rc::new(Cell::new(0));
    let world = AssertUnwindSafe(|| World::new(seed, step.clone(), is_told).run());
    catch_unwind(world).unwrap_or_else(|cause| {
        panic!(
            "seed {seed}, step {}: {}\nto see it: FANWIRE_SEED={seed} cargo test --test simulation replay -- --nocapture",
            step.get(),
            message(&*cause)
        )
    })
}

fn message(cause: &(dyn Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
}

fn run_part(part: u64) {
    let seeds = number_from("FANWIRE_SEEDS").unwrap_or(SEEDS);
    let totals: Stats = (0..seeds)
        .filter(|seed| seed % PARTS == part)
        .map(|seed| run(seed, false))
        .sum();
    for corner in CORNERS {
        let count = totals.value(corner);
        assert!(
            count > 0 || seeds < SEEDS,
            "no seed of part {part} gets to {corner:?}"
        );
        if is_told() {
            eprintln!("part {part}: {corner:?} {count}");
        }
    }
}

#[test]
fn no_seed_breaks_a_promise_first_part() {
    run_part(0);
}

#[test]
fn no_seed_breaks_a_promise_second_part() {
    run_part(1);
}

#[test]
fn no_seed_breaks_a_promise_third_part() {
    run_part(2);
}

#[test]
fn no_seed_breaks_a_promise_fourth_part() {
    run_part(3);
}

/// Runs the seed in `FANWIRE_SEED` and tells what happens; without one, the first.
#[test]
fn replay() {
    let seed = number_from("FANWIRE_SEED");
    run(seed.unwrap_or(0), seed.is_some());
}
