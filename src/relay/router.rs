//! From a topic to its owner. All shards of a relay have the same router.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::ids::ShardId;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Router {
    shards: u16,
    seed: u64,
}

impl Router {
    /// A router over `shards` shards. `seed` is drawn at start, so nobody outside can aim topics at one shard.
    pub fn new(shards: u16, seed: u64) -> Self {
        assert!(shards > 0, "a relay has a shard");
        Router { shards, seed }
    }

    /// All shards, in order.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards).map(ShardId)
    }

    /// A seed for the chance of one shard. It does not give away the router's own.
    pub(crate) fn chance_seed(&self, shard: ShardId) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, "chance", shard).hash(&mut hasher);
        hasher.finish()
    }

    /// The shard that owns `topic`.
    pub fn owner(&self, topic: &str) -> ShardId {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        topic.hash(&mut hasher);
        // The remainder is below `shards`, which is 16 bits wide.
        ShardId((hasher.finish() % u64::from(self.shards)) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_spread_over_all_shards() {
        let router = Router::new(4, 1);
        let mut topics_by_shard = [0; 4];
        for n in 0..4000 {
            topics_by_shard[router.owner(&format!("/{n}")).index()] += 1;
        }
        assert!(
            topics_by_shard
                .iter()
                .all(|&count| (800..1200).contains(&count)),
            "{topics_by_shard:?}"
        );
    }
}
