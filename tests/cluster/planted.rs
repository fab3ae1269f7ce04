//! Rules that are broken on purpose. A simulation that does not notice is worth nothing.

use libtest_mimic::{Failed, Trial};

use crate::runs::run_seed;
use crate::server::Planted;

/// The faults, each with the promise that it breaks, and the seed at which the search begins. Rare faults begin near the seed
/// that catches them.
const FAULTS: [(&str, Planted, u64); 7] = [
    (
        "a_batch_that_is_numbered_twice_is_caught",
        Planted::NoDedupe,
        0,
    ),
    (
        "an_epoch_that_outlives_its_process_is_caught",
        Planted::EpochsOutlive,
        0,
    ),
    (
        "a_server_whose_role_nobody_looks_at_is_caught",
        Planted::RoleIgnored,
        640,
    ),
    (
        "a_fence_that_waits_for_nothing_is_caught",
        Planted::NoFence,
        0,
    ),
    (
        "a_delivery_without_the_engine_is_caught",
        Planted::LocalDelivery,
        0,
    ),
    (
        "a_client_that_hears_behind_a_break_is_caught",
        Planted::HearsBehindBreak,
        0,
    ),
    (
        "a_history_with_a_hole_is_caught",
        Planted::HistoryWithHole,
        0,
    ),
];

/// The most seeds until a fault is caught.
const SEEDS: u64 = 1_000;

pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    FAULTS
        .into_iter()
        .map(|(name, planted, from)| Trial::test(name, move || catch(planted, from)))
}

fn catch(planted: Planted, from: u64) -> Result<(), Failed> {
    let caught = (from..from + SEEDS).find_map(|seed| run_seed(seed, planted, false).err());
    match caught {
        Some(failure) => {
            eprintln!("{planted:?}: {failure}");
            Ok(())
        }
        None => Err(format!("{planted:?}: {SEEDS} seeds did not notice").into()),
    }
}
