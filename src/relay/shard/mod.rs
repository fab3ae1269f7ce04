//! A shard: the clients, logs and owned topics of one worker, as data.
//!
//! [`Turn`](super::turn::Turn) drives it, each step once, in this order:
//!
//! ```text
//! begin_turn(now)
//!   handle(envelope)…                      what other shards sent              topics.rs
//!   accept, permit, on_bytes, on_end…      what clients did                    intake.rs, ready.rs
//!   poll_undecided → stay, transfer_out…   who moves to another shard          transfer.rs
//!   on_writable…, handle_timeouts          what has become possible, or due    outflow.rs, lifecycle.rs
//! decide()                                 number and spread what is fanned out; take_outbox follows   fanout.rs
//!   poll_flush → gather → advance…         one write for each client that has something to get
//! end_turn(now)                            apply the limits, say what is held, forget what is unused
//!   take_outbox, take_effects
//! ```
//!
//! Nothing is written in reaction to a single event, so whatever arrived in one turn leaves in one write per member.
//! A shard never fails: a client that breaks the rules departs, and a broken rule of the shard's own is a panic.

mod drain;
mod fanout;
mod holds;
mod intake;
mod lifecycle;
mod memory;
mod outflow;
mod ready;
mod topics;
mod transfer;

pub use self::lifecycle::End;
pub use self::outflow::Written;
pub use self::transfer::{Transfer, Undecided};

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use slab::Slab;

use self::drain::Drain;
use self::memory::Holder;
use self::ready::Ready;
use super::batch::Draft;
use super::client::{Client, Phase, Reading};
use super::coalesce::{Agenda, Coalesce};
use super::envelope::Envelope;
use super::owner::OwnedTopic;
use super::policy::Policy;
use super::ranking::Ranking;
use super::rate::RateLimit;
use super::router::Router;
use super::row::Row;
use super::sharing::Sharing;
use super::timers::Wheel;
use super::topic::{Topic, TopicKey};
use crate::config::Config;
use crate::ids::{ClientId, ClientKey, ShardId};
use crate::metrics::stats::{Stat, Stats};
use crate::port::decision::Port;
use crate::port::topic_name::TopicName;
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
    clients: Slab<Client>,
    /// How many clients the table of clients is made for.
    reserved_clients: usize,
    /// The most clients there were since the table was made.
    peak_clients: usize,
    next_generation: u32,
    /// The end of what all clients are excused for, because nobody was read.
    excuse: Timestamp,
    /// Clients whose request is granted, and of which it is open whether they stay here.
    undecided: Vec<ClientKey>,
    topics: Slab<Topic>,
    topics_by_name: HashMap<TopicName, TopicKey>,
    owned: Slab<OwnedTopic>,
    owned_by_name: HashMap<TopicName, usize>,
    /// What clients published in this turn.
    outgoing: Vec<(TopicKey, Draft)>,
    /// Owned topics that something was published in in this turn.
    published: Vec<usize>,
    /// Owned topics in which something waits for the next fan-out.
    agenda: Agenda,
    /// Owned topics that lost a subscriber in this turn.
    deserted: Vec<TopicName>,
    outbox: Vec<(ShardId, Envelope)>,
    /// Clients with something of their own to be sent.
    urgent: VecDeque<ClientKey>,
    /// Whether `urgent` is being served, or `dirty`.
    is_row_urgent: bool,
    /// Those served since that changed.
    row: Row,
    /// Topics with a round under way; the first is being served.
    dirty: VecDeque<TopicKey>,
    /// The members of the first of `dirty` served since it came to the front.
    served: Row,
    /// When the messages of the rounds that ended in this turn were decoded.
    ended_rounds: Vec<Timestamp>,
    /// Topics to be looked at when the turn ends.
    touched: Vec<TopicKey>,
    /// Topics whose publishers wait for laggards here, for a time.
    graced: Vec<TopicKey>,
    /// Owned topics whose publishers wait for laggards anywhere, for a time.
    granted: Vec<usize>,
    /// Members that blocked in this turn while over the limit and not waited for.
    blocked_over: Vec<ClientKey>,
    holders_by_size: Ranking<Holder>,
    /// Batches that clients keep which left their log.
    sharing: Sharing,
    /// Topics by what laggards keep in their logs.
    topics_by_blame: Ranking<TopicKey>,
    /// Logs take most of the room that the shard has for them.
    is_pressed: bool,
    ready: Ready,
    effects: Vec<Effect>,
    wheel: Wheel,
    drain: Drain,
    stats: Stats,
}

impl Shard {
    /// An empty shard. All shards of a relay have the same `settings` and `router`.
    pub fn new(id: ShardId, settings: Settings, router: Router, now: Timestamp) -> Self {
        Shard {
            id,
            settings,
            router,
            now,
            turn: 0,
            clients: Slab::new(),
            reserved_clients: 0,
            peak_clients: 0,
            next_generation: 0,
            excuse: Timestamp(0),
            undecided: Vec::new(),
            topics: Slab::new(),
            topics_by_name: HashMap::new(),
            owned: Slab::new(),
            owned_by_name: HashMap::new(),
            outgoing: Vec::new(),
            published: Vec::new(),
            agenda: Agenda::default(),
            deserted: Vec::new(),
            outbox: Vec::new(),
            urgent: VecDeque::new(),
            is_row_urgent: true,
            row: Row::default(),
            dirty: VecDeque::new(),
            served: Row::default(),
            ended_rounds: Vec::new(),
            touched: Vec::new(),
            graced: Vec::new(),
            granted: Vec::new(),
            blocked_over: Vec::new(),
            holders_by_size: Ranking::default(),
            sharing: Sharing::default(),
            topics_by_blame: Ranking::default(),
            is_pressed: false,
            ready: Ready::default(),
            effects: Vec::new(),
            wheel: Wheel::new(now),
            drain: Drain::default(),
            stats: Stats::default(),
        }
    }

    /// Makes room for `clients`, so that the table never grows: a table that doubles is copied while everybody waits,
    /// and leaves its old half behind. Room that was never used takes addresses, but no memory.
    pub fn reserve(&mut self, clients: usize) {
        self.reserved_clients = clients;
        self.clients.reserve_exact(clients);
    }

    /// Begins a turn. `now` never goes back.
    pub fn begin_turn(&mut self, now: Timestamp) {
        debug_assert!(now >= self.now, "time goes on");
        self.now = now;
        self.turn += 1;
        self.stats.inc(Stat::Turns);
    }

    /// Nobody was read for `span`: what piled up meanwhile is not held against anybody's rate.
    pub fn excuse(&mut self, span: Duration) {
        self.excuse = self.excuse.max(self.now) + span;
    }

    /// Takes what is to be sent to other shards, in this order.
    pub fn take_outbox(&mut self) -> impl Iterator<Item = (ShardId, Envelope)> + '_ {
        self.outbox.drain(..)
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
        !self.urgent.is_empty() || !self.dirty.is_empty() || !self.touched.is_empty()
    }

    /// When a client may be late; [`Shard::handle_timeouts`] may be put off.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.wheel.next_due()
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

    fn client(&self, key: ClientKey) -> Option<&Client> {
        self.clients
            .get(key.slot as usize)
            .filter(|client| client.generation == key.generation)
    }

    fn client_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.clients
            .get_mut(key.slot as usize)
            .filter(|client| client.generation == key.generation)
    }

    /// The name under which a client's own messages are left out; none where it gets them.
    fn own(&self, key: ClientKey) -> Option<ClientId> {
        (!self.settings.echo).then_some(ClientId {
            shard: self.id,
            key,
        })
    }

    /// Has the client flushed in this turn.
    fn make_urgent(&mut self, key: ClientKey) {
        let Some(client) = self.client_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut client.urgent, true) {
            self.urgent.push_back(key);
        }
    }

    /// Has the topic looked at when the turn ends.
    fn touch(&mut self, key: TopicKey) {
        if !std::mem::replace(&mut self.topics[key.0 as usize].touched, true) {
            self.touched.push(key);
        }
    }

    /// Lets a parked client be read again.
    fn resume(&mut self, key: ClientKey) {
        let now = self.now;
        let Some(client) = self.client_mut(key) else {
            return;
        };
        if client.set_reading(Reading::Allowed, now) != Reading::Allowed {
            // Whoever was not read could not be heard: keep-alive starts anew.
            client.last_read = now;
            client.pinged = false;
            self.make_ready(key);
            self.reschedule(key);
        }
    }

    /// Checks what holds between any two turns. For tests: it looks at everything.
    pub fn check(&self) {
        let mut lagging = 0;
        for (slot, client) in &self.clients {
            assert!(
                client.blocked || client.urgent || !client.holds_back,
                "a transport holds bytes back and nobody will send them"
            );
            let key = ClientKey {
                slot: slot as u32,
                generation: client.generation,
            };
            assert!(
                client.phase() != Phase::Placing || self.undecided.contains(&key),
                "nobody will say where a client is to live"
            );
            let Some(member) = &client.member else {
                continue;
            };
            lagging += u64::from(client.blocked);
            let topic = &self.topics[member.topic.0 as usize];
            assert_eq!(
                topic.members()[member.place as usize],
                key,
                "the list and the member agree"
            );
            let is_waiting = client.blocked || client.urgent || topic.is_round_open();
            assert!(
                is_waiting || member.is_at_head(&topic.log),
                "a member is owed something and nobody will send it"
            );
            let lag = topic.log.lag_bytes(member.cursor);
            let is_parked = match client.reading {
                Reading::Allowed => true,
                Reading::AwaitsPhase => self.drain.has_begun() || client.leaves_at_head,
                Reading::AwaitsTopic => {
                    let window = self.settings.policy.window_bytes;
                    !topic.is_open_to_publishers(window) && topic.waiting.contains(&key)
                }
                Reading::AwaitsItself => !self.settings.policy.may_publish(lag),
            };
            assert!(is_parked, "a publisher waits for what has come already");
        }
        let mut log_bytes = 0;
        for (_, topic) in &self.topics {
            topic.log.check(topic.members().len());
            log_bytes += topic.log.held_bytes();
            assert!(
                !topic.is_round_open() || topic.queued,
                "a round that nobody serves"
            );
            assert!(
                topic.touched || !self.is_owner_misled(topic),
                "the owner has a topic wait for members who have left"
            );
        }
        self.check_memory();
        self.check_waiting();
        assert_eq!(self.stats.value(Stat::MembersLagging), lagging);
        assert_eq!(self.stats.value(Stat::LogBytes), log_bytes);
        assert_eq!(self.stats.value(Stat::Topics), self.topics.len() as u64);
    }
}

#[cfg(test)]
mod tests;
