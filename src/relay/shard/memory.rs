//! The shard's share of `limits.max_buffered_bytes`: what counts towards it, and who costs most.
//!
//! What is held for clients counts: requests and messages that arrived in part, and messages that left the log and that some
//! clients are in the middle of. What logs keep counts, and what waits on its way there. All of it is gauged where it changes,
//! in constant time. [`relief`](super::relief) looks at it at the end of a turn.

use super::topics::Topics;
use crate::ids::ClientKey;
use crate::metrics::stats::{Stat, Stats};
use crate::relay::shard::client::Client;
use crate::relay::shard::ranking::Ranking;
use crate::relay::shard::sharing::{Change, SharedKey, Sharing};
use crate::relay::topic::{Topic, TopicKey};

/// Who holds memory outside of logs, and gives way for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// A client, of what is held for it alone.
    Client(ClientKey),
    /// All clients that share a batch, ranked by what each costs.
    Sharers(SharedKey),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    share_bytes: u64,
    holders_by_size: Ranking<Holder>,
    /// Batches that clients keep which left their log.
    sharing: Sharing,
    /// Topics by what laggards keep in their logs.
    topics_by_blame: Ranking<TopicKey>,
    /// Logs take most of the room that the shard has for them.
    is_pressed: bool,
}

impl Memory {
    /// Nothing is held yet of `share_bytes`.
    pub(super) fn new(share_bytes: u64) -> Self {
        Memory {
            share_bytes,
            holders_by_size: Ranking::default(),
            sharing: Sharing::default(),
            topics_by_blame: Ranking::default(),
            is_pressed: false,
        }
    }

    /// Batches that clients keep which left their log.
    pub(super) fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// Whether publishers are to wait for anything that waits.
    pub(super) fn is_pressed(&self) -> bool {
        self.is_pressed
    }

    /// Brings the gauges of what is held for a client up to date. Called wherever that changes.
    pub(super) fn gauge_client(&mut self, key: ClientKey, client: &mut Client, stats: &mut Stats) {
        // Bounded by the limits on messages and heads, which fit 32 bits.
        let after = (client.partial_bytes() as u32, client.copied_bytes());
        let before = (client.gauged_partial_bytes, client.gauged_copied_bytes);
        (client.gauged_partial_bytes, client.gauged_copied_bytes) = after;
        match (client.shares, client.carried_batch()) {
            (None, Some(batch)) => {
                let (shared, change) = self.sharing.enter(batch, key);
                client.shares = Some(shared);
                self.count_shared(shared, change, stats);
            }
            (Some(_), None) => {
                let shared = client.shares.take();
                self.leave_sharing(key, shared, stats);
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.count(key, before, after, stats);
    }

    /// The client is removed: nothing is held for it any more.
    pub(super) fn forget_client(&mut self, key: ClientKey, client: &Client, stats: &mut Stats) {
        let before = (client.gauged_partial_bytes, client.gauged_copied_bytes);
        self.count(key, before, (0, 0), stats);
        self.leave_sharing(key, client.shares, stats);
    }

    fn leave_sharing(&mut self, key: ClientKey, shared: Option<SharedKey>, stats: &mut Stats) {
        if let Some(shared) = shared {
            let change = self.sharing.leave(shared, key);
            self.count_shared(shared, change, stats);
        }
    }

    fn count_shared(
        &mut self,
        key: SharedKey,
        Change { before, after }: Change,
        stats: &mut Stats,
    ) {
        stats.add(Stat::CarriedBytes, after.total);
        stats.sub(Stat::CarriedBytes, before.total);
        let holder = Holder::Sharers(key);
        self.holders_by_size.update(holder, before.each, after.each);
    }

    fn count(&mut self, key: ClientKey, before: (u32, u32), after: (u32, u32), stats: &mut Stats) {
        if before == after {
            return;
        }
        for (stat, before, after) in [
            (Stat::PartialBytes, before.0, after.0),
            (Stat::CarriedBytes, before.1, after.1),
        ] {
            stats.add(stat, u64::from(after));
            stats.sub(stat, u64::from(before));
        }
        let sum = |(partial, copied)| u64::from(partial) + u64::from(copied);
        let holder = Holder::Client(key);
        self.holders_by_size.update(holder, sum(before), sum(after));
    }

    /// Brings the gauges of a topic's log up to date.
    pub(super) fn gauge_log(&mut self, key: TopicKey, topic: &mut Topic, stats: &mut Stats) {
        let (kept, blame) = (topic.log.kept_bytes(), blame_bytes(topic));
        let gauged = std::mem::replace(&mut topic.gauged_bytes, kept);
        stats.add(Stat::LogBytes, kept);
        stats.sub(Stat::LogBytes, gauged);
        let gauged = std::mem::replace(&mut topic.gauged_blame_bytes, blame);
        self.topics_by_blame.update(key, gauged, blame);
    }

    /// Whether more is held than the shard may hold.
    pub(super) fn is_over_share(&self, stats: &Stats) -> bool {
        logs_bytes(stats) + clients_bytes(stats) > self.share_bytes
    }

    /// Whether clients hold more than half of the share, and so give way before laggards do.
    pub(super) fn is_clients_fault(&self, stats: &Stats) -> bool {
        clients_bytes(stats) > self.share_bytes / 2
    }

    /// Who holds most outside of logs.
    pub(super) fn largest_holder(&self) -> Option<Holder> {
        self.holders_by_size.largest().next()
    }

    /// The topic whose laggards keep most.
    pub(super) fn most_blamed(&self) -> Option<TopicKey> {
        self.topics_by_blame.largest().next()
    }

    /// Whether the shard has just come under pressure or out of it.
    ///
    /// What logs cost counts, against the room that they have: what clients leave of the share, and no less than half of it. A
    /// message in part may thus stay as long as it likes: nobody waits for its end.
    pub(super) fn review_pressure(&mut self, stats: &Stats) -> bool {
        let room = self.share_bytes - clients_bytes(stats).min(self.share_bytes / 2);
        let mark = if self.is_pressed {
            room / 2
        } else {
            room / 4 * 3
        };
        let is_pressed = logs_bytes(stats) > mark;
        std::mem::replace(&mut self.is_pressed, is_pressed) != is_pressed
    }

    /// Checks that what is held is what the gauges say, given all clients, and that whoever is to give way has. For tests.
    pub(super) fn check<'a>(
        &self,
        clients: impl Iterator<Item = (ClientKey, &'a Client)>,
        topics: &Topics,
        stats: &Stats,
    ) {
        let mut gauged = (0, self.sharing.total_bytes());
        for (key, client) in clients {
            gauged.0 += client.partial_bytes() as u64;
            gauged.1 += u64::from(client.copied_bytes());
            let sharers = client.shares.map(|shared| self.sharing.clients(shared));
            assert_eq!(
                client.carried_batch().is_some(),
                sharers.is_some_and(|mut all| all.any(|sharer| sharer == key)),
                "who shares a batch is known"
            );
        }
        let counted = (
            stats.value(Stat::PartialBytes),
            stats.value(Stat::CarriedBytes),
        );
        assert_eq!(gauged, counted, "bytes in part, and carried");
        for (_, topic) in topics.iter() {
            assert_eq!(topic.gauged_blame_bytes, blame_bytes(topic));
        }
        if self.is_over_share(stats) {
            assert!(!self.is_clients_fault(stats), "clients hold too much");
        }
    }
}

/// Bytes that are in logs, or will be.
fn logs_bytes(stats: &Stats) -> u64 {
    stats.value(Stat::LogBytes) + stats.value(Stat::CoalescingBytes)
}

/// Bytes that are held for clients and not in logs.
fn clients_bytes(stats: &Stats) -> u64 {
    stats.value(Stat::PartialBytes) + stats.value(Stat::CarriedBytes)
}

/// What the log keeps on account of members whose sockets are full, if these keep its older half. Otherwise it is the shard
/// that is late, and they would go for nothing.
fn blame_bytes(topic: &Topic) -> u64 {
    let blocked = topic.log.blocked_kept_bytes();
    if blocked > topic.log.kept_bytes() / 2 {
        blocked
    } else {
        0
    }
}
