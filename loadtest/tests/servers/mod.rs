//! A floor to load, and the load generator's program.

use std::path::Path;
use std::process::{Command, Output};

use loadtest::peers::{Peer, Places, Started};

/// A load that takes a moment.
pub const SHORT: [&str; 6] = [
    "--subscribers",
    "10",
    "--duration",
    "300ms",
    "--warmup",
    "100ms",
];

/// Starts a floor, which ends with what is returned.
pub fn floor() -> Started {
    let here = Path::new(env!("CARGO_BIN_EXE_floor"))
        .parent()
        .unwrap()
        .to_owned();
    let places = Places {
        here,
        peers: Path::new("/").to_owned(),
    };
    Peer::named("floor").unwrap().start(&places, 1).unwrap()
}

/// Runs the load generator.
pub fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .arg("--quiet")
        .output()
        .unwrap()
}
