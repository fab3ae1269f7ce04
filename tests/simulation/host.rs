//! A worker without sockets and threads. It takes the same turn as a worker, and sleeps until something happens to it.
//! The seed decides everything that is left to chance in a worker: how many events and how much mail a turn takes in,
//! how much of a write the kernel accepts, and how early a flush stops.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use fanwire::internals::relay::{
    Budgets, Effect, Envelope, Filled, Keepsake, Moment, Named, Readiness, Shard, Transfer, Turn,
    Undecided, Written,
};
use fanwire::internals::ws::Refusal;
use fanwire::internals::{ClientKey, ShardId, Timestamp, relay};
use fanwire::server::Stat;

use crate::judged::Judged;
use crate::tally::Event;
use crate::world::{Parcel, World};

/// A host that slept this much longer than intended was stopped, and must not blame its clients.
const PAUSE: Duration = Duration::from_millis(500);

/// A host that waits for room in the inboxes looks again after this time.
pub(crate) const CONGESTION_RETRY: Duration = Duration::from_millis(1);

/// The counters of disconnections for letting the host wait.
const IMPATIENCE: [Stat; 3] = [
    Stat::DisconnectedStall,
    Stat::DisconnectedPong,
    Stat::HandshakeTimeout,
];

/// A connection as the worker sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    generation: u32,
    pub(crate) peer: usize,
    /// The client has shut down its side, so a short read does not mean that everything is read.
    pub(crate) read_closed: bool,
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    /// The turn; `None` while it is being taken.
    turn: Option<Turn>,
    pub(crate) conns: Vec<Option<Conn>>,
    pub(crate) scratch: Vec<u8>,
    /// Clients with events, in the order in which an event loop would report them.
    pub(crate) events: VecDeque<usize>,
    /// New connections.
    pub(crate) sockets: VecDeque<usize>,
    pub(crate) drain_is_due: bool,
    pub(crate) cut_is_due: bool,
    /// Another host has woken it, and mail is left. Mail alone does not end a sleep.
    is_woken: bool,
    /// By receiver: it has sent mail since it last woke the others.
    owes_wake: Vec<bool>,
    /// It was cut, and takes no more connections.
    pub(crate) is_cut: bool,
    /// It does nothing before this step.
    pub(crate) paused_until: usize,
    /// An inbox is full, so nothing is read.
    pub(crate) is_congested: bool,
    /// The time of its next turn if nothing happens.
    wakes_at: Option<Timestamp>,
    /// The number of its events that the turn still sees.
    events_left: usize,
    /// The number of messages in each topic before this turn numbered more, by the receiver of those.
    numbered_before: Vec<Vec<usize>>,
    /// The clients that have joined, and the messages that were accepted and offered, as the model knows them.
    pub(crate) seen: [u64; 3],
    /// It has been short of memory.
    pub(crate) is_short: bool,
    /// The last bytes written, whose effects the shard has not yet reported.
    pub(crate) written: Vec<u8>,
    /// The number of clients before deadlines were enforced.
    clients_before: usize,
    /// The topics that it leaves to the next process, once they are final.
    pub(crate) keepsake: Option<Keepsake>,
    /// By topic: the numbers of its first message and of its next one, at that moment.
    pub(crate) left_numbers: Vec<Option<(u64, u64)>>,
    /// In this turn, connections may be closed even if their transports hold bytes back, because of a deadline or a
    /// cut.
    pub(crate) is_ruthless: bool,
    judged: Judged,
}

/// The source of a piece of mail.
#[derive(Clone, Copy, Debug)]
enum Source {
    Shard(usize),
    Acceptor,
    Control,
}

impl Host {
    pub(crate) fn new(
        shard: Shard,
        budgets: Budgets,
        scratch_bytes: usize,
        shards: usize,
        now: Timestamp,
    ) -> Self {
        Host {
            turn: Some(Turn::new(shard, budgets, now)),
            conns: Vec::new(),
            scratch: vec![0; scratch_bytes],
            events: VecDeque::new(),
            sockets: VecDeque::new(),
            drain_is_due: false,
            cut_is_due: false,
            is_woken: false,
            owes_wake: vec![false; shards],
            is_cut: false,
            paused_until: 0,
            is_congested: false,
            wakes_at: None,
            events_left: 0,
            numbered_before: Vec::new(),
            seen: [0; 3],
            clients_before: 0,
            is_short: false,
            written: Vec::new(),
            keepsake: None,
            left_numbers: Vec::new(),
            is_ruthless: false,
            judged: Judged::default(),
        }
    }

    /// The turn, to give its shard something to do. It must be put back.
    pub(crate) fn take_turn(&mut self) -> Turn {
        self.turn.take().expect("one turn at a time")
    }

    pub(crate) fn put_turn_back(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }

    /// Its shard, between two turns.
    pub(crate) fn shard(&self) -> &Shard {
        &self.turn.as_ref().expect("it is not in a turn").shard
    }

    /// Whether something has happened to it.
    pub(crate) fn has_news(&self) -> bool {
        self.is_woken
            || !self.events.is_empty()
            || !self.sockets.is_empty()
            || self.drain_is_due
            || self.cut_is_due
    }

    /// The time of its next turn if nothing happens.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.wakes_at
    }

    /// Whether clients wait to be read until an inbox has room.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.is_congested && self.shard().has_ready()
    }

    /// The number of clients disconnected because they did nothing.
    fn impatience(&self) -> u64 {
        IMPATIENCE.iter().map(|&stat| self.value(stat)).sum()
    }

    /// The client with this key, if it is connected.
    pub(crate) fn peer_of(&self, key: ClientKey) -> Option<usize> {
        let conn = self.conns.get(key.slot as usize)?.as_ref();
        conn.filter(|conn| conn.generation == key.generation)
            .map(|conn| conn.peer)
    }

    /// The number of open connections.
    pub(crate) fn connections(&self) -> usize {
        self.conns.iter().flatten().count()
    }

    pub(crate) fn value(&self, stat: Stat) -> u64 {
        self.shard().stats().value(stat)
    }

    pub(crate) fn conn(&mut self, key: ClientKey) -> Option<&mut Conn> {
        self.conns
            .get_mut(key.slot as usize)?
            .as_mut()
            .filter(|conn| conn.generation == key.generation)
    }
}

/// A host in the middle of a turn.
struct InTurn<'a> {
    world: &'a mut World,
    host: usize,
}

impl InTurn<'_> {
    fn peer_of(&self, key: ClientKey) -> Option<usize> {
        self.world.hosts[self.host].peer_of(key)
    }
}

impl relay::Host for InTurn<'_> {
    fn now(&mut self) -> Timestamp {
        self.world.now
    }

    fn next_event(&mut self) -> Option<(ClientKey, Readiness)> {
        let InTurn { world, host } = self;
        let host = &mut world.hosts[*host];
        while host.events_left > 0 {
            host.events_left -= 1;
            let id = host.events.pop_front()?;
            let peer = &mut world.peers[id];
            peer.is_listed = false;
            let news = peer.pipe.take_readiness();
            let Some(key) = peer.key.filter(|&key| host.peer_of(key) == Some(id)) else {
                continue;
            };
            if let Some(conn) = host.conn(key) {
                conn.read_closed |= news.is_read_closed;
            }
            return Some((key, news));
        }
        None
    }

    fn take_mail(&mut self, shard: &mut Shard) {
        self.world.take_mail(self.host, shard);
    }

    fn is_congested(&mut self) -> bool {
        self.world.find_congestion(self.host)
    }

    fn fill(&mut self, shard: &mut Shard, key: ClientKey) -> Filled {
        match self.peer_of(key) {
            Some(id) => self.world.fill(self.host, shard, key, id),
            None => Filled::Empty,
        }
    }

    fn is_handshaking(&mut self, key: ClientKey) -> bool {
        self.peer_of(key)
            .is_some_and(|id| self.world.peers[id].transport.is_handshaking())
    }

    fn seat_named(&mut self, shard: &mut Shard, named: &Named) -> bool {
        let id = self.peer_of(named.key).expect("it is there");
        self.world.seat(shard, named.key, id)
    }

    /// Some of the clients that have just sent their request move to another shard.
    fn home(&mut self, _shard: &Shard, undecided: Undecided) -> Option<ShardId> {
        let world = &mut *self.world;
        assert_ne!(
            undecided.owner.index(),
            self.host,
            "the owner has nothing to decide"
        );
        if !world.rng.percent(world.plan.transfers) {
            return None;
        }
        let hosts = world.hosts.len();
        let home = (self.host + world.rng.within(1..=hosts - 1)) % hosts;
        if home != undecided.owner.index() {
            world.tally.note(Event::TransferElsewhere);
        }
        Some(ShardId(home as u16))
    }

    fn hand_over(&mut self, key: ClientKey, home: ShardId, transfer: Transfer) {
        self.world.hand_over(self.host, key, home.index(), transfer);
    }

    fn holds_back(&mut self, key: ClientKey) -> bool {
        self.peer_of(key)
            .is_some_and(|id| self.world.peers[id].transport.holds_back())
    }

    fn flush_own(&mut self, key: ClientKey) -> bool {
        let Some(id) = self.peer_of(key) else {
            return false;
        };
        let peer = &mut self.world.peers[id];
        let flushed = peer.transport.flush(&mut peer.pipe, &[], 0, usize::MAX);
        // The transport may have filled a buffer again.
        self.world.raise(id);
        flushed.is_ok()
    }

    fn write(&mut self, key: ClientKey, slices: &[IoSlice<'_>], offered: usize) -> Option<Written> {
        let id = self.peer_of(key)?;
        self.world.write(self.host, id, slices, offered)
    }

    fn post(&mut self, to: ShardId, envelope: Envelope) {
        self.world.post(self.host, to.index(), envelope);
    }

    fn wake_others(&mut self) {
        self.world.wake_others(self.host);
    }

    fn apply(&mut self, effect: Effect) {
        self.world.apply(self.host, effect);
    }

    fn portion(&mut self, count: usize) -> usize {
        self.world.portion(count)
    }

    fn note(&mut self, shard: &mut Shard, moment: Moment) {
        let InTurn { world, host } = self;
        match moment {
            Moment::Begun => {
                let events = world.hosts[*host].events.len();
                world.hosts[*host].events_left = world.portion(events);
            }
            Moment::Permitted(key) => world.observe(*host, shard, key, true),
            Moment::Heard | Moment::Told => world.something_happens_meanwhile(),
            Moment::Deadlines => {
                world.hosts[*host].clients_before = shard.len();
            }
            Moment::TakenIn => {
                let host = &mut world.hosts[*host];
                host.is_ruthless |= shard.len() < host.clients_before;
            }
            Moment::Decided => {
                world.number(*host, shard);
                world.hosts[*host].judged.begin(shard);
            }
            Moment::Wrote(key, written) => {
                world.note_written(*host, shard, key, written);
                world.hosts[*host].judged.note_write(shard, key);
            }
            Moment::Ended => {
                world.hosts[*host].judged.end(shard);
                world.hosts[*host].is_short = shard.stats().value(Stat::BufferLimitReached) > 0;
                // Nothing more is numbered in this turn.
                world.hosts[*host].numbered_before = Vec::new();
            }
            Moment::Settled => world.keep_if_final(*host, shard),
        }
    }
}

impl World {
    /// One turn of a host, and the length of its sleep afterwards.
    pub(crate) fn turn(&mut self, host: usize) {
        if !self.is_settling {
            self.now.0 += self.rng.within(0..=self.plan.pace_micros) as u64;
        }
        self.tell(|| format!("turn of shard {host}"));
        let (impatience, must_be_patient) = self.wake(host);
        let mut turn = self.hosts[host].take_turn();
        turn.run(&mut InTurn { world: self, host });
        let sleep = turn.sleep(self.now);
        self.hosts[host].put_turn_back(turn);
        self.hosts[host].wakes_at = sleep.ends_at();
        assert!(
            !must_be_patient || self.hosts[host].impatience() == impatience,
            "clients are blamed for a pause of the host"
        );
        self.check_turn(host);
    }

    /// The host reads the clock. Returns the number of clients disconnected so far because they did nothing, and
    /// whether the host itself was just stopped.
    fn wake(&mut self, host: usize) -> (u64, bool) {
        let now = self.now;
        let host = &mut self.hosts[host];
        let is_late = host.wakes_at.is_some_and(|meant| now.since(meant) > PAUSE);
        host.is_ruthless = false;
        host.numbered_before = Vec::new();
        let impatience = host.impatience();
        if is_late {
            self.tally.note(Event::Patience);
        }
        (impatience, is_late)
    }

    /// Clients do not wait for turns to end, and a host may be stopped in the middle of one.
    fn something_happens_meanwhile(&mut self) {
        if self.is_settling {
            return;
        }
        if self.rng.percent(20) {
            self.any_peer_acts();
        }
        if self.rng.below(2_000) < self.plan.resets && self.reset_somebody() {
            self.tally.note(Event::ResetMidTurn);
        }
        if self.rng.below(500) < self.plan.half_closes {
            self.half_close_somebody();
        }
        if self.rng.below(4_000) < self.plan.pauses {
            self.clock_stands_still_for_us(Event::PauseMidTurn);
        }
    }

    /// Usually all of `n`, otherwise a part; all of it when the world comes to rest.
    pub(crate) fn portion(&mut self, n: usize) -> usize {
        if self.is_settling || n == 0 || self.rng.percent(50) {
            return n;
        }
        self.rng.below(n + 1)
    }

    // Mail

    fn take_mail(&mut self, host: usize, shard: &mut Shard) {
        self.perhaps_reconfigure(shard);
        let sources = self.sources(host);
        for _ in 0..self.portion(sources) {
            match self.any_source(host) {
                Some(Source::Shard(from)) => self.take_parcel(host, shard, from),
                Some(Source::Acceptor) => self.accept(host, shard),
                Some(Source::Control) => self.take_orders(host, shard),
                None => break,
            }
        }
        // A host that stops early wakes itself.
        self.hosts[host].is_woken &= self.has_mail(host);
    }

    /// Whether there is mail of other shards.
    fn has_mail(&self, host: usize) -> bool {
        self.links[host].iter().any(|link| !link.is_empty())
    }

    /// The host wakes those to which it has sent mail.
    fn wake_others(&mut self, host: usize) {
        for to in 0..self.hosts.len() {
            self.hosts[to].is_woken |= std::mem::take(&mut self.hosts[host].owes_wake[to]);
        }
    }

    /// Puts a parcel into the inbox of another host, which sleeps on until it is woken.
    fn send(&mut self, host: usize, to: usize, parcel: Parcel) {
        self.links[to][host].push_back(parcel);
        self.hosts[host].owes_wake[to] = true;
    }

    fn sources(&self, host: usize) -> usize {
        let parcels: usize = self.links[host].iter().map(VecDeque::len).sum();
        let Host {
            sockets,
            drain_is_due,
            cut_is_due,
            ..
        } = &self.hosts[host];
        parcels + sockets.len() + usize::from(*drain_is_due || *cut_is_due)
    }

    /// The queue to serve next. The order is random, because none needs to wait for another.
    fn any_source(&mut self, host: usize) -> Option<Source> {
        let links = self.links[host].iter().enumerate();
        let mut sources: Vec<Source> = links
            .filter(|(_, link)| !link.is_empty())
            .map(|(from, _)| Source::Shard(from))
            .collect();
        let Host {
            sockets,
            drain_is_due,
            cut_is_due,
            ..
        } = &self.hosts[host];
        if !sockets.is_empty() {
            sources.push(Source::Acceptor);
        }
        if *drain_is_due || *cut_is_due {
            sources.push(Source::Control);
        }
        (!sources.is_empty()).then(|| self.rng.pick(&sources))
    }

    fn take_orders(&mut self, host: usize, shard: &mut Shard) {
        if std::mem::take(&mut self.hosts[host].drain_is_due) {
            self.model.begin_drain(host);
            shard.begin_drain();
            if shard.next_close().is_some() {
                self.tally.note(Event::Spread);
            }
        }
        let host = &mut self.hosts[host];
        if std::mem::take(&mut host.cut_is_due) {
            shard.cut_all();
            host.is_cut = true;
            host.is_ruthless = true;
        }
    }

    fn accept(&mut self, host: usize, shard: &mut Shard) {
        self.free_slots(host, shard);
        let Some(id) = self.hosts[host].sockets.pop_front() else {
            return;
        };
        if self.hosts[host].is_cut {
            self.peers[id].pipe.close_by_server();
            return;
        }
        let key = shard.accept();
        if self.peers[id].is_proxied {
            shard.trust(key);
        }
        self.connect_to(host, key, id);
    }

    /// Some clients of proxies get no seat.
    fn seat(&mut self, shard: &mut Shard, key: ClientKey, id: usize) -> bool {
        assert!(self.peers[id].is_proxied, "client {id} has no proxy");
        if !self.rng.percent(self.plan.unseated) {
            self.tally.note(Event::Seat);
            return true;
        }
        self.tally.note(Event::NoSeat);
        self.tell(|| format!("client {id} gets no seat"));
        self.peers[id].is_unseated = true;
        shard.refuse(key, Refusal::PER_IP);
        false
    }

    /// Frees the slots that were given up in this turn.
    fn free_slots(&mut self, host: usize, shard: &mut Shard) {
        for effect in shard.take_effects() {
            self.apply(host, effect);
        }
    }

    fn hand_over(&mut self, host: usize, key: ClientKey, home: usize, transfer: Transfer) {
        let id = self.hosts[host].peer_of(key).expect("it is there");
        self.tell(|| format!("client {id} moves from shard {host} to {home}"));
        self.hosts[host].conns[key.slot as usize] = None;
        self.hosts[host].events.retain(|&listed| listed != id);
        self.model.transfer(id, home);
        let peer = &mut self.peers[id];
        (peer.host, peer.key) = (home, None);
        (peer.is_moving, peer.is_listed) = (true, false);
        self.send(host, home, Parcel::Client { peer: id, transfer });
    }

    fn take_client(&mut self, host: usize, shard: &mut Shard, id: usize, transfer: Transfer) {
        self.free_slots(host, shard);
        let peer = &mut self.peers[id];
        peer.is_moving = false;
        if self.hosts[host].is_cut {
            peer.pipe.close_by_server();
            return;
        }
        peer.pipe.register_anew();
        let key = shard.transfer_in(transfer);
        self.connect_to(host, key, id);
        self.observe(host, shard, key, true);
        shard.make_ready(key);
    }

    /// Makes the host watch the connection of a client that its shard has just taken in.
    fn connect_to(&mut self, host: usize, key: ClientKey, id: usize) {
        let host = &mut self.hosts[host];
        let slot = key.slot as usize;
        if slot >= host.conns.len() {
            host.conns.resize(slot + 1, None);
        }
        assert!(host.conns[slot].is_none(), "a slot is given out once");
        host.conns[slot] = Some(Conn {
            generation: key.generation,
            peer: id,
            read_closed: false,
        });
        self.peers[id].key = Some(key);
        self.raise(id);
    }

    fn take_parcel(&mut self, host: usize, shard: &mut Shard, from: usize) {
        let (envelope, end) = match self.links[host][from].pop_front() {
            Some(Parcel::Envelope { envelope, end }) => (envelope, end),
            Some(Parcel::Client { peer, transfer }) => {
                return self.take_client(host, shard, peer, transfer);
            }
            None => return,
        };
        self.tell(|| format!("shard {host} hears from {from}: {}", summary(&envelope)));
        let mut joining = None;
        match &envelope {
            Envelope::Subscribe {
                topic,
                from,
                client,
                ..
            } => {
                let topic = self.topic_named(topic);
                let now = shard.now();
                self.model.confirm(from.index(), *client, topic, now);
            }
            Envelope::Subscribed { client, .. } => joining = Some(*client),
            Envelope::Publish { topic, draft, .. } => {
                let topic = self.topic_named(topic);
                self.model.publish(from, topic, draft.len());
            }
            Envelope::Post(posting) => {
                let topic = self.topic_named(posting.topic());
                let now = shard.now();
                self.model.arrive(from, topic, posting.messages(), now);
            }
            Envelope::Posted(posted) => {
                let topic = self.topic_named(posted.topic());
                self.on_numbered(host, topic, posted.dropped_bytes());
            }
            Envelope::Deliver { topic, .. } => {
                let topic = self.topic_named(topic);
                self.model.mirror(host, topic, end);
            }
            Envelope::Arrived { topic, bytes } => {
                let topic = self.topic_named(topic);
                self.on_numbered(host, topic, *bytes);
            }
            Envelope::Unsubscribe { .. }
            | Envelope::Members { .. }
            | Envelope::Refused { .. }
            | Envelope::Mark { .. }
            | Envelope::Returned { .. }
            | Envelope::Out { .. }
            | Envelope::Waits { .. }
            | Envelope::Recall(_)
            | Envelope::Ask(_)
            | Envelope::Described(_)
            | Envelope::Hold { .. }
            | Envelope::Release { .. }
            | Envelope::Held { .. }
            | Envelope::Judge { .. }
            | Envelope::Fence
            | Envelope::Fenced => {}
        }
        shard.handle(envelope);
        if let Some(client) = joining {
            self.observe(host, shard, client, false);
        }
    }

    fn topic_named(&self, name: &str) -> usize {
        let topic = self.plan.topics.iter().position(|&topic| topic == name);
        topic.expect("a topic that a client asked for")
    }

    /// Numbers in the model the messages that the shard has numbered in this turn.
    fn number(&mut self, host: usize, shard: &Shard) {
        let owns = |topic: &&str| self.router.owner(topic).index() == host;
        let topics = self.plan.topics.iter().enumerate();
        let owned: Vec<usize> = topics
            .filter(|(_, name)| owns(name))
            .map(|(key, _)| key)
            .collect();
        let mut before = vec![0; self.plan.topics.len()];
        for topic in owned {
            let name = self.plan.topics[topic];
            let (waiting, until) = (shard.waiting_messages(name), shard.waits_until(name));
            let may_wait = !shard.is_draining() && !self.hosts[host].is_cut;
            let began = shard.now();
            let numbers = shard.numbers(name);
            let model = &mut self.model;
            before[topic] = model.number(host, topic, waiting, until, began, may_wait);
            model.note_numbers(topic, numbers);
            model.note_next(topic, before[topic], shard.next_number(name));
            if waiting > 0 {
                self.tally.note(Event::Wait);
            }
        }
        self.hosts[host].numbered_before = vec![before; self.hosts.len()];
    }

    /// Sends an envelope from this shard to another.
    fn post(&mut self, host: usize, to: usize, envelope: Envelope) {
        let mut end = 0;
        if let Envelope::Deliver { topic, batch } = &envelope {
            let topic = self.topic_named(topic);
            let numbered = &mut self.hosts[host].numbered_before[to][topic];
            *numbered += batch.len();
            end = *numbered;
        }
        self.tell(|| format!("shard {host} says to {to}: {}", summary(&envelope)));
        self.send(host, to, Parcel::Envelope { envelope, end });
    }
}

fn summary(envelope: &Envelope) -> String {
    match envelope {
        Envelope::Publish { topic, draft, .. } => format!("Publish {} to {topic}", draft.len()),
        Envelope::Deliver { topic, batch } => {
            let (count, first) = (batch.len(), batch.first());
            format!("Deliver {count} of {topic} from {first:?}")
        }
        other => format!("{other:?}"),
    }
}
