//! The relay in a simulated world: shards, their mail, clients and connections. One seed drives all of it, and a model
//! checks it after every turn.
//!
//! A failure names its seed and step. One command runs that seed again and prints what happens:
//!
//! ```text
//! FANWIRE_SEED=17 cargo test --test simulation replay
//! ```
//!
//! Another runs any number of seeds on all cores, stops at the first that fails, and prints what happened:
//!
//! ```text
//! cargo test --release --test simulation -- --seeds 20000
//! ```
//!
//! All other names and options are those of any test. `libtest-mimic` reads them, because the compiler's test harness
//! cannot take an option of ours.
//!
//! Before you add a promise, plant a fault against it and see a seed fail. The simulation has limits. It runs the relay's own
//! turn, but its substitutes for the kernel and for TLS (`transport.rs`) are simple. It knows only the size of a topic's log
//! on one shard, not each member's share.

mod acts;
mod checks;
mod compressor;
mod counterpart;
mod ending;
mod events;
mod host;
mod inflater;
mod judged;
mod model;
mod outsiders;
mod peer;
mod pipe;
mod plan;
mod posters;
mod reading;
mod records;
mod restart;
mod rng;
mod runs;
mod stream;
mod tally;
mod transport;
mod world;
mod writing;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// The seeds in an ordinary run.
const SEEDS: u64 = 1_024;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().collect();
    if let Some(seeds) = take_seeds(&mut arguments) {
        return match runs::run(seeds, true) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_iter(arguments);
    libtest_mimic::run(&arguments, trials()).exit_code()
}

/// Removes `--seeds N` from the arguments.
fn take_seeds(arguments: &mut Vec<String>) -> Option<u64> {
    let at = arguments
        .iter()
        .position(|argument| argument == "--seeds")?;
    let seeds = arguments.get(at + 1).and_then(|seeds| seeds.parse().ok());
    let seeds = seeds.expect("--seeds and how many");
    arguments.drain(at..=at + 1);
    Some(seeds)
}

fn trials() -> Vec<Trial> {
    let unit = |name: &str, check: fn()| {
        Trial::test(name, move || {
            check();
            Ok(())
        })
    };
    vec![
        Trial::test("no_seed_breaks_a_promise", || {
            runs::run(SEEDS, false).map_err(Failed::from)
        }),
        Trial::test("replay", || replay().map_err(Failed::from)),
        unit("a_torn_frame_is_noticed", stream::a_torn_frame_is_noticed),
        unit(
            "events_are_read_by_the_rules",
            events::events_are_read_by_the_rules,
        ),
        unit(
            "nothing_may_follow_a_close",
            stream::nothing_may_follow_a_close,
        ),
        unit(
            "records_are_read_however_they_arrive",
            records::records_are_read_however_they_arrive,
        ),
        unit(
            "a_record_that_is_lost_or_torn_is_noticed",
            records::a_record_that_is_lost_or_torn_is_noticed,
        ),
    ]
}

/// Runs the seed in `FANWIRE_SEED`, or else the first one, and prints what happens.
fn replay() -> Result<(), String> {
    let seed = std::env::var("FANWIRE_SEED").ok();
    let number = seed.as_ref().map(|seed| seed.parse().expect("a seed"));
    runs::run_seed(number.unwrap_or(0), seed.is_some()).map(|_| ())
}
