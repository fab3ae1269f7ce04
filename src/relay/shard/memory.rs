//! The shard's share of `limits.max_buffered_bytes`: what counts towards it, and who gives way when it is used up.
//!
//! What is held for clients counts (a request or message that arrived in part, messages that left the log and that some
//! are in the middle of), and what waits in logs for laggards, or for the next fan-out on its way there. It is kept up to date where it changes, in constant time,
//! and looked at once, at the end of a turn. Whichever kind has more than half of the share gives way, those who cost most
//! first: clients are closed with 1013; of a topic, the members that hold the older half of its log are judged whatever
//! its grace, and under `backpressure` disconnected as well, because a promise about memory goes before one about
//! patience. Well before logs have to give way, a shard under pressure has publishers wait for anything that waits, so
//! that it seldom comes to it. What is held for clients does not press: no publisher's waiting makes it less.

use super::Shard;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::relay::client::{Client, Phase};
use crate::relay::departure::Departure;
use crate::relay::sharing::{Change, SharedKey};
use crate::relay::topic::{Topic, TopicKey};
use crate::ws::decode::Decoder;
use crate::ws::handshake::Refusal;

/// Who holds what is not in a log, and gives way for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// A client, of what is held for it alone.
    Client(ClientKey),
    /// All clients that share a batch, ranked by what each costs.
    Sharers(SharedKey),
}

impl Shard {
    /// Bytes that count towards the shard's share.
    fn buffered_bytes(&self) -> u64 {
        self.logs_bytes() + self.clients_bytes()
    }

    /// Those of them that are in logs, or will be.
    fn logs_bytes(&self) -> u64 {
        self.stats.value(Stat::LogBytes) + self.stats.value(Stat::CoalescingBytes)
    }

    /// Those of them that are held for clients and not in logs.
    fn clients_bytes(&self) -> u64 {
        self.stats.value(Stat::PartialBytes) + self.stats.value(Stat::CarriedBytes)
    }

    /// Brings the gauges of what is held for the client up to date. Called wherever that changes.
    pub(super) fn gauge_client(&mut self, key: ClientKey) {
        let Some(client) = self.client_mut(key) else {
            return;
        };
        // Bounded by the limits on messages and heads, which fit 32 bits.
        let after = (client.partial_bytes() as u32, client.copied_bytes());
        let before = (client.gauged_partial_bytes, client.gauged_copied_bytes);
        (client.gauged_partial_bytes, client.gauged_copied_bytes) = after;
        match (client.shares, client.carried_batch().is_some()) {
            (None, true) => self.enter_sharing(key),
            (shared @ Some(_), false) => {
                client.shares = None;
                self.leave_sharing(key, shared);
            }
            (None, false) | (Some(_), true) => {}
        }
        self.count(key, before, after);
    }

    /// The client is removed: nothing is held for it any more.
    pub(super) fn forget_gauge(&mut self, key: ClientKey, client: &Client) {
        let before = (client.gauged_partial_bytes, client.gauged_copied_bytes);
        self.count(key, before, (0, 0));
        self.leave_sharing(key, client.shares);
    }

    fn enter_sharing(&mut self, key: ClientKey) {
        let client = &mut self.clients[key.slot as usize];
        let Some(batch) = client.carried_batch() else {
            return;
        };
        let (shared, change) = self.sharing.enter(batch, key);
        client.shares = Some(shared);
        self.count_shared(shared, change);
    }

    fn leave_sharing(&mut self, key: ClientKey, shared: Option<SharedKey>) {
        if let Some(shared) = shared {
            let change = self.sharing.leave(shared, key);
            self.count_shared(shared, change);
        }
    }

    fn count_shared(&mut self, key: SharedKey, Change { before, after }: Change) {
        self.stats.add(Stat::CarriedBytes, after.total);
        self.stats.sub(Stat::CarriedBytes, before.total);
        let holder = Holder::Sharers(key);
        self.holders_by_size.update(holder, before.each, after.each);
    }

    fn count(&mut self, key: ClientKey, before: (u32, u32), after: (u32, u32)) {
        if before == after {
            return;
        }
        for (stat, before, after) in [
            (Stat::PartialBytes, before.0, after.0),
            (Stat::CarriedBytes, before.1, after.1),
        ] {
            self.stats.add(stat, u64::from(after));
            self.stats.sub(stat, u64::from(before));
        }
        let sum = |(partial, copied)| u64::from(partial) + u64::from(copied);
        let holder = Holder::Client(key);
        self.holders_by_size.update(holder, sum(before), sum(after));
    }

    /// Brings the gauges of the topic's log up to date.
    pub(super) fn gauge_log(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key.0 as usize];
        let (held, blame) = (topic.log.held_bytes(), blame_bytes(topic));
        let gauged = std::mem::replace(&mut topic.gauged_bytes, held);
        self.stats.add(Stat::LogBytes, held);
        self.stats.sub(Stat::LogBytes, gauged);
        let gauged = std::mem::replace(&mut topic.gauged_blame_bytes, blame);
        self.topics_by_blame.update(key, gauged, blame);
    }

    /// Has those give way who cost most, if the shard's share is used up, and says whether it is. Once a turn, when
    /// everything is gauged.
    pub(super) fn relieve(&mut self) -> bool {
        if !self.is_over_share() {
            return false;
        }
        self.stats.inc(Stat::BufferLimitReached);
        // No more give way than have brought what is too much.
        while self.is_over_share() && self.relieve_once() {}
        true
    }

    fn is_over_share(&self) -> bool {
        self.buffered_bytes() > self.settings.max_buffered_bytes
    }

    /// Has somebody give way; says whether there was anybody. Those for whom the shard itself is late are not blamed.
    ///
    /// Nobody is looked for in vain: the rankings name only those who have something to give, so that a turn takes as
    /// long as there are some who give way in it, however many topics and members there are.
    fn relieve_once(&mut self) -> bool {
        if self.clients_bytes() > self.settings.max_buffered_bytes / 2 {
            let largest = self.holders_by_size.largest().next();
            match largest.expect("somebody holds these bytes") {
                Holder::Client(key) => self.relieve_of_client(key),
                Holder::Sharers(key) => self.relieve_of_sharers(key),
            }
            return true;
        }
        let Some(key) = self.topics_by_blame.largest().next() else {
            return false;
        };
        self.relieve_of_laggards(key);
        true
    }

    /// The members that keep the older half of the topic's log, if their sockets are full. Those that have not been
    /// visited yet are no laggards, and publishers wait for them.
    fn relieve_of_laggards(&mut self, key: TopicKey) {
        let log = &self.topics[key.0 as usize].log;
        let laggards: Vec<ClientKey> = log
            .blocked_keeping_more_than(log.held_bytes() / 2)
            .collect();
        for member in laggards {
            if self.settings.policy.skips() {
                self.skip(member);
            } else {
                self.depart(member, Departure::Memory);
            }
        }
        self.gauge_log(key);
    }

    /// All of them, for the batch is kept until the last one is gone. They are in the middle of a frame, where nobody can
    /// be told anything.
    fn relieve_of_sharers(&mut self, key: SharedKey) {
        let clients: Vec<ClientKey> = self.sharing.clients(key).collect();
        for client in clients {
            self.cut(client, Departure::Memory);
        }
    }

    fn relieve_of_client(&mut self, key: ClientKey) {
        let client = &mut self.clients[key.slot as usize];
        match client.phase() {
            Phase::Requesting => self.refuse(key, Refusal::CAPACITY),
            Phase::Open => {
                // Nothing more is read of it.
                client.decoder = Decoder::default();
                client.arrival = None;
                self.depart(key, Departure::Memory);
            }
            Phase::Placing
            | Phase::Joining
            | Phase::Closing
            | Phase::Finishing
            | Phase::Lingering => {
                self.cut(key, Departure::Memory);
            }
        }
        self.gauge_client(key);
    }

    /// Whether the shard comes under pressure or out of it; every topic with a log is then to be looked at.
    ///
    /// It is what logs cost that counts, against the room that they have: what clients leave of the share, and no less
    /// than half of it, since clients that hold more than the other half give way before laggards do. A message in part
    /// may thus stay as long as it likes: nobody waits for its end.
    pub(super) fn review_pressure(&mut self) -> bool {
        let share = self.settings.max_buffered_bytes;
        let room = share - self.clients_bytes().min(share / 2);
        let mark = if self.is_pressed {
            room / 2
        } else {
            room / 4 * 3
        };
        let is_pressed = self.logs_bytes() > mark;
        if std::mem::replace(&mut self.is_pressed, is_pressed) == is_pressed {
            return false;
        }
        let with_log = self
            .topics
            .iter()
            .filter(|(_, topic)| topic.gauged_bytes > 0);
        let topics: Vec<TopicKey> = with_log.map(|(slot, _)| TopicKey(slot as u32)).collect();
        for key in topics {
            self.touch(key);
        }
        true
    }

    /// Checks that what is held is what the gauges say, and that whoever is to give way has. For tests.
    pub(super) fn check_memory(&self) {
        let mut gauged = (0, self.sharing.total_bytes());
        for (slot, client) in &self.clients {
            gauged.0 += client.partial_bytes() as u64;
            gauged.1 += u64::from(client.copied_bytes());
            let sharers = client.shares.map(|key| self.sharing.clients(key));
            assert_eq!(
                client.carried_batch().is_some(),
                sharers.is_some_and(|mut all| all.any(|key| key.slot as usize == slot)),
                "who shares a batch is known"
            );
        }
        let stats = (Stat::PartialBytes, Stat::CarriedBytes);
        let stats = (self.stats.value(stats.0), self.stats.value(stats.1));
        assert_eq!(gauged, stats, "bytes in part, and carried");
        for (_, topic) in &self.topics {
            self.check_blame(topic);
        }
        let half = self.settings.max_buffered_bytes / 2;
        if self.is_over_share() {
            assert!(self.clients_bytes() <= half, "clients hold too much");
        }
    }

    /// Looks at every member, to see that the log knows whom to blame, and that nobody is left to be.
    fn check_blame(&self, topic: &Topic) {
        let mut blocked = 0;
        for key in topic.members() {
            let client = &self.clients[key.slot as usize];
            let member = client.member.as_ref().expect("listed clients are members");
            if !client.blocked {
                continue;
            }
            blocked += 1;
            let kept: u64 = topic
                .log
                .batches_from(member.cursor)
                .map(|batch| batch.cost_bytes())
                .sum();
            assert!(topic.log.blocked_bytes() >= kept, "a laggard is unknown");
            let is_blamed = kept > topic.log.held_bytes() / 2;
            assert!(
                !is_blamed || topic.gauged_blame_bytes > 0,
                "nobody is blamed"
            );
            assert!(
                !is_blamed || !self.is_over_share(),
                "a laggard holds too much"
            );
        }
        assert_eq!(topic.log.blocked(), blocked, "whose sockets are full");
        assert_eq!(topic.gauged_blame_bytes, blame_bytes(topic));
    }
}

/// What the log costs on account of members whose sockets are full, if these keep its older half: else it is the shard
/// that is late, and they would go for nothing.
fn blame_bytes(topic: &Topic) -> u64 {
    let blocked = topic.log.blocked_bytes();
    if blocked > topic.log.held_bytes() / 2 {
        blocked
    } else {
        0
    }
}
