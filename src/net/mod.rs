//! Sockets and event loops: the only layer that does input and output.
//!
//! A [`worker::Worker`] owns one shard and the sockets of its clients; [`listener`] accepts for all of them, and
//! [`admission`] knows how many came from where and [`balance`] how many may go where. Nothing here knows what a message is:
//! a worker moves bytes between sockets and its shard, and envelopes between shards.

pub mod admission;
pub mod alarm;
pub mod balance;
pub mod clock;
pub mod conn;
pub mod listener;
pub mod mail;
pub mod proxy;
pub mod stream;
pub mod tls;
pub mod unix;
pub mod worker;

/// Connections that may wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
