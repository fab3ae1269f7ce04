//! A shard: the clients, logs and owned topics of one worker, as data.
//!
//! [`Turn`](crate::relay::turn::Turn) drives it, each step once, in this order:
//!
//! ```text
//! begin_turn(now)
//!   handle(envelope)…                      what other shards sent              hearing.rs
//!   accept, permit, on_bytes, on_end…      what clients did                    reading.rs, ready.rs
//!   poll_undecided → stay, transfer_out…   who moves to another shard          arriving.rs
//!   on_writable…, handle_timeouts          what has become possible, or due    flushing.rs, leaving.rs
//! decide()                                 number and spread what is fanned out; take_outbox follows   deciding.rs
//!   poll_flush → gather → advance…         one write for each client that has something to get
//! end_turn(now)                            apply the limits, say what is held, forget what is unused
//!   take_outbox, take_effects
//! ```
//!
//! Nothing is written in reaction to a single event, so whatever arrived in one turn leaves in one write per member.
//! A shard never fails: a client that breaks the rules departs, and a broken rule of the shard's own is a panic.
//!
//! The files are of two kinds. A *noun* owns fields and their invariants and does not know the shard: `clients`, `topics`,
//! `publishing`, `lanes`, `outflow`, `memory`, `drain`. A *step* is what the shard does with its nouns: the other files. A topic that the
//! shard owns is the business of [`Owner`].

mod arriving;
mod client;
mod clients;
mod control;
mod deciding;
mod drain;
mod draining;
mod flushing;
mod hearing;
mod laggards;
mod lanes;
mod leaving;
mod memory;
mod outflow;
mod publishing;
mod ranking;
mod reading;
mod ready;
mod relief;
mod row;
mod settling;
mod sharing;
#[cfg(test)]
mod tests;
mod timers;
mod topics;

pub use self::arriving::{Transfer, Undecided};
pub use self::flushing::Written;
pub use self::leaving::End;
pub use self::publishing::NotTaken;

use std::time::Duration;

use self::clients::Clients;
use self::drain::Drain;
use self::lanes::Lanes;
use self::memory::Memory;
use self::outflow::Outflow;
use self::publishing::Publishing;
use self::topics::Topics;
use crate::config::Config;
use crate::ids::{ClientId, ClientKey, ShardId};
use crate::metrics::stats::{Stat, Stats};
use crate::port::decision::Port;
use crate::relay::envelope::Envelope;
use crate::relay::outbox::Outbox;
use crate::relay::owner::coalesce::Coalesce;
use crate::relay::owner::{Desk, Owner};
use crate::relay::policy::Policy;
use crate::relay::policy::rate::RateLimit;
use crate::relay::router::Router;
use crate::relay::shard::client::{Phase, Reading};
use crate::relay::shard::timers::Wheel;
use crate::relay::topic::TopicKey;
use crate::time::Timestamp;

/// What a shard needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest message in bytes.
    pub max_message_bytes: usize,
    /// Longest request head in bytes.
    pub max_header_bytes: usize,
    /// The shard's share of what may be held for clients and in logs, in bytes.
    pub max_buffered_bytes: u64,
    /// Whether a sender gets its own messages.
    pub echo: bool,
    /// From accept to the complete request for an upgrade.
    pub handshake_timeout: Duration,
    /// Silence after which a client is pinged; zero for never.
    pub ping_interval: Duration,
    /// The longest wait for a sign of life after a ping.
    pub pong_timeout: Duration,
    /// What requests get.
    pub port: Port,
    /// How many messages a client may send; none for any number.
    pub rate: Option<RateLimit>,
    /// What to do about laggards.
    pub policy: Policy,
    /// How much time passes between two fan-outs of a topic.
    pub coalesce: Coalesce,
}

impl Settings {
    /// The settings of a relay with `shards` shards.
    pub fn new(config: &Config, shards: u16) -> Self {
        let policy = Policy::new(&config.slow_consumer, shards);
        Settings {
            coalesce: Coalesce::new(config.relay.coalesce, policy.window_bytes),
            max_message_bytes: config.limits.max_message_bytes,
            max_header_bytes: config.limits.max_header_bytes,
            max_buffered_bytes: config.buffered_bytes_per_shard(shards),
            echo: config.relay.echo,
            handshake_timeout: config.server.handshake_timeout,
            ping_interval: config.keepalive.ping_interval,
            pong_timeout: config.keepalive.pong_timeout,
            port: Port::new(config),
            rate: RateLimit::new(&config.limits),
            policy,
        }
    }
}

/// What is to be done to a client's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Shut the writing side: everything has been sent.
    ShutdownWrite(ClientKey),
    /// Close it. The key means nothing from now on.
    Close(ClientKey),
}

/// Whether a client's socket may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Now.
    Read,
    /// When it is [ready](Shard::take_ready) again.
    Parked,
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    settings: Settings,
    router: Router,
    now: Timestamp,
    turn: u64,
    clients: Clients,
    topics: Topics,
    owner: Owner,
    publishing: Publishing,
    outbox: Outbox,
    ready: Lanes,
    outflow: Outflow,
    memory: Memory,
    drain: Drain,
    wheel: Wheel,
    /// Clients whose place is undecided.
    undecided: Vec<ClientKey>,
    /// Topics whose publishers wait for laggards here, for a time.
    graced: Vec<TopicKey>,
    /// Members that blocked in this turn while over the limit and not waited for.
    blocked_over: Vec<ClientKey>,
    effects: Vec<Effect>,
    stats: Stats,
}

impl Shard {
    /// An empty shard. All shards of a relay have the same `settings` and `router`.
    pub fn new(id: ShardId, settings: Settings, router: Router, now: Timestamp) -> Self {
        Shard {
            id,
            router,
            now,
            turn: 0,
            clients: Clients::default(),
            topics: Topics::default(),
            owner: Owner::new(settings.coalesce, settings.max_buffered_bytes),
            publishing: Publishing::default(),
            outbox: Outbox::new(id),
            ready: Lanes::default(),
            outflow: Outflow::new(),
            memory: Memory::new(settings.max_buffered_bytes),
            drain: Drain::default(),
            wheel: Wheel::new(now),
            undecided: Vec::new(),
            graced: Vec::new(),
            blocked_over: Vec::new(),
            effects: Vec::new(),
            stats: Stats::default(),
            settings,
        }
    }

    /// Makes room for `clients`, so that the table of clients never grows.
    pub fn reserve(&mut self, clients: usize) {
        self.clients.reserve(clients);
    }

    /// Begins a turn. `now` never goes back.
    pub fn begin_turn(&mut self, now: Timestamp) {
        debug_assert!(now >= self.now, "time goes on");
        self.now = now;
        self.turn += 1;
        self.stats.inc(Stat::Turns);
    }

    /// Takes what is to be sent to other shards, in this order.
    pub fn take_outbox(&mut self) -> impl Iterator<Item = (ShardId, Envelope)> + '_ {
        self.outbox.take()
    }

    /// Takes what is to be done to sockets.
    pub fn take_effects(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.effects.drain(..)
    }

    /// The time of its turn.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Which shard it is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Whether the shard has something to flush or to settle without waiting for an event.
    pub fn has_work(&self) -> bool {
        self.outflow.has_work() || self.topics.has_touched()
    }

    /// When a client may be late; [`Shard::handle_timeouts`] may be put off.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.wheel.next_due()
    }

    /// When a topic that this shard owns, and that waits, is to be fanned out even if nothing happens.
    pub fn next_fan_out(&self) -> Option<Timestamp> {
        self.owner.next_fan_out()
    }

    /// The shard's counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The shard's counters, for what its worker counts.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// Connections that the shard knows, whatever their phase.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether the shard knows no connection.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// How many messages wait in a topic that this shard owns. For tests.
    pub fn waiting_messages(&self, topic: &str) -> usize {
        self.owner.waiting_messages(topic)
    }

    /// When what waits in such a topic is due. For tests.
    pub fn waits_until(&self, topic: &str) -> Option<Timestamp> {
        self.owner.waits_until(topic)
    }

    fn owner_desk(&mut self) -> (&mut Owner, Desk<'_>) {
        let desk = Desk {
            now: self.now,
            outbox: &mut self.outbox,
            stats: &mut self.stats,
        };
        (&mut self.owner, desk)
    }

    fn id_of(&self, key: ClientKey) -> ClientId {
        ClientId {
            shard: self.id,
            key,
        }
    }

    /// The name under which a client's own messages are left out; none where it gets them.
    fn own(&self, key: ClientKey) -> Option<ClientId> {
        (!self.settings.echo).then(|| self.id_of(key))
    }

    /// Brings the gauges of what is held for the client up to date. Called wherever that changes.
    fn gauge_client(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key) {
            self.memory.gauge_client(key, client, &mut self.stats);
        }
    }

    /// Brings the gauges of the topic's log up to date.
    fn gauge_log(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key];
        self.memory.gauge_log(key, topic, &mut self.stats);
    }

    /// Checks what holds between any two turns. For tests: it looks at everything.
    pub fn check(&self) {
        assert!(self.outbox.is_own_empty(), "the shard did not hear itself");
        let mut lagging = 0;
        for (key, client) in self.clients.iter() {
            assert!(
                client.blocked || client.urgent || !client.holds_back,
                "a transport holds bytes back and nobody will send them"
            );
            assert!(
                client.phase() != Phase::Placing || self.undecided.contains(&key),
                "nobody will say where a client is to live"
            );
            let Some(member) = &client.member else {
                continue;
            };
            lagging += u64::from(client.blocked);
            let topic = &self.topics[member.topic];
            let listed = topic.members()[member.place as usize];
            assert_eq!(listed, key, "the list and the member agree");
            let is_waiting = client.blocked || client.urgent || topic.is_round_open();
            assert!(
                is_waiting || member.is_at_head(&topic.log),
                "a member is owed something and nobody will send it"
            );
            let window = self.settings.policy.window_bytes;
            let is_parked = match client.reading {
                Reading::Allowed => true,
                Reading::AwaitsPhase => self.drain.has_begun() || client.leaves_at_head,
                Reading::AwaitsTopic => {
                    !topic.is_open_to_publishers(window) && topic.waiting.contains(&key)
                }
                Reading::AwaitsItself => {
                    let lag = member.lag_bytes(&topic.log);
                    !self.settings.policy.may_publish(lag)
                }
            };
            assert!(is_parked, "a publisher waits for what has come already");
        }
        let mut log_bytes = 0;
        for (_, topic) in self.topics.iter() {
            topic.log.check(topic.members().len());
            log_bytes += topic.log.kept_bytes();
            assert!(
                !topic.is_round_open() || topic.queued,
                "a round that nobody serves"
            );
            assert!(
                topic.touched || !self.is_owner_misled(topic),
                "the owner has a topic wait for members who have left"
            );
            self.check_blame(topic);
        }
        self.memory
            .check(self.clients.iter(), &self.topics, &self.stats);
        self.owner.check(&self.stats);
        assert_eq!(self.stats.value(Stat::MembersLagging), lagging);
        assert_eq!(self.stats.value(Stat::LogBytes), log_bytes);
        assert_eq!(self.stats.value(Stat::Topics), self.topics.len() as u64);
    }
}
