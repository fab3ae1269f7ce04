//! The hold on a topic's publishers: a shard asks the topic's owner for it, and the owner tells all shards.

/// A hold: publishers of a topic are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Until the shard that asked for it releases it.
    Open,
    /// For laggards, as long as the owner grants.
    Grace,
}
