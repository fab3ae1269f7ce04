//! The world: clients, shards and connections, and a scheduler that lets any of them act at any time.
//!
//! A seed decides everything. At the end, the world comes to rest with the clock stopped, so that no timer hides a
//! mistake. Then it ends in one of several ways.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use fanwire::config::Topics;
use fanwire::internals::Timestamp;
use fanwire::internals::port::Epoch;
use fanwire::internals::relay::{Envelope, Router, Transfer};
use fanwire::server::Stats;

use crate::host::Host;
use crate::model::Model;
use crate::model::positions::Asked;
use crate::model::posts::Ask;
use crate::peer::Wish;
use crate::peer::{Peer, Request};
use crate::plan::Plan;
use crate::restart::first_hosts;
use crate::rng::Rng;
use crate::tally::{Event, Tally};

/// The longest time that the clock goes on at once.
const LONGEST_JUMP: Duration = Duration::from_hours(2);

/// Something on its way between two shards.
#[derive(Debug)]
pub(crate) enum Parcel {
    Envelope {
        envelope: Envelope,
        /// For a batch: the length of its topic's order, up to its end.
        end: usize,
    },
    /// A client that moves to another shard.
    Client { peer: usize, transfer: Transfer },
}

impl Parcel {
    /// The weight with which it counts in an inbox.
    pub(crate) fn weight_bytes(&self) -> usize {
        match self {
            Parcel::Envelope { envelope, .. } => envelope.weight_bytes(),
            Parcel::Client { transfer, .. } => transfer.weight_bytes(),
        }
    }
}

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Timestamp,
    pub(crate) router: Router,
    pub(crate) hosts: Vec<Host>,
    pub(crate) peers: Vec<Peer>,
    /// By receiver and sender: a queue in order.
    pub(crate) links: Vec<Vec<VecDeque<Parcel>>>,
    /// By host and topic: bytes of outsiders that are taken, and of which the host has not heard that they are numbered.
    /// Only if the host does not own the topic.
    pub(crate) outside_bytes: Vec<Vec<usize>>,
    pub(crate) model: Model,
    /// Requests with keys, to be repeated.
    pub(crate) keyed: Vec<(Vec<u8>, Ask)>,
    pub(crate) tally: Tally,
    /// Shown in a failure.
    pub(crate) step: Rc<Cell<usize>>,
    /// The clock is stopped, and everything possible happens.
    pub(crate) is_settling: bool,
    pub(crate) is_draining: bool,
    /// All connections are being cut, or were.
    pub(crate) is_cut: bool,
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
        let (router, hosts) = first_hosts(&plan, now);
        let shards = plan.shards;
        let links = || (0..shards).map(|_| VecDeque::new()).collect();
        let world = World {
            hosts,
            peers: Vec::new(),
            links: (0..shards).map(|_| links()).collect(),
            outside_bytes: vec![vec![0; plan.topics.len()]; plan.shards],
            model: Model::new(&plan),
            keyed: Vec::new(),
            tally: Tally::default(),
            plan,
            rng,
            now,
            router,
            step,
            is_settling: false,
            is_draining: false,
            is_cut: false,
            is_told,
        };
        world.tell(|| format!("{:#?}", world.plan));
        world
    }

    /// Prints an event during a replay.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{:>6} {}", self.step.get(), what());
        }
    }

    /// Runs the world to its end. Returns the counters of its shards and the other events.
    pub(crate) fn run(&mut self) -> (Stats, Tally) {
        let mut stats = Vec::new();
        loop {
            self.live();
            let hosts = self.hosts.iter();
            stats.extend(hosts.map(|host| host.shard().stats().clone()));
            if !self.restart() {
                break;
            }
        }
        for peer in &self.peers {
            if let Some(tally) = peer.transport.tally() {
                self.tally.add(tally);
            }
        }
        (stats.into_iter().sum(), std::mem::take(&mut self.tally))
    }

    /// The life of one process, to its end.
    fn live(&mut self) {
        let is_cut_short = (0..self.plan.steps).any(|_| {
            let is_over = self.plan.end_at.is_some_and(|end| self.is_time(end));
            if !is_over {
                self.step();
            }
            is_over
        });
        if !is_cut_short {
            self.calm();
            self.outwait_the_stuck();
            self.check_at_rest();
            self.fill_windows();
            self.check_at_rest();
        }
        self.end();
        self.check_end();
    }

    pub(crate) fn step(&mut self) {
        self.step.set(self.step.get() + 1);
        let is_open = self.peers.len() < self.plan.clients && !self.is_cut;
        if is_open && (self.peers.len() < 2 || self.rng.percent(6)) {
            self.connect();
        }
        if self.rng.below(1_000) < self.plan.jumps {
            self.clock_jumps();
        }
        self.mishaps();
        if self.rng.percent(50) {
            self.any_turn();
        } else {
            self.any_peer_acts();
        }
    }

    pub(crate) fn any_turn(&mut self) {
        let awake: Vec<usize> = (0..self.hosts.len())
            .filter(|&host| self.is_awake(host) && !self.is_paused(host))
            .collect();
        if !awake.is_empty() {
            let host = self.rng.pick(&awake);
            self.turn(host);
        }
    }

    /// Whether the host's worker would be awake.
    pub(crate) fn is_awake(&self, host: usize) -> bool {
        let due = self.hosts[host].next_timeout();
        self.hosts[host].has_news() || due.is_some_and(|due| due <= self.now)
    }

    /// Whether the host is stopped.
    pub(crate) fn is_paused(&self, host: usize) -> bool {
        !self.is_settling && self.step.get() < self.hosts[host].paused_until
    }

    /// The next time at which a host acts even if nothing happens.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        let deadlines = self.hosts.iter().filter_map(Host::next_timeout);
        deadlines.min()
    }

    fn clock_jumps(&mut self) {
        let next = self
            .next_timeout()
            .map_or(Duration::ZERO, |due| due.since(self.now));
        let millis = self.rng.pick(&[1, 5, 30, 100, 1_000, 30_000]);
        let most = Duration::from_millis(millis);
        // Nobody waits for hours but messages that are to be kept for the whole life of a world.
        let jump = if self.rng.percent(50) && next < LONGEST_JUMP {
            next
        } else {
            most
        };
        self.tell(|| format!("the clock jumps by {jump:?}"));
        self.let_time_pass(self.now + jump);
    }

    /// Time passes, and nothing else happens. Hosts that are not stopped take the turns that are due meanwhile.
    fn let_time_pass(&mut self, end: Timestamp) {
        while let Some(due) = self.next_wake().filter(|&due| due < end) {
            self.now = self.now.max(due);
            for host in 0..self.hosts.len() {
                if self.is_awake(host) && !self.is_paused(host) {
                    self.turn(host);
                }
            }
        }
        self.now = self.now.max(end);
    }

    /// The next time at which a host that is not stopped acts even if nothing happens.
    fn next_wake(&self) -> Option<Timestamp> {
        let awake = (0..self.hosts.len()).filter(|&host| !self.is_paused(host));
        awake
            .filter_map(|host| self.hosts[host].next_timeout())
            .min()
    }

    /// The next host to read the clock finds that it was stopped.
    pub(crate) fn clock_stands_still_for_us(&mut self, event: Event) {
        let millis = self.rng.pick(&[20, 600, 3_000, 40_000]);
        self.now = self.now + Duration::from_millis(millis);
        self.tally.note(event);
        self.tell(|| format!("{event:?}: {millis} ms have passed"));
    }

    /// Stops hosts for a while. Clients and the kernel continue.
    pub(crate) fn pause(&mut self) {
        let until = self.step.get() + self.rng.within(1..=60);
        let event = if self.rng.percent(50) {
            for host in &mut self.hosts {
                host.paused_until = until;
            }
            Event::PauseOfAll
        } else {
            let host = self.rng.below(self.hosts.len());
            self.hosts[host].paused_until = until;
            Event::PauseOfOne
        };
        self.clock_stands_still_for_us(event);
    }

    fn connect(&mut self) {
        let id = self.peers.len();
        let target = self.rng.below(self.plan.topics.len());
        let wish = self.wish(target);
        let peer = Peer::connect(id, target, wish, &self.plan, &mut self.rng);
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
        let Wish {
            asked, has_words, ..
        } = peer.wish.clone();
        self.model.ask(id, asked, has_words);
        if peer.request == Request::Events {
            self.model.ask_for_events(id);
        }
        self.hosts[peer.host].sockets.push_back(id);
        self.peers.push(peer);
    }

    /// The place that a client asks for, if topics keep messages.
    fn wish(&mut self, topic: usize) -> Wish {
        if !self.plan.has_history() {
            return Wish::default();
        }
        let choice = self.rng.below(1_000_000);
        let known = self.model.any_number(topic, choice);
        let mut epoch = self.model.epoch();
        let asked = match (self.rng.below(10), known) {
            (0..5, Some(number)) => {
                Asked::Number(number.saturating_sub(self.rng.pick(&[0, 0, 1, 50])))
            }
            (5, Some(number)) => Asked::Number(number + 1_000_000),
            (6, _) => Asked::Nonsense,
            (8, _) if epoch != Epoch::from_bits(0) => {
                epoch = Epoch::from_bits(0);
                Asked::Foreign(self.rng.pick(&[0, 1, 17]))
            }
            (7, _) => Asked::Last(self.rng.pick(&[0, 1, 10, 10_000])),
            _ => Asked::Nothing,
        };
        // Without words, a client that may be made to skip is not told where it begins.
        let skips = self.plan.is_lossy();
        let has_words = self.rng.percent(60) || skips && asked != Asked::Nothing;
        Wish {
            asked,
            has_words,
            epoch,
        }
    }

    /// Whether the client's host has a connection to it.
    pub(crate) fn is_connected(&self, peer: &Peer) -> bool {
        peer.key
            .is_some_and(|key| self.hosts[peer.host].peer_of(key) == Some(peer.id))
    }

    /// Whether the client does all that is expected of it, so that no timeout should hit it.
    pub(crate) fn is_polite(peer: &Peer) -> bool {
        let manners = &peer.manners;
        manners.answers_close
            && manners.ends
            && peer.request != Request::Half
            // A connection without a request is given a moment to send one.
            && peer.queued_bytes > 0
            && !peer.has_vanished
            && !peer.never_reads
    }
}
