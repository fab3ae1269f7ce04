//! fanwire: a high-throughput, sharded WebSocket relay.
//!
//! A client sends a message, and every client connected to the same URL path receives it, the sender too: in one order,
//! without silent loss, in bounded memory. [`server::Relay`] starts a relay, and [`config::Config`] configures it. This is the
//! whole library. The other modules are private; `internals` is a door to them for this repository's program and tests.
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
//! ```
//!
//! # Layers
//!
//! Imports only point down. Pure modules use no socket, clock, thread or atomic:
//!
//! ```text
//! main, cli, client, rereading, logging                       the program, outside the library
//! internals                                                   a list of names
//! server
//! net                      metrics::{collector, exporter}
//! mailbox
//! relay                                                       pure
//! cluster                                                     pure
//! port                                                        pure
//! access                                                      pure
//! ws  http  metrics::{catalogue, stats}  config
//! pattern  ids  time  chance  panics  secrecy                 pure, except atomics in stats, and files in config
//! ```

mod access;
mod chance;
mod cluster;
pub mod config;
mod http;
mod ids;
#[doc(hidden)]
pub mod internals;
mod mailbox;
mod metrics;
mod net;
mod panics;
mod pattern;
mod port;
mod relay;
mod secrecy;
pub mod server;
mod time;
mod ws;
