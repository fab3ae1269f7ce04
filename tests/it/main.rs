//! The relay over real sockets, as its users see it: as a library or as the program, on 127.0.0.1 and free ports.
//! tungstenite's blocking client is the independent peer, and [`wire`] sends what no such library would.
//!
//! [`support`] starts relays and audits their counters at the end of each test. Every delivery must have been made,
//! dropped or discarded, and every gauge must be 0. [`program`] runs the relay as a process, and [`witness`] is an
//! honest pair of clients that exchange messages during an attack.
//!
//! Tests wait for events and counters. A time is a setting under test, or the limit on how long a broken relay delays a
//! test.

// Everything here is a test, where a failed `unwrap` is a failed test.
#![allow(clippy::unwrap_used)]

mod access;
mod admission;
mod browser;
mod certificates;
mod cluster;
mod coalescing;
mod config;
mod conformance;
mod curl;
mod deflate;
mod events;
mod forwarded;
mod frames;
mod frozen;
mod health;
mod health_path;
mod history_file;
mod hostile_config;
mod hostile_connections;
mod hostile_floods;
mod hostile_frames;
mod hostile_memory;
mod hostile_metrics;
mod hostile_post;
mod hostile_readers;
mod hostile_signals;
mod hostile_tls;
mod hostile_upgrade;
mod keepalive;
mod laggards;
mod leaving;
mod libraries;
mod metrics;
mod page;
mod post;
mod probe;
mod program;
mod proxy;
mod relaying;
mod reload;
mod resume;
mod shutdown;
mod signals;
mod start;
mod support;
mod systemd;
mod tls;
mod tls_support;
mod tokens;
mod topic_rules;
mod transfer;
mod unix;
mod upgrade;
mod wire;
mod witness;
