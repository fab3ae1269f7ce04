//! Laggards and holds: when publishers wait, for whom, and when a laggard is judged instead.
//!
//! A shard whose log of a topic is over the mark asks the topic's owner to hold the publishers. When it is the shard that
//! is behind, or under `backpressure`, they wait as long as it takes; for laggards otherwise only as long as the owner's
//! allowance lasts, which is one for all shards. What both may say is bounded: a wish changes once a turn at most.

use super::Shard;
use crate::ids::{ClientKey, ShardId};
use crate::metrics::stats::Stat;
use crate::port::topic_name::TopicName;
use crate::relay::envelope::Envelope;
use crate::relay::grace::Grace;
use crate::relay::member::Member;
use crate::relay::owner::Hold;
use crate::relay::policy::{Lag, Verdict};
use crate::relay::topic::{Topic, TopicKey};
use crate::time::Timestamp;

impl Shard {
    // As the owner.

    pub(super) fn on_hold(&mut self, topic: TopicName, from: ShardId, hold: Hold) {
        let Some(&slot) = self.owned_by_name.get(&topic) else {
            return;
        };
        if !self.owned[slot].hold(from, hold, self.now) {
            self.send(from, Envelope::Judge { topic });
        } else if hold == Hold::Grace && !self.granted.contains(&slot) {
            self.granted.push(slot);
        }
        self.tell_held_if_news(slot);
    }

    pub(super) fn on_release(&mut self, topic: &TopicName, from: ShardId, in_vain: bool) {
        let Some(&slot) = self.owned_by_name.get(topic) else {
            return;
        };
        self.owned[slot].release(from, in_vain, self.now);
        self.tell_held_if_news(slot);
    }

    pub(super) fn tell_held_if_news(&mut self, slot: usize) {
        let owned = &mut self.owned[slot];
        let Some(held) = owned.take_news() else {
            return;
        };
        let (name, subscribers) = (owned.name.clone(), owned.subscribers().collect::<Vec<_>>());
        for shard in subscribers {
            self.send(
                shard,
                Envelope::Held {
                    topic: name.clone(),
                    held,
                },
            );
        }
    }

    /// Looks at everything that waits for laggards: at the shard's own topics when the turn is settled, and here at
    /// what it has granted as an owner, and at those who are waited for no longer.
    pub(super) fn review_waits(&mut self) {
        for slot in std::mem::take(&mut self.granted) {
            // The list may name a topic that is gone, or its slot's next tenant.
            let Some(owned) = self.owned.get_mut(slot) else {
                continue;
            };
            let (topic, overdue) = (owned.name.clone(), owned.take_overdue(self.now));
            if owned.wait_ends_at().is_some() {
                self.granted.push(slot);
            }
            self.tell_held_if_news(slot);
            for shard in overdue {
                let topic = topic.clone();
                self.send(shard, Envelope::Judge { topic });
            }
        }
        for key in std::mem::take(&mut self.graced) {
            self.touch(key);
        }
        for key in std::mem::take(&mut self.blocked_over) {
            self.make_urgent(key);
        }
    }

    /// When a wait for laggards is to be looked at even if nothing happens: the publishers wait as well.
    pub fn next_review(&self) -> Option<Timestamp> {
        let asked = self
            .graced
            .iter()
            .filter_map(|key| self.topics[key.0 as usize].grace.next_review());
        let granted = self
            .granted
            .iter()
            .filter_map(|&slot| self.owned.get(slot)?.wait_ends_at());
        asked.chain(granted).min()
    }

    // As one of the shards with members.

    pub(super) fn on_held(&mut self, name: &TopicName, held: Option<Hold>) {
        let Some(&key) = self.topics_by_name.get(name) else {
            return;
        };
        self.topics[key.0 as usize].held = held;
        if held == Some(Hold::Grace) {
            // Laggards here are waited for as well, now and not later.
            self.touch(key);
        }
        self.resume_publishers_if_open(key);
    }

    /// The owner does not wait for laggards, or no longer.
    pub(super) fn on_judge(&mut self, name: TopicName) {
        let Some(&key) = self.topics_by_name.get(&name) else {
            return;
        };
        let topic = &mut self.topics[key.0 as usize];
        if topic.grace.is_asked() {
            topic.grace = Grace::spent(self.now);
            self.judge_laggards(key);
        }
        self.touch(key);
        let topic = &mut self.topics[key.0 as usize];
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
        self.send(self.topics[key.0 as usize].owner, release);
    }

    /// Once a turn for each topic in which something has changed.
    pub(super) fn review_laggards(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key.0 as usize];
        let laggards_progress = std::mem::take(&mut topic.laggards_progress);
        let before = topic.grace;
        topic.grace = self.settings.policy.review_grace(
            self.now,
            lag_of(topic, self.is_pressed),
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
        let log = &self.topics[key.0 as usize].log;
        let over: Vec<ClientKey> = log
            .blocked_keeping_more_than(self.settings.policy.max_lag_bytes())
            .filter(|&member| self.is_over(member))
            .collect();
        for member in over {
            self.make_urgent(member);
        }
    }

    /// A member has blocked. If there is no patience with it, it is flushed in the next turn, and not before: the edge
    /// that says that it takes more may be there already.
    pub(super) fn note_blocked(&mut self, key: ClientKey) {
        let topic_of = |member: &Member| &self.topics[member.topic.0 as usize];
        let is_judged = self
            .client(key)
            .and_then(|client| client.member.as_ref())
            .is_some_and(|member| topic_of(member).grace.is_spent());
        if is_judged && self.is_over(key) {
            self.blocked_over.push(key);
        }
    }

    /// Whether a member awaits its edge and the verdict on it is not to keep it.
    fn is_over(&self, key: ClientKey) -> bool {
        self.client(key).is_some_and(|client| {
            let lag_bytes = client.member.as_ref().map_or(0, |member| {
                let log = &self.topics[member.topic.0 as usize].log;
                log.lag_bytes(member.cursor)
            });
            client.blocked && self.settings.policy.verdict(lag_bytes) != Verdict::Keep
        })
    }

    fn review_hold(&mut self, key: TopicKey, in_vain: bool) {
        let topic = &mut self.topics[key.0 as usize];
        let wanted = self
            .settings
            .policy
            .wants_hold(lag_of(topic, self.is_pressed));
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
        self.send(owner, wish);
    }
}

fn lag_of(topic: &Topic, is_pressed: bool) -> Lag {
    Lag {
        held_bytes: topic.log.held_bytes(),
        trusted_bytes: topic.log.trusted_bytes(),
        unvisited_bytes: topic.unvisited_bytes(),
        is_holding: topic.holding.is_some(),
        is_granted: topic.held == Some(Hold::Grace),
        is_pressed,
        grace: topic.grace,
    }
}
