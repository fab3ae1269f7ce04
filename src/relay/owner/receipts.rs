//! The parts of requests whose messages wait for their numbers.
//!
//! [`Owner`](super::Owner) notes a part when its messages become pending, and takes it out when they are numbered. Messages of
//! members have no receipts, so a topic without requests costs nothing here.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ids::{Seq, ShardId};
use crate::relay::posting::{Name, Ticket};

/// A part whose messages are pending.
#[derive(Clone, Debug)]
pub(super) struct Due {
    /// The shard that has the request.
    pub(super) shard: ShardId,
    /// The part.
    pub(super) ticket: Ticket,
    /// The number behind its last message. If an engine numbers the topic, it counts the pending messages.
    pub(super) next: Seq,
    /// Its key, if it has one.
    pub(super) name: Option<Arc<Name>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// By the slot of the topic, in the order of their numbers.
    due_by_slot: HashMap<usize, Vec<Due>>,
}

impl Receipts {
    /// A part's messages are pending in the topic at `slot`.
    pub(super) fn add(&mut self, slot: usize, due: Due) {
        self.due_by_slot.entry(slot).or_default().push(due);
    }

    /// All pending messages of the topic at `slot` are numbered.
    pub(super) fn take(&mut self, slot: usize) -> Vec<Due> {
        self.due_by_slot.remove(&slot).unwrap_or_default()
    }

    /// Whether parts wait for the topic at `slot`. For tests.
    pub(super) fn waits_for(&self, slot: usize) -> bool {
        self.due_by_slot.contains_key(&slot)
    }

    /// The number of topics that parts wait for. For tests.
    pub(super) fn topics(&self) -> usize {
        self.due_by_slot.len()
    }
}
