//! fanwire: a high-throughput, sharded WebSocket relay.

pub mod cli;
pub mod config;
pub mod http;
pub mod ids;
pub mod logging;
pub mod mailbox;
pub mod metrics;
pub mod net;
pub mod relay;
pub mod server;
pub mod time;
pub mod ws;
