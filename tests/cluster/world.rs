//! Nodes, servers, clients and time: one step after the other, as the seed decides.
//!
//! A step serves a command, hands a reply to a node, lets time pass, lets a client act, or lets something go wrong. So faults lie
//! between any two commands. At the end all is mended, and every promise is judged once more.

use std::time::Duration;

use fanwire::internals::Timestamp;
use fanwire::internals::cluster::{Action, Lane, Place, State, TopicNames};

use crate::faults::{self, Lasting};
use crate::fleet::{Fleet, Link};
use crate::node::{Node, Note, Stage};
use crate::plan::{PREFIX, Plan, TOPICS};
use crate::rng::Rng;
use crate::server::Planted;
use crate::truth::Truth;

/// The longest time until all is well again, once nothing goes wrong any more: the longest demotion, backoffs, and the longest
/// time for which a stream may be ahead of its hash.
const RECOVERY: Duration = Duration::from_mins(2);

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
enum Wire {
    Down,
    Connecting,
    Open(Link),
}

/// The beginning of something, to be printed.
fn short(what: &impl std::fmt::Debug) -> String {
    const MOST: usize = 230;
    let text = format!("{what:?}").replace("Bulk", "");
    text.chars().take(MOST).collect()
}

/// A client that is between two nodes.
#[derive(Debug)]
struct Traveller {
    topic: String,
    understands: bool,
    place: Option<Place>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    plan: Plan,
    planted: Planted,
    rng: Rng,
    now: Timestamp,
    step: usize,
    fleet: Fleet,
    truth: Truth,
    nodes: Vec<Node>,
    wires: Vec<[Wire; 2]>,
    /// Nodes that drain, and until when they must be done.
    draining: Vec<Option<Timestamp>>,
    last_node: usize,
    travellers: Vec<Traveller>,
    lasting: Vec<(Timestamp, Lasting)>,
    last_id: u64,
    last_client: u64,
    /// The events on nodes that are gone.
    tally: Tally,
    is_told: bool,
}

/// The events of a world, for the sums over many.
pub(crate) type Tally = std::collections::BTreeMap<&'static str, u64>;

impl World {
    pub(crate) fn new(seed: u64, planted: Planted, is_told: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        let now = Timestamp(1_000_000_000);
        let nodes = (0..plan.nodes).map(|node| {
            let settings = plan.of_node(node);
            let seed = seed.wrapping_mul(31).wrapping_add(node as u64);
            Node::new(settings, seed, plan.max_history, planted, now)
        });
        let nodes: Vec<Node> = nodes.collect();
        if is_told {
            eprintln!("{plan:#?}");
        }
        World {
            wires: vec![[Wire::Down; 2]; nodes.len()],
            draining: vec![None; nodes.len()],
            last_node: nodes.len(),
            tally: Tally::new(),
            nodes,
            plan,
            planted,
            rng,
            now,
            step: 0,
            fleet: Fleet::new(),
            truth: Truth::default(),
            travellers: Vec::new(),
            lasting: Vec::new(),
            last_id: 0,
            last_client: 0,
            is_told,
        }
    }

    /// The number of the step, for a failure.
    pub(crate) fn step(&self) -> usize {
        self.step
    }

    /// Runs the world to its end. Panics if a promise is broken.
    pub(crate) fn run(&mut self) -> Tally {
        while self.step < self.plan.steps {
            self.take_step();
        }
        self.mend();
        self.recover("with clients", Self::is_well);
        self.part();
        self.recover("without clients", Self::is_gone);
        for node in 0..self.nodes.len() {
            self.count(node);
        }
        std::mem::take(&mut self.tally)
    }

    /// Adds what happened on a node.
    fn count(&mut self, node: usize) {
        let node = &self.nodes[node];
        let counts = node.engine.counts();
        let of_engine = [
            ("fences", counts.fences),
            ("fills", counts.fills),
            ("audits", counts.audits),
            ("refused", counts.refused),
            ("published", counts.published),
        ];
        let of_node = node.tally.iter().map(|(what, times)| (*what, *times));
        for (what, times) in of_node.chain(of_engine) {
            *self.tally.entry(what).or_default() += times;
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!(
                "{:5} {:9.3}s {}",
                self.step,
                self.now.0 as f64 / 1e6 - 1_000.0,
                what()
            );
        }
    }

    fn take_step(&mut self) {
        self.step += 1;
        match self.rng.below(1_000) {
            0..400 => self.serve(),
            400..750 => self.receive(),
            750..850 => self.pass_time(),
            _ => self.act(),
        }
        if self.rng.below(1_000) < self.plan.faults {
            self.strike();
        }
        self.end_lasting();
        self.end_drains();
        self.check();
    }

    /// A server executes commands of one connection.
    fn serve(&mut self) {
        let links = self.fleet.to_serve(self.now);
        if links.is_empty() {
            return;
        }
        let link = self.rng.pick(&links);
        for _ in 0..self.rng.within(1..=4) {
            if self
                .fleet
                .connection(link)
                .is_none_or(|connection| connection.inbound.is_empty())
            {
                break;
            }
            self.fleet
                .serve(link, &mut self.truth, self.now, self.planted);
        }
        self.fleet.tidy();
    }

    /// A node gets what one connection brings.
    fn receive(&mut self) {
        let mut ready = Vec::new();
        for node in 0..self.nodes.len() {
            for lane in [Lane::Publisher, Lane::Subscriber] {
                if self.is_ready(node, lane) {
                    ready.push((node, lane));
                }
            }
        }
        if ready.is_empty() {
            return;
        }
        let (node, lane) = self.rng.pick(&ready);
        for _ in 0..self.rng.within(1..=4) {
            if self.is_ready(node, lane) {
                self.read(node, lane);
            }
        }
    }

    fn is_ready(&mut self, node: usize, lane: Lane) -> bool {
        match self.wires[node][lane as usize] {
            Wire::Down => false,
            Wire::Connecting => true,
            Wire::Open(link) => {
                let now = self.now;
                self.fleet.connection(link).is_none_or(|connection| {
                    let has_some = !connection.outbound.is_empty() || connection.is_closed;
                    has_some && connection.stalled_until <= now
                })
            }
        }
    }

    fn read(&mut self, node: usize, lane: Lane) {
        let now = self.now;
        match self.wires[node][lane as usize] {
            Wire::Down => {}
            Wire::Connecting => match self.fleet.connect() {
                Some(link) => {
                    self.wires[node][lane as usize] = Wire::Open(link);
                    self.nodes[node].engine.on_connected(lane, now);
                }
                None => self.lose(node, lane),
            },
            Wire::Open(link) => {
                let connection = self.fleet.connection(link);
                let reply = connection.and_then(|connection| connection.outbound.pop_front());
                self.tell(|| format!("node {node} {lane:?} reads {}", short(&reply)));
                match reply {
                    Some(reply) => self.nodes[node].engine.on_reply(lane, &reply, now),
                    None => self.lose(node, lane),
                }
            }
        }
        self.follow(node);
    }

    fn lose(&mut self, node: usize, lane: Lane) {
        if let Wire::Open(link) = self.wires[node][lane as usize]
            && let Some(connection) = self.fleet.connection(link)
        {
            connection.is_left = true;
        }
        self.wires[node][lane as usize] = Wire::Down;
        self.tell(|| format!("node {node} loses {lane:?}"));
        self.nodes[node].engine.on_closed(lane, self.now);
    }

    /// Does what a node's code asks, and takes what it says.
    fn follow(&mut self, node: usize) {
        loop {
            self.nodes[node].take_events(&self.truth, self.now);
            let actions = self.nodes[node].engine.take_actions();
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.perform(node, action);
            }
        }
        for (topic, number, understands, place) in self.nodes[node].take_gone() {
            self.tell(|| format!("node {node}: client {number} of {topic} ends at {place:?}"));
            self.travellers.push(Traveller {
                topic,
                understands,
                place,
            });
        }
    }

    fn perform(&mut self, node: usize, action: Action) {
        match action {
            Action::Connect(lane) => self.wires[node][lane as usize] = Wire::Connecting,
            Action::Close(lane, reason) => {
                self.tell(|| format!("node {node} closes {lane:?}: {reason:?}"));
                if let Wire::Open(link) = self.wires[node][lane as usize]
                    && let Some(connection) = self.fleet.connection(link)
                {
                    connection.is_left = true;
                }
                self.wires[node][lane as usize] = Wire::Down;
            }
            Action::Send(lane, command) => {
                self.tell(|| format!("node {node} {lane:?} sends {}", short(&command.args)));
                let Wire::Open(link) = self.wires[node][lane as usize] else {
                    return;
                };
                if let Some(connection) = self.fleet.connection(link)
                    && !connection.is_closed
                {
                    connection.inbound.push_back(command);
                }
            }
        }
    }

    fn pass_time(&mut self) {
        let ms = match self.rng.below(100) {
            0..70 => self.rng.within(1..=10),
            70..97 => self.rng.within(10..=100),
            _ => self.rng.within(100..=6_000),
        };
        self.advance(Duration::from_millis(ms as u64));
    }

    fn advance(&mut self, span: Duration) {
        self.now = self.now + span;
        for node in 0..self.nodes.len() {
            while self.nodes[node]
                .engine
                .poll_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.nodes[node].engine.handle_timeout(self.now);
                self.follow(node);
            }
        }
    }

    /// A client does something.
    fn act(&mut self) {
        let node = self.rng.below(self.nodes.len());
        let topic = TOPICS[self.rng.below(self.plan.topics)];
        if self.draining[node].is_some() {
            return;
        }
        let clients = self.nodes[node]
            .rooms
            .get(topic)
            .map_or(0, |room| room.clients.len());
        match self.rng.below(100) {
            0..15 if clients < 4 => {
                let understands = self.rng.percent(50);
                self.join(node, topic, understands, None);
            }
            15..25 if !self.travellers.is_empty() => {
                let at = self.rng.below(self.travellers.len());
                let traveller = self.travellers.swap_remove(at);
                let place = traveller.place.filter(|_| self.rng.percent(90));
                self.join(node, &traveller.topic, traveller.understands, place);
            }
            25..35 if clients > 0 => {
                let at = self.rng.below(clients);
                self.depart(node, topic, at);
            }
            35 => self.end_node(node),
            _ => self.publish(node, topic),
        }
        self.follow(node);
    }

    /// A node is told to end, or is killed.
    fn end_node(&mut self, node: usize) {
        if self.rng.percent(40) {
            self.tell(|| format!("node {node} is killed"));
            self.replace_node(node);
            return;
        }
        let until = self.now + Duration::from_millis(self.rng.within(1..=3_000) as u64);
        self.tell(|| format!("node {node} drains"));
        self.draining[node] = Some(until);
        self.nodes[node].drain(until, self.now);
    }

    /// Replaces nodes whose drain is over.
    fn end_drains(&mut self) {
        for node in 0..self.nodes.len() {
            let Some(until) = self.draining[node] else {
                continue;
            };
            self.follow(node);
            if self.nodes[node].is_drained() {
                self.tell(|| format!("node {node} is drained"));
                self.replace_node(node);
            } else {
                assert!(self.now <= until, "node {node} does not drain");
            }
        }
    }

    /// Another process takes a node's place.
    fn replace_node(&mut self, node: usize) {
        self.count(node);
        for (topic, _, understands, place) in self.nodes[node].end() {
            self.travellers.push(Traveller {
                topic,
                understands,
                place,
            });
        }
        for wire in &mut self.wires[node] {
            if let Wire::Open(link) = std::mem::replace(wire, Wire::Down)
                && let Some(connection) = self.fleet.connection(link)
            {
                connection.is_left = true;
            }
        }
        let settings = self.plan.of_node(self.last_node);
        self.last_node += 1;
        let seed = self.rng.next();
        self.nodes[node] = Node::new(
            settings,
            seed,
            self.plan.max_history,
            self.planted,
            self.now,
        );
        self.draining[node] = None;
    }

    fn join(&mut self, node: usize, topic: &str, understands: bool, place: Option<Place>) {
        self.last_client += 1;
        let number = self.last_client;
        self.tell(|| format!("node {node}: client {number} joins {topic} with {place:?}"));
        let now = self.now;
        self.nodes[node].join(topic, number, understands, place, now);
    }

    fn depart(&mut self, node: usize, topic: &str, at: usize) {
        let client = &self.nodes[node].rooms[topic].clients[at];
        let understands = client.understands;
        let place = self.nodes[node].leave(topic, at, self.now);
        self.tell(|| format!("node {node}: a client leaves {topic} at {place:?}"));
        self.travellers.push(Traveller {
            topic: topic.into(),
            understands,
            place,
        });
    }

    fn publish(&mut self, node: usize, topic: &str) {
        let room = self.nodes[node].rooms.get(topic);
        if room.is_some_and(|room| room.is_held) && self.rng.percent(95) {
            return;
        }
        let count = self.rng.within(1..=3) as u64;
        let ids: Vec<u64> = (self.last_id + 1..=self.last_id + count).collect();
        self.last_id += count;
        self.tell(|| format!("node {node} publishes {ids:?} to {topic}"));
        let padding = self.rng.below(60);
        let published = Note::new(ids, padding);
        self.nodes[node].publish(topic, published, &self.truth, self.now);
    }

    fn links(&self) -> Vec<Link> {
        let wires = self.wires.iter().flatten();
        let links = wires.filter_map(|wire| match wire {
            Wire::Open(link) => Some(*link),
            Wire::Down | Wire::Connecting => None,
        });
        links.collect()
    }

    fn strike(&mut self) {
        let links = self.links();
        let (fleet, rng) = (&mut self.fleet, &mut self.rng);
        let (what, lasting) = faults::strike(fleet, &links, &self.plan, rng, self.now);
        self.lasting.extend(lasting);
        self.tell(|| format!("    {what}"));
    }

    fn end_lasting(&mut self) {
        let now = self.now;
        let over = self.lasting.extract_if(.., |(at, _)| *at <= now);
        for (_, lasting) in over.collect::<Vec<_>>() {
            faults::end(&mut self.fleet, lasting);
            self.tell(|| format!("    over: {lasting:?}"));
        }
    }

    fn check(&self) {
        // Publishers that do not see a hold in time publish a little more than they may.
        let max_pending = self.plan.settings.pending_bytes + 40_000;
        for node in &self.nodes {
            node.check(max_pending);
        }
    }

    /// Nothing goes wrong any more. A demotion still takes its time.
    fn mend(&mut self) {
        self.tell(|| "    all is mended".into());
        for (at, lasting) in std::mem::take(&mut self.lasting) {
            match lasting {
                Lasting::Demoted(_) => self.lasting.push((at, lasting)),
                Lasting::OutOfMemory | Lasting::Cut | Lasting::Forsaken(_) => {
                    faults::end(&mut self.fleet, lasting);
                }
            }
        }
    }

    /// Lets time pass until all is as it should be.
    fn recover(&mut self, when: &str, is_over: fn(&mut World) -> Result<(), String>) {
        let until = self.now + RECOVERY;
        loop {
            self.step += 1;
            self.end_lasting();
            self.end_drains();
            self.settle();
            match is_over(self) {
                Ok(()) if self.lasting.is_empty() && self.draining.iter().all(Option::is_none) => {
                    return;
                }
                Ok(()) => {}
                Err(why) => assert!(self.now < until, "{when}: {why}"),
            }
            let next = self
                .nodes
                .iter()
                .filter_map(|node| node.engine.poll_timeout())
                .min();
            let now = self.now;
            let stalls = self.links().into_iter();
            let stalls = stalls.filter_map(|link| Some(self.fleet.connection(link)?.stalled_until));
            let stalled = stalls.filter(|at| *at > now).min();
            let next = next.into_iter().chain(stalled).min();
            let span = next.map_or(Duration::ZERO, |next| next.since(now));
            self.advance(span.max(Duration::from_millis(1)));
        }
    }

    /// Serves and reads all that there is.
    fn settle(&mut self) {
        loop {
            let links = self.fleet.to_serve(self.now);
            for &link in &links {
                self.fleet
                    .serve(link, &mut self.truth, self.now, self.planted);
            }
            let mut has_read = false;
            for node in 0..self.nodes.len() {
                for lane in [Lane::Publisher, Lane::Subscriber] {
                    if self.is_ready(node, lane) {
                        self.read(node, lane);
                        has_read = true;
                    }
                }
            }
            self.fleet.tidy();
            if links.is_empty() && !has_read {
                return;
            }
        }
    }

    /// Every topic with clients is live where the engine is, and so is every client. All sources have their bytes back.
    fn is_well(&mut self) -> Result<(), String> {
        for (number, node) in self.nodes.iter().enumerate() {
            if !node.engine.is_up() {
                return Err(format!("node {number}: the link is down"));
            }
            if !node.outstanding.is_empty() {
                return Err(format!(
                    "node {number}: {:?} never came back",
                    node.outstanding
                ));
            }
            for (name, topic) in node.engine.topics() {
                let hash = TopicNames::new(PREFIX, name).hash;
                let server = &self.fleet.servers[self.fleet.address];
                let epoch = server.number(&hash, "e");
                let last = server.number(&hash, "n");
                if topic.state() != State::Live {
                    return Err(format!("node {number}: {name} is {:?}", topic.state()));
                }
                let place = topic.place().ok_or("no place")?;
                if server.field(&hash, "e").is_some()
                    && (place.epoch.0, place.last) != (epoch, last)
                    && last > 0
                {
                    return Err(format!(
                        "node {number}: {name} is at {place}, the engine at {epoch}-{last}"
                    ));
                }
                let room = &node.rooms[name];
                if room.is_held {
                    return Err(format!("node {number}: {name} is held"));
                }
                for client in &room.clients {
                    let Stage::Here(session) = &client.stage else {
                        return Err(format!("node {number}: client {client:?} waits: {topic:?}"));
                    };
                    if session.place != place {
                        return Err(format!(
                            "node {number}: client {} is at {}",
                            client.number, session.place
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// All clients leave.
    fn part(&mut self) {
        for node in 0..self.nodes.len() {
            let topics: Vec<String> = self.nodes[node].rooms.keys().cloned().collect();
            for topic in topics {
                while !self.nodes[node].rooms[&topic].clients.is_empty() {
                    self.depart(node, &topic, 0);
                }
            }
            self.follow(node);
        }
    }

    /// No node has a topic, and no memory is counted.
    fn is_gone(&mut self) -> Result<(), String> {
        for (number, node) in self.nodes.iter().enumerate() {
            if let Some((name, topic)) = node.engine.topics().next() {
                return Err(format!("node {number} still has {name}: {topic:?}"));
            }
            if node.engine.pending_bytes() != 0 {
                return Err(format!("node {number} counts memory"));
            }
        }
        Ok(())
    }
}
