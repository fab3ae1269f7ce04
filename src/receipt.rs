//! How a topic's owner learns that its last fan-out has been delivered: that every shard it went to has visited all of its
//! members, be it to find that a member takes nothing for now.
//!
//! Nobody is woken for it and nothing is sent. The shards share a [`Receipt`] with the owner, sign it, and let it go; the
//! owner looks when it wants to know. A shard that has nobody to deliver to, or forgets the topic, lets it go unsigned, so
//! that no way of leaving keeps the owner waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Timestamp;

/// What the shards that a fan-out went to share with its owner, which alone keeps it in the end.
#[derive(Debug, Default)]
pub struct Receipt {
    /// When the last shard that signed had visited its members.
    signed_at: AtomicU64,
}

impl Receipt {
    /// Signs that a shard has visited all of its members, and lets go.
    pub fn sign(self: Arc<Self>, now: Timestamp) {
        // Relaxed: whoever sees that this shard has let go sees what it did before.
        self.signed_at.fetch_max(now.0, Ordering::Relaxed);
    }

    /// When the fan-out had been delivered, as its owner asks; none as long as it has not.
    pub fn delivered_at(self: &mut Arc<Self>) -> Option<Timestamp> {
        let receipt = Arc::get_mut(self)?;
        Some(Timestamp(*receipt.signed_at.get_mut()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_delivered_when_the_last_shard_has_let_go_and_since_the_last_one_signed() {
        let mut receipt = Arc::<Receipt>::default();
        let [first, second, leaver] = [receipt.clone(), receipt.clone(), receipt.clone()];
        second.sign(Timestamp(7));
        first.sign(Timestamp(5));
        assert_eq!(receipt.delivered_at(), None);
        drop(leaver);
        assert_eq!(receipt.delivered_at(), Some(Timestamp(7)));
    }
}
