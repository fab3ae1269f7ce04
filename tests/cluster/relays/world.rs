//! Relays, servers, clients and time: one step after the other, as the seed decides.

use std::collections::BTreeMap;
use std::time::Duration;

use fanwire::config::Config;
use fanwire::internals::Timestamp;
use fanwire::internals::cluster::{Action, EngineSettings, Lane, Place};
use fanwire::internals::relay::{ClusterSettings, Readiness};

use super::reader::{Reader, State};
use super::relay::{News, Relay};
use crate::faults::{self, Lasting};
use crate::fleet::{Fleet, Link};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::server::Planted;
use crate::truth::Truth;

pub(super) const TOPICS: [&str; 2] = ["/a", "/c"];

const READ: Readiness = Readiness {
    is_readable: true,
    is_writable: false,
    is_read_closed: false,
    is_error: false,
};

#[derive(Clone, Copy, Debug)]
enum Wire {
    Down,
    Connecting,
    Open(Link),
}

/// A client that is between two relays.
#[derive(Debug)]
struct Traveller {
    topic: String,
    understands: bool,
    place: Option<Place>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(super) plan: Plan,
    pub(super) config: Config,
    pub(super) times: ClusterSettings,
    pub(super) shards: u16,
    pub(super) rng: Rng,
    pub(super) now: Timestamp,
    pub(super) step: usize,
    pub(super) fleet: Fleet,
    pub(super) truth: Truth,
    pub(super) relays: Vec<Relay>,
    /// By relay and shard.
    wires: Vec<Vec<[Wire; 2]>>,
    last_relay: usize,
    pub(super) readers: Vec<Reader>,
    travellers: Vec<Traveller>,
    pub(super) lasting: Vec<(Timestamp, Lasting)>,
    last_id: u64,
    last_reader: u64,
    tally: BTreeMap<&'static str, u64>,
    is_told: bool,
}

fn settings_of(plan: &Plan, relay: usize) -> EngineSettings {
    let mut settings = plan.of_node(relay);
    // A sent batch is never given up for the age of the node's field.
    settings.topic.topic_ttl = Duration::from_hours(1);
    settings
}

impl World {
    pub(crate) fn new(seed: u64, is_told: bool) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let mut plan = Plan::new(&mut rng);
        plan.nodes = rng.within(2..=3);
        plan.is_lossy = rng.percent(10);
        let mut config = Config::default();
        config.history.max_age = Duration::from_secs(rng.pick(&[2, 60]));
        config.history.max_messages = rng.pick(&[0, 5, 100]);
        config.keepalive.ping_interval = Duration::ZERO;
        config.relay.coalesce = Duration::from_millis(rng.pick(&[0, 2, 5]));
        let times = ClusterSettings {
            outage_timeout: plan.settings.topic.outage_timeout,
            close_spread: Duration::from_millis(rng.pick(&[0, 300, 2_000])),
        };
        let mut world = World {
            shards: rng.within(1..=2) as u16,
            config,
            times,
            rng,
            now: Timestamp(1_000_000_000),
            step: 0,
            fleet: Fleet::new(),
            truth: Truth::default(),
            relays: Vec::new(),
            wires: Vec::new(),
            last_relay: 0,
            readers: Vec::new(),
            travellers: Vec::new(),
            lasting: Vec::new(),
            last_id: 0,
            last_reader: 0,
            tally: BTreeMap::new(),
            is_told,
            plan,
        };
        if is_told {
            eprintln!("{:#?} {:?}", world.plan, world.times);
        }
        for _ in 0..world.plan.nodes {
            let relay = world.new_relay();
            world.relays.push(relay);
            let wires = vec![[Wire::Down; 2]; usize::from(world.shards)];
            world.wires.push(wires);
        }
        world
    }

    pub(crate) fn step(&self) -> usize {
        self.step
    }

    fn new_relay(&mut self) -> Relay {
        let settings = settings_of(&self.plan, self.last_relay);
        self.last_relay += 1;
        let seed = self.rng.next() >> 8;
        Relay::new(
            &self.config,
            &settings,
            self.times,
            (self.shards, seed),
            self.now,
        )
    }

    fn note(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            let seconds = self.now.0 as f64 / 1e6 - 1_000.0;
            eprintln!("{:5} {seconds:9.3}s {}", self.step, what());
        }
    }

    /// Runs the world to its end. Panics if a promise is broken.
    pub(crate) fn run(&mut self) -> BTreeMap<&'static str, u64> {
        while self.step < self.plan.steps {
            self.take_step();
        }
        self.mend();
        self.recover("with clients", Self::is_well);
        for at in (0..self.readers.len()).rev() {
            self.depart(at);
        }
        self.recover("without clients", Self::is_gone);
        std::mem::take(&mut self.tally)
    }

    fn take_step(&mut self) {
        self.step += 1;
        match self.rng.below(1_000) {
            0..350 => self.serve(),
            350..650 => self.receive(),
            650..750 => self.pass_time(),
            _ => self.act(),
        }
        if self.rng.below(1_000) < self.plan.faults {
            let links = self.links();
            let (what, lasting) =
                faults::strike(&mut self.fleet, &links, &self.plan, &mut self.rng, self.now);
            self.lasting.extend(lasting);
            self.tell(|| format!("    {what}"));
        }
        self.end_lasting();
        self.rest();
    }

    pub(super) fn end_lasting(&mut self) {
        let now = self.now;
        let over: Vec<_> = self.lasting.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, lasting) in over {
            faults::end(&mut self.fleet, lasting);
            self.tell(|| format!("    over: {lasting:?}"));
        }
    }

    fn links(&self) -> Vec<Link> {
        let wires = self.wires.iter().flatten().flatten();
        let links = wires.filter_map(|wire| match wire {
            Wire::Open(link) => Some(*link),
            Wire::Down | Wire::Connecting => None,
        });
        links.collect()
    }

    /// A server executes commands of one connection.
    fn serve(&mut self) {
        let links = self.fleet.to_serve(self.now);
        if links.is_empty() {
            return;
        }
        let link = self.rng.pick(&links);
        for _ in 0..self.rng.within(1..=4) {
            let connection = self.fleet.connection(link);
            if connection.is_none_or(|connection| connection.inbound.is_empty()) {
                break;
            }
            let planted = Planted::Nothing;
            self.fleet.serve(link, &mut self.truth, self.now, planted);
        }
        self.fleet.tidy();
    }

    pub(super) fn ready(&mut self) -> Vec<(usize, usize, Lane)> {
        let mut ready = Vec::new();
        for relay in 0..self.relays.len() {
            for shard in 0..usize::from(self.shards) {
                for lane in [Lane::Publisher, Lane::Subscriber] {
                    if self.is_ready(relay, shard, lane) {
                        ready.push((relay, shard, lane));
                    }
                }
            }
        }
        ready
    }

    pub(super) fn is_ready(&mut self, relay: usize, shard: usize, lane: Lane) -> bool {
        match self.wires[relay][shard][lane as usize] {
            Wire::Down => false,
            Wire::Connecting => true,
            Wire::Open(link) => {
                let may_read = lane == Lane::Publisher
                    || self.relays[relay].turns[shard].shard.takes_arrivals();
                let now = self.now;
                self.fleet.connection(link).is_none_or(|connection| {
                    let has_some = !connection.outbound.is_empty() || connection.is_closed;
                    may_read && has_some && connection.stalled_until <= now
                })
            }
        }
    }

    /// A shard gets what one connection brings.
    fn receive(&mut self) {
        let ready = self.ready();
        if ready.is_empty() {
            return;
        }
        let (relay, shard, lane) = self.rng.pick(&ready);
        for _ in 0..self.rng.within(1..=4) {
            if self.is_ready(relay, shard, lane) {
                self.read(relay, shard, lane);
            }
        }
    }

    pub(super) fn read(&mut self, relay: usize, shard: usize, lane: Lane) {
        let news = match self.wires[relay][shard][lane as usize] {
            Wire::Down => return,
            Wire::Connecting => match self.fleet.connect() {
                Some(link) => {
                    self.wires[relay][shard][lane as usize] = Wire::Open(link);
                    News::Connected(lane)
                }
                None => self.lose(relay, shard, lane),
            },
            Wire::Open(link) => {
                let connection = self.fleet.connection(link);
                let reply = connection.and_then(|connection| connection.outbound.pop_front());
                match reply {
                    Some(reply) => News::Reply(lane, reply),
                    None => self.lose(relay, shard, lane),
                }
            }
        };
        self.tell(|| {
            let text = format!("{news:?}");
            format!(
                "relay {relay}.{shard} hears {}",
                text.chars().take(200).collect::<String>()
            )
        });
        self.relays[relay].outsides[shard].news.push_back(news);
        self.rest();
    }

    fn lose(&mut self, relay: usize, shard: usize, lane: Lane) -> News {
        self.leave(relay, shard, lane);
        News::Closed(lane)
    }

    fn leave(&mut self, relay: usize, shard: usize, lane: Lane) {
        let wire = &mut self.wires[relay][shard][lane as usize];
        if let Wire::Open(link) = std::mem::replace(wire, Wire::Down)
            && let Some(connection) = self.fleet.connection(link)
        {
            connection.is_left = true;
        }
    }

    /// Lets all shards rest, does what they want, and lets clients read.
    pub(super) fn rest(&mut self) {
        for relay in 0..self.relays.len() {
            self.relays[relay].rest(self.now);
            for shard in 0..usize::from(self.shards) {
                for action in std::mem::take(&mut self.relays[relay].outsides[shard].actions) {
                    self.perform(relay, shard, action);
                }
            }
        }
        self.read_clients();
    }

    fn perform(&mut self, relay: usize, shard: usize, action: Action) {
        match action {
            Action::Connect(lane) => self.wires[relay][shard][lane as usize] = Wire::Connecting,
            Action::Close(lane, reason) => {
                self.tell(|| format!("relay {relay}.{shard} closes {lane:?}: {reason:?}"));
                self.leave(relay, shard, lane);
            }
            Action::Send(lane, command) => {
                self.tell(|| {
                    let text = format!("{:?}", command.args);
                    format!(
                        "relay {relay}.{shard} {lane:?} sends {}",
                        text.chars().take(160).collect::<String>()
                    )
                });
                if let Wire::Open(link) = self.wires[relay][shard][lane as usize]
                    && let Some(connection) = self.fleet.connection(link)
                    && !connection.is_closed
                {
                    connection.inbound.push_back(command);
                }
            }
        }
    }

    fn read_clients(&mut self) {
        for at in (0..self.readers.len()).rev() {
            let reader = &mut self.readers[at];
            let outside = &mut self.relays[reader.relay].outsides[reader.shard];
            let (bytes, is_closed) = match outside.socket(reader.key) {
                Some(socket) => (std::mem::take(&mut socket.sent), socket.is_closed),
                None => continue,
            };
            reader.take(bytes.into_iter(), &self.truth);
            for what in std::mem::take(&mut self.readers[at].tally) {
                self.note(what);
            }
            let reader = &mut self.readers[at];
            if is_closed {
                reader.end();
            }
            if let State::Over(place) = reader.state {
                self.tell_over(at, place);
                self.forget(at);
            }
        }
    }

    fn tell_over(&self, at: usize, place: Option<Place>) {
        let number = self.readers[at].number;
        self.tell(|| format!("client {number} ends at {place:?}"));
    }

    /// A client's connection is over: it ends its side.
    fn forget(&mut self, at: usize) {
        let reader = self.readers.swap_remove(at);
        let outside = &mut self.relays[reader.relay].outsides[reader.shard];
        if let Some(socket) = outside.socket(reader.key) {
            socket.is_ended = true;
            socket.room = usize::MAX;
            let readiness = Readiness {
                is_read_closed: true,
                is_writable: true,
                ..READ
            };
            outside.events.push_back((reader.key, readiness));
        }
        if let State::Over(place) = reader.state
            && !reader.topic.is_empty()
        {
            self.travellers.push(Traveller {
                topic: reader.topic,
                understands: reader.understands,
                place,
            });
        }
    }

    fn depart(&mut self, at: usize) {
        let number = self.readers[at].number;
        self.tell(|| format!("client {number} leaves"));
        self.readers[at].end();
        self.forget(at);
    }

    fn pass_time(&mut self) {
        let ms = match self.rng.below(100) {
            0..70 => self.rng.within(1..=10),
            70..97 => self.rng.within(10..=100),
            _ => self.rng.within(100..=6_000),
        };
        self.advance(Duration::from_millis(ms as u64));
    }

    pub(super) fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            let now = self.now;
            let wakes = self
                .relays
                .iter_mut()
                .filter_map(|relay| relay.next_wake(now));
            let next = wakes.min().unwrap_or(end).min(end);
            self.now = next.max(now + Duration::from_micros(1)).min(end);
            self.rest();
        }
    }

    /// A client does something.
    fn act(&mut self) {
        let relay = self.rng.below(self.relays.len());
        let topic = TOPICS[self.rng.below(TOPICS.len())];
        let is_draining = self.relays[relay].is_draining;
        let here = |reader: &Reader| reader.relay == relay;
        let clients = self.readers.iter().filter(|reader| here(reader)).count();
        match self.rng.below(100) {
            0..15 if clients < 6 && !is_draining => {
                let understands = self.rng.percent(50);
                self.join(relay, topic, understands, None);
            }
            15..25 if !self.travellers.is_empty() && !is_draining => {
                let at = self.rng.below(self.travellers.len());
                let traveller = self.travellers.swap_remove(at);
                let place = traveller.place.filter(|_| self.rng.percent(90));
                self.join(relay, &traveller.topic, traveller.understands, place);
            }
            25..32 if !self.readers.is_empty() => {
                let at = self.rng.below(self.readers.len());
                self.depart(at);
            }
            32..40 if !is_draining => self.post(relay, topic),
            40..46 if !self.readers.is_empty() => {
                let at = self.rng.below(self.readers.len());
                let room = self.rng.pick(&[0, 10, 200]);
                self.set_room(at, room);
            }
            46..56 if !self.readers.is_empty() => {
                let at = self.rng.below(self.readers.len());
                self.set_room(at, usize::MAX);
            }
            56 => self.end_relay(relay),
            57..60 if !is_draining => self.connect(relay, topic, false, State::Curious),
            _ if !self.readers.is_empty() => {
                let at = self.rng.below(self.readers.len());
                self.publish(at);
            }
            _ => {}
        }
    }

    /// A client's side takes so many bytes from now on.
    pub(super) fn set_room(&mut self, at: usize, room: usize) {
        let reader = &self.readers[at];
        let outside = &mut self.relays[reader.relay].outsides[reader.shard];
        let Some(socket) = outside.socket(reader.key) else {
            return;
        };
        socket.room = room;
        if room > 0 && std::mem::take(&mut socket.is_blocked) {
            let readiness = Readiness {
                is_readable: false,
                is_writable: true,
                ..READ
            };
            outside.events.push_back((reader.key, readiness));
        }
    }

    fn connect(&mut self, relay: usize, topic: &str, understands: bool, state: State) {
        let shard = self.rng.below(usize::from(self.shards));
        let key = self.relays[relay].accept(shard, usize::MAX);
        self.last_reader += 1;
        let place = (relay, shard, key);
        let reader = Reader::new(self.last_reader, place, topic, understands, state);
        let request = reader.request();
        self.tell(|| {
            format!(
                "relay {relay}.{shard}: client {} asks {:?}",
                reader.number,
                String::from_utf8_lossy(&request).lines().next()
            )
        });
        self.readers.push(reader);
        self.send(self.readers.len() - 1, &request);
    }

    fn send(&mut self, at: usize, bytes: &[u8]) {
        let reader = &self.readers[at];
        let outside = &mut self.relays[reader.relay].outsides[reader.shard];
        if let Some(socket) = outside.socket(reader.key) {
            socket.unread.extend_from_slice(bytes);
            outside.events.push_back((reader.key, READ));
        }
    }

    fn join(&mut self, relay: usize, topic: &str, understands: bool, place: Option<Place>) {
        self.connect(relay, topic, understands, State::Asking(place));
    }

    fn post(&mut self, relay: usize, topic: &str) {
        self.last_id += 1;
        self.connect(relay, topic, false, State::Posting(self.last_id));
    }

    fn publish(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        if reader.session().is_none() || self.relays[reader.relay].is_draining {
            return;
        }
        self.last_id += 1;
        let id = self.last_id;
        reader.unheard.push(id);
        let number = reader.number;
        self.tell(|| format!("client {number} says {id}"));
        self.send(at, &Reader::frame(id));
    }

    /// A relay is told to end, or is killed.
    fn end_relay(&mut self, relay: usize) {
        if self.relays[relay].is_draining {
            return;
        }
        if self.rng.percent(40) {
            self.tell(|| format!("relay {relay} is killed"));
            return self.replace(relay);
        }
        self.tell(|| format!("relay {relay} drains"));
        self.relays[relay].is_draining = true;
        for at in 0..self.readers.len() {
            if self.readers[at].relay == relay {
                self.set_room(at, usize::MAX);
            }
        }
        for turn in &mut self.relays[relay].turns {
            turn.shard.begin_drain();
        }
        // No longer than the engines may take, and then clients read.
        let until = self.now + self.config.shutdown.timeout;
        while !self.relays[relay]
            .turns
            .iter()
            .all(|turn| turn.shard.is_drained())
        {
            if self.now >= until {
                let left = self.relays[relay].turns.iter().map(|turn| {
                    let cluster = turn.shard.cluster().expect("it has engines");
                    let topics = cluster.engines()[0].topics();
                    let topics: Vec<_> = topics
                        .map(|(name, topic)| (name, topic.state(), topic.is_drained()))
                        .collect();
                    format!("{} clients, {topics:?}", turn.shard.len())
                });
                let left: Vec<_> = left.collect();
                panic!("relay {relay} does not drain: {left:?}");
            }
            if self.rng.percent(50) {
                self.serve();
                self.receive();
            }
            self.advance(Duration::from_millis(20));
        }
        self.note("drained");
        self.replace(relay);
    }

    /// Another process takes a relay's place.
    fn replace(&mut self, relay: usize) {
        for at in (0..self.readers.len()).rev() {
            if self.readers[at].relay == relay {
                self.readers[at].end();
                self.forget(at);
            }
        }
        for shard in 0..usize::from(self.shards) {
            for lane in [Lane::Publisher, Lane::Subscriber] {
                self.leave(relay, shard, lane);
            }
        }
        self.relays[relay] = self.new_relay();
    }
}
