//! A shard: the clients, logs and owned topics of one worker, as data.
//!
//! [`Turn`](crate::relay::turn::Turn) drives it. It takes each step once, in this order:
//!
//! ```text
//! begin_turn(now)
//!   on_writable…                           sockets take bytes again                flushing.rs
//!   handle(envelope)…, accept…             other shards, and new connections       hearing.rs, arriving.rs
//!   hear_engines                           engines have numbered messages           clustering.rs
//!   close_by_hand                          the operator closes clients               closing.rs
//!   reconfigure                            the configuration was read again        reconfiguring.rs
//!   permit, on_bytes, on_end…              clients have done something             ready.rs, reading.rs, leaving.rs
//!   poll_unseated → admit…                 proxies have named their clients        naming.rs
//!   poll_undecided → stay, transfer_out…   clients stay or move to another shard   arriving.rs
//!   poll_probe → answer_probe…             health checks are answered              probing.rs
//!   handle_timeouts                        time is up                              deadlines.rs
//!   last_heard → hear_out…, close_due      a shutdown closes one after the other   draining.rs
//! decide()                                 messages are numbered and spread        deciding.rs
//!   take_outbox
//!   poll_flush → gather → advance…         one write for each client               flushing.rs
//! end_turn(now)                            limits are applied, topics are settled  settling.rs, laggards.rs, relief.rs
//!   take_outbox, take_effects
//! ```
//!
//! Nothing is written in reaction to a single event, so everything that arrived in one turn leaves in one write per member. A
//! shard never fails: a client that breaks the rules departs, and a broken rule of the shard's own is a panic.
//!
//! The files are of two kinds. A *noun* owns fields and their invariants and does not know the shard: `clients` (with
//! `client`, `skills`, `phase`, `arrival`, `exchange`, `carry`, `control` and `replaying`), `topics`, `publishing`, `outside`,
//! `lanes`, `outflow` (with `row`), `memory` (with `ranking` and `sharing`), `inflation`, `census`, `drain`, `spread`, `timers`,
//! `ends` and `subjects`. The other files are *steps*: work on the nouns.
//!
//! [`Owner`] does the work for the topics that the shard owns.

mod arrival;
mod arriving;
mod breaks;
mod carry;
mod census;
mod checking;
mod client;
mod clients;
mod closing;
mod clustering;
mod control;
mod deadlines;
mod deciding;
mod drain;
mod draining;
mod ends;
mod exchange;
mod exchanging;
mod excusing;
mod expiring;
mod flushing;
mod hearing;
mod inflating;
mod inflation;
mod joining;
mod laggards;
mod lanes;
mod leaving;
mod memory;
mod naming;
mod offering;
mod outflow;
mod outside;
mod phase;
mod probing;
mod publishing;
mod ranking;
mod reading;
mod ready;
mod reconfiguring;
mod relief;
mod replaying;
mod replays;
mod restoring;
mod row;
mod settling;
mod sharing;
mod skills;
mod sources;
mod spread;
mod streaming;
mod subjects;
#[cfg(test)]
mod tests;
mod timers;
mod topics;

pub use self::arriving::{Transfer, Undecided};
pub(crate) use self::closing::Whom;
pub use self::flushing::Written;
pub(crate) use self::leaving::End;
pub use self::naming::Named;
pub use self::offering::NotTaken;
pub(in crate::relay) use self::ready::Permit;

use std::sync::Arc;
use std::time::Duration;

use self::census::Census;
use self::client::Client;
use self::clients::Clients;
use self::drain::Drain;
use self::ends::Ends;
use self::inflation::Inflation;
use self::lanes::Lanes;
use self::memory::Memory;
use self::outflow::Outflow;
use self::outside::Outside;
use self::publishing::Publishing;
use self::replaying::Replaying;
use self::replays::Replays;
use self::spread::Spread;
use self::subjects::Subjects;
use self::timers::Wheel;
use self::topics::Topics;
use crate::access::keys::Keys;
use crate::chance::Chance;
use crate::cluster;
use crate::config::Config;
use crate::http::forwarded::Forwarded;
use crate::ids::{ClientId, ClientKey, Seq, ShardId};
use crate::metrics::stats::{Stat, Stats};
use crate::port::decision::Port;
use crate::port::position::{Epoch, Position};
use crate::relay::conduct::{Conduct, Conducts};
use crate::relay::envelope::Envelope;
use crate::relay::outbox::Outbox;
use crate::relay::owner::{Desk, Owner};
use crate::relay::policy::Policy;
use crate::relay::policy::rate::Rates;
use crate::relay::policy::senders::Senders;
use crate::relay::router::Router;
use crate::relay::topic::{Topic, TopicKey};
use crate::time::{Timestamp, WallTime};

/// The part of the configuration that a shard needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest request head in bytes.
    max_header_bytes: usize,
    /// The shard's share of `limits.max_buffered_bytes`: bytes held for clients and in logs.
    max_buffered_bytes: u64,
    /// The longest time from accept to the complete request.
    handshake_timeout: Duration,
    /// A client is pinged after this time in which nothing was heard of it, or nothing was sent to it; never if it is zero.
    ping_interval: Duration,
    /// The longest wait for a sign of life after a ping.
    pong_timeout: Duration,
    /// Decides on requests.
    port: Port,
    /// The rates at which a client may send frames.
    rates: Rates,
    /// The time over which clients are closed in a shutdown; zero for all at once.
    spread: Duration,
    /// The time after which the host cuts the clients that are left.
    time_for_clients: Duration,
    /// The settings of each topic.
    conducts: Arc<Conducts>,
    /// The span in which numbers do not repeat.
    epoch: Epoch,
    /// Half of the time for a shutdown. The engines have so long for what is on its way.
    half_of_shutdown: Duration,
}

impl Settings {
    /// The settings of a relay with `shards` shards.
    pub fn new(config: &Config, shards: u16) -> Self {
        let conducts = Arc::new(Conducts::new(config, shards));
        let mut port = Port::new(config);
        // All shards share one list.
        port.set_topics(conducts.rules().clone());
        Settings {
            conducts,
            max_header_bytes: config.limits.max_header_bytes,
            max_buffered_bytes: config.buffered_bytes_per_shard(shards),
            handshake_timeout: config.server.handshake_timeout,
            ping_interval: config.keepalive.ping_interval,
            pong_timeout: config.keepalive.pong_timeout,
            port,
            spread: config.shutdown.spread,
            time_for_clients: config.shutdown.time_for_clients(),
            rates: Rates::new(&config.limits, &config.keepalive),
            epoch: Epoch::from_bits(0),
            half_of_shutdown: config.shutdown.timeout / 2,
        }
    }

    /// The same with other keys for tokens. Without this, no token is valid.
    #[must_use]
    pub(crate) fn with_keys(mut self, keys: Arc<Keys>) -> Self {
        self.port.set_keys(keys);
        self
    }

    /// The same in the place of older ones, by which topics may still live.
    #[must_use]
    pub(crate) fn after(mut self, older: &Settings) -> Self {
        let conducts = Conducts::clone(&self.conducts).after(&older.conducts);
        self.port.set_topics(conducts.rules().clone());
        self.conducts = Arc::new(conducts);
        self
    }

    /// The same in another epoch. Without this, the epoch is the same in each process.
    #[must_use]
    pub fn in_epoch(self, epoch: Epoch) -> Self {
        Settings { epoch, ..self }
    }

    /// The position in front of message `next` of a topic, as clients are told it; `None` if the topic keeps no messages.
    fn position(&self, conduct: &Conduct, next: Seq) -> Option<Position> {
        let epoch = self.epoch;
        conduct.keeps_history().then_some(Position { epoch, next })
    }

    /// The span in which numbers do not repeat.
    pub(in crate::relay) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The settings of each topic.
    pub(in crate::relay) fn conducts(&self) -> &Conducts {
        &self.conducts
    }
}

/// The position in front of message `next` of a topic, as clients are told it; `None` if topics keep no messages.
fn place_of(settings: &Settings, topic: &Topic, next: Seq) -> Option<Position> {
    match &topic.places {
        None => settings.position(&topic.conduct, next),
        Some(places) => places.at(next).filter(|_| topic.conduct.keeps_history()),
    }
}

/// An order for a client's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Shut the writing side: everything has been sent.
    ShutdownWrite(ClientKey),
    /// Close it. The key means nothing from now on.
    Close(ClientKey),
    /// Give it up when the client's system has acknowledged nothing for so long, although it was sent something.
    LimitSilence(ClientKey, Duration),
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    settings: Settings,
    router: Router,
    now: Timestamp,
    /// A time of day, and the time of the turn in which the host has told it.
    wall_time: Option<(WallTime, Timestamp)>,
    /// Frames of one client that are decoded in a step; at least one.
    step_frames: usize,
    clients: Clients,
    topics: Topics,
    owner: Owner,
    publishing: Publishing,
    outside: Outside,
    senders: Senders,
    census: Census,
    outbox: Outbox,
    ready: Lanes,
    outflow: Outflow,
    memory: Memory,
    inflation: Inflation,
    replays: Replays,
    drain: Drain,
    spread: Spread,
    chance: Chance,
    wheel: Wheel,
    ends: Ends,
    subjects: Subjects,
    /// Clients that a proxy has named, and that the host has not seated yet.
    unseated: Vec<ClientKey>,
    /// Clients that publish, and whose proxies have a fault that the host does not know yet.
    misnamed: Vec<(ClientKey, Forwarded)>,
    /// Clients that may still move to another shard.
    undecided: Vec<ClientKey>,
    /// Health checks that are to be answered in this turn.
    probes: Vec<ClientKey>,
    /// Topics whose publishers wait for laggards of this shard, for a limited time.
    graced: Vec<TopicKey>,
    /// Members over the limit that blocked in this turn and for which publishers do not wait.
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
            wall_time: None,
            step_frames: usize::MAX,
            clients: Clients::default(),
            topics: Topics::default(),
            owner: Owner::new(
                settings.conducts.clone(),
                settings.max_buffered_bytes,
                settings.epoch,
            ),
            publishing: Publishing::new(id),
            outside: Outside::default(),
            senders: Senders::default(),
            census: Census::default(),
            outbox: Outbox::new(id),
            ready: Lanes::default(),
            outflow: Outflow::new(),
            memory: Memory::new(settings.max_buffered_bytes),
            inflation: Inflation::new(settings.max_buffered_bytes),
            replays: Replays::default(),
            drain: Drain::default(),
            spread: Spread::default(),
            chance: Chance::new(router.chance_seed(id)),
            wheel: Wheel::new(now),
            ends: Ends::default(),
            subjects: Subjects::default(),
            unseated: Vec::new(),
            misnamed: Vec::new(),
            undecided: Vec::new(),
            probes: Vec::new(),
            graced: Vec::new(),
            blocked_over: Vec::new(),
            effects: Vec::new(),
            stats: Stats::default(),
            settings,
        }
    }

    /// Makes room for `clients`, so that the table of clients never grows.
    pub(crate) fn reserve(&mut self, clients: usize) {
        self.clients.reserve(clients);
    }

    /// Sets how many frames of one client are decoded before the turn looks at the clock again.
    pub(crate) fn limit_steps(&mut self, frames: usize) {
        self.step_frames = frames.max(1);
    }

    /// Begins a turn. `now` never goes back.
    pub(in crate::relay) fn begin_turn(&mut self, now: Timestamp) {
        debug_assert!(now >= self.now, "time goes on");
        self.now = now;
        self.stats.inc(Stat::Turns);
    }

    /// Tells the shard the time of day, for the `Date` of its responses and the ends of tokens. The host does so when it hands
    /// over a connection, because each of those is answered soon, and when [`Shard::wants_wall_time`]. Without it, responses have
    /// no `Date`, and no token is valid.
    pub fn set_wall_time(&mut self, wall_time: WallTime) {
        self.wall_time = Some((wall_time, self.now));
    }

    /// Puts other keys for tokens in force.
    #[cfg(test)]
    fn set_keys(&mut self, keys: Arc<Keys>) {
        self.settings.port.set_keys(keys);
    }

    /// Puts other settings of topics in force. A request is judged by them from now on. A topic that is there keeps its own for
    /// the rest of its life.
    pub fn set_conducts(&mut self, conducts: &Arc<Conducts>) {
        self.settings.port.set_topics(conducts.rules().clone());
        self.settings.conducts = conducts.clone();
        self.owner.set_conducts(conducts.clone());
    }

    /// The time of day.
    fn date(&self) -> Option<WallTime> {
        let (WallTime(then), at) = self.wall_time?;
        Some(WallTime(then + self.now.since(at)))
    }

    /// Takes the envelopes to other shards, in the order in which they are to be sent.
    pub fn take_outbox(&mut self) -> impl Iterator<Item = (ShardId, Envelope)> + '_ {
        self.outbox.take()
    }

    /// Takes the orders for sockets.
    pub fn take_effects(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.effects.drain(..)
    }

    /// The time of the turn.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The shard's number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Whether the shard has something to publish, to flush or to settle without waiting for an event.
    pub fn has_work(&self) -> bool {
        self.outflow.has_work()
            || self.topics.has_touched()
            || self.publishing.has_drafts()
            || self.outside.has_offers()
            || self.owner.has_arrived()
            || self.drain.has_something_due()
            || self.is_drain_due()
            || !(self.unseated.is_empty() && self.probes.is_empty())
    }

    /// The earliest time at which a deadline may have passed.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.wheel.next_due()
    }

    /// The time of the next fan-out of a waiting topic that this shard owns.
    pub fn next_fan_out(&self) -> Option<Timestamp> {
        self.owner.next_fan_out()
    }

    /// The time of the next review of a wait for laggards. The publishers wait, so perhaps nothing else wakes the shard.
    pub fn next_review(&self) -> Option<Timestamp> {
        let graced = self.graced.iter();
        let asked = graced.filter_map(|&key| self.topics[key].grace.next_review());
        asked.chain(self.owner.next_review()).min()
    }

    /// The time at which the next kept message is too old.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.owner.next_expiry()
    }

    /// The time at which owners are told how many members are left.
    pub(crate) fn next_census(&self) -> Option<Timestamp> {
        self.census.due()
    }

    /// The shard's counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The shard's counters, for the turn and the worker to count in.
    pub(crate) fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// The number of connections, in whatever phase.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether the shard has no connection.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The number of messages that wait in a topic that this shard owns. For tests.
    pub fn waiting_messages(&self, topic: &str) -> usize {
        self.owner.waiting_messages(topic)
    }

    /// The numbers of a topic that this shard owns and that keeps messages: of its first message since the shard knows it, and
    /// of its next one. For tests.
    pub fn numbers(&self, topic: &str) -> Option<(u64, u64)> {
        self.owner.numbers(topic)
    }

    /// The number of the next message of a topic that this shard owns. For tests.
    pub fn next_number(&self, topic: &str) -> Option<u64> {
        self.owner.next_number(topic)
    }

    /// The time of the next fan-out of one such topic. For tests.
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

    /// The client as an author whose messages are left out of its own stream; `None` if clients get them in every topic.
    fn own(&self, key: ClientKey) -> Option<ClientId> {
        (!self.settings.conducts.echoes()).then(|| self.id_of(key))
    }

    /// The rules about laggards in the client's topic; the general ones if it has none.
    fn policy_of(&self, client: &Client) -> &Policy {
        match client.topic() {
            Some(topic) => &self.topics[topic].conduct.policy,
            None => &self.settings.conducts.general().policy,
        }
    }

    /// The topic of a client with a place, and the number behind what it has been sent, the frame in progress included.
    fn sent_number(&self, key: ClientKey) -> Option<(TopicKey, Seq)> {
        let client = self.clients.get(key)?;
        let (topic, at, is_mid_frame) = match (&client.member, client.replay()) {
            (Some(member), _) => {
                let log = &self.topics[member.topic].log;
                let at = member.position(log);
                (member.topic, at, member.is_mid_frame(log))
            }
            (None, Some(replaying)) => {
                let replay = &replaying.replay;
                (replay.topic, replay.position(), replay.is_mid_frame())
            }
            (None, None) => return None,
        };
        Some((topic, Seq(at.0 + u64::from(is_mid_frame))))
    }

    /// The position behind what the client has been sent, the frame in progress included; `None` if its topic keeps no
    /// messages, or if it has no place in it.
    fn sent_position(&self, key: ClientKey) -> Option<Position> {
        let (topic, next) = self.sent_number(key)?;
        let client = self.clients.get(key)?;
        // It is told nothing of the break behind which it is not sent anything.
        let ending = client.ending().filter(|ending| ending.until.0 == next);
        match (ending, client.replay()) {
            (Some(ending), _) => ending.until.1,
            (None, Some(replaying)) => self.place_in_replay(replaying, next),
            (None, None) => place_of(&self.settings, &self.topics[topic], next),
        }
    }

    /// The position in front of message `next`, for a client that reads a list.
    fn place_in_replay(&self, replaying: &Replaying, next: Seq) -> Option<Position> {
        match &replaying.places {
            Some(places) => places.at(next),
            None => place_of(&self.settings, &self.topics[replaying.replay.topic], next),
        }
    }

    /// The position in front of message `next`, as its topic's owner has numbered it.
    fn position_in(&self, epoch: Option<cluster::place::Epoch>, next: Seq) -> Position {
        let epoch = epoch.map(|epoch| Epoch::from_bits(epoch.0));
        Position {
            epoch: epoch.unwrap_or(self.settings.epoch),
            next,
        }
    }

    /// Brings the gauges of the client's memory up to date. Each step that changes it calls this.
    fn gauge_client(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key) {
            self.memory.gauge_client(key, client, &mut self.stats);
        }
    }

    /// Brings the gauges of a topic's log up to date.
    fn gauge_log(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key];
        self.memory.gauge_log(key, topic, &mut self.stats);
    }
}
