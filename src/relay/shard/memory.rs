//! The shard's share of `limits.max_buffered_bytes`: the bytes that count, and the holders that cost most.
//!
//! Two kinds of memory count. Clients hold requests and messages that arrived in part, carried messages, which left their
//! log while the client was in the middle of them, and windows of compressed messages. Logs keep batches, and messages wait on
//! their way to a log.
//!
//! The steps of a shard bring a gauge up to date where its value changes, in constant time. [`relief`](super::relief) looks at
//! the sums at the end of a turn and decides which holders give way. This file disconnects nobody.

use super::client::{Client, Held};
use super::ranking::Ranking;
use super::sharing::{Change, SharedKey, Sharing};
use super::topics::Topics;
use crate::ids::ClientKey;
use crate::metrics::stats::{Stat, Stats};
use crate::relay::topic::{Topic, TopicKey};
use crate::ws::inflate::Window;

/// A holder of memory outside of logs. It gives way as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// A client, ranked by the bytes that are held for it alone.
    Client(ClientKey),
    /// All clients that share a batch, ranked by the part of each.
    Sharers(SharedKey),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    share_bytes: u64,
    holders_by_size: Ranking<Holder>,
    /// Carried batches that clients share.
    sharing: Sharing,
    /// Topics by the bytes that laggards keep in their logs.
    topics_by_blame: Ranking<TopicKey>,
    /// Logs use most of their room.
    is_pressed: bool,
    /// Bytes on their way to engines and back.
    engines_bytes: u64,
}

impl Memory {
    /// A share of `share_bytes`, of which nothing is used.
    pub(super) fn new(share_bytes: u64) -> Self {
        Memory {
            share_bytes,
            holders_by_size: Ranking::default(),
            sharing: Sharing::default(),
            topics_by_blame: Ranking::default(),
            is_pressed: false,
            engines_bytes: 0,
        }
    }

    /// Another share is in force. If more is used, the relief at the end of the turn sees to it.
    pub(super) fn set_share(&mut self, share_bytes: u64) {
        self.share_bytes = share_bytes;
    }

    /// Carried batches that clients share.
    pub(super) fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// Whether memory is so short that publishers wait whenever their topic's log is not empty.
    pub(super) fn is_pressed(&self) -> bool {
        self.is_pressed
    }

    /// Brings the gauges of a client's memory up to date.
    pub(super) fn gauge_client(&mut self, key: ClientKey, client: &mut Client, stats: &mut Stats) {
        let after = client.held();
        let before = std::mem::replace(&mut client.gauged, after);
        match (client.shares, client.carried_batch()) {
            (None, Some(batch)) => {
                let (shared, change) = self.sharing.enter(batch, key);
                client.shares = Some(shared);
                self.count_shared(shared, change, stats);
            }
            (Some(shared), None) => {
                client.shares = None;
                self.leave_sharing(key, shared, stats);
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.count(key, before, after, stats);
    }

    /// The client is removed, and its memory with it.
    pub(super) fn forget_client(&mut self, key: ClientKey, client: &Client, stats: &mut Stats) {
        self.count(key, client.gauged, Held::default(), stats);
        if let Some(shared) = client.shares {
            self.leave_sharing(key, shared, stats);
        }
    }

    fn leave_sharing(&mut self, key: ClientKey, shared: SharedKey, stats: &mut Stats) {
        let change = self.sharing.leave(shared, key);
        self.count_shared(shared, change, stats);
    }

    fn count_shared(&mut self, key: SharedKey, change: Change, stats: &mut Stats) {
        let Change { before, after } = change;
        stats.replace(Stat::CarriedBytes, before.total, after.total);
        let holder = Holder::Sharers(key);
        self.holders_by_size.update(holder, before.each, after.each);
    }

    fn count(&mut self, key: ClientKey, before: Held, after: Held, stats: &mut Stats) {
        if before == after {
            return;
        }
        let (partial, copied) = (Stat::PartialBytes, Stat::CarriedBytes);
        stats.replace(
            partial,
            before.partial_bytes.into(),
            after.partial_bytes.into(),
        );
        stats.replace(
            copied,
            before.copied_bytes.into(),
            after.copied_bytes.into(),
        );
        let holder = Holder::Client(key);
        self.holders_by_size
            .update(holder, before.total_bytes(), after.total_bytes());
    }

    /// Brings the gauges of a topic's log up to date.
    pub(super) fn gauge_log(&mut self, key: TopicKey, topic: &mut Topic, stats: &mut Stats) {
        let (kept, blame) = (topic.log.kept_bytes(), blame_bytes(topic));
        let gauged = std::mem::replace(&mut topic.gauged_bytes, kept);
        stats.replace(Stat::LogBytes, gauged, kept);
        let gauged = std::mem::replace(&mut topic.gauged_blame_bytes, blame);
        self.topics_by_blame.update(key, gauged, blame);
    }

    /// Whether the shard holds more than its share.
    pub(super) fn is_over_share(&self, stats: &Stats) -> bool {
        let held = logs_bytes(stats) + clients_bytes(stats);
        let kept = stats.value(Stat::HistoryBytes) + stats.value(Stat::ReplayBytes);
        let windows = stats.value(Stat::DeflateWindowBytes);
        held + kept + windows + self.engines_bytes > self.share_bytes
    }

    /// Notes the bytes that are on their way to engines and back.
    pub(super) fn note_engines(&mut self, bytes: u64) {
        self.engines_bytes = bytes;
    }

    /// Whether clients hold more than half of the share. If so, they give way before laggards do.
    pub(super) fn is_clients_fault(&self, stats: &Stats) -> bool {
        clients_bytes(stats) > self.share_bytes / 2
    }

    /// The largest holder outside of logs.
    pub(super) fn largest_holder(&self) -> Option<Holder> {
        self.holders_by_size.largest().next()
    }

    /// The topic whose laggards keep most.
    pub(super) fn most_blamed(&self) -> Option<TopicKey> {
        self.topics_by_blame.largest().next()
    }

    /// Compares logs with their room. Says whether the shard has just come under pressure or out of it.
    ///
    /// The room of logs is the part of the share that clients leave, but at least half of it. So publishers never wait because
    /// of messages in part. Pressure begins at three quarters of the room and ends at half of it.
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

    /// Checks that the gauges are right, given all clients and topics, and that clients gave way if they had to. For tests.
    pub(super) fn check<'a>(
        &self,
        clients: impl Iterator<Item = (ClientKey, &'a Client)>,
        topics: &Topics,
        stats: &Stats,
    ) {
        let (mut partial, mut carried) = (0, self.sharing.total_bytes());
        let mut windows = 0;
        for (key, client) in clients {
            let held = client.held();
            partial += u64::from(held.partial_bytes);
            carried += u64::from(held.copied_bytes);
            windows += client.window().map_or(0, |_| Window::BYTES as u64);
            let sharers = client.shares.map(|shared| self.sharing.clients(shared));
            assert_eq!(
                client.carried_batch().is_some(),
                sharers.is_some_and(|mut all| all.any(|sharer| sharer == key)),
                "a client shares the batch that it carries, and no other"
            );
        }
        assert_eq!(partial, stats.value(Stat::PartialBytes), "bytes in part");
        assert_eq!(carried, stats.value(Stat::CarriedBytes), "carried bytes");
        assert_eq!(windows, stats.value(Stat::InflateWindowBytes), "windows");
        for (_, topic) in topics.iter() {
            assert_eq!(topic.gauged_blame_bytes, blame_bytes(topic));
        }
        if self.is_over_share(stats) {
            assert!(!self.is_clients_fault(stats), "clients hold too much");
        }
    }
}

/// Bytes that are in logs, or on their way there.
fn logs_bytes(stats: &Stats) -> u64 {
    stats.value(Stat::LogBytes) + stats.value(Stat::CoalescingBytes)
}

/// Bytes that are held for clients outside of logs.
fn clients_bytes(stats: &Stats) -> u64 {
    stats.value(Stat::PartialBytes)
        + stats.value(Stat::CarriedBytes)
        + stats.value(Stat::InflateWindowBytes)
}

/// The bytes that the log keeps for members whose sockets are full, if these keep its older half. Otherwise 0: the shard
/// itself is late, and it would not help to disconnect the members.
fn blame_bytes(topic: &Topic) -> u64 {
    let blocked = topic.log.blocked_kept_bytes();
    if blocked > topic.log.kept_bytes() / 2 {
        blocked
    } else {
        0
    }
}
