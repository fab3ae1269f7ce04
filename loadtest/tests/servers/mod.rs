//! A floor to load, and the load generator's program.

use std::path::Path;
use std::process::{Command, Output};

use loadtest::compare::peers::{Peer, Places, Started};

/// The options of a short load.
pub const SHORT: [&str; 6] = [
    "--subscribers",
    "10",
    "--duration",
    "300ms",
    "--warmup",
    "100ms",
];

/// The folders of the servers that can be started.
pub fn places() -> Places {
    let floor = Path::new(env!("CARGO_BIN_EXE_floor"));
    Places {
        here: floor.parent().unwrap().to_owned(),
        peers: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"),
    }
}

/// Starts a floor, which ends with the returned value.
pub fn floor() -> Started {
    Peer::named("floor")
        .unwrap()
        .start(&places(), 1, None)
        .unwrap()
}

/// Runs the load generator.
pub fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .arg("--quiet")
        .output()
        .unwrap()
}
