//! The story of a client that comes back: its returns, and how far it is behind. It goes on over all connections of
//! the client.

/// The story of one client.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// Times that it was cut, or ended by the relay.
    pub(crate) cuts: u64,
    /// Times that it came back.
    pub(crate) returns: u64,
    /// Attempts to come back that failed.
    pub(crate) failures: u64,
    /// The time at which it last began to come back.
    pub(crate) began: u64,
    /// The time at which the relay last answered its handshake.
    pub(crate) opened: u64,
    /// By number of the publisher in its topic: messages that were sent when the relay answered. `None` once it has
    /// these.
    pub(crate) goal: Option<Box<[u64]>>,
    /// The time of the avalanche that it has not recovered from.
    pub(crate) fell: Option<u64>,
    /// The longest time from the answer until it had caught up.
    pub(crate) slowest: u64,
}
