//! Sockets and event loops.
//!
//! A [`worker::Worker`] owns one shard and the sockets of its clients. It moves bytes between sockets and its shard, and
//! envelopes between shards. `listener` accepts connections, `admission` counts them by address, and [`balance`] shares
//! them out. [`engine`] has the connections to engines, if several relays are one. Nothing here knows what a message is.

pub(crate) mod admission;
pub(crate) mod alarm;
pub(crate) mod balance;
pub(crate) mod clock;
pub(crate) mod complaint;
pub(crate) mod conn;
pub(crate) mod engine;
pub(crate) mod listener;
pub(crate) mod mail;
pub(crate) mod proxy;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod unix;
pub(crate) mod vitals;
pub(crate) mod worker;

/// Connections that may wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
