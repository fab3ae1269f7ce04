//! Envelopes: what other shards say, and what the shard says to itself.
//!
//! The host hands envelopes to [`Shard::handle`]. Those to an owner go to [`Owner`](crate::relay::owner::Owner). This file acts
//! on the rest as a shard with members: it completes joins and appends batches. Envelopes from one shard are handled in the
//! order in which they were sent.

use std::sync::Arc;

use super::Shard;
use super::arrival::Stage;
use super::phase::{Phase, Step};
use crate::ids::{ClientId, ClientKey, Seq};
use crate::metrics::stats::Stat;
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::batch::draft::Source;
use crate::relay::envelope::{Envelope, Hold};
use crate::relay::topic::TopicKey;
use crate::relay::topic::member::Member;

impl Shard {
    /// Takes in an envelope from another shard.
    pub fn handle(&mut self, envelope: Envelope) {
        self.stats.inc(Stat::Envelopes);
        self.dispatch(envelope);
        self.hear_itself();
    }

    /// Handles the shard's envelopes to itself. Each step that may send one ends with this.
    pub(super) fn hear_itself(&mut self) {
        while let Some(envelope) = self.outbox.pop_own() {
            self.dispatch(envelope);
        }
    }

    fn dispatch(&mut self, envelope: Envelope) {
        let (owner, mut desk) = self.owner_desk();
        match envelope {
            // To the owner of a topic.
            Envelope::Subscribe {
                topic,
                from,
                client,
                audience,
            } => owner.on_subscribe(topic, from, client, audience, &mut desk),
            Envelope::Unsubscribe { topic, from } => owner.on_unsubscribe(topic, from, &mut desk),
            Envelope::Members {
                topic,
                from,
                audience,
            } => owner.on_members(&topic, from, audience),
            Envelope::Publish {
                topic,
                draft,
                audience,
            } => owner.on_publish(&topic, draft, audience, desk.stats),
            Envelope::Hold { topic, from, hold } => owner.on_hold(topic, from, hold, &mut desk),
            Envelope::Release {
                topic,
                from,
                in_vain,
            } => owner.on_release(&topic, from, in_vain, &mut desk),
            // To a shard with members, or with outsiders.
            Envelope::Subscribed {
                topic,
                client,
                next,
                held,
            } => self.on_subscribed(&topic, client, next, held),
            Envelope::Deliver { topic, batch } => self.on_deliver(&topic, batch),
            Envelope::Numbered { topic, bytes } => self.publishing.on_numbered(&topic, bytes),
            Envelope::Held { topic, held } => self.on_held(&topic, held),
            Envelope::Judge { topic } => self.on_judge(topic),
            Envelope::Fence => self.on_fence(),
            Envelope::Fenced => self.on_fenced(),
        }
    }

    /// Makes a joining client a member.
    ///
    /// The owner's earlier batches are already in the log, or went to a membership that has ended. Its later ones begin with
    /// `next`. So the member sees no gap and no repetition.
    fn on_subscribed(&mut self, name: &TopicName, key: ClientKey, next: Seq, held: Option<Hold>) {
        let date = self.date();
        let Some(topic_key) = self.topics.find(name) else {
            return;
        };
        let topic = &mut self.topics[topic_key];
        topic.held = held;
        let client = self.clients.get_mut(key);
        let Some(client) = client.filter(|client| client.phase() == Phase::Joining) else {
            return;
        };
        // Its moment in a spread came while it joined. Its early frames may be a reason of their own to leave.
        let is_sent_away = client.leaves_at_head;
        let Some(arrival) = client.arrival.take() else {
            return;
        };
        let Stage::Joining(terms, _) = arrival.stage else {
            return;
        };
        if topic.members().is_empty() {
            topic.log.reset(next);
        }
        assert_eq!(
            topic.log.next(),
            next,
            "the mirror of a topic is where its owner says it is"
        );
        client.member = Some(Member {
            topic: topic_key,
            place: topic.add(key),
            form: terms.form,
            cursor: topic.log.enter(),
            is_trusted: false,
            own_ahead: 0,
        });
        client.trusted_at_bytes = topic.log.end_bytes() + self.settings.policy.probation_bytes();
        client.take(Step::Join);
        client.carry_plain(terms.response(date));
        self.stats.inc(Stat::Connections);
        self.stats.inc(Stat::ConnectedClients);
        self.outflow.make_urgent(key, &mut self.clients);
        self.resume(key);
        self.reschedule(key);
        self.abandon_newcomer(key);
        self.on_undecoded(key, arrival.early);
        if is_sent_away {
            self.send_newcomer_away(key);
        }
        if self.has_undecoded(key) {
            // No event of its socket announces the rest.
            self.make_ready(key);
        }
        self.gauge_client(key);
    }

    fn on_deliver(&mut self, name: &TopicName, batch: Arc<Batch>) {
        let Some(key) = self.topics.find(name) else {
            return;
        };
        self.note_return(key, batch.bytes_from(Source::Members(self.id)));
        let members = self.topics[key].members().len() as u64;
        self.topics.touch(key);
        if members == 0 {
            return;
        }
        let own = self.note_own_messages(key, &batch);
        let offered = members * batch.len() as u64 - own;
        self.stats.add(Stat::Offered, offered);
        self.topics[key].append(batch);
        self.outflow.serve(key, &mut self.topics);
    }

    /// Messages of this shard have come back from the owner, so there is room on the way for more.
    fn note_return(&mut self, key: TopicKey, bytes: u64) {
        self.topics[key].note_returned(bytes);
        self.resume_publishers_if_open(key);
    }

    /// Tells the members here which messages of a batch are their own: they do not get them. Returns how many these are.
    fn note_own_messages(&mut self, key: TopicKey, batch: &Batch) -> u64 {
        let mut own = 0;
        let here = |(author, _): &(ClientId, usize)| author.shard == self.id;
        for (author, messages) in batch.authors().filter(here) {
            let client = self.clients.get_mut(author.key);
            let member = client.and_then(|client| client.member.as_mut());
            if let Some(member) = member.filter(|member| member.topic == key) {
                // A batch has fewer than 2³² messages.
                member.note_own(messages as u32);
                own += messages as u64;
            }
        }
        own
    }
}
