//! The load generator, against relays with planted faults, each of which it must find, and against the real one, which it
//! must let pass. One binary, so that the tests are linked once and run in parallel.

#![allow(clippy::unwrap_used, reason = "a test may panic where it stands")]

mod fanwire_relay;
mod faults;
mod oddities;
mod program;
mod relay;
#[path = "../silent/mod.rs"]
mod silent;
mod support;
