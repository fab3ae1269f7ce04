//! The decision of a turn: drafts go to the owners of their topics, and topics that this shard owns are fanned out.
//!
//! The turn calls [`Shard::decide`] once, when everything is taken in. It writes nothing to clients; the flush does.

use super::Shard;
use crate::relay::batch::audience::Audience;
use crate::relay::envelope::Envelope;
use crate::relay::posting::Posting;

impl Shard {
    /// Numbers and spreads everything that does not have to wait. The outbox then holds all that other shards wait for.
    pub(in crate::relay) fn decide(&mut self) {
        self.decide_undecided();
        self.send_members_drafts();
        self.send_offers();
        self.hear_itself();
        let is_in_haste = self.drain.is_in_haste();
        let (owner, mut desk) = self.owner_desk();
        owner.fan_out(is_in_haste, &mut desk);
        owner.hear_engines(&mut desk);
        self.hear_itself();
        self.send_fences();
    }

    fn send_members_drafts(&mut self) {
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
    }

    fn send_offers(&mut self) {
        for offer in self.outside.take() {
            let owner = self.router.owner(&offer.topic);
            let audience = match self.topics.find(&offer.topic) {
                Some(key) => self.topics[key].tell_audience(),
                None => Audience::default(),
            };
            let posting = Posting {
                topic: offer.topic,
                from: self.id,
                draft: offer.draft,
                audience,
                receipts: offer.receipts,
                claim: offer.claim,
            };
            self.outbox.send(owner, Envelope::Post(Box::new(posting)));
        }
    }
}
