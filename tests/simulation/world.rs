//! The world: clients, shards and what lies between them, and a scheduler that lets any of them act at any time.
//!
//! A seed decides everything. At the end the world is brought to rest with the clock stopped, so that nothing that was
//! forgotten is healed by a timer, and then comes to one of several ends.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use fanwire::config::{SlowConsumerPolicy, Topics};
use fanwire::ids::ShardId;
use fanwire::metrics::stats::Stats;
use fanwire::relay::envelope::Envelope;
use fanwire::relay::router::Router;
use fanwire::relay::shard::{Settings, Shard};
use fanwire::time::Timestamp;

use crate::host::Host;
use crate::model::Model;
use crate::peer::{self, Peer, Request};
use crate::plan::{Ending, Plan};
use crate::rng::Rng;

/// Rounds in which everybody acts, before a world that does not come to rest is called broken.
const ROUNDS_TO_REST: usize = 200_000;

/// Deadlines waited for, one after the other, before a client that does not leave is called forgotten.
const DEADLINES_TO_EMPTY: usize = 2_000;

/// Something on its way between two shards.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) envelope: Envelope,
    /// How much of its topic's order has arrived with it, for a batch.
    pub(crate) end: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Timestamp,
    pub(crate) router: Router,
    pub(crate) hosts: Vec<Host>,
    pub(crate) peers: Vec<Peer>,
    /// By receiver and sender: each a queue that keeps its order.
    pub(crate) links: Vec<Vec<VecDeque<Parcel>>>,
    pub(crate) model: Model,
    /// Told to whoever reports a failure.
    step: Rc<Cell<usize>>,
    /// The clock stands, and everybody does what can be done.
    pub(crate) is_settling: bool,
    is_draining: bool,
    is_told: bool,
}

impl World {
    pub(crate) fn new(seed: u64, step: Rc<Cell<usize>>, is_told: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut plan = Plan::draw(&mut rng);
        if plan.config.relay.topics == Topics::Single {
            plan.topics = vec!["/"];
        }
        let now = Timestamp(1_000_000);
        let shards = u16::try_from(plan.shards).expect("a few");
        let router = Router::new(plan.config.relay.topics, shards, plan.router_seed);
        let settings = Settings::new(&plan.config, plan.shards as u16);
        let shard = |id| Shard::new(ShardId(id), settings.clone(), router.clone(), now);
        let hosts = (0..shards)
            .map(|id| Host::new(shard(id), plan.scratch_bytes))
            .collect();
        let links = || (0..shards).map(|_| VecDeque::new()).collect();
        let world = World {
            hosts,
            peers: Vec::new(),
            links: (0..shards).map(|_| links()).collect(),
            model: Model::new(&plan),
            plan,
            rng,
            now,
            router,
            step,
            is_settling: false,
            is_draining: false,
            is_told,
        };
        world.tell(|| format!("{:#?}", world.plan));
        world
    }

    /// Says what happens, in a replay.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{:>6} {}", self.step.get(), what());
        }
    }

    /// Runs the world to its end, and returns what its shards have counted.
    pub(crate) fn run(&mut self) -> Stats {
        for step in 0..self.plan.steps {
            self.step.set(step);
            if self.plan.drain_at == Some(step) {
                self.begin_drain();
            }
            self.step();
        }
        self.calm();
        self.settle();
        if !self.is_draining {
            self.check_at_rest();
        }
        self.end();
        self.check_end();
        self.hosts
            .iter()
            .map(|host| host.shard.stats().clone())
            .sum()
    }

    fn step(&mut self) {
        self.step.set(self.step.get() + 1);
        if self.peers.len() < self.plan.clients && (self.peers.len() < 2 || self.rng.percent(6)) {
            self.connect();
        }
        if self.rng.below(1_000) < self.plan.jumps {
            self.clock_jumps();
        }
        if self.rng.percent(50) {
            self.any_turn();
        } else {
            self.any_peer_acts();
        }
    }

    fn any_turn(&mut self) {
        let awake: Vec<usize> = (0..self.hosts.len())
            .filter(|&host| self.is_awake(host))
            .collect();
        if !awake.is_empty() {
            let host = self.rng.pick(&awake);
            self.turn(host);
        }
    }

    /// Whether the host's worker would be running: it sleeps unless something has happened to it.
    fn is_awake(&self, host: usize) -> bool {
        let has_mail = self.links[host].iter().any(|link| !link.is_empty());
        let due = self.hosts[host].shard.next_timeout();
        has_mail || self.hosts[host].has_work() || due.is_some_and(|due| due <= self.now)
    }

    fn clock_jumps(&mut self) {
        let deadlines = self
            .hosts
            .iter()
            .filter_map(|host| host.shard.next_timeout());
        let next = deadlines
            .min()
            .map_or(Duration::ZERO, |due| due.since(self.now));
        let millis = self.rng.pick(&[1, 5, 30, 100, 1_000, 30_000]);
        let most = Duration::from_millis(millis);
        let jump = if self.rng.percent(50) { next } else { most };
        self.now = self.now + jump;
        self.tell(|| format!("the clock jumps by {jump:?}"));
    }

    fn connect(&mut self) {
        let id = self.peers.len();
        let target = self.rng.below(self.plan.topics.len());
        let peer = Peer::connect(id, target, &self.plan, &mut self.rng);
        self.tell(|| {
            let Peer {
                host,
                request,
                manners,
                ..
            } = &peer;
            format!(
                "client {id} connects to shard {host}: {request:?} of topic {target}, {manners:?}"
            )
        });
        self.model.connect(peer.host, peer.topic);
        self.hosts[peer.host].sockets.push_back(id);
        self.peers.push(peer);
    }

    fn begin_drain(&mut self) {
        self.tell(|| "the drain begins".into());
        self.is_draining = true;
        for host in &mut self.hosts {
            host.drain_is_due = true;
        }
    }

    // Clients.

    /// One client does something.
    pub(crate) fn any_peer_acts(&mut self) {
        let id = self.rng.below(self.peers.len());
        if self.peers[id].is_gone() {
            return;
        }
        match self.rng.below(100) {
            0..35 => self.transmit(id),
            35..60 => self.read(id),
            60..90 => self.publish(id),
            90..93 => self.ping(id),
            93..97 => self.toggle_reading(id),
            97..98 => self.leave_in_order(id),
            _ => self.trouble(id),
        }
        self.raise(id);
    }

    fn transmit(&mut self, id: usize) {
        let unsent = self.peers[id].unsent_bytes().max(1);
        let most = self.rng.part_of(unsent);
        self.peers[id].transmit(most);
    }

    fn read(&mut self, id: usize) {
        let waiting = self.peers[id].pipe.waiting_for_client().max(1);
        let most = self.rng.part_of(waiting);
        self.peers[id].read(most, &mut self.rng);
        self.note_open(id);
    }

    fn note_open(&mut self, id: usize) {
        if self.peers[id].is_open {
            self.model.open(id, self.step.get());
        }
    }

    fn publish(&mut self, id: usize) {
        let is_busy = self.peers[id].unsent_bytes() > 64 << 10;
        if !self.peers[id].may_speak() || self.peers[id].manners.is_silent || is_busy {
            return;
        }
        for _ in 0..self.rng.within(1..=self.plan.burst) {
            let (is_text, payload) = self.payload();
            let bytes = peer::message(is_text, &payload, &mut self.rng);
            self.peers[id].say(&bytes);
            let end = self.peers[id].queued_bytes;
            self.tell(|| format!("client {id} posts {} bytes", payload.len()));
            self.model.post(id, end, is_text, payload, self.step.get());
        }
    }

    /// A payload that is like no other, unless it is too short for that.
    fn payload(&mut self) -> (bool, Vec<u8>) {
        let (number, most) = (
            self.model.next_message(),
            self.plan.config.limits.max_message_bytes,
        );
        let rng = &mut self.rng;
        let is_text = rng.percent(50);
        let len = match rng.below(100) {
            0..5 => 0,
            5..10 => rng.within(0..=8),
            10..65 => rng.within(8..=200),
            65..85 => rng.within(8..=2_000),
            85..97 => rng.within(8..=most.min(10_000)),
            _ => rng.within(most / 2..=most),
        };
        // Under `drop` a message must say which one it is, because others are left out.
        let is_lossy = self.plan.config.slow_consumer.policy == SlowConsumerPolicy::Drop;
        let len = if is_lossy { len.max(8) } else { len }.min(most);
        let mut payload = format!("{number:08x}").into_bytes();
        payload.resize(len.max(8), if is_text { b'.' } else { 0xee });
        if is_text && len > 12 {
            payload[8..12].copy_from_slice("\u{1f980}".as_bytes());
        }
        payload.truncate(len);
        (is_text, payload)
    }

    fn ping(&mut self, id: usize) {
        if !self.peers[id].may_speak() {
            return;
        }
        // Never the same twice.
        let number = self.peers[id].queued_bytes as u32;
        let bytes = peer::frame(0x89, &number.to_be_bytes(), &mut self.rng);
        self.peers[id].say(&bytes);
        let end = self.peers[id].queued_bytes;
        self.model.ping(id, end, number);
    }

    fn toggle_reading(&mut self, id: usize) {
        let peer = &mut self.peers[id];
        peer.is_reading = !peer.is_reading;
    }

    fn leave_in_order(&mut self, id: usize) {
        if !self.peers[id].may_speak() || !self.rng.percent(30) {
            return;
        }
        let code: u16 = self.rng.pick(&[1000, 1001, 3000, 4999]);
        let bytes = peer::frame(0x88, &code.to_be_bytes(), &mut self.rng);
        self.tell(|| format!("client {id} closes with {code}"));
        self.peers[id].say(&bytes);
        self.peers[id].has_said_goodbye = true;
    }

    fn trouble(&mut self, id: usize) {
        if !self.rng.percent(self.plan.trouble) {
            return;
        }
        let kind = self.rng.below(4);
        self.tell(|| format!("client {id} makes trouble of kind {kind}"));
        match kind {
            0 => self.peers[id].pipe.reset_by_client(),
            1 => self.peers[id].has_vanished = true,
            2 => self.peers[id].shuts_when_sent = true,
            _ if self.peers[id].may_speak() => {
                let most = self.plan.config.limits.max_message_bytes;
                let bytes = peer::offence(most, &mut self.rng);
                self.peers[id].say(&bytes);
                self.peers[id].has_said_goodbye = true;
                self.peers[id].is_offensive = true;
            }
            _ => {}
        }
    }

    /// Lists the client with its host, if there is something to report.
    pub(crate) fn raise(&mut self, id: usize) {
        let peer = &mut self.peers[id];
        if peer.key.is_some() && peer.pipe.has_news() && !peer.is_listed {
            peer.is_listed = true;
            self.hosts[peer.host].events.push_back(id);
        }
    }

    // The end.

    /// Everybody who is still there reads and writes again; who has vanished is found out.
    fn calm(&mut self) {
        self.tell(|| "everybody reads".into());
        for id in 0..self.peers.len() {
            self.peers[id].is_reading = true;
            if self.peers[id].has_vanished {
                self.peers[id].pipe.reset_by_client();
                self.raise(id);
            }
        }
    }

    /// Lets everybody act until nobody can.
    fn settle(&mut self) {
        self.is_settling = true;
        for _ in 0..ROUNDS_TO_REST {
            self.step.set(self.step.get() + 1);
            if !self.everybody_acts() {
                self.is_settling = false;
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    fn everybody_acts(&mut self) -> bool {
        let mut has_acted = false;
        for id in 0..self.peers.len() {
            has_acted |= self.peers[id].read(usize::MAX, &mut self.rng);
            has_acted |= self.peers[id].transmit(usize::MAX);
            self.note_open(id);
            self.raise(id);
        }
        for host in 0..self.hosts.len() {
            if self.is_awake(host) {
                self.turn(host);
                has_acted = true;
            }
        }
        has_acted
    }

    fn end(&mut self) {
        let ending = self.plan.ending;
        self.tell(|| format!("the end: {ending:?}"));
        match ending {
            Ending::Drain => {
                self.drain();
                self.check_polite_are_gone();
                self.wait_for_deadlines();
                self.cut_the_rude();
            }
            Ending::DrainThenCut => {
                self.begin_drain();
                for _ in 0..self.rng.below(60) {
                    self.step.set(self.step.get() + 1);
                    self.any_turn();
                    self.any_peer_acts();
                }
                self.cut();
            }
            Ending::Cut => self.cut(),
            Ending::Leave => {
                self.everybody_leaves();
                self.settle();
                self.check_polite_are_gone();
                self.wait_for_deadlines();
            }
        }
    }

    fn drain(&mut self) {
        if !self.is_draining {
            self.begin_drain();
        }
        self.settle();
    }

    fn cut(&mut self) {
        for host in &mut self.hosts {
            host.cut_is_due = true;
        }
        self.calm();
        self.settle();
    }

    fn everybody_leaves(&mut self) {
        for id in 0..self.peers.len() {
            match self.rng.below(3) {
                0 if self.peers[id].may_speak() => {
                    let bytes = peer::frame(0x88, &1000u16.to_be_bytes(), &mut self.rng);
                    self.peers[id].say(&bytes);
                    self.peers[id].has_said_goodbye = true;
                }
                1 if !self.peers[id].is_gone() => self.peers[id].pipe.reset_by_client(),
                _ => self.peers[id].shuts_when_sent = true,
            }
            self.raise(id);
        }
    }

    fn wait_for_deadlines(&mut self) {
        for _ in 0..DEADLINES_TO_EMPTY {
            let deadlines = self
                .hosts
                .iter()
                .filter_map(|host| host.shard.next_timeout());
            let Some(next) = deadlines.min() else {
                return;
            };
            if self.hosts.iter().all(|host| host.shard.is_empty()) {
                return;
            }
            self.now = self.now.max(next);
            self.settle();
        }
        panic!("somebody stays for ever");
    }

    /// Who answers no Close is cut at last, and nobody else.
    fn cut_the_rude(&mut self) {
        for peer in self.peers.iter().filter(|peer| self.is_connected(peer)) {
            assert!(
                !peer.manners.answers_close,
                "client {} answers and is not seen off",
                peer.id
            );
        }
        if self.hosts.iter().any(|host| !host.shard.is_empty()) {
            self.cut();
        }
    }

    /// Whether the client's host has a connection to it.
    pub(crate) fn is_connected(&self, peer: &Peer) -> bool {
        peer.key
            .is_some_and(|key| self.hosts[peer.host].peer_of(key) == Some(peer.id))
    }

    /// Whether the client does all that is expected of it, so that nothing need time out.
    pub(crate) fn is_polite(peer: &Peer) -> bool {
        let manners = &peer.manners;
        manners.answers_close && manners.ends && peer.request != Request::Half && !peer.has_vanished
    }
}
