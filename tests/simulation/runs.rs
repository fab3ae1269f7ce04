//! Runs many seeds on all cores, up to the first failure, and then checks that they covered everything.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use fanwire::server::{Stat, Stats};

use crate::SEEDS;
use crate::tally::{LEAST, Tally};
use crate::world::World;

/// The number of seeds between two progress lines of a long run.
const SEEDS_PER_LINE: u64 = 1_000;

/// The counters that an ordinary run must reach, with the least value of each.
const CORNERS: [(Stat, u64); 46] = [
    (Stat::Messages, 30_000),
    (Stat::Coalesced, 4_000),
    (Stat::InflatedMessages, 3_000),
    (Stat::DeflatedMessages, 3_000),
    (Stat::DeflateKeysStart, 100),
    (Stat::DeflateKeysWaiting, 100),
    (Stat::DeflateKeysEvicted, 2),
    (Stat::DeflateKeysRetry, 1),
    (Stat::DeflateKeysEcho, 100),
    (Stat::DeflatePlainDeliveries, 1_000),
    (Stat::DisconnectedTooBig, 5),
    (Stat::PostedMessages, 3_000),
    (Stat::PostsAccepted, 1_000),
    (Stat::PostsMany, 200),
    (Stat::PostsReused, 20),
    (Stat::PostsUnavailable, 20),
    (Stat::Connections, 5_000),
    (Stat::Transferred, 500),
    (Stat::Offered, 200_000),
    (Stat::Delivered, 200_000),
    (Stat::Dropped, 1_000),
    (Stat::Discarded, 5_000),
    (Stat::Replayed, 1_000),
    (Stat::ResumedFull, 20),
    (Stat::ResumedPartly, 20),
    (Stat::ResumedUnknown, 20),
    (Stat::BytesIn, 30_000_000),
    (Stat::BytesOut, 100_000_000),
    (Stat::DisconnectedByClient, 500),
    (Stat::DisconnectedLost, 500),
    (Stat::DisconnectedProtocol, 20),
    (Stat::DisconnectedLag, 20),
    (Stat::DisconnectedStall, 100),
    (Stat::DisconnectedPong, 40),
    (Stat::DisconnectedMemory, 50),
    (Stat::BufferLimitReached, 50),
    (Stat::DisconnectedShutdown, 500),
    (Stat::HandshakeBadRequest, 50),
    (Stat::HandshakeNotUpgrade, 50),
    (Stat::HandshakeMethod, 20),
    (Stat::HandshakePathTooLong, 20),
    (Stat::HandshakeTimeout, 100),
    (Stat::HandshakeLost, 50),
    (Stat::HandshakeShutdown, 50),
    (Stat::Envelopes, 50_000),
    (Stat::Turns, 200_000),
];

/// The events in many seeds.
#[derive(Debug, Default)]
struct Totals {
    stats: Stats,
    tally: Tally,
    failure: Option<String>,
}

/// Runs the first `seeds` seeds. Fails at the first failure, or if an event is too rare. With `is_told`, it prints its
/// progress and the events.
pub(crate) fn run(seeds: u64, is_told: bool) -> Result<(), String> {
    let began = Instant::now();
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let totals = Mutex::new(Totals::default());
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let outcome = run_seed(seed, false);
            let mut totals = totals.lock().expect("nobody panics with it");
            match outcome {
                Ok((stats, tally)) => totals.add(stats, &tally),
                Err(failure) => {
                    is_over.store(true, Ordering::Relaxed);
                    totals.failure.get_or_insert(failure);
                }
            }
            if is_told && (seed + 1) % SEEDS_PER_LINE == 0 {
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
    let totals = totals.into_inner().expect("nobody panics with it");
    if let Some(failure) = totals.failure {
        return Err(failure);
    }
    if is_told {
        totals.tell();
        eprintln!("{seeds} seeds break no promise, {:.1?}", began.elapsed());
    }
    if seeds < SEEDS {
        return Ok(());
    }
    totals.check()
}

/// Runs one seed. A failure says how to replay it.
pub(crate) fn run_seed(seed: u64, is_told: bool) -> Result<(Stats, Tally), String> {
    let step = Rc::new(Cell::new(0));
    let world = AssertUnwindSafe(|| World::new(seed, step.clone(), is_told).run());
    catch_unwind(world).map_err(|cause| {
        format!(
            "seed {seed}, step {}: {}\nto see it: FANWIRE_SEED={seed} cargo test --test simulation replay",
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

impl Totals {
    fn add(&mut self, stats: Stats, tally: &Tally) {
        self.stats = [std::mem::take(&mut self.stats), stats].into_iter().sum();
        self.tally.add(tally);
    }

    /// Every event with its number, and the least number in an ordinary run.
    fn counts(&self) -> Vec<(String, u64, u64)> {
        let corners = CORNERS
            .iter()
            .map(|&(stat, least)| (format!("{stat:?}"), self.stats.value(stat), least));
        let events = LEAST
            .iter()
            .map(|&(event, least)| (format!("{event:?}"), self.tally.count(event), least));
        corners.chain(events).collect()
    }

    fn tell(&self) {
        for (what, count, _) in self.counts() {
            eprintln!("{what:>30} {count}");
        }
    }

    fn check(&self) -> Result<(), String> {
        let rare = self
            .counts()
            .into_iter()
            .filter(|(_, count, least)| count < least);
        let rare: Vec<String> = rare
            .map(|(what, count, least)| format!("{what} {count} times instead of {least}"))
            .collect();
        if rare.is_empty() {
            return Ok(());
        }
        Err(format!("the plan gets too rarely to: {}", rare.join(", ")))
    }
}
