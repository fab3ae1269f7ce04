//! The owner's side of a shard: the topics that it sequences, and what it says to the shards that have members.
//!
//! An owner takes in drafts at any time of a turn. It decides once, in [`Owner::fan_out`], when all of the turn's are there:
//! for each topic that got some, and each that is due, whether it is fanned out now or waits ([`coalesce`]). Waiting messages
//! are gauged and take no more than [`WAITING_SHARE`] of the shard's memory. In haste, for a drain or a cut, nothing waits: a
//! fence thus still says that everything before it has been numbered.
//!
//! It knows shards and no members. What it says leaves through the [`Outbox`], also to its own shard.

pub mod coalesce;
mod pending;
mod sequencer;
pub mod topic;

use std::collections::HashMap;

use slab::Slab;

use self::coalesce::{Agenda, Coalesce};
use self::pending::Gauged;
use self::topic::OwnedTopic;
use crate::ids::{ClientKey, ShardId};
use crate::metrics::stats::{Stat, Stats};
use crate::port::topic_name::TopicName;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::Draft;
use crate::relay::envelope::{Envelope, Hold};
use crate::relay::outbox::Outbox;
use crate::time::Timestamp;

/// Waiting messages of all topics together take at most this share of what the shard may hold. Beyond it everything goes out.
const WAITING_SHARE: u64 = 16;

/// What an owner needs beside itself: the time, and somewhere to say and to count things.
#[derive(Debug)]
pub struct Desk<'a> {
    /// The time of the turn.
    pub now: Timestamp,
    /// What it says to shards.
    pub outbox: &'a mut Outbox,
    /// What it counts.
    pub stats: &'a mut Stats,
}

/// See the module.
#[derive(Debug)]
pub struct Owner {
    coalesce: Coalesce,
    max_waiting_bytes: u64,
    topics: Slab<OwnedTopic>,
    slots_by_name: HashMap<TopicName, usize>,
    /// Topics that got something in this turn.
    published: Vec<usize>,
    /// Topics in which something waits for the next fan-out.
    agenda: Agenda,
    /// Topics that may be unused since this turn.
    deserted: Vec<TopicName>,
    /// Topics whose publishers wait for laggards, for a time.
    granted: Vec<usize>,
}

impl Owner {
    /// An owner of no topic, on a shard that may hold `max_buffered_bytes`.
    pub fn new(coalesce: Coalesce, max_buffered_bytes: u64) -> Self {
        Owner {
            coalesce,
            max_waiting_bytes: max_buffered_bytes / WAITING_SHARE,
            topics: Slab::new(),
            slots_by_name: HashMap::new(),
            published: Vec::new(),
            agenda: Agenda::default(),
            deserted: Vec::new(),
            granted: Vec::new(),
        }
    }

    fn slot_named(&mut self, name: &TopicName, stats: &mut Stats) -> usize {
        if let Some(&slot) = self.slots_by_name.get(name) {
            return slot;
        }
        let slot = self.topics.insert(OwnedTopic::new(name.clone()));
        self.slots_by_name.insert(name.clone(), slot);
        stats.inc(Stat::OwnedTopics);
        slot
    }

    fn topic_mut(&mut self, name: &TopicName) -> Option<(usize, &mut OwnedTopic)> {
        let slot = *self.slots_by_name.get(name)?;
        Some((slot, &mut self.topics[slot]))
    }

    /// `client` of `from` joins: it gets what is numbered from now on.
    pub fn on_subscribe(
        &mut self,
        name: TopicName,
        from: ShardId,
        client: ClientKey,
        audience: Audience,
        desk: &mut Desk<'_>,
    ) {
        let slot = self.slot_named(&name, desk.stats);
        let topic = &mut self.topics[slot];
        topic.subscribe(from, audience);
        let subscribed = Envelope::Subscribed {
            topic: name,
            client,
            next: topic.next(),
            held: topic.held(),
        };
        desk.outbox.send(from, subscribed);
    }

    /// `from` has no member left.
    pub fn on_unsubscribe(&mut self, name: TopicName, from: ShardId, desk: &mut Desk<'_>) {
        let Some((slot, topic)) = self.topic_mut(&name) else {
            return;
        };
        topic.unsubscribe(from, desk.now);
        self.tell_if_held(slot, desk);
        self.deserted.push(name);
    }

    /// `from` has fewer members than it said.
    pub fn on_members(&mut self, name: &TopicName, from: ShardId, audience: Audience) {
        if let Some((_, topic)) = self.topic_mut(name) {
            topic.note_audience(from, audience);
        }
    }

    /// Something is to be numbered. The topic need not have a member.
    pub fn on_publish(
        &mut self,
        name: &TopicName,
        draft: Draft,
        audience: Audience,
        stats: &mut Stats,
    ) {
        let slot = self.slot_named(name, stats);
        if self.topics[slot].publish(draft, audience) {
            self.published.push(slot);
        }
    }

    /// `from` cannot keep up.
    pub fn on_hold(&mut self, name: TopicName, from: ShardId, hold: Hold, desk: &mut Desk<'_>) {
        let Some((slot, topic)) = self.topic_mut(&name) else {
            return;
        };
        let is_granted = topic.hold(from, hold, desk.now);
        if !is_granted {
            desk.outbox.send(from, Envelope::Judge { topic: name });
        } else if hold == Hold::Grace && !self.granted.contains(&slot) {
            self.granted.push(slot);
        }
        self.tell_if_held(slot, desk);
    }

    /// `from` has caught up, or gives up on its laggards.
    pub fn on_release(
        &mut self,
        name: &TopicName,
        from: ShardId,
        in_vain: bool,
        desk: &mut Desk<'_>,
    ) {
        if let Some((slot, topic)) = self.topic_mut(name) {
            topic.release(from, in_vain, desk.now);
            self.tell_if_held(slot, desk);
        }
    }

    /// Tells the subscribers whether publishers are held, if it is not what they were told last. Outsiders whose messages
    /// waited for the end of the hold hear that they are numbered.
    fn tell_if_held(&mut self, slot: usize, desk: &mut Desk<'_>) {
        let topic = &mut self.topics[slot];
        let Some(held) = topic.take_news() else {
            return;
        };
        for shard in topic.subscribers() {
            let topic = topic.name.clone();
            desk.outbox.send(shard, Envelope::Held { topic, held });
        }
        if held.is_none() {
            topic.acknowledge(desk.outbox);
        }
    }

    /// Ends the waits for laggards that have lasted as long as they may.
    pub fn review_grants(&mut self, desk: &mut Desk<'_>) {
        for slot in std::mem::take(&mut self.granted) {
            // The list may name a topic that is gone, or its slot's next tenant.
            let Some(topic) = self.topics.get_mut(slot) else {
                continue;
            };
            let (name, overdue) = (topic.name.clone(), topic.take_overdue(desk.now));
            if topic.wait_ends_at().is_some() {
                self.granted.push(slot);
            }
            self.tell_if_held(slot, desk);
            for shard in overdue {
                let topic = name.clone();
                desk.outbox.send(shard, Envelope::Judge { topic });
            }
        }
    }

    /// When a wait for laggards ends.
    pub fn next_review(&self) -> Option<Timestamp> {
        let granted = self.granted.iter();
        granted
            .filter_map(|&slot| self.topics.get(slot)?.wait_ends_at())
            .min()
    }

    /// Numbers and spreads what is to be fanned out; everything that waits, if the shard is in haste.
    pub fn fan_out(&mut self, is_in_haste: bool, desk: &mut Desk<'_>) {
        let mut published = std::mem::take(&mut self.published);
        for &slot in &published {
            let topic = &mut self.topics[slot];
            if !is_in_haste && topic.has_to_wait(desk.now, &self.coalesce) {
                let (due, gauged) = topic.postpone();
                // It may be there already.
                self.agenda.insert(due, slot);
                gauge(desk.stats, gauged);
            } else {
                self.sequence(slot, is_in_haste, desk);
            }
        }
        while let Some(slot) = self.agenda.next_due(desk.now) {
            self.sequence(slot, is_in_haste, desk);
        }
        let is_too_much = desk.stats.value(Stat::CoalescingBytes) > self.max_waiting_bytes;
        if is_too_much {
            desk.stats.inc(Stat::CoalescingLimitReached);
        }
        if is_too_much || is_in_haste {
            while let Some(slot) = self.agenda.next() {
                self.sequence(slot, is_in_haste, desk);
            }
        }
        // Only now is it known which of the turn's messages wait, and do not go out for haste or want of room.
        for slot in published.drain(..) {
            self.topics[slot].note_wait();
        }
        self.published = published;
    }

    /// Fans out what is pending in a topic.
    fn sequence(&mut self, slot: usize, is_in_haste: bool, desk: &mut Desk<'_>) {
        let topic = &mut self.topics[slot];
        if let Some(due) = topic.due() {
            self.agenda.remove(due, slot);
        }
        desk.stats
            .add(Stat::Coalesced, topic.pending().waited() as u64);
        let (batches, gauged) = topic.sequence(desk.now, &self.coalesce);
        gauge(desk.stats, gauged);
        for batch in batches {
            topic.note_outsiders(&batch);
            for shard in topic.subscribers() {
                let deliver = Envelope::Deliver {
                    topic: topic.name.clone(),
                    batch: batch.clone(),
                };
                desk.outbox.send(shard, deliver);
            }
        }
        // Like members, outsiders get their window back when there is room for more.
        if is_in_haste || topic.held().is_none() {
            topic.acknowledge(desk.outbox);
        }
        if topic.is_unused() {
            self.deserted.push(topic.name.clone());
        }
    }

    /// When a topic that waits is to be fanned out even if nothing happens. To the microsecond: it may be due in less than the
    /// millisecond that event loops count in.
    pub fn next_fan_out(&self) -> Option<Timestamp> {
        self.agenda.next_wake()
    }

    /// Forgets topics that nobody uses. Called when the turn is over.
    pub fn forget_unused(&mut self, stats: &mut Stats) {
        while let Some(name) = self.deserted.pop() {
            let Some((slot, topic)) = self.topic_mut(&name) else {
                continue;
            };
            if !topic.is_unused() {
                continue;
            }
            self.topics.remove(slot);
            self.slots_by_name.remove(&name);
            stats.dec(Stat::OwnedTopics);
            if self.topics.is_empty() {
                // What a crowd of topics had needed is given back.
                self.topics = Slab::new();
                self.slots_by_name.shrink_to_fit();
            }
        }
    }

    /// In how many topics something waits. For tests.
    #[cfg(test)]
    pub(super) fn waiting_topics(&self) -> usize {
        self.agenda.len()
    }

    /// How many messages wait in a topic. For tests.
    pub fn waiting_messages(&self, topic: &str) -> usize {
        let slot = self.slots_by_name.get(topic);
        slot.map_or(0, |&slot| self.topics[slot].pending().messages())
    }

    /// When what waits in a topic is due. For tests.
    pub fn waits_until(&self, topic: &str) -> Option<Timestamp> {
        let slot = self.slots_by_name.get(topic)?;
        self.topics[*slot].due()
    }

    /// Checks that what waits is known. For tests.
    pub fn check(&self, stats: &Stats) {
        let (mut waiting, mut costs) = (0, 0);
        for (slot, topic) in &self.topics {
            assert_eq!(topic.due().is_none(), topic.pending().is_empty());
            if let Some(due) = topic.due() {
                assert!(self.agenda.contains(due, slot), "nobody is woken");
                waiting += 1;
                costs += topic.pending().cost_bytes();
            }
            assert!(
                !topic.is_unused(),
                "a topic that nobody uses is not forgotten"
            );
        }
        assert_eq!(waiting, self.agenda.len());
        assert_eq!(costs, stats.value(Stat::CoalescingBytes));
        assert!(costs <= self.max_waiting_bytes);
        assert_eq!(self.topics.len() as u64, stats.value(Stat::OwnedTopics));
    }
}

fn gauge(stats: &mut Stats, Gauged { before, after }: Gauged) {
    stats.add(Stat::CoalescingBytes, after);
    stats.sub(Stat::CoalescingBytes, before);
}
