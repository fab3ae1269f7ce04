//! fanwire: a high-throughput, sharded WebSocket relay.
//!
//! A client sends a message, and every client connected to the same URL path receives it, the sender too: in one order,
//! without silent loss, in bounded memory. [`server::Relay`] starts a relay, and [`config::Config`] configures it. The
//! other modules are public only for the program, the tests and the benches.
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
//! log          logging             lines to standard error; nothing waits for it
//! ```
//!
//! # Layers
//!
//! Imports only point down. Pure modules use no socket, clock, thread or atomic:
//!
//! ```text
//! main, cli, logging
//! server
//! net                      metrics::{collector, exporter}
//! mailbox
//! relay                                                       pure
//! port                                                        pure
//! access                                                      pure
//! ws  http  metrics::{catalogue, stats}  config
//! ids  time                                                   pure, except atomics in stats, and files in config
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
pub mod relay;
pub mod server;
pub mod time;
pub mod ws;
