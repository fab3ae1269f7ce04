//! The turn's decision: what was published goes to its owners, and what this shard owns is fanned out.

use super::Shard;
use super::publishing::NotTaken;
use crate::port::topic_name::TopicName;
use crate::relay::batch::audience::Audience;
use crate::relay::envelope::Envelope;
use crate::ws::frame::MessageKind;

impl Shard {
    /// Publishes a message of somebody who is not a member of the topic. It is numbered like all others; the topic need not
    /// have a member. Until it is numbered it counts as on its way, [per topic](Shard::outside_bytes).
    pub fn publish_from_outside(
        &mut self,
        topic: TopicName,
        kind: MessageKind,
        payload: &[u8],
    ) -> Result<(), NotTaken> {
        if self.drain.has_begun() {
            return Err(NotTaken::Draining);
        }
        let window_bytes = self.settings.policy.window_bytes;
        let (here, message) = ((self.id, self.now), (kind, payload));
        self.publishing
            .push_outside(topic, here, message, window_bytes)
    }

    /// Bytes of outsiders that are on their way to a topic.
    pub fn outside_bytes(&self, topic: &str) -> u64 {
        self.publishing.outside_bytes(topic)
    }

    /// Numbers and spreads what is to be fanned out. The outbox then holds all that other shards wait for.
    pub fn decide(&mut self) {
        self.decide_undecided();
        self.send_drafts();
        let is_in_haste = self.drain.is_in_haste();
        let (owner, mut desk) = self.owner_desk();
        owner.fan_out(is_in_haste, &mut desk);
        self.hear_itself();
        self.send_fences();
    }

    fn send_drafts(&mut self) {
        let mut drafts = self.publishing.take();
        for (key, draft) in drafts.drain(..) {
            let topic = &mut self.topics[key];
            let audience = topic.tell_audience();
            if topic.owner == self.id {
                // The shard has nothing else to say to itself here, so the order is that of the outbox, at less cost.
                debug_assert!(self.outbox.is_own_empty());
                let (name, stats) = (&topic.name, &mut self.stats);
                self.owner.on_publish(name, draft, audience, stats);
                continue;
            }
            let publish = Envelope::Publish {
                topic: topic.name.clone(),
                draft,
                audience,
            };
            self.outbox.send(topic.owner, publish);
        }
        self.publishing.give_back(drafts);
        for (name, draft) in self.publishing.take_outside() {
            let owner = self.router.owner(&name);
            let audience = match self.topics.find(&name) {
                Some(key) => self.topics[key].tell_audience(),
                None => Audience::default(),
            };
            let publish = Envelope::Publish {
                topic: name,
                draft,
                audience,
            };
            self.outbox.send(owner, publish);
        }
        self.hear_itself();
    }
}
