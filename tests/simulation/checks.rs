//! The checks after every turn, at rest and at the end.

use fanwire::internals::ClientId;
use fanwire::internals::relay::OVERHEAD_BYTES;
use fanwire::server::Stat;

use crate::peer::Peer;
use crate::plan::{Ending, Plan};
use crate::world::World;

/// The reasons for a disconnection, which add up to all disconnections.
const REASONS: [Stat; 11] = [
    Stat::DisconnectedControlRate,
    Stat::DisconnectedByClient,
    Stat::DisconnectedLost,
    Stat::DisconnectedProtocol,
    Stat::DisconnectedTooBig,
    Stat::DisconnectedLag,
    Stat::DisconnectedStall,
    Stat::DisconnectedPong,
    Stat::DisconnectedMemory,
    Stat::DisconnectedReservedText,
    Stat::DisconnectedShutdown,
];

/// The length of a client's frame with an empty message.
const EMPTY_MESSAGE_BYTES: usize = 6;

/// Inflated bytes that count as much as a frame.
const BYTES_PER_FRAME: usize = 128;

/// The memory of a batch per message besides its frame: its end, and its sender.
const MARK_BYTES: usize = size_of::<u32>() + size_of::<ClientId>();

/// Gauges that are 0 when nobody is connected.
const GAUGES: [Stat; 13] = [
    Stat::MembersByFrames,
    Stat::MembersByEvents,
    Stat::ReplayBytes,
    Stat::CoalescingBytes,
    Stat::ConnectedClients,
    Stat::MembersLagging,
    Stat::LogBytes,
    Stat::Topics,
    Stat::TopicsHeld,
    Stat::PartialBytes,
    Stat::CarriedBytes,
    Stat::DeflateMembers,
    Stat::InflateWindowBytes,
];

impl World {
    /// The checks after a turn of the host.
    pub(crate) fn check_turn(&self, host: usize) {
        self.hosts[host].shard().check();
        self.check_accounts(host);
        self.check_memory(host);
    }

    fn check_accounts(&self, host_key: usize) {
        let host = &self.hosts[host_key];
        let value = |stat| host.value(stat);
        assert_eq!(
            host.connections(),
            host.shard().len(),
            "connections and clients"
        );
        let departures = value(Stat::Disconnections);
        assert_eq!(
            value(Stat::Connections) - departures,
            value(Stat::ConnectedClients)
        );
        assert_eq!(
            value(Stat::MembersByFrames)
                + value(Stat::MembersByEvents)
                + value(Stat::MembersByDeflated),
            value(Stat::ConnectedClients),
            "each member reads one form"
        );
        let reasons: u64 = REASONS.iter().map(|&reason| value(reason)).sum();
        assert_eq!(reasons, departures, "one reason for each departure");
        assert_eq!(
            value(Stat::Delivered),
            self.model.delivered[host_key],
            "Delivered counts last bytes"
        );
        self.check_identity(host_key);
    }

    /// Offered = delivered + dropped + discarded + still due.
    fn check_identity(&self, host_key: usize) {
        let value = |stat| self.hosts[host_key].value(stat);
        let settled = value(Stat::Delivered) + value(Stat::Dropped) + value(Stat::Discarded);
        let owed = value(Stat::Offered)
            .checked_sub(settled)
            .expect("nothing is accounted for twice");
        if self.plan.has_history() {
            // It is not known how much a client that replays is owed, until it is told where it is.
            return;
        }
        let most = self.model.owed(host_key);
        assert!(owed <= most, "{owed} deliveries owed, {most} at most");
        let known = self.model.departures(host_key);
        assert!(known <= value(Stat::Disconnections));
        let is_lossy = self.plan.is_lossy();
        if known == value(Stat::Disconnections) && !is_lossy {
            assert_eq!(owed, most, "deliveries owed");
        }
        if value(Stat::Disconnections) == 0 {
            assert_eq!(value(Stat::Discarded), 0, "nobody has left");
        }
        if !is_lossy {
            assert_eq!(value(Stat::Dropped), 0, "only `drop` drops");
        }
        assert!(self.model.skipped(host_key) <= value(Stat::Dropped));
    }

    fn check_memory(&self, host: usize) {
        let on_its_way = self.most_on_its_way_bytes();
        let held = self.hosts[host].value(Stat::LogBytes);
        let limit = self.plan.config.slow_consumer.max_lag_bytes;
        let growth = self.plan.growth();
        let most = (growth * (self.plan.topics.len() * limit + on_its_way)) as u64;
        assert!(held <= most, "the logs hold {held} bytes, {most} at most");
        let partial = self.hosts[host].value(Stat::PartialBytes);
        let limits = &self.plan.config.limits;
        let each = limits.max_header_bytes
            + 2 * limits.max_message_bytes
            + 4 * self.plan.scratch_bytes
            + 1024;
        let most = (each * self.hosts[host].shard().len()) as u64;
        assert!(partial <= most, "{partial} bytes of parts, {most} at most");
        let others = [
            Stat::CarriedBytes,
            Stat::CoalescingBytes,
            Stat::HistoryBytes,
            Stat::ReplayBytes,
            Stat::InflateWindowBytes,
        ];
        let windows = self.hosts[host].value(Stat::InflateWindowBytes);
        let others: u64 = others
            .iter()
            .map(|&stat| self.hosts[host].value(stat))
            .sum();
        let all = held + partial + others;
        let share = self
            .plan
            .config
            .buffered_bytes_per_shard(self.plan.shards as u16);
        assert!(windows <= share / 32, "{windows} bytes of windows");
        let most = share + (growth * on_its_way) as u64;
        assert!(all <= most, "{all} bytes are held, {most} at most");
    }

    /// The most bytes that may be on their way to the logs before any publisher could have been paused. Each topic has
    /// a window of a quarter, which its publishers share. Each client may also have one read's bytes: it becomes known
    /// as a publisher, and is paused, only after its first message.
    ///
    /// Outsiders have as much as the publishers of a topic, and on each shard one message more.
    ///
    /// A step of a client that compresses has a thousand frames' worth of inflated bytes, and ends behind a message.
    ///
    /// At worst, such a read is a batch of its own, of empty messages. A late shard may find as much again as an inbox
    /// holds.
    fn most_on_its_way_bytes(&self) -> usize {
        let Plan {
            config,
            topics,
            scratch_bytes,
            receive_buffer_bytes,
            inbox_high_water_bytes,
            shards,
            ..
        } = &self.plan;
        let window = config.slow_consumer.max_lag_bytes / 4;
        let one_read = *scratch_bytes.min(receive_buffer_bytes);
        let marks = one_read / EMPTY_MESSAGE_BYTES * MARK_BYTES;
        let inflated = if config.compression.enabled {
            BYTES_PER_FRAME * self.plan.step_frames + config.limits.max_message_bytes
        } else {
            0
        };
        let per_client =
            one_read + inflated + config.limits.max_message_bytes + marks + OVERHEAD_BYTES;
        let speakers = self.peers.iter().filter(|peer| !peer.manners.is_silent);
        let outside = window + shards * per_client;
        topics.len() * (window + outside + inbox_high_water_bytes) + speakers.count() * per_client
    }

    /// Once nothing is on its way and all clients read, nobody waits.
    pub(crate) fn check_at_rest(&mut self) {
        self.model.check_nothing_under_way();
        self.check_outsiders();
        for id in 0..self.peers.len() {
            self.check_poster_at_rest(id);
            let peer = &self.peers[id];
            let is_there = self.model.is_member(id) && !peer.is_gone();
            // A client that never reads may be leaving without knowing it. Then the model does not know it either.
            let is_leaving = peer.has_said_goodbye || peer.shuts_when_sent || peer.never_reads;
            if !is_there || is_leaving {
                continue;
            }
            assert_eq!(peer.unsent_bytes(), 0, "client {id} is not read");
            assert!(
                peer.pipe.is_drained_by_server() && peer.transport.is_drained(),
                "client {id} is not read"
            );
            assert!(
                peer.has_read_everything(),
                "client {id}: nobody sends what its transport took"
            );
            self.model.check_at_rest(id);
        }
        for host in 0..self.hosts.len() {
            self.check_dropped(host);
            let value = |stat| self.hosts[host].value(stat);
            assert_eq!(value(Stat::LogBytes), 0, "a log keeps what everybody has");
            assert_eq!(value(Stat::MembersLagging), 0, "everybody reads");
            assert_eq!(value(Stat::TopicsHeld), 0, "nobody lags");
        }
    }

    /// Members were sent all messages but the dropped ones.
    fn check_dropped(&self, host: usize) {
        let value = |stat| self.hosts[host].value(stat);
        if value(Stat::Disconnections) > 0 {
            return;
        }
        let missing = self.model.skipped(host) + self.model.owed(host);
        assert_eq!(missing, value(Stat::Dropped), "gaps are counted");
    }

    /// No well-behaved client needs a timeout to leave. In a drain, a connection between two requests goes last: it stays as
    /// long as another one needs a timeout, and no longer.
    pub(crate) fn check_polite_are_gone(&self) {
        let goes_last = |peer: &Peer| {
            let key = peer.key.filter(|_| self.is_connected(peer));
            key.is_some_and(|key| self.hosts[peer.host].shard().goes_last(key))
        };
        let is_awaited = |host| {
            let mut there = self.peers.iter().filter(|peer| peer.host == host);
            there.any(|peer| self.is_connected(peer) && !goes_last(peer))
        };
        for peer in self.peers.iter().filter(|peer| World::is_polite(peer)) {
            let is_right = !self.is_connected(peer) || goes_last(peer) && is_awaited(peer.host);
            assert!(is_right, "client {} is not let go", peer.id);
        }
    }

    /// The checks when all clients have gone.
    pub(crate) fn check_end(&self) {
        self.model.check_farewells();
        self.check_outsiders();
        for (key, host) in self.hosts.iter().enumerate() {
            host.shard().check();
            self.check_accounts(key);
            assert!(host.shard().is_empty(), "somebody is left on shard {key}");
            let settled = [Stat::Delivered, Stat::Dropped, Stat::Discarded];
            let settled: u64 = settled.iter().map(|&stat| host.value(stat)).sum();
            assert_eq!(
                host.value(Stat::Offered),
                settled,
                "the accounting identity"
            );
            let kept = host.value(Stat::TopicsWithHistory);
            assert_eq!(host.value(Stat::OwnedTopics), kept, "a topic is forgotten");
            for gauge in GAUGES {
                assert_eq!(host.value(gauge), 0, "{gauge:?} with nobody there");
            }
            if self.plan.ending == Ending::Drain {
                assert!(host.shard().is_drained(), "shard {key} is drained");
            }
        }
        for peer in &self.peers {
            let is_told = self.model.farewell(peer.id).is_some();
            assert!(
                !is_told || !peer.stream.is_torn(),
                "client {}: a frame is torn",
                peer.id
            );
        }
    }
}
