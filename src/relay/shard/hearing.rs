//! Envelopes: what other shards say, and what the shard says to itself.
//!
//! The host hands envelopes to [`Shard::handle`]. Those to an owner go to [`Owner`](crate::relay::owner::Owner). This file acts
//! on the rest as a shard with members: it appends batches, and [`joining`](super::joining) completes joins. Envelopes from
//! one shard are handled in the order in which they were sent.

use std::sync::Arc;

use super::Shard;
use crate::ids::ClientId;
use crate::metrics::stats::Stat;
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::batch::draft::Source;
use crate::relay::envelope::Envelope;
use crate::relay::topic::TopicKey;

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
                form,
                start,
            } => {
                let start = start.map(|start| *start);
                owner.on_subscribe(&topic, (from, client), audience, form, start, &mut desk);
            }
            Envelope::Unsubscribe { topic, from } => owner.on_unsubscribe(topic, from, &mut desk),
            Envelope::Members {
                topic,
                from,
                audience,
            } => owner.on_members(&topic, from, audience, &mut desk),
            Envelope::Waits {
                topic,
                from,
                members,
            } => owner.on_waits(&topic, from, members),
            Envelope::Publish {
                topic,
                draft,
                audience,
            } => owner.on_publish(&topic, draft, audience, desk.stats),
            Envelope::Post(posting) => owner.on_post(*posting, &mut desk),
            Envelope::Recall(recall) => owner.on_recall(*recall, &mut desk),
            Envelope::Ask(question) => owner.on_ask(*question, &mut desk),
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
                conduct,
                resumed,
                places,
                held,
            } => {
                self.note_conduct(&topic, &conduct, held);
                self.on_subscribed(&topic, client, (next, resumed.as_deref()), places);
            }
            Envelope::Refused { client, .. } => self.refuse_joining(client),
            Envelope::Mark { topic, mark } => self.on_mark(&topic, &mark),
            Envelope::Returned {
                topic,
                bytes,
                is_dropped,
            } => self.on_returned(&topic, bytes, is_dropped),
            Envelope::Out { topic } => self.on_out(&topic),
            Envelope::Deliver { topic, batch } => self.on_deliver(&topic, batch),
            Envelope::Arrived { topic, bytes } => self.on_numbered(&topic, bytes),
            Envelope::Posted(posted) => self.on_posted(*posted),
            Envelope::Described(answer) => self.on_described(&answer),
            Envelope::Held { topic, held } => self.on_held(&topic, held),
            Envelope::Judge { topic } => self.on_judge(topic),
            Envelope::Fence => self.on_fence(),
            Envelope::Fenced => self.on_fenced(),
        }
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
        let topic = &mut self.topics[key];
        if batch.mark().is_some_and(|mark| mark.is_key) {
            topic.note_key();
        }
        topic.append(batch);
        self.outflow.serve(key, &mut self.topics);
    }

    /// Messages of this shard have come back from the owner, so there is room on the way for more.
    pub(super) fn note_return(&mut self, key: TopicKey, bytes: u64) {
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
