//! Several servers under the same load, in turns: `loadtest compare`.
//!
//! The command line calls it with its arguments (`arguments.rs`). `rounds.rs` starts each server alone on its own
//! processors, loads it from the others, and ends it. Servers take turns, and each round begins with the next server: a
//! disturbance of the machine then hits all of them. This room imports `scenario`, `report` and `run`.
//!
//! **A new peer** is an entry in `peers/catalogue.rs`, and a folder in `loadtest/peers` if it has sources of its own.

pub(crate) mod arguments;
pub mod cpus;
pub mod peers;
pub(crate) mod rounds;
pub(crate) mod servers;
