//! fanwire: a high-throughput, sharded WebSocket relay.
//!
//! A client sends a message; every client connected to the same URL path gets it, the sender included, all in one order,
//! without silent loss, in bounded memory. [`server::Relay`] starts one; the rest is public for the binary, the tests,
//! the benches and the curious.
//!
//! # Threads
//!
//! ```text
//! control      server::control     listens, accepts, places connections on workers; signals; the drain
//!    │ sockets
//!    ▼
//! worker 0…N   net::worker         one relay::shard::Shard each, and its clients' sockets; one event loop
//!    │ ▲                           envelopes to and from the other workers, through mailbox::Mailbox
//!    ▼ counters, once a turn
//! metrics      metrics::exporter   /metrics, /livez, /readyz; never waits for a worker
//! log          logging             lines to standard error; nobody waits for it
//! ```
//!
//! # Layers
//!
//! Imports point down only, and what is marked pure knows no socket, clock, thread or atomic:
//!
//! ```text
//! main, cli, logging
//! server
//! net                      metrics::{collector, exporter}
//! mailbox
//! relay                                                       pure
//! port                                                        pure
//! access                                                      pure
//! ws  http  metrics::{catalogue, stats}  config  receipt
//! ids  time                                                   pure, save atomics in stats and receipt, files in config
//! ```

pub mod access;
pub mod cli;
pub mod config;
pub mod http;
pub mod ids;
pub mod logging;
pub mod mailbox;
pub mod metrics;
pub mod net;
pub mod port;
pub mod receipt;
pub mod relay;
pub mod server;
pub mod time;
pub mod ws;
