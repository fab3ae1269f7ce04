//! Newtypes for the integers that could be mistaken for one another.

/// Which shard: an index from 0 to `server.workers` − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard's place in a table of all shards.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A client within its shard. Slots are reused at once, so the generation tells one tenant from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey {
    /// The slot in the shard's table of clients.
    pub slot: u32,
    /// Counts the tenants of the shard's slots; never the same twice for one slot within 2³² connections.
    pub generation: u32,
}

/// A client within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    /// The shard that owns the client.
    pub shard: ShardId,
    /// The client within that shard.
    pub key: ClientKey,
}

#[cfg(test)]
impl ClientId {
    /// The client in the first slot of a shard.
    pub fn first_of(shard: u16) -> Self {
        ClientId {
            shard: ShardId(shard),
            key: ClientKey {
                slot: 0,
                generation: 0,
            },
        }
    }
}

/// The number of a message in its topic, counted from 0 by the topic's owner shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);
