//! From what clients published to what the logs have: the turn's decision, as a publishing shard and as an owner.
//!
//! A topic's owner takes in drafts at any time of a turn, and decides once, when all of the turn's are there, for each
//! topic that got some and each that is due, whether it is fanned out or waits ([`crate::relay::coalesce`]). What waits is
//! in the gauges, takes no more than [`WAITING_SHARE`] of the shard's memory, and is fanned out at once when the shard
//! drains or is cut: a fence thus still says that everything before it has been numbered.

use super::Shard;
use crate::ids::ShardId;
use crate::metrics::stats::Stat;
use crate::port::topic_name::TopicName;
use crate::relay::batch::Draft;
use crate::relay::envelope::Envelope;
use crate::relay::pending::Gauged;
use crate::time::Timestamp;

/// What waits in all topics together takes at most this share of what the shard may hold; then everything goes out.
const WAITING_SHARE: u64 = 16;

impl Shard {
    /// Numbers and spreads what is to be fanned out. The outbox then holds all that other shards wait for.
    pub fn decide(&mut self) {
        self.decide_undecided();
        let mut outgoing = std::mem::take(&mut self.outgoing);
        for (key, draft) in outgoing.drain(..) {
            let topic = &mut self.topics[key.0 as usize];
            let (owner, members) = (topic.owner, topic.tell_members());
            let topic = topic.name.clone();
            self.send(
                owner,
                Envelope::Publish {
                    topic,
                    draft,
                    members,
                },
            );
        }
        self.outgoing = outgoing;
        self.fan_out();
        self.send_fences();
    }

    pub(super) fn on_publish(&mut self, name: &TopicName, draft: Draft, members: u32) {
        // A shard unsubscribes only when all that it published has come back: the topic is there.
        let slot = *self
            .owned_by_name
            .get(name)
            .expect("publishers are subscribed");
        if self.owned[slot].publish(draft, members) {
            self.published.push(slot);
        }
    }

    fn fan_out(&mut self) {
        let mut published = std::mem::take(&mut self.published);
        for &slot in &published {
            if self.has_to_wait(slot) {
                self.postpone(slot);
            } else {
                self.sequence(slot);
            }
        }
        while let Some(slot) = self.agenda.next_due(self.now) {
            self.sequence(slot);
        }
        let most = self.settings.max_buffered_bytes / WAITING_SHARE;
        let is_too_much = self.stats.value(Stat::CoalescingBytes) > most;
        if is_too_much {
            self.stats.inc(Stat::CoalescingLimitReached);
        }
        if is_too_much || self.is_in_haste() {
            while let Some(slot) = self.agenda.next() {
                self.sequence(slot);
            }
        }
        // Only now is it known what of the turn's messages waits, and is not handed out for haste or want of room.
        for slot in published.drain(..) {
            self.owned[slot].note_wait();
        }
        self.published = published;
    }

    fn has_to_wait(&self, slot: usize) -> bool {
        !self.is_in_haste() && self.owned[slot].has_to_wait(self.now, &self.settings.coalesce)
    }

    /// Puts a topic down in the agenda. It may be there already.
    fn postpone(&mut self, slot: usize) {
        let (due, gauged) = self.owned[slot].postpone();
        self.agenda.insert(due, slot);
        self.gauge_waiting(gauged);
    }

    /// Fans out what is pending in a topic.
    fn sequence(&mut self, slot: usize) {
        let owned = &mut self.owned[slot];
        if let Some(due) = owned.due() {
            self.agenda.remove(due, slot);
        }
        let waited = owned.pending().waited();
        let (batches, gauged) = owned.sequence(self.now, &self.settings.coalesce);
        let name = owned.name.clone();
        let subscribers: Vec<ShardId> = owned.subscribers().collect();
        self.stats.add(Stat::Coalesced, waited as u64);
        self.gauge_waiting(gauged);
        for batch in batches {
            for &shard in &subscribers {
                let deliver = Envelope::Deliver {
                    topic: name.clone(),
                    batch: batch.clone(),
                };
                self.send(shard, deliver);
            }
        }
    }

    fn gauge_waiting(&mut self, Gauged { before, after }: Gauged) {
        self.stats.add(Stat::CoalescingBytes, after);
        self.stats.sub(Stat::CoalescingBytes, before);
    }

    /// When a topic that waits is to be fanned out even if nothing happens. To the microsecond: it may be due in less than
    /// the millisecond that event loops count in.
    pub fn next_fan_out(&self) -> Option<Timestamp> {
        self.agenda.next_wake()
    }

    /// How many messages wait in a topic that this shard owns. For tests.
    pub fn waiting_messages(&self, topic: &str) -> usize {
        let slot = self.owned_by_name.get(topic);
        slot.map_or(0, |&slot| self.owned[slot].pending().messages())
    }

    /// Until when what waits in such a topic does. For tests.
    pub fn waits_until(&self, topic: &str) -> Option<Timestamp> {
        let slot = self.owned_by_name.get(topic)?;
        self.owned[*slot].due()
    }

    /// Checks that what waits is known. For tests.
    pub(super) fn check_waiting(&self) {
        let (mut waiting, mut costs) = (0, 0);
        for (slot, owned) in &self.owned {
            assert_eq!(owned.due().is_none(), owned.pending().is_empty());
            if let Some(due) = owned.due() {
                assert!(self.agenda.contains(due, slot), "nobody is woken");
                waiting += 1;
                costs += owned.pending().cost_bytes();
            }
        }
        assert_eq!(waiting, self.agenda.len());
        assert_eq!(costs, self.stats.value(Stat::CoalescingBytes));
        assert!(costs <= self.settings.max_buffered_bytes / WAITING_SHARE);
    }
}
