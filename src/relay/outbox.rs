//! The envelopes that a shard sends in a turn, to others and to itself.
//!
//! Envelopes from one shard to another keep their order. Joining, numbering and the drain rest on that. Envelopes to the
//! shard itself keep their order too, in a queue that the shard empties before it does anything else.

use std::collections::VecDeque;

use crate::ids::ShardId;
use crate::relay::envelope::Envelope;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    own: ShardId,
    to_others: Vec<(ShardId, Envelope)>,
    to_own: VecDeque<Envelope>,
}

impl Outbox {
    /// The outbox of the shard `own`.
    pub(crate) fn new(own: ShardId) -> Self {
        Outbox {
            own,
            to_others: Vec::new(),
            to_own: VecDeque::new(),
        }
    }

    /// Sends an envelope.
    pub(crate) fn send(&mut self, to: ShardId, envelope: Envelope) {
        if to == self.own {
            self.to_own.push_back(envelope);
        } else {
            self.to_others.push((to, envelope));
        }
    }

    /// Takes the next envelope to the shard itself.
    pub(crate) fn pop_own(&mut self) -> Option<Envelope> {
        self.to_own.pop_front()
    }

    /// Whether the shard has taken all envelopes to itself.
    pub(crate) fn is_own_empty(&self) -> bool {
        self.to_own.is_empty()
    }

    /// Takes the envelopes to others, in their order.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (ShardId, Envelope)> + '_ {
        self.to_others.drain(..)
    }
}
