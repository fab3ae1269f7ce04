//! Runs against relays with planted faults, each of which must be found, and against the real relay, which must pass.
//! All tests are in one program, so that they are linked once and run in parallel.

#![allow(clippy::unwrap_used, reason = "a test may panic where it stands")]

mod compression;
mod deflating;
mod fanwire_relay;
mod faults;
mod keeper;
mod lies;
mod nodes;
mod oddities;
mod program;
mod relay;
mod returning;
#[path = "../silent/mod.rs"]
mod silent;
mod streams;
mod support;
mod world;
