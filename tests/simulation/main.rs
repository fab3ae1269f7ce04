//! The relay in a world of its own: shards, what they say to one another, clients and their connections, all driven by
//! one seed, and checked after every turn against a model.
//!
//! A failure names the seed and the step. One command runs that seed again and tells what happens:
//!
//! ```text
//! FANWIRE_SEED=17 cargo test --test simulation replay
//! ```
//!
//! And this runs as many seeds as one likes, on all cores, up to the first that fails, and says what happened in them:
//!
//! ```text
//! cargo test --release --test simulation -- --seeds 20000
//! ```
//!
//! Besides, names and options are those of any other test. `libtest-mimic` reads them, because the test harness of the
//! compiler knows no option of ours.
//!
//! Whoever adds a promise plants a fault against it first and sees a seed fail. Limits of what is looked at here: the
//! event loop is this directory's own (`host.rs` and its neighbours follow `net::worker` step by step), and so is what
//! stands for TLS (`transport.rs`); of a topic's log only its size on one shard is known, not each member's share in it.

mod acts;
mod checks;
mod counterpart;
mod ending;
mod host;
mod model;
mod peer;
mod pipe;
mod plan;
mod reading;
mod records;
mod rng;
mod runs;
mod stream;
mod tally;
mod transport;
mod world;
mod writing;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// Seeds in an ordinary run.
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

/// Takes `--seeds N` out of the arguments.
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

/// Runs the seed in `FANWIRE_SEED` and tells what happens; without one, the first.
fn replay() -> Result<(), String> {
    let seed = std::env::var("FANWIRE_SEED").ok();
    let number = seed.as_ref().map(|seed| seed.parse().expect("a seed"));
    runs::run_seed(number.unwrap_or(0), seed.is_some()).map(|_| ())
}
