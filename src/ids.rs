//! Newtypes for integers that are easy to confuse. They check nothing.
//!
//! All layers use them.

/// A shard, by its index: 0 to the number of shards − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The index of the shard in a table of all shards.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A client within its shard. Slots are reused at once; the generation tells the clients of one slot apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey {
    /// The slot in the shard's table of clients.
    pub slot: u32,
    /// Counts the clients of the shard, so that it does not repeat for one slot within 2³² connections.
    pub generation: u32,
}

#[cfg(test)]
impl ClientKey {
    /// The first client in `slot`.
    pub(crate) fn first_in(slot: u32) -> Self {
        let generation = 0;
        ClientKey { slot, generation }
    }
}

/// A client within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    /// The shard that owns the client.
    pub shard: ShardId,
    /// The client within that shard.
    pub key: ClientKey,
}

/// The number of a message in its topic. The topic's owner shard counts from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);
