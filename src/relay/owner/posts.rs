//! Requests at the owner of their topic: messages to be numbered, repeats of earlier ones, and questions about a topic.

use super::keys::Claimed;
use super::receipts::Due;
use super::topic::OwnedTopic;
use super::{Desk, Owner};
use crate::cluster::engine::asked::Described;
use crate::ids::{Seq, ShardId};
use crate::metrics::stats::Stat;
use crate::port::describe::Description;
use crate::port::position::{Epoch, Position};
use crate::relay::envelope::Envelope;
use crate::relay::outbox::Outbox;
use crate::relay::places::position_of;
use crate::relay::posting::{
    Described as Answer, Posted, Posting, Question, Recall, Receipt, Ticket, Verdict,
};

impl Owner {
    /// Takes in messages of requests. The topic need not have a member. A repeat is not published again.
    pub(crate) fn on_post(&mut self, posting: Posting, desk: &mut Desk<'_>) {
        let Posting {
            topic: name,
            from,
            draft,
            audience,
            receipts,
            claim,
        } = posting;
        if let (Some(claim), [Receipt { ticket, .. }]) = (&claim, &receipts[..]) {
            let mut forgotten = 0;
            let keys = &mut self.keys;
            let claimed = keys.claim(claim, (from, *ticket), desk.now, &mut forgotten);
            desk.stats.add(Stat::PostKeysForgotten, forgotten);
            let verdict = match claimed {
                Claimed::First => None,
                Claimed::Waits => Some(None),
                Claimed::Answered(verdict) => Some(Some((*ticket, verdict))),
            };
            if let Some(verdict) = verdict {
                let posted = Posted {
                    topic: name,
                    verdicts: verdict.into_iter().collect(),
                    dropped_bytes: draft.len_bytes() as u64,
                    // The shard knows of a hold from what is numbered.
                    is_held: false,
                };
                desk.outbox.send(from, Envelope::Posted(Box::new(posted)));
                return;
            }
        }
        let slot = self.slot_named(&name, desk.stats);
        let topic = &mut self.topics[slot];
        // The sequencer numbers what is pending in its order.
        let numbered = match topic.engined() {
            Some(_) => 0,
            None => topic.next().0,
        };
        let first = numbered + topic.pending().messages() as u64;
        let keyed = claim.map(|claim| claim.name);
        for Receipt { ticket, end } in receipts {
            let due = Due {
                shard: from,
                ticket,
                next: Seq(first + u64::from(end)),
                name: keyed.clone(),
            };
            self.receipts.add(slot, due);
        }
        if topic.publish(draft, audience) {
            self.published.push(slot);
        }
    }

    /// A part has to wait for its topic. If it is a repeat, it need not.
    pub(crate) fn on_recall(&mut self, recall: Recall, desk: &mut Desk<'_>) {
        let Recall {
            from,
            ticket,
            claim,
        } = recall;
        let mut forgotten = 0;
        let keys = &mut self.keys;
        let verdict = keys.recall(&claim, (from, ticket), desk.now, &mut forgotten);
        desk.stats.add(Stat::PostKeysForgotten, forgotten);
        let Some(verdict) = verdict else {
            return;
        };
        let posted = Posted {
            topic: claim.name.topic.clone(),
            verdicts: vec![(ticket, verdict)],
            dropped_bytes: 0,
            is_held: false,
        };
        desk.outbox.send(from, Envelope::Posted(Box::new(posted)));
    }

    /// All pending messages of a topic are numbered: tells the shards whose requests are among them.
    pub(super) fn answer_posts(&mut self, slot: usize, is_in_haste: bool, desk: &mut Desk<'_>) {
        let topic = &self.topics[slot];
        let members = topic.audience().total();
        let is_held = !is_in_haste && topic.held().is_some();
        let mut told = Told::default();
        for Due {
            shard,
            ticket,
            next,
            name,
        } in self.receipts.take(slot)
        {
            debug_assert!(next <= topic.next(), "all that was pending is numbered");
            let verdict = Verdict::Numbered {
                next,
                members,
                epoch: None,
            };
            match name {
                None => told.add(shard, ticket, verdict),
                Some(name) => {
                    for (shard, ticket) in self.keys.complete(&name, verdict) {
                        told.add(shard, ticket, verdict);
                    }
                }
            }
        }
        told.send(topic, is_held, desk.outbox);
    }

    /// A client of another shard, or of this one, asks about a topic.
    pub(crate) fn on_ask(&mut self, question: Question, desk: &mut Desk<'_>) {
        if let Some(cluster) = &mut self.cluster {
            cluster.ask(question, desk.now);
            return self.answer_questions(desk);
        }
        let Question {
            topic,
            from,
            client,
        } = question;
        let epoch = self.epoch;
        let found = self.topic_mut(&topic);
        let found = found.map(|(_, topic)| describe(topic, epoch));
        let described = Envelope::Described(Box::new(Answer { client, found }));
        desk.outbox.send(from, described);
    }
}

impl Owner {
    /// Engines have said what they know of topics. Their members elsewhere are added to those here.
    pub(super) fn answer_questions(&mut self, desk: &mut Desk<'_>) {
        let described = match &mut self.cluster {
            Some(cluster) => cluster.take_described(),
            None => return,
        };
        for (question, described) in described {
            let epoch = self.epoch;
            let found = self.topic_mut(&question.topic);
            let mut found = found.map(|(_, topic)| describe(topic, epoch));
            if let Some(Described { at, others }) = described {
                let at = at.map(position_of);
                let found = found.get_or_insert(Description {
                    members: 0,
                    at: None,
                    oldest: None,
                    bytes: 0,
                });
                found.members = found
                    .members
                    .saturating_add(u32::try_from(others).unwrap_or(u32::MAX));
                // The place up to which this relay has delivered is more exact, and its kept messages lead there.
                found.at = found.at.or(at);
                found.oldest = found.oldest.or(at);
            }
            let client = question.client;
            let described = Envelope::Described(Box::new(Answer { client, found }));
            desk.outbox.send(question.from, described);
        }
    }
}

fn describe(topic: &OwnedTopic, epoch: Epoch) -> Description {
    let next = topic.next();
    let history = topic.history.as_ref();
    let position = |next| match topic.engined() {
        Some(engined) => engined.places.at(next),
        None => Some(Position { epoch, next }),
    };
    Description {
        members: topic.audience().total(),
        at: position(next),
        oldest: position(history.map_or(next, |history| history.oldest(next))),
        bytes: history.map_or(0, |history| history.memory_bytes()),
    }
}

/// Verdicts by shard, in the order in which the shards came.
#[derive(Default)]
pub(super) struct Told {
    by_shard: Vec<(ShardId, Vec<(Ticket, Verdict)>)>,
}

impl Told {
    /// Adds one.
    pub(super) fn add(&mut self, shard: ShardId, ticket: Ticket, verdict: Verdict) {
        let mut entries = self.by_shard.iter_mut();
        match entries.find(|(other, _)| *other == shard) {
            Some((_, verdicts)) => verdicts.push((ticket, verdict)),
            None => self.by_shard.push((shard, vec![(ticket, verdict)])),
        }
    }

    /// Sends them.
    pub(super) fn send(self, topic: &OwnedTopic, is_held: bool, outbox: &mut Outbox) {
        for (shard, verdicts) in self.by_shard {
            let posted = Posted {
                topic: topic.name.clone(),
                verdicts,
                dropped_bytes: 0,
                is_held,
            };
            outbox.send(shard, Envelope::Posted(Box::new(posted)));
        }
    }
}
