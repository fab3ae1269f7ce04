//! Laggards and holds: when publishers wait, for whom, and when a laggard is judged instead.
//!
//! A shard whose log of a topic is over the mark asks the topic's owner to hold the publishers. When it is the shard that
//! is behind, or under `backpressure`, they wait as long as it takes; for laggards otherwise only as long as the owner's
//! allowance lasts, which is one for all shards. What both may say is bounded: a wish changes once a turn at most.

use super::Shard;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::port::topic_name::TopicName;
use crate::relay::envelope::Envelope;
use crate::relay::envelope::Hold;
use crate::relay::policy::grace::Grace;
use crate::relay::policy::{Lag, Verdict};
use crate::relay::topic::member::Member;
use crate::relay::topic::{Topic, TopicKey};
use crate::time::Timestamp;

impl Shard {
    /// Looks at everything that waits for laggards: at the shard's own topics when the turn is settled, and here at
    /// what it has granted as an owner, and at those who are waited for no longer.
    pub(super) fn review_waits(&mut self) {
        let (owner, mut desk) = self.owner_desk();
        owner.review_grants(&mut desk);
        self.hear_itself();
        for key in std::mem::take(&mut self.graced) {
            self.topics.touch(key);
        }
        for key in std::mem::take(&mut self.blocked_over) {
            self.outflow.make_urgent(key, &mut self.clients);
        }
    }

    /// When a wait for laggards is to be looked at even if nothing happens: the publishers wait as well.
    pub fn next_review(&self) -> Option<Timestamp> {
        let graced = self.graced.iter();
        let asked = graced.filter_map(|&key| self.topics[key].grace.next_review());
        asked.chain(self.owner.next_review()).min()
    }

    pub(super) fn on_held(&mut self, name: &TopicName, held: Option<Hold>) {
        let Some(key) = self.topics.find(name) else {
            return;
        };
        self.topics[key].held = held;
        if held == Some(Hold::Grace) {
            // Laggards here are waited for as well, now and not later.
            self.topics.touch(key);
        }
        self.resume_publishers_if_open(key);
    }

    /// The owner does not wait for laggards, or no longer.
    pub(super) fn on_judge(&mut self, name: TopicName) {
        let Some(key) = self.topics.find(&name) else {
            return;
        };
        let topic = &mut self.topics[key];
        if topic.grace.is_asked() {
            topic.grace = Grace::spent(self.now);
            self.judge_laggards(key);
        }
        self.topics.touch(key);
        let topic = &mut self.topics[key];
        if topic.holding != Some(Hold::Grace) {
            return;
        }
        topic.holding = None;
        self.stats.dec(Stat::TopicsHeld);
        // The owner may mean an earlier wish, and have granted the one that has crossed its answer.
        let release = Envelope::Release {
            topic: name,
            from: self.id,
            in_vain: false,
        };
        self.outbox.send(self.topics[key].owner, release);
    }

    /// Once a turn for each topic in which something has changed.
    pub(super) fn review_laggards(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key];
        let laggards_progress = std::mem::take(&mut topic.laggards_progress);
        let before = topic.grace;
        topic.grace = self.settings.policy.review_grace(
            self.now,
            lag_of(topic, self.memory.is_pressed()),
            laggards_progress,
        );
        if topic.grace.is_asked() {
            self.graced.push(key);
        }
        let is_spent = topic.grace.is_spent();
        if is_spent && !before.is_spent() {
            self.judge_laggards(key);
        }
        self.review_hold(key, is_spent && before.is_needed());
    }

    /// Has blocked members flushed that are over the limit: `gather` passes the verdict on each. This is done once, when
    /// the wait has ended: whoever gets over the limit later does so by what is appended, is visited for that, and judged
    /// then or in the turn after it has [blocked](Shard::note_blocked).
    fn judge_laggards(&mut self, key: TopicKey) {
        // What a member lags by is part of what the log costs on its account.
        let log = &self.topics[key].log;
        let over: Vec<ClientKey> = log
            .blocked_lagging_more_than(self.settings.policy.max_lag_bytes())
            .filter(|&member| self.is_over(member))
            .collect();
        for member in over {
            self.outflow.make_urgent(member, &mut self.clients);
        }
    }

    /// A member has blocked. If there is no patience with it, it is flushed in the next turn, and not before: the edge
    /// that says that it takes more may be there already.
    pub(super) fn note_blocked(&mut self, key: ClientKey) {
        let topic_of = |member: &Member| &self.topics[member.topic];
        let is_judged = self
            .clients
            .get(key)
            .and_then(|client| client.member.as_ref())
            .is_some_and(|member| topic_of(member).grace.is_spent());
        if is_judged && self.is_over(key) {
            self.blocked_over.push(key);
        }
    }

    /// Whether a member awaits its edge and the verdict on it is not to keep it.
    fn is_over(&self, key: ClientKey) -> bool {
        self.clients.get(key).is_some_and(|client| {
            let lag_bytes = client
                .member
                .as_ref()
                .map_or(0, |member| member.lag_bytes(&self.topics[member.topic].log));
            client.blocked && self.settings.policy.verdict(lag_bytes) != Verdict::Keep
        })
    }

    fn review_hold(&mut self, key: TopicKey, in_vain: bool) {
        let topic = &mut self.topics[key];
        let wanted = self
            .settings
            .policy
            .wants_hold(lag_of(topic, self.memory.is_pressed()));
        let before = std::mem::replace(&mut topic.holding, wanted);
        if wanted == before {
            return;
        }
        let (owner, topic, from) = (topic.owner, topic.name.clone(), self.id);
        match (before, wanted) {
            (None, Some(_)) => self.stats.inc(Stat::TopicsHeld),
            (Some(_), None) => self.stats.dec(Stat::TopicsHeld),
            (None, None) | (Some(_), Some(_)) => {}
        }
        let wish = match wanted {
            Some(hold) => Envelope::Hold { topic, from, hold },
            None => Envelope::Release {
                topic,
                from,
                in_vain,
            },
        };
        self.outbox.send(owner, wish);
    }
}

fn lag_of(topic: &Topic, is_pressed: bool) -> Lag {
    Lag {
        held_bytes: topic.log.lag_bytes(),
        trusted_bytes: topic.log.trusted_bytes(),
        unvisited_bytes: topic.unvisited_bytes(),
        is_holding: topic.holding.is_some(),
        is_granted: topic.held == Some(Hold::Grace),
        is_pressed,
        grace: topic.grace,
    }
}
