//! One engine as one worker sees it: its topics, the link, and the commands between them.
//!
//! A driver moves bytes. It calls `on_*` for what happened, [`Engine::handle_timeout`] when [`Engine::poll_timeout`] says so, and
//! then does what [`Engine::take_actions`] and [`Engine::take_events`] say. Nothing else happens inside.
//!
//! [`answers`] reads what comes back; [`asking`] turns what topics ask into commands; [`describing`] asks about any topic.

mod answers;
pub(crate) mod asked;
mod asking;
mod describing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;

use self::asked::{Asked, Confirmation, Described, SubscriptionChange, Token, TopicKey};
use super::audit::Audit;
use super::command::Command;
use super::hello::{self, Hello, Peers};
use super::link::{LANES, Lane, Link, LinkEvent, LinkSettings, Reason};
use super::names::{self, TopicNames};
use super::place::{NodeId, Place};
use super::requests::Requests;
use super::scripts::Loaded;
use super::topic::effect::Effect;
use super::topic::meter::Meter;
use super::topic::parcel::Parcel;
use super::topic::{Context, State, Topic, TopicSettings};
use crate::chance::Chance;
use crate::time::Timestamp;

/// The settings of one engine on one worker.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// This worker.
    pub worker: u16,
    /// The times of the link.
    pub link: LinkSettings,
    /// The settings of every topic.
    pub topic: TopicSettings,
    /// This node's introduction to others, which has the prefix.
    pub hello: Hello,
    /// `cluster.history`, in bytes.
    pub history_bytes: u64,
    /// `cluster.history_ttl`.
    pub history_ttl: Duration,
    /// `cluster.audit_rate`, in topics a second.
    pub audit_rate: usize,
    /// The worker's share of `cluster.pending`, in bytes.
    pub pending_bytes: u64,
}

/// Something for the driver to do, in order.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Open a connection.
    Connect(Lane),
    /// Close it, or stop to open it.
    Close(Lane, Reason),
    /// Send a command.
    Send(Lane, Command),
}

/// The first batch of a worker is number 2. A node that the engine has forgotten has executed batch 0, as far as the engine
/// knows, so it would take number 1 only: a late batch of ours never fits.
const BELOW_FIRST_SEQ: u64 = 1;

/// Numbers for metrics. Each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches that the engine was asked to number.
    pub published: u64,
    /// Batches that came, and were batches.
    pub received: u64,
    /// Messages on a topic's channel that were no batch.
    pub refused: u64,
    /// Fences.
    pub fences: u64,
    /// Fills.
    pub fills: u64,
    /// Questions for messages that clients want who come back.
    pub finds: u64,
    /// SYNC.
    pub syncs: u64,
    /// Audits.
    pub audits: u64,
    /// Nodes that differ, when they were heard first.
    pub mismatched: u64,
    /// Errors of the engine that an operator should look at.
    pub errors: u64,
    /// Probes that were answered.
    pub probes: u64,
    /// The time until the last probe was answered, in microseconds.
    pub round_trip_micros: u64,
}

/// The most nodes that differ and wait for [`Engine::take_differing`].
const MAX_DIFFERING: usize = 16;

/// A topic, and what the engine calls it.
#[derive(Debug)]
struct Entry<T> {
    generation: u64,
    topic: Topic<T>,
    name: String,
    names: TopicNames,
    /// Confirmations of S that are due for its channel, in order.
    confirmations: VecDeque<Confirmation>,
    /// Its place in the agenda.
    due: Option<Timestamp>,
    /// The subscription brought nothing since the last audit.
    is_quiet: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Engine<T> {
    settings: EngineSettings,
    link: Link,
    chance: Chance,
    meter: Meter,
    /// The meter was over its limit.
    was_over: bool,
    entries: Slab<Entry<T>>,
    slots_by_name: HashMap<String, usize>,
    slots_by_channel: HashMap<Bytes, usize>,
    agenda: BTreeSet<(Timestamp, usize)>,
    requests: Requests<Asked>,
    loaded: Loaded,
    /// Scripts that are being loaded.
    loading: usize,
    subscriptions: Vec<SubscriptionChange>,
    /// Confirmations that S owes.
    owed: usize,
    tokens: HashMap<u64, Token>,
    /// Tokens that are published and have not arrived.
    tokens_owed: usize,
    last_token: u64,
    /// When the probe was asked that is not answered.
    probed_at: Option<Timestamp>,
    /// Nodes that differ, and were heard since the last look.
    differing: Vec<(NodeId, Vec<&'static str>)>,
    /// A batch of ours or a token came back since the last probe.
    is_confirmed: bool,
    own: Bytes,
    hello: Bytes,
    hello_at: Timestamp,
    peers: Peers,
    audit: Audit,
    generations: u64,
    /// No batch of a forgotten topic had a higher number.
    high_water: u64,
    counts: Counts,
    actions: Vec<Action>,
    events: Vec<(TopicKey, Effect<T>)>,
    /// Questions about topics that are not answered.
    describing: BTreeSet<u64>,
    described: Vec<(u64, Option<Described>)>,
}

impl<T: Parcel> Engine<T> {
    /// An engine that is not connected. The first timeout is due at once. The bits of `seed` draw epochs: they must be random.
    pub fn new(settings: EngineSettings, seed: u64, now: Timestamp) -> Self {
        let prefix = &settings.hello.shared.prefix;
        Engine {
            link: Link::new(settings.link, now),
            chance: Chance::new(seed),
            meter: Meter::new(settings.pending_bytes),
            was_over: false,
            entries: Slab::new(),
            slots_by_name: HashMap::new(),
            slots_by_channel: HashMap::new(),
            agenda: BTreeSet::new(),
            requests: Requests::default(),
            loaded: Loaded::default(),
            loading: 0,
            subscriptions: Vec::new(),
            owed: 0,
            tokens: HashMap::new(),
            tokens_owed: 0,
            last_token: 0,
            probed_at: None,
            differing: Vec::new(),
            is_confirmed: false,
            own: names::own_channel(prefix, settings.topic.node, settings.worker),
            hello: names::hello_channel(prefix),
            hello_at: now,
            peers: Peers::new(settings.hello.clone()),
            audit: Audit::new(settings.audit_rate, now),
            generations: 0,
            high_water: BELOW_FIRST_SEQ,
            counts: Counts::default(),
            actions: Vec::new(),
            events: Vec::new(),
            describing: BTreeSet::new(),
            described: Vec::new(),
            settings,
        }
    }

    /// Whether both connections are usable.
    pub fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// Memory that the topics hold, in bytes.
    pub fn pending_bytes(&self) -> u64 {
        self.meter.used()
    }

    /// Whether a connection is there, as far as the engine knows: it is not given up.
    pub(crate) fn is_open(&self, lane: Lane) -> bool {
        self.link.is_open(lane)
    }

    /// Topics that it knows.
    pub(crate) fn topic_count(&self) -> usize {
        self.entries.len()
    }

    /// Takes the nodes that differ and were heard since the last call, each with the keys in which it differs.
    pub(crate) fn take_differing(&mut self) -> Vec<(NodeId, Vec<&'static str>)> {
        std::mem::take(&mut self.differing)
    }

    /// The numbers for metrics.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The other nodes.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Takes what is to be done, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Takes what happened to topics, in order. It has no [`Effect::Ask`].
    pub fn take_events(&mut self) -> Vec<(TopicKey, Effect<T>)> {
        std::mem::take(&mut self.events)
    }

    /// The key of a topic. It stays valid while the topic has clients or pending messages.
    pub fn topic(&mut self, name: &str) -> TopicKey {
        if let Some(&slot) = self.slots_by_name.get(name) {
            return self.key_of(slot);
        }
        let names = TopicNames::new(&self.settings.hello.shared.prefix, name);
        let channel = names.channel.clone();
        self.generations += 1;
        let mut topic = Topic::new(self.settings.topic, self.high_water);
        if self.is_up() {
            let mut effects = Vec::new();
            // A topic without clients asks nothing.
            topic.on_up(&mut context(
                Timestamp(0),
                &mut self.chance,
                &mut self.meter,
                &mut effects,
            ));
        }
        let slot = self.entries.insert(Entry {
            generation: self.generations,
            topic,
            name: name.into(),
            names,
            confirmations: VecDeque::new(),
            due: None,
            is_quiet: false,
        });
        self.slots_by_name.insert(name.into(), slot);
        self.slots_by_channel.insert(channel, slot);
        self.key_of(slot)
    }

    fn key_of(&self, slot: usize) -> TopicKey {
        let generation = self.entries[slot].generation;
        TopicKey { slot, generation }
    }

    /// A topic, if the key is still valid.
    pub fn get(&self, key: TopicKey) -> Option<&Topic<T>> {
        let entry = self.entries.get(key.slot);
        let entry = entry.filter(|entry| entry.generation == key.generation);
        entry.map(|entry| &entry.topic)
    }

    /// All topics, in the order of their slots, with their names.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &Topic<T>)> {
        let entries = self.entries.iter();
        entries.map(|(_, entry)| (entry.name.as_str(), &entry.topic))
    }

    /// Notes how many clients a topic has here.
    pub fn on_members(&mut self, key: TopicKey, members: u64, now: Timestamp) {
        self.with(key, now, |topic, cx| topic.on_members(members, cx));
        self.pump(now);
    }

    /// Takes a parcel to publish.
    pub fn publish(&mut self, key: TopicKey, parcel: T, now: Timestamp) {
        self.with(key, now, |topic, cx| topic.publish(parcel, cx));
        self.pump(now);
    }

    /// A client comes back with a place of the engine.
    pub fn resume(&mut self, key: TopicKey, client: u64, place: Place, now: Timestamp) {
        self.with(key, now, |topic, cx| topic.resume(client, place, cx));
        self.pump(now);
    }

    /// A client that waits for its place is gone.
    pub fn forget_resumer(&mut self, key: TopicKey, client: u64, now: Timestamp) {
        self.with(key, now, |topic, cx| topic.forget_resumer(client, cx));
        self.pump(now);
    }

    /// The relay ends: each topic says when nothing of it is pending, at the latest at `until`.
    pub fn drain(&mut self, until: Timestamp, now: Timestamp) {
        self.with_all(now, |topic, cx| topic.drain(until, cx));
        self.pump(now);
    }

    /// The driver has opened a connection.
    pub fn on_connected(&mut self, lane: Lane, now: Timestamp) {
        self.link.on_connected(lane, now);
        self.greet(lane);
        self.pump(now);
    }

    /// The driver has lost a connection, or could not open it.
    pub fn on_closed(&mut self, lane: Lane, now: Timestamp) {
        let (mut out, bits) = (Vec::new(), self.chance.next());
        self.link.on_closed(lane, now, bits, &mut out);
        self.follow(out, now);
        self.pump(now);
    }

    /// A connection must be given up: the server broke the protocol.
    pub fn on_broken(&mut self, lane: Lane, now: Timestamp) {
        self.give_up(lane, Reason::Protocol, now);
        self.pump(now);
    }

    /// Bytes came, maybe a part of a reply only.
    pub fn note_progress(&mut self, lane: Lane, now: Timestamp) {
        self.link.note_progress(lane, now);
    }

    /// Says whether the driver leaves bytes of a connection unread, for want of memory or time. Silence then proves nothing.
    pub fn note_unread(&mut self, lane: Lane, is_unread: bool, now: Timestamp) {
        self.link.note_unread(lane, is_unread, now);
    }

    /// The next time at which [`Engine::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let topics = self.agenda.first().map(|&(at, _)| at);
        let (hello, audit) = (self.hello_at, self.audit.next_at());
        let while_up = self.is_up().then(|| hello.min(audit));
        let all = [self.link.poll_timeout(), topics, while_up];
        all.into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let (mut out, bits) = (Vec::new(), self.chance.next());
        if self.link.handle_timeout(now, bits, &mut out) {
            self.probed_at.get_or_insert(now);
            self.probe();
        }
        self.follow(out, now);
        while let Some(&(at, slot)) = self.agenda.first()
            && at <= now
        {
            self.with(self.key_of(slot), now, Topic::handle_timeout);
        }
        if self.is_up() {
            self.audit(now);
            self.say_hello(now);
        }
        self.pump(now);
    }

    fn audit(&mut self, now: Timestamp) {
        for slot in self.audit.row(now, self.entries.capacity()) {
            let Some(entry) = self.entries.get_mut(slot) else {
                continue;
            };
            if std::mem::replace(&mut entry.is_quiet, true) {
                self.with(self.key_of(slot), now, Topic::audit);
            }
        }
    }

    fn say_hello(&mut self, now: Timestamp) {
        if now >= self.hello_at {
            self.hello_at = now + hello::INTERVAL;
            let text = self.peers.mine().to_string();
            let command = Command::new("PUBLISH").arg(self.hello.clone()).arg(text);
            self.send_first(command, Asked::Nothing);
        }
    }

    fn give_up(&mut self, lane: Lane, reason: Reason, now: Timestamp) {
        let (mut out, bits) = (Vec::new(), self.chance.next());
        self.link.give_up(lane, reason, now, bits, &mut out);
        self.follow(out, now);
    }

    fn give_up_both(&mut self, reason: Reason, now: Timestamp) {
        for lane in LANES {
            self.give_up(lane, reason, now);
        }
    }

    /// Does what the link says.
    fn follow(&mut self, out: Vec<LinkEvent>, now: Timestamp) {
        for event in out {
            match event {
                LinkEvent::Connect(lane) => self.actions.push(Action::Connect(lane)),
                LinkEvent::Close(lane, reason) => self.actions.push(Action::Close(lane, reason)),
                LinkEvent::Up => {
                    self.is_confirmed = false;
                    self.with_all(now, Topic::on_up);
                }
                LinkEvent::Lost(lane) => {
                    self.forget_connection(lane);
                    self.with_all(now, |topic, cx| match lane {
                        Lane::Publisher => topic.on_publisher_lost(cx),
                        Lane::Subscriber => topic.on_subscriber_lost(cx),
                    });
                }
            }
        }
    }

    /// Calls a topic, and does what it asks. Does nothing if the topic is gone.
    fn with(
        &mut self,
        key: TopicKey,
        now: Timestamp,
        call: impl FnOnce(&mut Topic<T>, &mut Context<'_, T>),
    ) {
        let entry = self.entries.get_mut(key.slot);
        let Some(entry) = entry.filter(|entry| entry.generation == key.generation) else {
            return;
        };
        let mut effects = Vec::new();
        let mut cx = context(now, &mut self.chance, &mut self.meter, &mut effects);
        call(&mut entry.topic, &mut cx);
        let due = entry.topic.poll_timeout();
        if let Some(before) = std::mem::replace(&mut entry.due, due) {
            self.agenda.remove(&(before, key.slot));
        }
        self.agenda.extend(due.map(|at| (at, key.slot)));
        for effect in effects {
            self.perform(key, effect);
        }
        self.forget_if_unused(key.slot);
    }

    fn with_all(
        &mut self,
        now: Timestamp,
        mut call: impl FnMut(&mut Topic<T>, &mut Context<'_, T>),
    ) {
        let slots: Vec<usize> = self.entries.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.with(self.key_of(slot), now, &mut call);
        }
    }

    fn forget_if_unused(&mut self, slot: usize) {
        let entry = &self.entries[slot];
        let topic = &entry.topic;
        let is_unused = topic.state() == State::Idle
            && topic.members() == 0
            && topic.pending_bytes() == 0
            && entry.confirmations.is_empty();
        if !is_unused {
            return;
        }
        let entry = self.entries.remove(slot);
        self.high_water = self.high_water.max(entry.topic.last_seq());
        self.slots_by_name.remove(&entry.name);
        self.slots_by_channel.remove(&entry.names.channel);
        if let Some(due) = entry.due {
            self.agenda.remove(&(due, slot));
        }
    }

    /// Hands what is queued to the connections, and tells topics that wait for memory.
    fn pump(&mut self, now: Timestamp) {
        let was_over = std::mem::replace(&mut self.was_over, self.meter.is_over());
        if was_over && !self.was_over {
            self.with_all(now, Topic::on_room);
        }
        self.flush_subscriptions();
        while let Some((command, asked)) = self.requests.next() {
            // A batch is packed when it goes, so that no copy of it waits.
            if let Some(command) = command.or_else(|| self.packed(asked)) {
                self.requests.note_sent(asked);
                self.actions.push(Action::Send(Lane::Publisher, command));
            }
        }
        let is_due = self.requests.is_waiting();
        self.link.note_due(Lane::Publisher, is_due, now);
        let is_due = self.owed > 0 || self.tokens_owed > 0;
        self.link.note_due(Lane::Subscriber, is_due, now);
    }
}

fn context<'a, T>(
    now: Timestamp,
    chance: &mut Chance,
    meter: &'a mut Meter,
    effects: &'a mut Vec<Effect<T>>,
) -> Context<'a, T> {
    Context {
        now,
        bits: chance.next(),
        meter,
        effects,
    }
}
