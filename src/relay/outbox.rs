//! What a shard says in a turn, to others and to itself.
//!
//! Envelopes between two shards keep their order, and joining, numbering and the drain rest on that alone. Envelopes to the
//! shard itself keep it too: they wait in a queue of their own, which the shard empties before it does anything else.

use std::collections::VecDeque;

use crate::ids::ShardId;
use crate::relay::envelope::Envelope;

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    own: ShardId,
    to_others: Vec<(ShardId, Envelope)>,
    to_own: VecDeque<Envelope>,
}

impl Outbox {
    /// The outbox of the shard `own`.
    pub fn new(own: ShardId) -> Self {
        Outbox {
            own,
            to_others: Vec::new(),
            to_own: VecDeque::new(),
        }
    }

    /// Says something.
    pub fn send(&mut self, to: ShardId, envelope: Envelope) {
        if to == self.own {
            self.to_own.push_back(envelope);
        } else {
            self.to_others.push((to, envelope));
        }
    }

    /// The next thing that the shard has said to itself.
    pub fn pop_own(&mut self) -> Option<Envelope> {
        self.to_own.pop_front()
    }

    /// Whether the shard has heard all that it has said to itself.
    pub fn is_own_empty(&self) -> bool {
        self.to_own.is_empty()
    }

    /// Takes what is for others, in this order.
    pub fn take(&mut self) -> impl Iterator<Item = (ShardId, Envelope)> + '_ {
        self.to_others.drain(..)
    }
}
