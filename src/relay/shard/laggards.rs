//! Laggards and holds: when publishers wait, for which members, and when a laggard is judged instead.
//!
//! A shard asks a topic's owner to hold its publishers when the log is over the mark. If the shard itself is behind, and always
//! under `backpressure`, they wait as long as it takes. For laggards under the other policies they wait as long as the owner's
//! allowance lasts, which all shards share.
//!
//! A turn reviews each changed topic here when it settles. A shard changes its wish once a turn at most, so the envelopes about
//! holds are limited.

use super::Shard;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::port::topic_name::TopicName;
use crate::relay::envelope::{Envelope, Hold};
use crate::relay::policy::grace::Grace;
use crate::relay::policy::{Lag, Verdict};
use crate::relay::topic::{Topic, TopicKey};

impl Shard {
    /// Reviews everything that depends on time: the waits that this shard has granted as an owner, the topics here whose
    /// publishers wait, and the members that have just blocked over the limit.
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

    pub(super) fn on_held(&mut self, name: &TopicName, held: Option<Hold>) {
        let Some(key) = self.topics.find(name) else {
            return;
        };
        self.topics[key].held = held;
        if held == Some(Hold::Grace) {
            // This wait serves the laggards here as well, so it is reviewed now.
            self.topics.touch(key);
        }
        self.resume_publishers_if_open(key);
        self.wake_posts(name);
    }

    /// The owner does not let publishers wait for laggards, or not any longer.
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
        // This may answer an earlier wish. A later one may have crossed the answer, and the owner may have granted it.
        let release = Envelope::Release {
            topic: name,
            from: self.id,
            in_vain: false,
        };
        self.outbox.send(topic.owner, release);
    }

    /// Reviews the grace of a topic and its hold. Called once a turn for each topic in which something has changed.
    pub(super) fn review_laggards(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key];
        let laggards_progress = std::mem::take(&mut topic.laggards_progress);
        let before = topic.grace;
        topic.grace = topic.conduct.policy.review_grace(
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

    /// Lists the blocked members that are over the limit to be flushed. `gather` judges each.
    ///
    /// This happens once, when the wait has ended. A member goes over the limit later only if something is appended. It is
    /// visited for that, and judged then or in the turn after it has [blocked](Shard::note_blocked).
    fn judge_laggards(&mut self, key: TopicKey) {
        let topic = &self.topics[key];
        let over: Vec<ClientKey> = topic
            .log
            .blocked_lagging_more_than(topic.conduct.policy.max_lag_bytes())
            .filter(|&member| self.is_over(member))
            .collect();
        for member in over {
            self.outflow.make_urgent(member, &mut self.clients);
        }
    }

    /// A client has blocked. If it is over the limit and publishers do not wait for it, it is flushed in the next turn, and
    /// judged then. This turn is too early, because the edge that unblocks it may be there already.
    pub(super) fn note_blocked(&mut self, key: ClientKey) {
        let Some(member) = self.clients.member(key) else {
            return;
        };
        if self.topics[member.topic].grace.is_spent() && self.is_over(key) {
            self.blocked_over.push(key);
        }
    }

    /// Whether a member is blocked and lags by more than its policy lets it.
    fn is_over(&self, key: ClientKey) -> bool {
        let Some(member) = self.clients.member(key) else {
            return false;
        };
        let topic = &self.topics[member.topic];
        let lag_bytes = member.lag_bytes(&topic.log);
        self.is_blocked(key) && topic.conduct.policy.verdict(lag_bytes) != Verdict::Keep
    }

    fn review_hold(&mut self, key: TopicKey, in_vain: bool) {
        let topic = &mut self.topics[key];
        let lag = lag_of(topic, self.memory.is_pressed());
        let wanted = topic.conduct.policy.wants_hold(lag);
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
        lag_bytes: topic.log.lag_bytes(),
        trusted_bytes: topic.log.trusted_bytes(),
        unvisited_bytes: topic.unvisited_bytes(),
        is_holding: topic.holding.is_some(),
        is_granted: topic.held == Some(Hold::Grace),
        is_pressed,
        grace: topic.grace,
    }
}
