//! The connections of a worker to its engines, on its own event loop.
//!
//! [`Links`] moves bytes between sockets and the pure engines (`cluster::engine`), and does what these say. The worker's
//! `sockets` call it in each turn. [`lane`] is one connection, [`target`] says where an engine is, [`finder`] looks up
//! addresses on other threads, and [`story`] tells the operator.
//!
//! It decides nothing about topics or batches. All that an engine sends ends in a reply for the pure half, or in an error.

pub(crate) mod finder;
mod lane;
pub(crate) mod story;
pub(crate) mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Registry, Token};

use self::finder::{Finder, Found, literal};
use self::lane::{Fault, Heard, Read1, Wire};
use self::story::Story;
use self::target::{Place, Target};
use super::vitals::{Membership, Vitals};
use crate::cluster::engine::{Action, Engine};
use crate::cluster::hello;
use crate::cluster::link::{LANES, Lane, Reason};
use crate::cluster::reply::Reply;
use crate::cluster::topic::parcel::Parcel;
use crate::cluster::trouble::Trouble;
use crate::metrics::engines::{ClusterStat, EngineNumbers, EngineStat, Loss, PublishedEngines};
use crate::time::Timestamp;

/// The token of the first connection. Those of others lie below it. No client has one of them, because no slot is so high.
const FIRST_TOKEN: usize = usize::MAX - 2;

/// Bytes that one turn reads from a connection.
const READ_BYTES: usize = 512 << 10;

/// Bytes of one read.
const BUFFER_BYTES: usize = 64 << 10;

/// A node hears all others in this time, and judges then whether it fits to them.
const LISTENING: Duration = Duration::from_millis(hello::INTERVAL.as_millis() as u64 + 1_000);

/// The parts that all workers share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) targets: Arc<[Target]>,
    /// By engine; none for those that need no search.
    pub(crate) finders: Arc<[Option<Finder>]>,
    pub(crate) stories: Arc<[Story]>,
    pub(crate) published: Arc<PublishedEngines>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) limits: Limits,
}

/// The limits of connections, from the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The longest reply to a command, in bytes.
    pub(crate) max_reply_bytes: usize,
    /// The longest message of a subscription, in bytes.
    pub(crate) max_message_bytes: usize,
    /// `cluster.unready_after`.
    pub(crate) unready_after: Duration,
}

/// A connection, or the lack of one.
#[derive(Debug)]
enum Slot {
    /// The engine does not want it.
    Closed,
    /// Its address is looked up.
    Looking,
    /// The engine must be told that it is lost.
    Failed(Fault),
    /// It is there.
    Wired(Box<Wire>),
}

/// One engine.
#[derive(Debug)]
struct Ends {
    slots: [Slot; 2],
    /// The last look left bytes unread.
    was_unread: [bool; 2],
    /// The next address to try, of those that a search finds.
    attempt: usize,
    was_up: bool,
    /// The first time that it was up.
    first_up_at: Option<Timestamp>,
    /// Errors and refused messages that the operator has been told of.
    refused: u64,
    numbers: EngineNumbers,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Links {
    worker: usize,
    shared: Shared,
    ends: Vec<Ends>,
    buffer: Box<[u8]>,
    /// The subscriptions are not read now.
    is_deaf: bool,
    has_joined: bool,
    away_since: Option<Timestamp>,
}

fn index_of(lane: Lane) -> usize {
    match lane {
        Lane::Publisher => 0,
        Lane::Subscriber => 1,
    }
}

/// The token of a connection.
fn token_of(engine: usize, lane: Lane) -> Token {
    Token(FIRST_TOKEN - 2 * engine - index_of(lane))
}

impl Links {
    /// No connection yet.
    pub(crate) fn new(worker: usize, shared: Shared) -> Self {
        let ends = shared.targets.iter().map(|_| Ends {
            slots: [Slot::Closed, Slot::Closed],
            was_unread: [false; 2],
            attempt: 0,
            was_up: false,
            first_up_at: None,
            refused: 0,
            numbers: EngineNumbers::default(),
        });
        Links {
            worker,
            ends: ends.collect(),
            shared,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            is_deaf: false,
            has_joined: false,
            away_since: None,
        }
    }

    /// Takes an event, if it is one of these connections.
    pub(crate) fn note_event(&mut self, event: &Event) -> bool {
        let Some(at) = FIRST_TOKEN.checked_sub(event.token().0) else {
            return false;
        };
        let Some(ends) = self.ends.get_mut(at / 2) else {
            return false;
        };
        if let Slot::Wired(wire) = &mut ends.slots[at % 2] {
            let is_over = event.is_read_closed() || event.is_error();
            wire.note(event.is_readable() || is_over, event.is_writable());
        }
        true
    }

    /// Whether there is work although no event comes.
    pub(crate) fn is_busy(&self) -> bool {
        let is_busy = |(slot, lane): (&Slot, Lane)| match slot {
            Slot::Closed | Slot::Looking => false,
            Slot::Failed(_) => true,
            Slot::Wired(wire) => wire.is_readable && !(self.is_deaf && lane == Lane::Subscriber),
        };
        let mut ends = self.ends.iter();
        ends.any(|ends| ends.slots.iter().zip(LANES).any(is_busy))
    }

    /// A search has ended.
    pub(crate) fn on_found(&mut self, found: &Found, registry: &Registry) {
        for lane in LANES {
            let ends = &mut self.ends[found.engine];
            let slot = &mut ends.slots[index_of(lane)];
            match slot {
                Slot::Looking => self.open_found(found, lane, registry),
                Slot::Wired(wire) if found.is_news => {
                    let is_other = |address| match &found.addresses {
                        Ok(addresses) => !addresses.contains(&address),
                        Err(_) => false,
                    };
                    if wire.address.is_some_and(is_other) {
                        let why = "the Sentinels name another server as the master";
                        *slot = Slot::Failed(Fault::new(Loss::Moved, why));
                    }
                }
                Slot::Wired(_) | Slot::Closed | Slot::Failed(_) => {}
            }
        }
    }

    fn open_found(&mut self, found: &Found, lane: Lane, registry: &Registry) {
        let slot = match &found.addresses {
            Err(why) => Slot::Failed(Fault::new(Loss::Lookup, why)),
            Ok(addresses) if addresses.is_empty() => {
                Slot::Failed(Fault::new(Loss::Lookup, "it has no address"))
            }
            Ok(addresses) => {
                let address = addresses[self.ends[found.engine].attempt % addresses.len()];
                self.dial(found.engine, lane, (address, &found.host), registry)
            }
        };
        self.ends[found.engine].slots[index_of(lane)] = slot;
    }

    fn dial(
        &self,
        engine: usize,
        lane: Lane,
        (address, host): (std::net::SocketAddr, &str),
        registry: &Registry,
    ) -> Slot {
        let target = &self.shared.targets[engine];
        let session = target.tls.as_ref().map(|tls| tls.session(host)).transpose();
        let tls = match session {
            Ok(tls) => tls,
            Err(error) => return Slot::Failed(Fault::new(Loss::Tls, error)),
        };
        let wire = lane::connect(
            address,
            tls,
            target.login.as_ref(),
            self.max_bytes(lane),
            registry,
            token_of(engine, lane),
        );
        wired(wire)
    }

    fn max_bytes(&self, lane: Lane) -> usize {
        match lane {
            Lane::Publisher => self.shared.limits.max_reply_bytes,
            Lane::Subscriber => self.shared.limits.max_message_bytes,
        }
    }

    /// Does what an engine says. Commands wait for [`Links::flush`].
    pub(crate) fn act(&mut self, engine: usize, action: Action, registry: &Registry) {
        match action {
            Action::Connect(lane) => {
                let slot = self.begin(engine, lane, registry);
                self.ends[engine].slots[index_of(lane)] = slot;
            }
            Action::Close(lane, reason) => {
                // To close the descriptor also takes it out of the event loop.
                self.ends[engine].slots[index_of(lane)] = Slot::Closed;
                self.note_lost(engine, &fault_of(reason));
            }
            Action::Send(lane, command) => {
                let slot = &mut self.ends[engine].slots[index_of(lane)];
                if let Slot::Wired(wire) = slot
                    && let Err(fault) = wire.send(&command)
                {
                    *slot = Slot::Failed(fault);
                }
            }
        }
    }

    fn begin(&self, engine: usize, lane: Lane, registry: &Registry) -> Slot {
        let target = &self.shared.targets[engine];
        match &target.place {
            Place::Unix(path) => wired(lane::connect_unix(
                path,
                target.login.as_ref(),
                self.max_bytes(lane),
                registry,
                token_of(engine, lane),
            )),
            Place::Remote(remote) => match literal(remote) {
                Some(address) => self.dial(engine, lane, (address, &remote.host), registry),
                None => self.look(engine),
            },
            Place::Sentinels { .. } => self.look(engine),
        }
    }

    fn look(&self, engine: usize) -> Slot {
        if let Some(finder) = &self.shared.finders[engine] {
            finder.ask(self.worker);
        }
        Slot::Looking
    }

    /// Writes what was queued.
    pub(crate) fn flush(&mut self) {
        let slots = self.ends.iter_mut().flat_map(|ends| &mut ends.slots);
        for slot in slots {
            if let Slot::Wired(wire) = slot
                && let Err(fault) = wire.flush()
            {
                *slot = Slot::Failed(fault);
            }
        }
    }

    /// Tells the engines what has happened. Subscriptions are read only if `hears`.
    pub(crate) fn take_news<T: Parcel>(
        &mut self,
        engines: &mut [Engine<T>],
        hears: bool,
        now: Timestamp,
    ) {
        self.is_deaf = !hears;
        for (at, engine) in engines.iter_mut().enumerate() {
            for lane in LANES {
                if let Err(fault) = self.serve(at, lane, engine, now) {
                    self.ends[at].slots[index_of(lane)] = Slot::Closed;
                    if lane == Lane::Publisher {
                        self.ends[at].attempt += 1;
                    }
                    engine.on_closed(lane, now);
                    self.note_lost(at, &fault);
                }
            }
            self.note_state(at, engine, now);
        }
        self.flush();
        self.judge(engines, now);
    }

    /// Reads one connection.
    fn serve<T: Parcel>(
        &mut self,
        at: usize,
        lane: Lane,
        engine: &mut Engine<T>,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let ends = &mut self.ends[at];
        let wire = match &mut ends.slots[index_of(lane)] {
            Slot::Closed | Slot::Looking => return Ok(()),
            Slot::Failed(fault) => return Err(fault.clone()),
            Slot::Wired(wire) => wire,
        };
        if wire.advance()? {
            engine.on_connected(lane, now);
        }
        ends.numbers.add(EngineStat::BytesOut, wire.take_sent());
        if wire.is_open() && !engine.is_open(lane) {
            // The engine has given it up; an action says so, too.
            return Ok(());
        }
        // A connection that is not up yet brings nothing for topics.
        let is_deaf = self.is_deaf && lane == Lane::Subscriber && engine.is_up();
        let mut budget = READ_BYTES;
        while wire.has_input() && !is_deaf && budget > 0 {
            let Read1::Some(count) = wire.fill(&mut self.buffer)? else {
                break;
            };
            budget = budget.saturating_sub(count);
            ends.numbers.add(EngineStat::BytesIn, count as u64);
            engine.note_progress(lane, now);
            while let Some(heard) = wire.take()? {
                match heard {
                    Heard::Opened => engine.on_connected(lane, now),
                    Heard::Reply(reply) => {
                        if let Reply::Error(text) = &reply {
                            note_error(&self.shared, at, text);
                        }
                        engine.on_reply(lane, &reply, now);
                    }
                }
                if !engine.is_open(lane) {
                    return Ok(());
                }
            }
        }
        let is_unread = wire.is_readable;
        if is_unread || ends.was_unread[index_of(lane)] {
            engine.note_unread(lane, is_unread, now);
        }
        ends.was_unread[index_of(lane)] = is_unread;
        Ok(())
    }

    /// Notes changes that the operator is told.
    fn note_state<T: Parcel>(&mut self, at: usize, engine: &mut Engine<T>, now: Timestamp) {
        let ends = &mut self.ends[at];
        let (target, story) = (&self.shared.targets[at], &self.shared.stories[at]);
        let is_up = engine.is_up();
        if is_up && !std::mem::replace(&mut ends.was_up, is_up) {
            ends.first_up_at.get_or_insert(now);
            let address = ends.slots.iter().find_map(|slot| match slot {
                Slot::Wired(wire) => wire.address,
                Slot::Closed | Slot::Looking | Slot::Failed(_) => None,
            });
            story.note_up(self.worker, target, address);
        }
        ends.was_up = is_up;
        let refused = engine.counts().refused;
        if refused > ends.refused {
            story.note_rubbish(target, refused - ends.refused);
            ends.refused = refused;
        }
        for (node, differences) in engine.take_differing() {
            // All workers hear the same.
            if self.worker == 0 {
                story.note_differing(target, node, &differences, self.has_joined);
            }
        }
    }

    fn note_lost(&mut self, at: usize, fault: &Fault) {
        let ends = &mut self.ends[at];
        ends.numbers.note_loss(fault.loss);
        let was_up = std::mem::replace(&mut ends.was_up, false);
        let target = &self.shared.targets[at];
        self.shared.stories[at].note_lost(self.worker, target, fault, was_up);
    }

    /// Judges whether the relay may take clients, as far as this worker knows.
    fn judge<T: Parcel>(&mut self, engines: &[Engine<T>], now: Timestamp) {
        let is_up = engines.iter().all(Engine::is_up);
        if is_up {
            self.away_since = None;
        } else {
            self.away_since.get_or_insert(now);
        }
        if !self.has_joined {
            let has_listened = |ends: &Ends| {
                let first = ends.first_up_at;
                first.is_some_and(|first| now.since(first) >= LISTENING)
            };
            let fits = engines
                .iter()
                .all(|engine| engine.peers().mismatched() == 0);
            self.has_joined = is_up && fits && self.ends.iter().all(has_listened);
        }
        let limit = self.shared.limits.unready_after;
        let is_cut_off = !limit.is_zero()
            && self
                .away_since
                .is_some_and(|since| now.since(since) >= limit);
        let membership = if !self.has_joined {
            Membership::Joining
        } else if is_cut_off {
            Membership::CutOff
        } else {
            Membership::Joined
        };
        self.shared.vitals.note_membership(self.worker, membership);
    }

    /// Publishes the numbers of the topics.
    pub(crate) fn publish_topics(&self, numbers: [u64; ClusterStat::COUNT]) {
        self.shared.published.publish_topics(self.worker, numbers);
    }

    /// Publishes the numbers of the engines.
    pub(crate) fn publish<T: Parcel>(&mut self, engines: &[Engine<T>]) {
        for (at, (engine, ends)) in engines.iter().zip(&mut self.ends).enumerate() {
            let counts = engine.counts();
            let peers = engine.peers();
            for (stat, value) in [
                (EngineStat::Up, u64::from(engine.is_up())),
                (EngineStat::Published, counts.published),
                (EngineStat::Received, counts.received),
                (EngineStat::Refused, counts.refused),
                (EngineStat::RoundTripMicros, counts.round_trip_micros),
                (EngineStat::Probes, counts.probes),
                (EngineStat::Fences, counts.fences),
                (EngineStat::Fills, counts.fills),
                (EngineStat::Finds, counts.finds),
                (EngineStat::Syncs, counts.syncs),
                (EngineStat::Audits, counts.audits),
                (EngineStat::Errors, counts.errors),
                (EngineStat::PendingBytes, engine.pending_bytes()),
                (EngineStat::Topics, engine.topic_count() as u64),
                (EngineStat::Peers, peers.count() as u64),
                (EngineStat::MismatchedPeers, peers.mismatched() as u64),
            ] {
                ends.numbers.set(stat, value);
            }
            self.shared
                .published
                .publish(at, self.worker, &ends.numbers);
        }
    }
}

fn wired(wire: std::io::Result<Wire>) -> Slot {
    match wire {
        Ok(wire) => Slot::Wired(Box::new(wire)),
        Err(error) => Slot::Failed(Fault::new(Loss::Refused, error)),
    }
}

fn note_error(shared: &Shared, at: usize, text: &str) {
    let (target, story) = (&shared.targets[at], &shared.stories[at]);
    match Trouble::of(text) {
        Trouble::Other(_) | Trouble::StreamAhead(_) => story.note_error(target, text),
        Trouble::Busy(_) => story.note_refusal(target, text),
        Trouble::NotMaster(_) | Trouble::NotLoaded => {}
    }
}

fn fault_of(reason: Reason) -> Fault {
    match reason {
        Reason::Closed => Fault::new(Loss::Closed, "the connection is closed"),
        Reason::ConnectTimeout => Fault::new(
            Loss::Timeout,
            "no usable connection within cluster.connect_timeout",
        ),
        Reason::Silent => Fault::new(
            Loss::Silent,
            "it owes an answer and is silent for cluster.io_timeout",
        ),
        Reason::Apart => Fault::new(
            Loss::Apart,
            "the two connections lead to two servers; name a single server, or its Sentinels",
        ),
        Reason::Role => Fault::new(Loss::Role, "it is not the master any more that it was"),
        Reason::Unfit(unfit) => Fault::new(Loss::Unfit, unfit),
        Reason::Protocol => Fault::new(
            Loss::Protocol,
            "it refused what the relay needs, or its answer is not understood",
        ),
    }
}
