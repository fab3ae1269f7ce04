//! The checks after every turn, at rest and at the end, and how a world comes to rest.

use std::time::Duration;

use fanwire::internals::Timestamp;
use fanwire::server::Stat;

use super::host::{Due, Host};
use super::world::World;

/// The reasons for which clients leave. Together they count every disconnection.
const REASONS: [Stat; 14] = [
    Stat::DisconnectedByClient,
    Stat::DisconnectedLost,
    Stat::DisconnectedProtocol,
    Stat::DisconnectedTooBig,
    Stat::DisconnectedLag,
    Stat::DisconnectedStall,
    Stat::DisconnectedPong,
    Stat::DisconnectedMemory,
    Stat::DisconnectedRate,
    Stat::DisconnectedControlRate,
    Stat::DisconnectedPublishDenied,
    Stat::DisconnectedExpired,
    Stat::DisconnectedByHand,
    Stat::DisconnectedShutdown,
];

/// Gauges that are at zero when all have everything.
const AT_REST: [Stat; 4] = [
    Stat::CoalescingBytes,
    Stat::LogBytes,
    Stat::MembersLagging,
    Stat::TopicsHeld,
];

/// Gauges that are at zero when nobody is there.
const AT_END: [Stat; 5] = [
    Stat::ConnectedClients,
    Stat::Topics,
    Stat::OwnedTopics,
    Stat::PartialBytes,
    Stat::CarriedBytes,
];

/// Counters of which one changes whenever something happens that matters here.
const ACTIVITY: [Stat; 7] = [
    Stat::Messages,
    Stat::Offered,
    Stat::Delivered,
    Stat::Dropped,
    Stat::Discarded,
    Stat::Disconnections,
    Stat::Envelopes,
];

/// After this time without activity, none will come. It is longer than any grace, and than the patience after a pause.
const QUIET: Duration = Duration::from_millis(1_500);

/// The same in a drain, where nobody waits for a deadline.
const QUIET_OF_A_DRAIN: Duration = Duration::from_millis(50);

/// No script makes this much work.
const MAX_ROUNDS: usize = 10_000;

impl World {
    fn value(&self, host: usize, stat: Stat) -> u64 {
        self.hosts[host].value(stat)
    }

    /// The number of deliveries that are settled, in one way or another.
    fn settled(&self, host: usize) -> u64 {
        let outcomes = [Stat::Delivered, Stat::Dropped, Stat::Discarded];
        outcomes.iter().map(|&stat| self.value(host, stat)).sum()
    }

    /// Checks a host after a turn. `has_flushed_all`: the flush has visited everybody.
    pub(super) fn check(&self, host: usize, has_flushed_all: bool) {
        self.hosts[host].shard().check();
        let value = |stat| self.value(host, stat);
        let departures = value(Stat::Disconnections);
        let there = value(Stat::Connections) - departures;
        assert_eq!(there, value(Stat::ConnectedClients), "who is there");
        let reasons: u64 = REASONS.iter().map(|&reason| value(reason)).sum();
        assert_eq!(reasons, departures, "one reason for each departure");
        assert_eq!(value(Stat::Delivered), self.delivered[host], "last bytes");
        assert!(self.settled(host) <= value(Stat::Offered), "settled twice");
        assert!(
            self.is_lossy || value(Stat::Dropped) == 0,
            "only `drop` drops"
        );
        self.check_clients(host, has_flushed_all);
    }

    fn check_clients(&self, host: usize, has_flushed_all: bool) {
        let shard = self.hosts[host].shard();
        let mut there = 0;
        for (id, client) in self.clients.iter().enumerate() {
            let is_there = client.host == host && !client.is_closed;
            let Some(key) = client.key.filter(|_| is_there) else {
                continue;
            };
            there += 1;
            if shard.is_blocked(key) {
                let is_promised = client.is_starved || client.news.is_writable;
                assert!(is_promised, "client {id} waits for no edge");
            } else if has_flushed_all && !self.is_lossy {
                let at_hand = self.model.at_hand(id, host);
                assert_eq!(at_hand, 0, "client {id} could have had more in this turn");
            }
        }
        assert_eq!(there, shard.len(), "connections and clients");
    }

    /// Lets everything happen that can, with sockets that take everything. Checks twice that nobody waits: before any deadline
    /// passes, and after all have.
    pub(super) fn come_to_rest(&mut self) {
        self.is_at_end = true;
        for client in 0..self.clients.len() {
            self.happens_to(client, |client| client.make_room(usize::MAX / 2));
        }
        self.settle();
        self.check_rest();
        self.run_until_quiet(QUIET);
        self.check_rest();
        for host in &self.hosts {
            let due = host.shard().next_deadline();
            let is_enforced = due.is_none_or(|due| due > self.now);
            assert!(is_enforced, "a deadline has passed, and nobody looks");
        }
    }

    fn check_rest(&self) {
        assert!(self.model.is_settled(), "accepted and never numbered");
        for (id, client) in self.clients.iter().enumerate() {
            if client.is_closed {
                continue;
            }
            assert!(!client.has_failed(), "client {id} is gone, unnoticed");
            let held_back = client.held_back;
            assert_eq!(held_back, 0, "nobody sends what the transport took");
            if !self.model.is_member(id) {
                continue;
            }
            let is_draining = self.hosts[client.host].shard().is_draining();
            assert!(
                client.is_read() || is_draining,
                "client {id} is not read, and nobody will come back for it"
            );
            let owed = self.model.owed(id);
            assert!(
                owed == 0 || self.is_lossy,
                "client {id}: {owed} wait for ever"
            );
        }
        for host in 0..self.hosts.len() {
            let shard = self.hosts[host].shard();
            assert!(!shard.has_work(), "work that nobody does");
            assert_eq!(self.settled(host), self.value(host, Stat::Offered));
            for stat in AT_REST {
                assert_eq!(self.value(host, stat), 0, "{stat:?} at rest");
            }
        }
    }

    /// Drains, cuts what is left, and checks that nothing is.
    pub(super) fn end(&mut self) {
        for order in [Due::Drain, Due::Cut] {
            for host in &mut self.hosts {
                host.due.push_back(order);
            }
            self.settle();
            self.run_until_quiet(QUIET_OF_A_DRAIN);
        }
        for host in 0..self.hosts.len() {
            let shard = self.hosts[host].shard();
            assert!(shard.is_drained() && shard.is_empty(), "drained");
            assert_eq!(
                self.settled(host),
                self.value(host, Stat::Offered),
                "offered = delivered + dropped + discarded"
            );
            for stat in AT_REST.into_iter().chain(AT_END) {
                assert_eq!(self.value(host, stat), 0, "{stat:?} with nobody there");
            }
        }
        let withheld = self.model.withheld();
        assert!(
            withheld == 0 || self.is_lossy,
            "sent away before they had everything"
        );
        assert!(self.clients.iter().all(|client| client.is_closed));
    }

    /// Lets everybody act until nobody can. The clock stands, except that it goes on to the moments for which messages wait. It
    /// goes on to no deadline, because a timer would heal a wake that was forgotten.
    pub(super) fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            if self.step() {
                continue;
            }
            let moves = self.hosts.iter().filter_map(Host::next_move);
            let Some(next) = moves.min() else {
                return;
            };
            assert!(next > self.now, "a host sleeps, and messages wait for it");
            self.now = next;
        }
        panic!("no rest after {MAX_ROUNDS} rounds");
    }

    /// Lets time pass until there has been no activity for a while. Each host wakes on time.
    fn run_until_quiet(&mut self, enough: Duration) {
        let (mut before, mut since) = (self.activity(), self.now);
        for _ in 0..MAX_ROUNDS {
            let wakes = self.hosts.iter().filter_map(|host| host.wakes_at);
            let is_near = |at: &Timestamp| at.since(since) <= enough;
            let Some(next) = wakes.min().filter(is_near) else {
                self.now = self.now.max(since + enough);
                return;
            };
            self.now = self.now.max(next);
            self.settle();
            let activity = self.activity();
            if activity != before {
                (before, since) = (activity, self.now);
            }
        }
        panic!("no quiet after {MAX_ROUNDS} rounds");
    }

    fn activity(&self) -> u64 {
        let hosts = 0..self.hosts.len();
        let all = hosts.flat_map(|host| ACTIVITY.map(|stat| self.value(host, stat)));
        all.sum()
    }
}
