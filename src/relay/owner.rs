//! A topic as its owner shard sees it: who wants it, which number comes next, and who asks its publishers to wait.

use std::sync::Arc;

use super::batch::{Batch, Draft};
use super::router::TopicName;
use crate::ids::{Seq, ShardId};

/// The owner's side of a topic.
#[derive(Debug)]
pub struct OwnedTopic {
    /// Its name.
    pub name: TopicName,
    next: Seq,
    /// Shards with members, in the order they came.
    subscribers: Vec<ShardId>,
    /// Those of them that asked to hold the publishers.
    holders: Vec<ShardId>,
    /// What was published in this turn, in the order it came.
    pending: Vec<Draft>,
}

impl OwnedTopic {
    /// A topic without subscribers and messages.
    pub fn new(name: TopicName) -> Self {
        OwnedTopic {
            name,
            next: Seq(0),
            subscribers: Vec::new(),
            holders: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// The number of the next message.
    pub fn next(&self) -> Seq {
        self.next
    }

    /// The shards that get the topic's batches.
    pub fn subscribers(&self) -> &[ShardId] {
        &self.subscribers
    }

    /// Whether publishers are not to be read.
    pub fn is_held(&self) -> bool {
        !self.holders.is_empty()
    }

    /// Whether nobody wants the topic and nothing is to be numbered: it may be forgotten.
    pub fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.pending.is_empty()
    }

    /// Adds a shard, which may be there already.
    pub fn subscribe(&mut self, shard: ShardId) {
        if !self.subscribers.contains(&shard) {
            self.subscribers.push(shard);
        }
    }

    /// Removes a shard, and with it its wish to hold. Says whether the topic was held before and is no longer.
    pub fn unsubscribe(&mut self, shard: ShardId) -> bool {
        self.subscribers.retain(|&subscriber| subscriber != shard);
        self.release(shard)
    }

    /// Notes that `shard` cannot keep up. Says whether it is the first.
    pub fn hold(&mut self, shard: ShardId) -> bool {
        let first = self.holders.is_empty();
        if !self.holders.contains(&shard) {
            self.holders.push(shard);
        }
        first
    }

    /// Notes that `shard` has caught up. Says whether it was the last.
    pub fn release(&mut self, shard: ShardId) -> bool {
        let held = !self.holders.is_empty();
        self.holders.retain(|&holder| holder != shard);
        held && self.holders.is_empty()
    }

    /// Takes in what is to be numbered in this turn. Says whether it is the turn's first.
    pub fn publish(&mut self, draft: Draft) -> bool {
        self.pending.push(draft);
        self.pending.len() == 1
    }

    /// Numbers what came in this turn.
    pub fn sequence(&mut self) -> Vec<Arc<Batch>> {
        let batches = Batch::seal(self.next, self.pending.drain(..));
        if let Some(last) = batches.last() {
            self.next = last.end();
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_held_from_the_first_wish_to_the_last_release() {
        let mut topic = OwnedTopic::new("/".into());
        for shard in [ShardId(0), ShardId(1)] {
            topic.subscribe(shard);
        }
        assert!(topic.hold(ShardId(0)));
        assert!(!topic.hold(ShardId(1)));
        assert!(!topic.hold(ShardId(1)));
        assert!(!topic.release(ShardId(0)));
        assert!(topic.is_held());
        assert!(topic.release(ShardId(1)));
        assert!(!topic.release(ShardId(1)));
    }

    #[test]
    fn a_shard_that_leaves_takes_its_wish_with_it() {
        let mut topic = OwnedTopic::new("/".into());
        topic.subscribe(ShardId(0));
        topic.subscribe(ShardId(0));
        topic.hold(ShardId(0));
        assert!(topic.unsubscribe(ShardId(0)));
        assert!(topic.is_unused() && !topic.is_held());
    }
}
