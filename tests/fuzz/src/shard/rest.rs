//! The checks after every turn, at rest and at the end.

use std::time::Duration;

use fanwire::metrics::stats::Stat;

use super::world::World;

/// The reasons for a disconnection, which add up to all disconnections.
const REASONS: [Stat; 11] = [
    Stat::DisconnectedByClient,
    Stat::DisconnectedLost,
    Stat::DisconnectedProtocol,
    Stat::DisconnectedTooBig,
    Stat::DisconnectedLag,
    Stat::DisconnectedStall,
    Stat::DisconnectedPong,
    Stat::DisconnectedMemory,
    Stat::DisconnectedRate,
    Stat::DisconnectedPublishDenied,
    Stat::DisconnectedShutdown,
];

/// Gauges of messages on their way or waiting. They are 0 when all clients have everything.
const AT_REST: [Stat; 4] = [
    Stat::CoalescingBytes,
    Stat::LogBytes,
    Stat::MembersLagging,
    Stat::TopicsHeld,
];

/// Gauges that are 0 when no client is left.
const AT_END: [Stat; 5] = [
    Stat::ConnectedClients,
    Stat::Topics,
    Stat::OwnedTopics,
    Stat::PartialBytes,
    Stat::CarriedBytes,
];

/// Counters that change whenever something relevant happens.
const ACTIVITY: [Stat; 7] = [
    Stat::Messages,
    Stat::Offered,
    Stat::Delivered,
    Stat::Dropped,
    Stat::Discarded,
    Stat::Disconnections,
    Stat::Envelopes,
];

/// The length of a round while the world comes to rest: longer than a client's answer takes, shorter than any deadline.
const ROUND: Duration = Duration::from_millis(10);

/// After so many rounds without activity, there will be none: longer than any grace.
const QUIET_ROUNDS: usize = 30;

/// The same if only answers are awaited, and no deadline.
const QUIET_ROUNDS_OF_A_DRAIN: usize = 5;

/// The most rounds. No script makes so much work.
const MAX_ROUNDS: usize = 10_000;

impl World {
    fn value(&self, host: usize, stat: Stat) -> u64 {
        self.hosts[host].shard.stats().value(stat)
    }

    /// The number of deliveries that were made, dropped or discarded.
    fn settled(&self, host: usize) -> u64 {
        let outcomes = [Stat::Delivered, Stat::Dropped, Stat::Discarded];
        outcomes.iter().map(|&stat| self.value(host, stat)).sum()
    }

    /// The checks after a turn.
    pub(super) fn check(&self, host: usize) {
        self.hosts[host].shard.check();
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
    }

    /// Lets everything happen that can, with sockets that accept everything. Checks that nothing is left waiting.
    pub(super) fn come_to_rest(&mut self) {
        self.is_at_end = true;
        for client in 0..self.clients.len() {
            self.make_room(client, usize::MAX / 2);
        }
        self.run_until_quiet(QUIET_ROUNDS);
        // The client that was pinged last answers.
        self.step();
        self.step();
        assert!(self.model.is_settled(), "accepted and never numbered");
        for id in 0..self.clients.len() {
            let client = &self.clients[id];
            if client.is_closed || !self.model.is_member(id) {
                continue;
            }
            let is_draining = self.hosts[client.host].shard.is_draining();
            assert!(
                client.unsent.is_empty() || is_draining,
                "client {id} is not read, and nobody will come back for it"
            );
            let owed = self.model.owed(id);
            assert!(
                owed == 0 || self.is_lossy,
                "client {id}: {owed} wait for ever"
            );
        }
        for host in 0..self.hosts.len() {
            assert!(!self.hosts[host].shard.has_work(), "work that nobody does");
            assert_eq!(self.settled(host), self.value(host, Stat::Offered));
            for stat in AT_REST {
                assert_eq!(self.value(host, stat), 0, "{stat:?} at rest");
            }
        }
    }

    /// Drains, cuts the remaining clients, and checks that nothing is left.
    pub(super) fn end(&mut self) {
        for host in &mut self.hosts {
            host.shard.begin_drain();
        }
        self.run_until_quiet(QUIET_ROUNDS_OF_A_DRAIN);
        for host in &mut self.hosts {
            host.shard.cut_all();
        }
        self.run_until_quiet(QUIET_ROUNDS_OF_A_DRAIN);
        for host in 0..self.hosts.len() {
            let shard = &self.hosts[host].shard;
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

    fn run_until_quiet(&mut self, enough: usize) {
        let (mut before, mut quiet) = (self.activity(), 0);
        for _ in 0..MAX_ROUNDS {
            self.pass(ROUND);
            self.step();
            let activity = self.activity();
            quiet = if activity == before { quiet + 1 } else { 0 };
            before = activity;
            if quiet == enough {
                return;
            }
        }
        panic!("no rest after {MAX_ROUNDS} rounds");
    }

    fn activity(&self) -> u64 {
        let hosts = 0..self.hosts.len();
        let all = hosts.flat_map(|host| ACTIVITY.map(|stat| self.value(host, stat)));
        all.sum()
    }
}
