//! The owner's side of a shard: the topics that it sequences, and what it says to the shards that have members.
//!
//! An owner takes in drafts at any time of a turn. Once a turn, [`Owner::fan_out`] goes through the topics that got drafts or
//! are due. It fans each out, or lets it wait ([`coalesce`]). Waiting messages take a small part of the shard's memory at most.
//!
//! Nothing waits during a drain or a cut, so a fence still means that everything before it is numbered.
//!
//! It knows shards and no members. Its envelopes leave through the [`Outbox`], also those to its own shard.

pub(crate) mod cluster;
pub(crate) mod coalesce;
pub(crate) mod deflation;
mod engined;
mod engines;
mod found;
pub(crate) mod history;
pub(crate) mod keepsake;
mod keys;
pub(crate) mod offer;
mod pending;
mod posts;
mod receipts;
mod sequencer;
mod shelf;
pub(crate) mod topic;
mod windows;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use self::cluster::Cluster;
use self::coalesce::Agenda;
use self::engined::Joiner;
use self::found::Found;
use self::keys::Keys;
use self::pending::Gauged;
use self::receipts::Receipts;
use self::shelf::Shelf;
use self::topic::OwnedTopic;
use self::windows::Windows;
use crate::ids::{ClientKey, Seq, ShardId};
use crate::metrics::stats::{Stat, Stats};
use crate::port::position::{Epoch, Start};
use crate::port::terms::Form;
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::Draft;
use crate::relay::conduct::Conducts;
use crate::relay::envelope::{Envelope, Hold};
use crate::relay::outbox::Outbox;
use crate::time::Timestamp;

/// Waiting messages of all topics together take at most a sixteenth of what the shard may hold. Beyond that, all of them are
/// fanned out.
const WAITING_SHARE: u64 = 16;

/// The number of the first message of a shard with engines.
const FIRST_IN_CLUSTER: Seq = Seq(1 << 40);

/// The shard's things that an owner borrows for a call.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    /// The time of the turn.
    pub now: Timestamp,
    /// For envelopes to shards.
    pub outbox: &'a mut Outbox,
    /// The shard's counters.
    pub stats: &'a mut Stats,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Owner {
    conducts: Arc<Conducts>,
    max_waiting_bytes: u64,
    epoch: Epoch,
    windows: Windows,
    /// The highest number that a forgotten topic's next message would have had. New topics start there, so a number never
    /// names two messages of a topic.
    high_water: Seq,
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
    /// Topics that keep messages.
    shelf: Shelf,
    /// The relay is going away, and topics whose clients have left are remembered for the next process.
    is_ending: bool,
    /// Parts of requests whose messages wait for their numbers.
    receipts: Receipts,
    /// Keys of requests that may be repeated.
    keys: Keys,
    /// The engines that number messages, if several relays are one.
    cluster: Option<Box<Cluster>>,
}

impl Owner {
    /// An owner of no topic, on a shard that may hold `max_buffered_bytes`.
    pub(crate) fn new(conducts: Arc<Conducts>, max_buffered_bytes: u64, epoch: Epoch) -> Self {
        Owner {
            conducts,
            max_waiting_bytes: max_buffered_bytes / WAITING_SHARE,
            epoch,
            windows: Windows::new(max_buffered_bytes),
            high_water: Seq(0),
            shelf: Shelf::default(),
            topics: Slab::new(),
            slots_by_name: HashMap::new(),
            published: Vec::new(),
            agenda: Agenda::default(),
            deserted: Vec::new(),
            granted: Vec::new(),
            is_ending: false,
            receipts: Receipts::default(),
            keys: Keys::default(),
            cluster: None,
        }
    }

    /// Another share of memory is in force.
    pub(crate) fn set_share(&mut self, max_buffered_bytes: u64) {
        self.max_waiting_bytes = max_buffered_bytes / WAITING_SHARE;
    }

    /// Topics that come into being from now on have these settings.
    pub(crate) fn set_conducts(&mut self, conducts: Arc<Conducts>) {
        self.conducts = conducts;
    }

    /// From now on engines number the messages. Called before the first turn.
    pub(crate) fn join_cluster(&mut self, cluster: Cluster) {
        // Older messages of other relays may come before the first that this shard gets.
        self.high_water = self.high_water.max(FIRST_IN_CLUSTER);
        self.cluster = Some(Box::new(cluster));
    }

    /// The engines, if there are any.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// The same, to change them.
    pub(crate) fn cluster_mut(&mut self) -> Option<&mut Cluster> {
        self.cluster.as_deref_mut()
    }

    fn slot_named(&mut self, name: &TopicName, stats: &mut Stats) -> usize {
        if let Some(&slot) = self.slots_by_name.get(name) {
            return slot;
        }
        let conduct = self.conducts.of(name).clone();
        let topic = match &self.cluster {
            None => OwnedTopic::born(name.clone(), self.high_water, conduct),
            Some(cluster) => {
                let engine = cluster.engine_of(name);
                OwnedTopic::in_engine(name.clone(), engine, self.high_water, conduct)
            }
        };
        let slot = self.topics.insert(topic);
        self.slots_by_name.insert(name.clone(), slot);
        stats.inc(Stat::OwnedTopics);
        slot
    }

    fn topic_mut(&mut self, name: &TopicName) -> Option<(usize, &mut OwnedTopic)> {
        let slot = *self.slots_by_name.get(name)?;
        Some((slot, &mut self.topics[slot]))
    }

    /// `client` of `from` joins: it gets what is numbered from now on, and what is kept from `start` on.
    pub(crate) fn on_subscribe(
        &mut self,
        name: &TopicName,
        (from, client): (ShardId, ClientKey),
        audience: Audience,
        form: Form,
        start: Option<Start>,
        desk: &mut Desk<'_>,
    ) {
        let slot = self.slot_named(name, desk.stats);
        let topic = &mut self.topics[slot];
        topic.subscribe(from, audience);
        if form == Form::Deflated {
            topic.note_waiting(from, 1, &self.windows);
        }
        let joiner = Joiner {
            shard: from,
            client,
            form,
            start,
            asked: None,
        };
        if topic.engined().is_some() {
            self.await_place(slot, joiner, desk);
        } else {
            self.answer_subscribe(slot, &joiner, None, desk);
        }
    }

    /// Tells a client its place. It gets what was found elsewhere, and what is kept.
    fn answer_subscribe(
        &mut self,
        slot: usize,
        joiner: &Joiner,
        found: Option<Found>,
        desk: &mut Desk<'_>,
    ) {
        let Joiner {
            shard,
            client,
            form,
            start,
            ..
        } = *joiner;
        let topic = &mut self.topics[slot];
        let next = topic.next();
        let places = topic.engined().map(|engined| engined.places.clone());
        let history = topic.history.as_mut();
        let resumed = history.map(|history| {
            let start = start.unwrap_or_default();
            history.drop_expired(desk.now);
            let here = (&self.epoch, next);
            let mut resumed =
                history.resume(start, form.of_kept(), here, places.as_ref(), desk.now);
            if let Some(found) = found {
                found.lead(&mut resumed);
            }
            Box::new(resumed)
        });
        let subscribed = Envelope::Subscribed {
            topic: topic.name.clone(),
            client,
            next,
            conduct: topic.conduct.clone(),
            resumed,
            places: places.map(Box::new),
            held: topic.held(),
        };
        desk.outbox.send(shard, subscribed);
        self.shelve(slot, desk.stats);
    }

    /// `from` has no member left.
    pub(crate) fn on_unsubscribe(&mut self, name: TopicName, from: ShardId, desk: &mut Desk<'_>) {
        let Some((slot, topic)) = self.topic_mut(&name) else {
            return;
        };
        topic.unsubscribe(from, desk.now);
        self.end_deflation_if_unused(slot, desk.stats);
        self.remember_if_ending(slot, desk.now);
        if self.cluster.is_some() {
            self.forget_joiners(slot, from, desk.now);
            self.tell_members(slot, desk.now);
        }
        self.tell_if_held(slot, desk);
        self.shelve(slot, desk.stats);
        self.deserted.push(name);
    }

    /// `from` has fewer members than it said.
    pub(crate) fn on_members(
        &mut self,
        name: &TopicName,
        from: ShardId,
        audience: Audience,
        desk: &mut Desk<'_>,
    ) {
        if let Some((slot, topic)) = self.topic_mut(name) {
            topic.note_audience(from, audience);
            self.end_deflation_if_unused(slot, desk.stats);
            self.tell_members(slot, desk.now);
        }
    }

    /// Members of `from` wait until the window of compressed frames is emptied.
    pub(crate) fn on_waits(&mut self, name: &TopicName, from: ShardId, members: u32) {
        if let Some(&slot) = self.slots_by_name.get(name) {
            self.topics[slot].note_waiting(from, members, &self.windows);
        }
    }

    fn end_deflation_if_unused(&mut self, slot: usize, stats: &mut Stats) {
        self.topics[slot].end_deflation_if_unused(&mut self.windows, stats);
    }

    /// Takes in messages to number. The topic need not have a member.
    pub(crate) fn on_publish(
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
    pub(crate) fn on_hold(
        &mut self,
        name: TopicName,
        from: ShardId,
        hold: Hold,
        desk: &mut Desk<'_>,
    ) {
        let is_clustered = self.cluster.is_some();
        let Some((slot, topic)) = self.topic_mut(&name) else {
            return;
        };
        // A hold reaches the publishers of this relay only, so in a cluster nobody waits for laggards.
        let is_granted = !(is_clustered && hold == Hold::Grace) && topic.hold(from, hold, desk.now);
        if !is_granted {
            desk.outbox.send(from, Envelope::Judge { topic: name });
        } else if hold == Hold::Grace && !self.granted.contains(&slot) {
            self.granted.push(slot);
        }
        self.tell_if_held(slot, desk);
    }

    /// `from` has caught up, or gives up on its laggards.
    pub(crate) fn on_release(
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

    /// Tells the subscribers whether publishers are held, if that has changed. At the end of a hold, outsiders hear which of
    /// their messages are numbered, so that they may send more.
    fn tell_if_held(&mut self, slot: usize, desk: &mut Desk<'_>) {
        if self.cluster.is_some() {
            self.note_open_hold(slot);
        }
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
    pub(crate) fn review_grants(&mut self, desk: &mut Desk<'_>) {
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

    /// Nothing could happen for `span`, so waits for laggards last that much longer.
    pub(crate) fn excuse(&mut self, span: Duration) {
        for &slot in &self.granted {
            if let Some(topic) = self.topics.get_mut(slot) {
                topic.excuse(span);
            }
        }
    }

    /// The end of the next wait for laggards.
    pub(crate) fn next_review(&self) -> Option<Timestamp> {
        let granted = self.granted.iter();
        granted
            .filter_map(|&slot| self.topics.get(slot)?.wait_ends_at())
            .min()
    }

    /// Fans out every topic that does not have to wait; in haste, every topic.
    pub(crate) fn fan_out(&mut self, is_in_haste: bool, desk: &mut Desk<'_>) {
        self.windows.begin_turn();
        let mut published = std::mem::take(&mut self.published);
        for &slot in &published {
            let topic = &mut self.topics[slot];
            if !is_in_haste && topic.has_to_wait(desk.now) {
                let (due, gauged) = topic.postpone();
                // The topic may be in the agenda already.
                self.agenda.insert(due, slot);
                gauge(desk.stats, gauged);
            } else {
                self.sequence(slot, is_in_haste, desk);
            }
        }
        while let Some(slot) = self.agenda.next_due(desk.now) {
            self.sequence(slot, is_in_haste, desk);
        }
        self.fan_out_arrived(is_in_haste, desk);
        let is_too_much = desk.stats.value(Stat::CoalescingBytes) > self.max_waiting_bytes;
        if is_too_much {
            desk.stats.inc(Stat::CoalescingLimitReached);
        }
        if is_too_much || is_in_haste {
            while let Some(slot) = self.agenda.next() {
                self.sequence(slot, is_in_haste, desk);
            }
            self.fan_out_arrived(true, desk);
        }
        // Only now it is known which of the turn's messages wait. Haste or lack of room may have sent some of them out.
        for slot in published.drain(..) {
            self.topics[slot].note_wait();
        }
        self.published = published;
    }

    /// Fans out what is pending in a topic.
    fn sequence(&mut self, slot: usize, is_in_haste: bool, desk: &mut Desk<'_>) {
        let topic = &mut self.topics[slot];
        if let Some(due) = topic.due() {
            self.agenda.remove(due, slot, desk.now);
        }
        desk.stats
            .add(Stat::Coalesced, topic.pending().waited() as u64);
        if topic.engined().is_some() {
            return self.offer(slot, desk);
        }
        let (batches, gauged) = topic.sequence_by_conduct(desk.now, &self.epoch);
        gauge(desk.stats, gauged);
        self.spread(slot, batches, is_in_haste, desk);
    }

    /// Sends batches that the topic's sequencer has numbered to the shards with members.
    fn spread(
        &mut self,
        slot: usize,
        mut batches: Vec<Arc<Batch>>,
        is_in_haste: bool,
        desk: &mut Desk<'_>,
    ) {
        let topic = &mut self.topics[slot];
        // Every way that a batch can take comes by here, and nothing is left out behind it: the window has seen what is sent.
        topic.deflate(&mut batches, &mut self.windows, desk.now, desk.stats);
        let mut has_outsiders = false;
        for batch in batches {
            has_outsiders |= topic.note_outsiders(&batch);
            for shard in topic.subscribers() {
                let deliver = Envelope::Deliver {
                    topic: topic.name.clone(),
                    batch: batch.clone(),
                };
                desk.outbox.send(shard, deliver);
            }
            if let Some(history) = &mut topic.history {
                history.append(batch, desk.now);
            }
        }
        if has_outsiders && self.cluster.is_none() {
            self.answer_posts(slot, is_in_haste, desk);
        }
        let topic = &mut self.topics[slot];
        // Outsiders get their window back as members do: not while publishers are held.
        if is_in_haste || topic.held().is_none() {
            topic.acknowledge(desk.outbox);
        }
        if topic.is_unused() {
            self.deserted.push(topic.name.clone());
        }
        self.shelve(slot, desk.stats);
    }

    /// Brings the topic's place on the shelf up to date, and the gauge of its messages.
    fn shelve(&mut self, slot: usize, stats: &mut Stats) {
        let topic = &mut self.topics[slot];
        let Some(history) = &topic.history else {
            return;
        };
        let expires_at = history.expires_at();
        let place = expires_at.map(|at| Shelf::place(topic.has_subscribers(), at));
        let after = history.memory_bytes();
        let before = std::mem::replace(&mut topic.gauged_history_bytes, after);
        stats.replace(Stat::HistoryBytes, before, after);
        match (topic.shelved, place) {
            (None, Some(_)) => stats.inc(Stat::TopicsWithHistory),
            (Some(_), None) => {
                stats.dec(Stat::TopicsWithHistory);
                self.deserted.push(topic.name.clone());
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.shelf.shift(slot, topic.shelved, place);
        topic.shelved = place;
    }

    /// Drops messages that are too old. Called when the turn is over, before [`Owner::forget_unused`].
    pub(crate) fn drop_expired(&mut self, now: Timestamp, stats: &mut Stats) {
        while !self.shelf.is_empty()
            && let Some(slot) = self.shelf.first_expired(now)
        {
            if let Some(history) = &mut self.topics[slot].history {
                history.drop_expired(now);
            }
            self.shelve(slot, stats);
        }
    }

    /// Drops the messages that the shard can spare most easily, because memory is short. Says whether there were any.
    pub(crate) fn give_way(&mut self, stats: &mut Stats) -> bool {
        let Some(slot) = self.shelf.first() else {
            return false;
        };
        if let Some(history) = &mut self.topics[slot].history {
            history.drop_oldest();
        }
        self.shelve(slot, stats);
        true
    }

    /// The moment at which the next message becomes too old.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.shelf.next_expiry()
    }

    /// The moment of the next fan-out that waits, to the microsecond. Event loops count in milliseconds, which is too
    /// coarse for it.
    pub(crate) fn next_fan_out(&self) -> Option<Timestamp> {
        let arrived = self
            .cluster
            .as_deref()
            .and_then(|it| it.agenda().next_wake());
        self.agenda.next_wake().into_iter().chain(arrived).min()
    }

    /// Forgets topics that nobody uses. Called when the turn is over.
    pub(crate) fn forget_unused(&mut self, stats: &mut Stats) {
        while let Some(name) = self.deserted.pop() {
            let Some((slot, topic)) = self.topic_mut(&name) else {
                continue;
            };
            if !topic.is_unused() {
                continue;
            }
            let next = topic.next();
            self.high_water = self.high_water.max(next);
            self.topics.remove(slot);
            if let Some(cluster) = &mut self.cluster {
                cluster.forget(slot);
            }
            self.slots_by_name.remove(&name);
            stats.dec(Stat::OwnedTopics);
            if self.topics.is_empty() {
                // Give back the tables that a crowd of topics needed.
                self.topics = Slab::new();
                self.slots_by_name.shrink_to_fit();
            }
        }
    }

    /// The number of topics with waiting messages. For tests.
    #[cfg(test)]
    pub(super) fn waiting_topics(&self) -> usize {
        self.agenda.len()
    }

    /// The members of a topic, as their shards said last. For tests.
    #[cfg(test)]
    pub(super) fn members(&self, topic: &str) -> u32 {
        let slot = self.slots_by_name[topic];
        self.topics[slot].audience().total()
    }

    /// The number of waiting messages in a topic. For tests.
    pub(crate) fn waiting_messages(&self, topic: &str) -> usize {
        let slot = self.slots_by_name.get(topic);
        slot.map_or(0, |&slot| self.topics[slot].pending().messages())
    }

    /// The numbers of a topic's first message and of its next one. For tests.
    pub(crate) fn numbers(&self, topic: &str) -> Option<(u64, u64)> {
        let slot = self.slots_by_name.get(topic)?;
        let topic = &self.topics[*slot];
        Some((topic.history.as_ref()?.born().0, topic.next().0))
    }

    /// The number of a topic's next message. For tests.
    pub(crate) fn next_number(&self, topic: &str) -> Option<u64> {
        let slot = self.slots_by_name.get(topic)?;
        Some(self.topics[*slot].next().0)
    }

    /// The moment at which a topic's waiting messages are due. For tests.
    pub(crate) fn waits_until(&self, topic: &str) -> Option<Timestamp> {
        let slot = self.slots_by_name.get(topic)?;
        self.topics[*slot].due()
    }

    /// Checks the agenda and the gauges against the topics. For tests.
    pub(crate) fn check(&self, stats: &Stats) {
        let (mut waiting, mut costs, mut kept, mut shelved) = (0, 0, 0, 0);
        let (mut posted, mut windows) = (0, 0);
        for (slot, topic) in &self.topics {
            assert_eq!(topic.due().is_none(), topic.pending().is_empty());
            if let Some(due) = topic.due() {
                assert!(
                    self.agenda.contains(due, slot),
                    "a topic that waits is in the agenda"
                );
                waiting += 1;
                costs += topic.pending().cost_bytes();
            }
            if let (Some(engined), Some(cluster)) = (topic.engined(), &self.cluster) {
                assert_eq!(engined.due().is_none(), engined.arrived().is_empty());
                if let Some(due) = engined.due() {
                    assert!(
                        cluster.agenda().contains(due, slot),
                        "a topic whose messages have come back is in the agenda"
                    );
                    costs += engined.arrived().cost_bytes();
                }
            }
            assert!(!topic.is_unused(), "a topic that nobody uses is forgotten");
            assert!(
                !topic.pending().is_empty() || !self.receipts.waits_for(slot),
                "a part of a request is numbered, and its shard is not told"
            );
            posted += usize::from(self.receipts.waits_for(slot));
            windows += usize::from(topic.has_window(&self.windows));
            let history = topic.history.as_ref().map(|history| history.memory_bytes());
            assert_eq!(topic.gauged_history_bytes, history.unwrap_or(0));
            kept += topic.gauged_history_bytes;
            if let Some(place) = topic.shelved {
                assert!(self.shelf.contains(slot, place), "kept messages expire");
                shelved += 1;
            }
            assert_eq!(topic.shelved.is_some(), topic.gauged_history_bytes > 0);
        }
        self.keys.check();
        self.windows.check(windows, stats);
        assert_eq!(
            posted,
            self.receipts.topics(),
            "a topic with posts is there"
        );
        assert_eq!(kept, stats.value(Stat::HistoryBytes));
        assert_eq!(shelved, self.shelf.len());
        assert_eq!(shelved as u64, stats.value(Stat::TopicsWithHistory));
        assert_eq!(waiting, self.agenda.len());
        assert_eq!(costs, stats.value(Stat::CoalescingBytes));
        assert!(costs <= self.max_waiting_bytes);
        assert_eq!(self.topics.len() as u64, stats.value(Stat::OwnedTopics));
    }
}

fn gauge(stats: &mut Stats, Gauged { before, after }: Gauged) {
    stats.replace(Stat::CoalescingBytes, before, after);
}
