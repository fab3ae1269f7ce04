//! The end of a turn: limits are applied, owners hear of changes, and unused topics are forgotten.
//!
//! The turn calls [`Shard::end_turn`] after the flush. Only topics that were touched are reviewed.

use super::Shard;
use crate::metrics::stats::Stat;
use crate::relay::envelope::Envelope;
use crate::relay::topic::{Topic, TopicKey};
use crate::time::Timestamp;

impl Shard {
    /// Ends a turn. The last write returned at `flushed_at`.
    pub(in crate::relay) fn end_turn(&mut self, flushed_at: Timestamp) {
        for decoded_at in self.outflow.take_ended_rounds() {
            let latency = flushed_at.since(decoded_at);
            // Rounds last microseconds to seconds.
            self.stats
                .observe_latency_micros(latency.as_micros() as u64);
        }
        self.review_waits();
        self.settle_topics();
        self.take_census();
        let is_relieved = self.relieve();
        if self.review_pressure() || is_relieved {
            self.settle_topics();
        }
        self.close_idle();
        self.hear_from_engines();
        self.owner.drop_expired(self.now, &mut self.stats);
        self.owner.forget_unused(&mut self.stats);
    }

    fn settle_topics(&mut self) {
        let touched = self.topics.take_touched();
        for &key in &touched {
            self.review_laggards(key);
            self.gauge_log(key);
            self.tell_of_departures(key);
            self.settle_takers(key);
            self.forget_topic_if_unused(key);
        }
        self.topics.give_back(touched);
        self.hear_itself();
    }

    /// Tells the owner how many members are left: at once, if it would otherwise let messages wait far too long or make a form
    /// that nobody reads, and else with the next census. Joins and messages tell it in any case.
    fn tell_of_departures(&mut self, key: TopicKey) {
        let topic = &self.topics[key];
        if topic.audience == topic.told_audience {
            return;
        }
        if Shard::is_owner_misled(topic) {
            self.tell_audience(key);
        } else if topic.audience.total() > 0 && !topic.is_counted_soon {
            self.census.enter(topic.name.clone(), self.now);
            self.topics[key].is_counted_soon = true;
        }
    }

    /// Counts what members that take compressed frames got plain, and tells the owner if some of them wait.
    fn settle_takers(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key];
        let plain = topic.log.take_plain_deliveries();
        self.stats.add(Stat::DeflatePlainDeliveries, plain);
        let members = topic.take_waits();
        if members > 0 {
            let waits = Envelope::Waits {
                topic: topic.name.clone(),
                from: self.id,
                members,
            };
            self.outbox.send(topic.owner, waits);
        }
    }

    /// Tells the owners of topics that members have left how many there are, once a second at most.
    fn take_census(&mut self) {
        for name in self.census.take(self.now) {
            let Some(key) = self.topics.find(&name) else {
                continue;
            };
            let topic = &mut self.topics[key];
            topic.is_counted_soon = false;
            // When the last one has left, the owner hears of it in another way.
            if topic.audience != topic.told_audience && topic.audience.total() > 0 {
                self.tell_audience(key);
            }
        }
        self.hear_itself();
    }

    fn tell_audience(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key];
        let members = Envelope::Members {
            audience: topic.tell_audience(),
            topic: topic.name.clone(),
            from: self.id,
        };
        self.outbox.send(topic.owner, members);
    }

    /// Whether the owner believes in far more members than there are, or in readers of a form that has none. It hears in
    /// another way that nobody is left.
    pub(super) fn is_owner_misled(topic: &Topic) -> bool {
        let (now, told) = (topic.audience, topic.told_audience);
        let members = now.total();
        let is_misled = topic.conduct.coalesce.is_misled(told.total(), members);
        members > 0 && (is_misled || now.has_lost_a_form(told))
    }

    fn forget_topic_if_unused(&mut self, key: TopicKey) {
        let topic = &self.topics[key];
        if !topic.is_unused() {
            return;
        }
        if topic.queued {
            // The outflow has it in its list until the next flush.
            self.topics.touch(key);
            return;
        }
        let topic = self.topics.remove(key);
        // Requests may have waited for the end of a hold, of which the shard does not hear any more.
        self.wake_posts(&topic.name);
        // A turn may settle a topic twice, and the first time may have put it there.
        self.graced.retain(|&graced| graced != key);
        self.stats.dec(Stat::Topics);
        let unsubscribe = Envelope::Unsubscribe {
            topic: topic.name,
            from: self.id,
        };
        self.outbox.send(topic.owner, unsubscribe);
    }
}
