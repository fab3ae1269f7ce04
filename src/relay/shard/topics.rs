//! Topics on a shard: joining, what comes from their owners, and their end.
//!
//! What a shard says to itself takes the same way as what it says to others ([`Shard::send`]), but is handled at once
//! instead of being queued. Both keep the order, and that is all that joining and numbering rely on.

use std::sync::Arc;

use slab::Slab;

use super::Shard;
use crate::ids::{ClientId, ClientKey, Seq, ShardId};
use crate::metrics::stats::Stat;
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::client::{Client, Phase, Stage, Step};
use crate::relay::envelope::Envelope;
use crate::relay::member::Member;
use crate::relay::owner::{Hold, OwnedTopic};
use crate::relay::topic::{Topic, TopicKey};
use crate::time::Timestamp;

impl Shard {
    /// Takes in an envelope from another shard.
    pub fn handle(&mut self, envelope: Envelope) {
        self.stats.inc(Stat::Envelopes);
        self.dispatch(envelope);
    }

    /// Sends an envelope, to this shard itself too.
    pub(super) fn send(&mut self, to: ShardId, envelope: Envelope) {
        if to == self.id {
            self.dispatch(envelope);
        } else {
            self.outbox.push((to, envelope));
        }
    }

    fn dispatch(&mut self, envelope: Envelope) {
        match envelope {
            Envelope::Subscribe {
                topic,
                from,
                client,
                members,
            } => self.on_subscribe(&topic, from, client, members),
            Envelope::Subscribed {
                topic,
                client,
                next,
                held,
            } => self.on_subscribed(&topic, client, next, held),
            Envelope::Unsubscribe { topic, from } => self.on_unsubscribe(topic, from),
            Envelope::Members {
                topic,
                from,
                members,
            } => self.on_members(&topic, from, members),
            Envelope::Publish {
                topic,
                draft,
                members,
            } => self.on_publish(&topic, draft, members),
            Envelope::Deliver { topic, batch } => self.on_deliver(&topic, batch),
            Envelope::Hold { topic, from, hold } => self.on_hold(topic, from, hold),
            Envelope::Release {
                topic,
                from,
                in_vain,
            } => self.on_release(&topic, from, in_vain),
            Envelope::Held { topic, held } => self.on_held(&topic, held),
            Envelope::Judge { topic } => self.on_judge(topic),
            Envelope::Fence => self.on_fence(),
            Envelope::Fenced => self.on_fenced(),
        }
    }

    /// Begins to join a client whose request is granted. The 101 is sent when the owner has confirmed.
    pub(super) fn join(&mut self, client: ClientKey) {
        let Some(terms) = self.client(client).and_then(Client::undecided_terms) else {
            return;
        };
        let name = terms.topic.clone();
        let key = self.topic_named(&name);
        let topic = &mut self.topics[key.0 as usize];
        topic.joining += 1;
        let (owner, members) = (topic.owner, topic.tell_members());
        self.clients[client.slot as usize].place(key);
        self.send(
            owner,
            Envelope::Subscribe {
                topic: name,
                from: self.id,
                client,
                members,
            },
        );
    }

    /// Whether anybody here is in the topic, about to be, or waits for what was published there.
    pub(super) fn has_topic(&self, name: &TopicName) -> bool {
        self.topics_by_name.contains_key(name)
    }

    fn topic_named(&mut self, name: &TopicName) -> TopicKey {
        if let Some(&key) = self.topics_by_name.get(name) {
            return key;
        }
        let topic = Topic::new(name.clone(), self.router.owner(name));
        // Slots are bounded by connections, which are bounded by descriptors.
        let key = TopicKey(self.topics.insert(topic) as u32);
        self.topics_by_name.insert(name.clone(), key);
        self.stats.inc(Stat::Topics);
        key
    }

    fn on_subscribe(&mut self, name: &TopicName, from: ShardId, client: ClientKey, members: u32) {
        let slot = self.owned_named(name);
        let owned = &mut self.owned[slot];
        owned.subscribe(from, members);
        let (next, held) = (owned.next(), owned.held());
        self.send(
            from,
            Envelope::Subscribed {
                topic: name.clone(),
                client,
                next,
                held,
            },
        );
    }

    fn owned_named(&mut self, name: &TopicName) -> usize {
        if let Some(&slot) = self.owned_by_name.get(name) {
            return slot;
        }
        let slot = self.owned.insert(OwnedTopic::new(name.clone()));
        self.owned_by_name.insert(name.clone(), slot);
        self.stats.inc(Stat::OwnedTopics);
        slot
    }

    /// A joining client becomes a member. What the owner sent before this envelope is in the log already or was for a
    /// membership that ended, and what it sends from now on is `next` and onwards: no gap, no repetition.
    fn on_subscribed(&mut self, name: &TopicName, key: ClientKey, next: Seq, held: Option<Hold>) {
        let Some(&topic_key) = self.topics_by_name.get(name) else {
            return;
        };
        let topic = &mut self.topics[topic_key.0 as usize];
        topic.held = held;
        let Some(client) = self.clients.get_mut(key.slot as usize).filter(|client| {
            client.generation == key.generation && client.phase() == Phase::Joining
        }) else {
            return;
        };
        topic.joining -= 1;
        if topic.members().is_empty() {
            topic.log.reset(next);
        }
        assert_eq!(
            topic.log.next(),
            next,
            "the mirror of a topic is where its owner says it is"
        );
        let place = topic.add(key);
        client.member = Some(Member {
            topic: topic_key,
            place,
            cursor: topic.log.enter(),
            is_trusted: false,
        });
        client.probation_bytes = self.settings.policy.probation_bytes();
        client.take(Step::Join);
        let Some(arrival) = client.arrival.take() else {
            return;
        };
        if let Stage::Joining(terms, _) = &arrival.stage {
            client.carry_plain(terms.response());
        }
        self.stats.inc(Stat::Connections);
        self.stats.inc(Stat::ConnectedClients);
        self.make_urgent(key);
        self.resume(key);
        self.reschedule(key);
        self.abandon_newcomer(key);
        self.on_early_frames(key, arrival.early);
        self.gauge_client(key);
    }

    fn on_unsubscribe(&mut self, name: TopicName, from: ShardId) {
        let Some(&slot) = self.owned_by_name.get(&name) else {
            return;
        };
        self.owned[slot].unsubscribe(from, self.now);
        self.tell_held_if_news(slot);
        self.deserted.push(name);
    }

    fn on_members(&mut self, name: &TopicName, from: ShardId, members: u32) {
        // It has not unsubscribed, so the topic is there.
        let slot = self.owned_by_name[name];
        self.owned[slot].note_members(from, members);
    }

    fn on_deliver(&mut self, name: &TopicName, batch: Arc<Batch>) {
        let Some(&key) = self.topics_by_name.get(name) else {
            return;
        };
        self.note_return(key, batch.bytes_from(self.id));
        let members = self.topics[key.0 as usize].members().len() as u64;
        if members == 0 {
            self.touch(key);
            return;
        }
        let own = self.count_own_messages(key, &batch);
        self.stats
            .add(Stat::Offered, members * batch.frames() as u64 - own);
        let topic = &mut self.topics[key.0 as usize];
        topic.append(batch);
        if !std::mem::replace(&mut topic.queued, true) {
            self.dirty.push_back(key);
        }
        self.touch(key);
    }

    /// What the shard published has come back from the owner: there is room on the way for more.
    fn note_return(&mut self, key: TopicKey, bytes: u64) {
        let topic = &mut self.topics[key.0 as usize];
        assert!(bytes <= topic.in_flight_bytes, "it was on its way");
        topic.in_flight_bytes -= bytes;
        topic.returned_bytes += bytes;
        self.resume_publishers_if_open(key);
    }

    pub(super) fn resume_publishers_if_open(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key.0 as usize];
        if !topic.is_open_to_publishers(self.settings.policy.window_bytes) {
            return;
        }
        topic.overdraft_bytes = 0;
        for publisher in std::mem::take(&mut topic.waiting) {
            self.resume(publisher);
        }
    }

    /// Messages of the batch that their senders are not owed, because they do not get their own.
    fn count_own_messages(&self, key: TopicKey, batch: &Batch) -> u64 {
        let is_member = |origin: &&ClientId| {
            let member = self
                .client(origin.key)
                .and_then(|client| client.member.as_ref());
            origin.shard == self.id && member.is_some_and(|member| member.topic == key)
        };
        batch.origins().iter().filter(is_member).count() as u64
    }

    /// Ends a turn: judges laggards, tells owners who is behind, and forgets topics that nobody uses. `flushed_at` is
    /// when the turn's last write returned.
    pub fn end_turn(&mut self, flushed_at: Timestamp) {
        for decoded_at in self.ended_rounds.drain(..) {
            let latency = flushed_at.since(decoded_at);
            // Rounds last microseconds to seconds.
            self.stats
                .observe_latency_micros(latency.as_micros() as u64);
        }
        self.review_waits();
        self.settle_topics();
        let is_relieved = self.relieve();
        if self.review_pressure() || is_relieved {
            self.settle_topics();
        }
        while let Some(name) = self.deserted.pop() {
            self.forget_owned_if_unused(&name);
        }
    }

    fn settle_topics(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            self.topics[key.0 as usize].touched = false;
            self.review_laggards(key);
            self.gauge_log(key);
            self.tell_of_departures(key);
            self.forget_topic_if_unused(key);
        }
        touched.append(&mut self.touched);
        self.touched = touched;
    }

    /// Whoever joins or publishes has the owner told how many members there are; departures are told of here, once so
    /// many have left that the topic would wait far too long.
    fn tell_of_departures(&mut self, key: TopicKey) {
        if !self.is_owner_misled(&self.topics[key.0 as usize]) {
            return;
        }
        let topic = &mut self.topics[key.0 as usize];
        let (owner, members) = (topic.owner, topic.tell_members());
        let topic = topic.name.clone();
        self.send(
            owner,
            Envelope::Members {
                topic,
                from: self.id,
                members,
            },
        );
    }

    /// Whether the owner thinks that far more members are left than there are. That none is left it is told otherwise.
    pub(super) fn is_owner_misled(&self, topic: &Topic) -> bool {
        let members = topic.population();
        members > 0
            && self
                .settings
                .coalesce
                .is_misled(topic.told_members, members)
    }

    fn forget_topic_if_unused(&mut self, key: TopicKey) {
        let topic = &self.topics[key.0 as usize];
        if !topic.is_unused() {
            return;
        }
        if topic.queued {
            // It is in a list; the next turn takes it off there.
            self.touch(key);
            return;
        }
        let topic = self.topics.remove(key.0 as usize);
        // It may have been waited for when the turn was settled first.
        self.graced.retain(|&graced| graced != key);
        self.topics_by_name.remove(&topic.name);
        if self.topics.is_empty() {
            // What a crowd of topics had needed is given back.
            self.topics = Slab::new();
            self.topics_by_name.shrink_to_fit();
        }
        self.stats.dec(Stat::Topics);
        self.send(
            topic.owner,
            Envelope::Unsubscribe {
                topic: topic.name,
                from: self.id,
            },
        );
    }

    fn forget_owned_if_unused(&mut self, name: &TopicName) {
        let Some(&slot) = self.owned_by_name.get(name) else {
            return;
        };
        if !self.owned[slot].is_unused() {
            return;
        }
        self.owned.remove(slot);
        self.owned_by_name.remove(name);
        if self.owned.is_empty() {
            self.owned = Slab::new();
            self.owned_by_name.shrink_to_fit();
        }
        self.stats.dec(Stat::OwnedTopics);
    }
}
