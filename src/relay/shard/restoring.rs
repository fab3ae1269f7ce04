//! The passage of topics from one process to the next.
//!
//! At the end of a drain the host asks [`Shard::keepsake`]. Before its first turn, a shard of the next process is handed the
//! topics that it owns then, by [`saved`](crate::relay::saved).

use std::sync::Arc;

use super::Shard;
use crate::ids::Seq;
use crate::port::position::Epoch;
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::owner::keepsake::{Amount, Keepsake};
use crate::time::Timestamp;

impl Shard {
    /// Whether the shard has numbered everything that will ever be published in its topics.
    pub fn is_history_final(&self) -> bool {
        self.drain.is_final()
    }

    /// Its topics for the next process. If the history is not final, more is numbered later, and the numbers would be used again.
    pub fn keepsake(&self) -> Keepsake {
        self.owner.keepsake()
    }

    /// From now on the numbers are those of another epoch. Called before the first turn.
    pub(crate) fn renew_epoch(&mut self, epoch: Epoch) {
        self.settings.epoch = epoch;
        self.owner.renew_epoch(epoch);
    }

    /// See [`Owner::start_at`](crate::relay::owner::Owner::start_at).
    pub(in crate::relay) fn start_at(&mut self, high_water: Seq) {
        self.owner.start_at(high_water);
    }

    /// Takes in a topic that it owns. Says whether it was not there yet.
    pub(in crate::relay) fn restore_topic(
        &mut self,
        name: &TopicName,
        born: Seq,
        next: Seq,
        until: Timestamp,
    ) -> bool {
        let stats = &mut self.stats;
        let is_new = self.owner.restore_topic(name, born, next, until, stats);
        self.make_room();
        is_new
    }

    /// Takes in the next batch of that topic.
    pub(in crate::relay) fn restore_batch(
        &mut self,
        name: &TopicName,
        batch: Arc<Batch>,
        numbered_at: Timestamp,
    ) {
        let (now, stats) = (self.now, &mut self.stats);
        let owner = &mut self.owner;
        owner.restore_batch(name, batch, numbered_at, now, stats);
        self.make_room();
    }

    /// A batch of that topic is missing.
    pub(in crate::relay) fn restore_gap(&mut self, name: &TopicName) {
        self.owner.restore_gap(name, &mut self.stats);
    }

    /// The oldest messages give way while there are more than the shard may hold, as in any turn.
    fn make_room(&mut self) {
        while self.memory.is_over_share(&self.stats) && self.owner.give_way(&mut self.stats) {}
    }

    /// All topics are here. Returns how much is kept.
    pub(in crate::relay) fn end_restoring(&mut self) -> Amount {
        self.owner.end_restoring(self.now, &mut self.stats);
        self.owner.kept()
    }

    /// The number at which new topics start. For tests.
    #[cfg(test)]
    pub(in crate::relay) fn high_water(&self) -> u64 {
        self.owner.high_water().0
    }
}
