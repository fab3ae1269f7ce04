//! The relay over real sockets, as its users meet it: started by the library's public face or as the binary, on
//! 127.0.0.1 and ports that the system chooses, with tungstenite's blocking client as the independent peer.
//!
//! [`wire`] is the other peer, for what no well-behaved library can be made to send. [`support`] starts relays and
//! audits their books: whatever a test does, at its end every delivery that was owed must have been made, dropped or
//! discarded, and every gauge must be back at 0. [`program`] is the relay as a process of its own, watched from outside,
//! and [`witness`] an honest pair of clients that exchange messages while others attack. Tests wait for events and
//! counters; a time stands only where it is a setting under test, or as a bound on how long a broken relay may keep a
//! test waiting.

// Everything here is a test: a failed `unwrap` is a failed test.
#![allow(clippy::unwrap_used)]

mod access;
mod admission;
mod coalescing;
mod config;
mod conformance;
mod frames;
mod hostile_config;
mod hostile_connections;
mod hostile_floods;
mod hostile_frames;
mod hostile_memory;
mod hostile_metrics;
mod hostile_readers;
mod hostile_signals;
mod hostile_tls;
mod hostile_upgrade;
mod keepalive;
mod laggards;
mod leaving;
mod metrics;
mod program;
mod proxy;
mod relaying;
mod shutdown;
mod signals;
mod support;
mod tls;
mod tls_support;
mod transfer;
mod unix;
mod upgrade;
mod wire;
mod witness;
