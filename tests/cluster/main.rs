//! Several nodes over a model of the engine, in a simulated world. One seed drives all of it; every rule is judged after every
//! step.
//!
//! A failure names its seed and step. One command runs that seed again and prints what happens:
//!
//! ```text
//! FANWIRE_SEED=17 cargo test --test cluster replay
//! ```
//!
//! Another runs any number of seeds on all cores, and stops at the first that fails:
//!
//! ```text
//! cargo test --release --test cluster -- --seeds 20000
//! ```
//!
//! [`server`] is the model of one server process, and [`fleet`] of several behind one address. `real` compares the model with a
//! real server. [`node`] drives the relay's own code with invented connections and clients. [`truth`] knows what the engine did,
//! and judges what clients hear. [`planted`] breaks rules on purpose: each fault must be caught.

mod client;
mod faults;
mod fleet;
mod node;
mod plan;
mod planted;
mod real;
mod relays;
#[expect(dead_code, reason = "the other simulation needs more of it")]
#[path = "../simulation/rng.rs"]
mod rng;
mod runs;
mod scripts;
mod server;
mod truth;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// The seeds in an ordinary run.
const SEEDS: u64 = 256;

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
    let mut trials = vec![
        Trial::test("no_seed_breaks_a_promise", || {
            runs::run(SEEDS, false).map_err(Failed::from)
        }),
        Trial::test("replay", || runs::replay().map_err(Failed::from)),
    ];
    trials.extend(planted::trials());
    trials.extend(relays::trials());
    trials.extend(real::trials());
    trials
}
