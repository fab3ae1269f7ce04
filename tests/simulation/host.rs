//! A worker without sockets and threads: it drives its shard as `net::worker` does, step by step, and sleeps as that
//! does, until something happens to it. What is left to chance there is left to the seed here: how many events and how
//! much mail a turn takes in, how much the kernel takes of a write, how early a flush stops.

use std::collections::VecDeque;
use std::time::Duration;

use fanwire::ids::{ClientKey, ShardId};
use fanwire::metrics::stats::Stat;
use fanwire::net::clock::Patience;
use fanwire::relay::envelope::Envelope;
use fanwire::relay::shard::{End, Permit, Shard, Transfer, Undecided};
use fanwire::time::Timestamp;

use crate::model::Wait;
use crate::tally::Event;
use crate::world::{Parcel, World};

/// Whoever sleeps this much longer than it meant to was stopped, and must not blame its clients.
const PAUSE: Duration = Duration::from_millis(500);

/// How soon a host looks again whether the inboxes have been emptied.
const CONGESTION_RETRY: Duration = Duration::from_millis(1);

/// What a host may hold against clients that let it wait.
const IMPATIENCE: [Stat; 3] = [
    Stat::DisconnectedStall,
    Stat::DisconnectedPong,
    Stat::HandshakeTimeout,
];

/// A connection as a worker knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    generation: u32,
    pub(crate) peer: usize,
    /// In the list of those to be read.
    pub(crate) is_ready: bool,
    /// The client has shut its side: a short read does not mean that nothing is left to be found out.
    pub(crate) read_closed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) shard: Shard,
    pub(crate) conns: Vec<Option<Conn>>,
    pub(crate) ready: VecDeque<ClientKey>,
    pub(crate) scratch: Vec<u8>,
    /// Clients with news, in the order in which the event loop would report them.
    pub(crate) events: VecDeque<usize>,
    /// Connections to be taken in.
    pub(crate) sockets: VecDeque<usize>,
    pub(crate) drain_is_due: bool,
    pub(crate) cut_is_due: bool,
    /// It was cut, and takes no connections in.
    is_cut: bool,
    /// It does nothing before this step.
    pub(crate) paused_until: usize,
    /// Some inbox is full, so nothing is read.
    pub(crate) is_congested: bool,
    patience: Patience,
    /// When it meant to take its next turn, at the latest.
    meant_to_wake: Option<Timestamp>,
    /// In this turn connections may be closed whatever their transports hold back: a deadline has passed, or
    /// everything is cut.
    pub(crate) is_ruthless: bool,
}

/// Where a piece of mail comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Shard(usize),
    Acceptor,
    Control,
}

impl Host {
    pub(crate) fn new(shard: Shard, scratch_bytes: usize, now: Timestamp) -> Self {
        Host {
            shard,
            conns: Vec::new(),
            ready: VecDeque::new(),
            scratch: vec![0; scratch_bytes],
            events: VecDeque::new(),
            sockets: VecDeque::new(),
            drain_is_due: false,
            cut_is_due: false,
            is_cut: false,
            paused_until: 0,
            is_congested: false,
            patience: Patience::new(now),
            meant_to_wake: None,
            is_ruthless: false,
        }
    }

    /// Whether something waits to be done, mail of other shards aside.
    pub(crate) fn has_work(&self) -> bool {
        self.shard.has_work()
            || !self.ready.is_empty()
            || !self.events.is_empty()
            || !self.sockets.is_empty()
            || self.drain_is_due
            || self.cut_is_due
    }

    /// When it takes a turn even if nothing happens.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        let next = self.shard.next_timeout()?.max(self.patience.until());
        // Nobody's patience is asked for what waits for the next fan-out.
        Some(self.shard.next_fan_out().map_or(next, |due| due.min(next)))
    }

    /// How long it sleeps when nothing happens.
    fn sleep(&self, now: Timestamp) -> Option<Duration> {
        if self.shard.has_work() {
            return Some(Duration::ZERO);
        }
        if !self.ready.is_empty() {
            return Some(if self.is_congested {
                CONGESTION_RETRY
            } else {
                Duration::ZERO
            });
        }
        Some(self.next_timeout()?.since(now))
    }

    /// How many were let go because they did nothing.
    fn impatience(&self) -> u64 {
        IMPATIENCE.iter().map(|&stat| self.value(stat)).sum()
    }

    /// The client behind a name, if it is connected.
    pub(crate) fn peer_of(&self, key: ClientKey) -> Option<usize> {
        let conn = self.conns.get(key.slot as usize)?.as_ref();
        conn.filter(|conn| conn.generation == key.generation)
            .map(|conn| conn.peer)
    }

    /// Connections that have not been closed.
    pub(crate) fn connections(&self) -> usize {
        self.conns.iter().flatten().count()
    }

    pub(crate) fn value(&self, stat: Stat) -> u64 {
        self.shard.stats().value(stat)
    }

    pub(crate) fn conn(&mut self, key: ClientKey) -> Option<&mut Conn> {
        self.conns
            .get_mut(key.slot as usize)?
            .as_mut()
            .filter(|conn| conn.generation == key.generation)
    }

    pub(crate) fn make_ready(&mut self, key: ClientKey) {
        let Some(conn) = self.conn(key) else {
            return;
        };
        if !std::mem::replace(&mut conn.is_ready, true) {
            self.ready.push_back(key);
        }
    }
}

impl World {
    /// One turn of a host, in the order that the shard asks for.
    pub(crate) fn turn(&mut self, host: usize) {
        if !self.is_settling {
            self.now.0 += self.rng.within(0..=self.plan.pace_micros) as u64;
        }
        self.tell(|| format!("turn of shard {host}"));
        let now = self.now;
        let (impatience, must_be_patient) = self.wake(host);
        self.hosts[host].shard.begin_turn(now);
        self.take_events(host);
        self.take_mail(host);
        self.something_happens_meanwhile();
        self.read_ready(host);
        self.transfer_clients(host);
        self.enforce_deadlines(host, now);

        self.hosts[host].shard.decide();
        let numbered_before = self.number(host, now);
        self.post(host, numbered_before);

        self.something_happens_meanwhile();
        self.flush(host);

        self.hosts[host].shard.end_turn(self.now);
        if !self.hosts[host].shard.has_work() {
            self.model.note_rest(host, self.now);
        }
        self.post(host, Vec::new());
        self.apply_effects(host);
        self.take_resumed(host);
        assert!(
            !must_be_patient || self.hosts[host].impatience() == impatience,
            "clients are blamed for a pause of the host"
        );
        self.fall_asleep(host);
        self.check_turn(host);
    }

    /// The host looks at the clock. Returns whom it has let go so far because they did nothing, and whether it has just
    /// been paused itself.
    fn wake(&mut self, host: usize) -> (u64, bool) {
        let now = self.now;
        let host = &mut self.hosts[host];
        host.patience.note(now, Some(Duration::ZERO));
        let is_late = host
            .meant_to_wake
            .is_some_and(|meant| now.since(meant) > PAUSE);
        host.is_ruthless = false;
        let impatience = host.impatience();
        if is_late {
            self.tally.note(Event::Patience);
        }
        (impatience, is_late)
    }

    fn fall_asleep(&mut self, host: usize) {
        let now = self.now;
        let host = &mut self.hosts[host];
        let sleep = host.sleep(now);
        host.patience.note(now, sleep);
        host.meant_to_wake = sleep.map(|sleep| now + sleep);
    }

    fn enforce_deadlines(&mut self, host: usize, now: Timestamp) {
        let host = &mut self.hosts[host];
        // Whoever is not read cannot be late.
        if !host.patience.is_over(now) || host.is_congested {
            return;
        }
        let before = host.shard.len();
        host.shard.handle_timeouts();
        host.is_ruthless |= host.shard.len() < before;
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
        if self.rng.below(4_000) < self.plan.pauses {
            self.clock_stands_still_for_us(Event::PauseMidTurn);
        }
    }

    /// Most of the time all of `n`, otherwise some; when the world comes to rest, all.
    pub(crate) fn portion(&mut self, n: usize) -> usize {
        if self.is_settling || n == 0 || self.rng.percent(50) {
            return n;
        }
        self.rng.below(n + 1)
    }

    fn take_events(&mut self, host: usize) {
        for _ in 0..self.portion(self.hosts[host].events.len()) {
            let Some(id) = self.hosts[host].events.pop_front() else {
                return;
            };
            self.on_event(host, id);
        }
    }

    fn on_event(&mut self, host: usize, id: usize) {
        let peer = &mut self.peers[id];
        peer.is_listed = false;
        let news = peer.pipe.take_readiness();
        let host_id = host;
        let host = &mut self.hosts[host_id];
        let Some(key) = peer.key.filter(|&key| host.peer_of(key) == Some(id)) else {
            return;
        };
        if let Some(conn) = host.conn(key) {
            conn.read_closed |= news.read_closed;
        }
        if news.writable && !host.shard.on_writable(key) && peer.transport.holds_back() {
            // Something of the transport's own, of which the shard knows nothing.
            let flushed = peer.transport.flush(&mut peer.pipe, &[], 0, usize::MAX);
            if flushed.is_err() {
                host.shard.on_end(key, End::Failed);
            }
        }
        if news.readable || news.read_closed || news.error {
            host.make_ready(key);
        }
        // What the transport went on with may have met a full buffer again.
        self.raise(id);
        if !news.error {
            return;
        }
        let before = self.counts(host_id);
        let permit = self.hosts[host_id].shard.permit(key);
        self.observe(host_id, key, before, true);
        if permit == Permit::Parked {
            self.hosts[host_id].shard.on_end(key, End::Failed);
        }
    }

    // Mail.

    fn take_mail(&mut self, host: usize) {
        let sources = self.sources(host);
        for _ in 0..self.portion(sources) {
            match self.any_source(host) {
                Some(Source::Shard(from)) => self.take_parcel(host, from),
                Some(Source::Acceptor) => self.accept(host),
                Some(Source::Control) => self.take_orders(host),
                None => return,
            }
        }
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

    /// Which of the queues is served next: none need wait for another.
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

    fn take_orders(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        if std::mem::take(&mut host.drain_is_due) {
            host.shard.begin_drain();
        }
        if std::mem::take(&mut host.cut_is_due) {
            host.shard.cut_all();
            host.is_cut = true;
            host.is_ruthless = true;
        }
    }

    fn accept(&mut self, host: usize) {
        self.apply_effects(host);
        let Some(id) = self.hosts[host].sockets.pop_front() else {
            return;
        };
        if self.hosts[host].is_cut {
            self.peers[id].pipe.close_by_server();
            return;
        }
        let key = self.hosts[host].shard.accept();
        self.connect_to(host, key, id);
    }

    /// Some of the clients that have just said what they want move to any other shard; some are left undecided.
    fn transfer_clients(&mut self, host: usize) {
        while self.rng.percent(95)
            && let Some(Undecided { key, owner, .. }) = self.hosts[host].shard.poll_undecided()
        {
            let id = self.hosts[host].peer_of(key).expect("it is there");
            assert_ne!(owner.index(), host, "the owner has nothing to decide");
            if !self.rng.percent(self.plan.transfers) {
                self.hosts[host].shard.stay(key);
                continue;
            }
            let hosts = self.hosts.len();
            let home = (host + self.rng.within(1..=hosts - 1)) % hosts;
            if home != owner.index() {
                self.tally.note(Event::TransferElsewhere);
            }
            let transfer = self.hosts[host].shard.transfer_out(key);
            let transfer = transfer.expect("it was undecided");
            self.tell(|| format!("client {id} moves from shard {host} to {home}"));
            self.hosts[host].conns[key.slot as usize] = None;
            self.hosts[host].events.retain(|&listed| listed != id);
            self.model.transfer(id, home);
            let peer = &mut self.peers[id];
            (peer.host, peer.key) = (home, None);
            (peer.is_moving, peer.is_listed) = (true, false);
            self.links[home][host].push_back(Parcel::Client { peer: id, transfer });
        }
    }

    fn take_client(&mut self, host: usize, id: usize, transfer: Transfer) {
        self.apply_effects(host);
        let peer = &mut self.peers[id];
        peer.is_moving = false;
        if self.hosts[host].is_cut {
            peer.pipe.close_by_server();
            return;
        }
        peer.pipe.register_anew();
        let before = self.counts(host);
        let key = self.hosts[host].shard.transfer_in(transfer);
        self.connect_to(host, key, id);
        self.observe(host, key, before, true);
        self.hosts[host].make_ready(key);
    }

    /// Has the host watch the connection of a client that its shard has just taken in.
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
            is_ready: false,
            read_closed: false,
        });
        self.peers[id].key = Some(key);
        self.raise(id);
    }

    fn take_parcel(&mut self, host: usize, from: usize) {
        let (envelope, end) = match self.links[host][from].pop_front() {
            Some(Parcel::Envelope { envelope, end }) => (envelope, end),
            Some(Parcel::Client { peer, transfer }) => {
                return self.take_client(host, peer, transfer);
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
                self.model.confirm(from.index(), *client, topic);
            }
            Envelope::Subscribed { client, .. } => joining = Some(*client),
            Envelope::Publish { topic, draft, .. } => {
                let topic = self.topic_named(topic);
                self.model.publish(from, topic, draft.len());
            }
            Envelope::Deliver { topic, .. } => {
                let topic = self.topic_named(topic);
                self.model.mirror(host, topic, end);
            }
            Envelope::Unsubscribe { .. }
            | Envelope::Members { .. }
            | Envelope::Hold { .. }
            | Envelope::Release { .. }
            | Envelope::Held { .. }
            | Envelope::Judge { .. }
            | Envelope::Fence
            | Envelope::Fenced => {}
        }
        let before = self.counts(host);
        self.hosts[host].shard.handle(envelope);
        if let Some(client) = joining {
            self.observe(host, client, before, false);
        }
    }

    fn topic_named(&self, name: &str) -> usize {
        let topic = self.plan.topics.iter().position(|&topic| topic == name);
        topic.expect("a topic that a client asked for")
    }

    /// Numbers in the model what the shard has numbered in the turn that began `now`. Returns how many messages each topic
    /// had before.
    fn number(&mut self, host: usize, now: Timestamp) -> Vec<usize> {
        let owns = |topic: &&str| self.router.owner(topic).index() == host;
        let topics = self.plan.topics.iter().enumerate();
        let owned: Vec<usize> = topics
            .filter(|(_, name)| owns(name))
            .map(|(key, _)| key)
            .collect();
        let mut before = vec![0; self.plan.topics.len()];
        for topic in owned {
            let Host { shard, is_cut, .. } = &self.hosts[host];
            let name = self.plan.topics[topic];
            let (waiting, until) = (shard.waiting_messages(name), shard.waits_until(name));
            let may_wait = !shard.is_draining() && !is_cut;
            let model = &mut self.model;
            let (count, wait) = model.number(host, topic, waiting, until, now, may_wait);
            before[topic] = count;
            match wait {
                Some(Wait::Interval) => self.tally.note(Event::WaitForInterval),
                Some(Wait::Wave) => self.tally.note(Event::WaitInWave),
                Some(Wait::Delivery) => self.tally.note(Event::WaitForDelivery),
                None => {}
            }
        }
        before
    }

    /// Hands over what the shard says to others.
    fn post(&mut self, host: usize, numbered_before: Vec<usize>) {
        let mut ends: Vec<Vec<usize>> = vec![numbered_before; self.hosts.len()];
        let outbox: Vec<(ShardId, Envelope)> = self.hosts[host].shard.take_outbox().collect();
        for (to, envelope) in outbox {
            let to = to.index();
            let mut end = 0;
            if let Envelope::Deliver { topic, batch, .. } = &envelope {
                let topic = self.topic_named(topic);
                ends[to][topic] += batch.frames();
                end = ends[to][topic];
                self.model.deliver(to, topic);
            }
            self.tell(|| format!("shard {host} says to {to}: {}", summary(&envelope)));
            self.links[to][host].push_back(Parcel::Envelope { envelope, end });
        }
    }
}

fn summary(envelope: &Envelope) -> String {
    match envelope {
        Envelope::Publish { topic, draft, .. } => format!("Publish {} to {topic}", draft.len()),
        Envelope::Deliver { topic, batch, .. } => {
            format!(
                "Deliver {} of {topic} from {:?}",
                batch.frames(),
                batch.first()
            )
        }
        other => format!("{other:?}"),
    }
}
