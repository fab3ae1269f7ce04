//! fanwire: a high-throughput, sharded WebSocket relay.

pub mod ids;
pub mod time;
