//! The topics that an owner leaves to the next process, and those that it gets from the last one.
//!
//! An owner gives its [`Keepsake`] away once it has numbered everything. It shares the batches and copies none. The owner of
//! the next process gets topic by topic and batch by batch, because there may be other owners then, and other limits.

use std::sync::Arc;

use super::Owner;
use super::topic::OwnedTopic;
use crate::ids::Seq;
use crate::metrics::stats::{Stat, Stats};
use crate::port::position::Epoch;
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::time::Timestamp;

/// The things that an owner leaves.
#[derive(Debug)]
pub struct Keepsake {
    /// No message of any of its topics, present or forgotten, has this number or a higher one.
    pub(crate) high_water: Seq,
    /// The topics that keep messages, or have members.
    pub(crate) topics: Vec<KeptTopic>,
}

/// A topic, as its owner leaves it.
#[derive(Debug)]
pub(crate) struct KeptTopic {
    /// Its name.
    pub name: TopicName,
    /// The number of its first message since it is known.
    pub born: Seq,
    /// The number of its next message.
    pub next: Seq,
    /// Its last messages without a gap, oldest first, and when each batch was numbered.
    pub batches: Box<[(Arc<Batch>, Timestamp)]>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Topics, also those of which only the numbers are kept.
    pub topics: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

impl Amount {
    /// The sum of both.
    pub(crate) fn plus(self, other: Amount) -> Amount {
        Amount {
            topics: self.topics + other.topics,
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
        }
    }

    /// Counts a batch.
    pub(crate) fn note(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
    }
}

impl Owner {
    /// The relay is going away. From now on, a topic is remembered when its clients have left.
    pub(crate) fn begin_end(&mut self) {
        self.is_ending = true;
    }

    /// A shard has no member left in the topic.
    pub(super) fn remember_if_ending(&mut self, slot: usize, now: Timestamp) {
        let topic = &mut self.topics[slot];
        if self.is_ending
            && !topic.has_subscribers()
            && let Some(history) = &mut topic.history
        {
            history.remember_until(now + history.max_age());
        }
    }

    /// All that the next process needs. Nothing is numbered any more.
    pub(crate) fn keepsake(&self) -> Keepsake {
        let mut high_water = self.high_water;
        let mut topics = Vec::with_capacity(self.topics.len());
        for (_, topic) in &self.topics {
            high_water = high_water.max(topic.next());
            let Some(history) = &topic.history else {
                continue;
            };
            let batches = history.batches();
            topics.push(KeptTopic {
                name: topic.name.clone(),
                born: history.born(),
                next: topic.next(),
                batches: batches.map(|(batch, at)| (batch.clone(), at)).collect(),
            });
        }
        Keepsake { high_water, topics }
    }

    /// Topics that come into being start at `high_water` or later.
    pub(crate) fn start_at(&mut self, high_water: Seq) {
        self.high_water = self.high_water.max(high_water);
    }

    /// From now on the numbers are those of another epoch.
    pub(crate) fn renew_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Takes in a topic of an earlier process, without its messages. It is remembered at least until `until`. Says whether it
    /// was not there yet.
    pub(crate) fn restore_topic(
        &mut self,
        name: &TopicName,
        born: Seq,
        next: Seq,
        until: Timestamp,
        stats: &mut Stats,
    ) -> bool {
        if self.slots_by_name.contains_key(name) {
            return false;
        }
        let conduct = self.conducts.of(name);
        if !conduct.keeps_history() {
            // By the rules of now, nothing of the topic is kept. Its numbers are not used again.
            self.start_at(next);
            return true;
        }
        let mut topic = OwnedTopic::restored(name.clone(), born, next, conduct.clone());
        if let Some(history) = &mut topic.history {
            history.remember_until(until);
        }
        let slot = self.topics.insert(topic);
        self.slots_by_name.insert(name.clone(), slot);
        stats.inc(Stat::OwnedTopics);
        self.shelve(slot, stats);
        true
    }

    /// Takes in the next batch of such a topic.
    pub(crate) fn restore_batch(
        &mut self,
        name: &TopicName,
        batch: Arc<Batch>,
        numbered_at: Timestamp,
        now: Timestamp,
        stats: &mut Stats,
    ) {
        if let Some((slot, topic)) = self.topic_mut(name) {
            if let Some(history) = &mut topic.history {
                history.append_of(batch, numbered_at);
                history.drop_expired(now);
            }
            self.shelve(slot, stats);
        }
    }

    /// A batch of such a topic is missing, so those before it are of no use.
    pub(crate) fn restore_gap(&mut self, name: &TopicName, stats: &mut Stats) {
        if let Some((slot, topic)) = self.topic_mut(name) {
            if let Some(history) = &mut topic.history {
                history.drop_batches();
            }
            self.shelve(slot, stats);
        }
    }

    /// All topics of the earlier process are here: those of which nothing is kept are forgotten.
    pub(crate) fn end_restoring(&mut self, now: Timestamp, stats: &mut Stats) {
        self.drop_expired(now, stats);
        self.forget_unused(stats);
    }

    /// How much is kept now.
    pub(crate) fn kept(&self) -> Amount {
        let mut kept = Amount::default();
        for (_, topic) in &self.topics {
            let Some(history) = &topic.history else {
                continue;
            };
            kept.topics += 1;
            let batches = history.batches().map(|(batch, _)| batch.frame_bytes());
            kept.note(history.messages(), batches.sum());
        }
        kept
    }

    /// The number at which new topics start. For tests.
    #[cfg(test)]
    pub(crate) fn high_water(&self) -> Seq {
        self.high_water
    }
}
