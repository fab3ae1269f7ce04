//! A worker without sockets and threads: it drives its shard as `net::worker` does, step by step, and sleeps as that
//! does, until something happens to it. What is left to chance there is left to the seed here: how many events and how
//! much mail a turn takes in, how much the kernel takes of a write, how early a flush stops.

use std::collections::VecDeque;

use fanwire::ids::{ClientKey, ShardId};
use fanwire::metrics::stats::Stat;
use fanwire::net::conn::Filled;
use fanwire::relay::envelope::Envelope;
use fanwire::relay::member::Slices;
use fanwire::relay::shard::{Effect, End, Permit, Shard, Written};

use crate::peer::{Peer, Request};
use crate::stream::Item;
use crate::world::{Parcel, World};

/// Reads of one connection in one turn.
const READS_PER_CONN: usize = 4;

/// A connection as a worker knows it.
#[derive(Clone, Copy, Debug)]
struct Conn {
    generation: u32,
    peer: usize,
    /// In the list of those to be read.
    is_ready: bool,
    /// The client has shut its side: a short read does not mean that nothing is left to be found out.
    read_closed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) shard: Shard,
    conns: Vec<Option<Conn>>,
    ready: VecDeque<ClientKey>,
    scratch: Vec<u8>,
    /// Clients with news, in the order in which the event loop would report them.
    pub(crate) events: VecDeque<usize>,
    /// Connections to be taken in.
    pub(crate) sockets: VecDeque<usize>,
    pub(crate) drain_is_due: bool,
    pub(crate) cut_is_due: bool,
}

/// Where a piece of mail comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Shard(usize),
    Acceptor,
    Control,
}

impl Host {
    pub(crate) fn new(shard: Shard, scratch_bytes: usize) -> Self {
        Host {
            shard,
            conns: Vec::new(),
            ready: VecDeque::new(),
            scratch: vec![0; scratch_bytes],
            events: VecDeque::new(),
            sockets: VecDeque::new(),
            drain_is_due: false,
            cut_is_due: false,
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

    fn conn(&mut self, key: ClientKey) -> Option<&mut Conn> {
        self.conns
            .get_mut(key.slot as usize)?
            .as_mut()
            .filter(|conn| conn.generation == key.generation)
    }

    fn make_ready(&mut self, key: ClientKey) {
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
        self.hosts[host].shard.begin_turn(now);
        self.take_events(host);
        self.take_mail(host);
        self.something_happens_meanwhile();
        self.read_ready(host);
        self.hosts[host].shard.handle_timeouts();

        let numbered_before = self.number(host);
        self.hosts[host].shard.decide();
        self.post(host, numbered_before);

        self.something_happens_meanwhile();
        self.flush(host);

        self.hosts[host].shard.end_turn(self.now);
        self.post(host, Vec::new());
        self.apply_effects(host);
        self.take_resumed(host);
        self.check_turn(host);
    }

    /// Clients do not wait for turns to end.
    fn something_happens_meanwhile(&mut self) {
        if !self.is_settling && self.rng.percent(20) {
            self.any_peer_acts();
        }
    }

    /// Most of the time all of `n`, otherwise some; when the world comes to rest, all.
    fn portion(&mut self, n: usize) -> usize {
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
        if news.writable {
            host.shard.on_writable(key);
        }
        if news.readable || news.read_closed || news.error {
            host.make_ready(key);
        }
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
        }
    }

    fn accept(&mut self, host: usize) {
        self.apply_effects(host);
        let Some(id) = self.hosts[host].sockets.pop_front() else {
            return;
        };
        let host = &mut self.hosts[host];
        let key = host.shard.accept();
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
        let Some(Parcel { envelope, end }) = self.links[host][from].pop_front() else {
            return;
        };
        self.tell(|| format!("shard {host} hears from {from}: {}", summary(&envelope)));
        let mut joining = None;
        match &envelope {
            Envelope::Subscribe {
                topic,
                from,
                client,
            } => {
                let topic = self.topic_named(topic);
                self.model.confirm(from.index(), *client, topic);
            }
            Envelope::Subscribed { client, .. } => joining = Some(*client),
            Envelope::Publish { topic, draft } => {
                let topic = self.topic_named(topic);
                self.model.publish(from, topic, draft.len());
            }
            Envelope::Deliver { topic, .. } => {
                let topic = self.topic_named(topic);
                self.model.mirror(host, topic, end);
            }
            Envelope::Unsubscribe { .. }
            | Envelope::Hold { .. }
            | Envelope::Release { .. }
            | Envelope::Held { .. }
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

    /// Numbers in the model what the shard is about to number. Returns how many messages each topic had before.
    fn number(&mut self, host: usize) -> Vec<usize> {
        let owns = |topic: &&str| self.router.owner(topic).index() == host;
        let topics = self.plan.topics.iter().enumerate();
        let owned: Vec<usize> = topics
            .filter(|(_, name)| owns(name))
            .map(|(key, _)| key)
            .collect();
        let mut before = vec![0; self.plan.topics.len()];
        for topic in owned {
            before[topic] = self.model.number(host, topic);
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
            if let Envelope::Deliver { topic, batch } = &envelope {
                let topic = self.topic_named(topic);
                ends[to][topic] += batch.frames();
                end = ends[to][topic];
            }
            self.tell(|| format!("shard {host} says to {to}: {}", summary(&envelope)));
            self.links[to][host].push_back(Parcel { envelope, end });
        }
    }

    // Reading.

    fn read_ready(&mut self, host: usize) {
        let weight = |link: &VecDeque<Parcel>| -> usize {
            link.iter()
                .map(|parcel| parcel.envelope.weight_bytes())
                .sum()
        };
        let is_full = |inbox: &Vec<VecDeque<Parcel>>| {
            inbox.iter().map(weight).sum::<usize>() > self.plan.inbox_high_water_bytes
        };
        if self.links.iter().any(is_full) {
            return;
        }
        for _ in 0..self.portion(self.hosts[host].ready.len()) {
            let Some(key) = self.hosts[host].ready.pop_front() else {
                return;
            };
            let Some(conn) = self.hosts[host].conn(key) else {
                continue;
            };
            conn.is_ready = false;
            let (id, read_closed) = (conn.peer, conn.read_closed);
            if self.read_conn(host, key, id, read_closed) {
                self.hosts[host].make_ready(key);
            }
        }
    }

    /// Reads a connection; says whether there may be more that could be read now.
    fn read_conn(&mut self, host: usize, key: ClientKey, id: usize, read_closed: bool) -> bool {
        for _ in 0..READS_PER_CONN {
            // What came with the request and had to wait is taken in before anything is read.
            let before = self.counts(host);
            let permit = self.hosts[host].shard.permit(key);
            self.observe(host, key, before, true);
            if permit == Permit::Parked {
                return false;
            }
            match self.fill(host, key, id) {
                Filled::More(_) => {}
                Filled::Last(_) if read_closed => {}
                Filled::Last(_) | Filled::Empty => return false,
                Filled::Eof => {
                    self.hosts[host].shard.on_end(key, End::Eof);
                    return false;
                }
                Filled::Failed => {
                    self.hosts[host].shard.on_end(key, End::Failed);
                    return false;
                }
                Filled::TlsFailed => unreachable!("nobody speaks TLS here"),
            }
        }
        true
    }

    fn fill(&mut self, host_id: usize, key: ClientKey, id: usize) -> Filled {
        let before = self.counts(host_id);
        let host = &mut self.hosts[host_id];
        let pipe = &mut self.peers[id].pipe;
        let (filled, is_direct) = match host.shard.direct_buffer(key) {
            Some(buffer) => (pipe.read(buffer), true),
            None => (pipe.read(&mut host.scratch), false),
        };
        if let Filled::More(count) | Filled::Last(count) = filled {
            self.model.consume(id, count);
            if is_direct {
                host.shard.on_direct(key, count);
            } else {
                host.shard.on_bytes(key, &mut host.scratch[..count]);
            }
            self.tell(|| format!("shard {host_id} reads {count} bytes of client {id}"));
            self.observe(host_id, key, before, true);
        }
        filled
    }

    /// Clients that joined and messages that were accepted, ever.
    fn counts(&self, host: usize) -> (u64, u64) {
        let host = &self.hosts[host];
        (host.value(Stat::Connections), host.value(Stat::Messages))
    }

    /// Tells the model what an input of the client has led to: it has joined, or messages of its were accepted.
    fn observe(&mut self, host: usize, key: ClientKey, before: (u64, u64), is_local: bool) {
        let after = self.counts(host);
        let (joined, accepted) = (after.0 - before.0, after.1 - before.1);
        let Some(id) = self.hosts[host].peer_of(key) else {
            assert_eq!((joined, accepted), (0, 0), "of a client that is gone");
            return;
        };
        match (joined, is_local) {
            (0, _) => {}
            (1, true) => self.model.join_at_head(id),
            (1, false) => self.model.join(id, key),
            (more, _) => panic!("{more} clients joined at once"),
        }
        if is_local && joined == 1 {
            let topic = self.plan.topics[self.peers[id].topic];
            let owner = self.router.owner(topic).index();
            assert_eq!(owner, host, "joined without a word from the topic's owner");
        }
        let is_shut = self.hosts[host].shard.is_draining();
        assert!(accepted == 0 || !is_shut, "accepted behind the fence");
        self.model.accept(id, accepted);
    }

    // Writing.

    fn flush(&mut self, host: usize) {
        let budget = if self.is_settling {
            self.plan.flush_budget.max(16)
        } else {
            self.rng.within(0..=self.plan.flush_budget)
        };
        for _ in 0..budget {
            let Some(key) = self.hosts[host].shard.poll_flush() else {
                return;
            };
            if let Some(id) = self.hosts[host].peer_of(key) {
                self.write(host, key, id);
            }
        }
    }

    fn write(&mut self, host_id: usize, key: ClientKey, id: usize) {
        loop {
            let most = match self.rng.below(100) {
                0..6 => 0,
                6..14 => self.rng.within(0..=200),
                _ => usize::MAX,
            };
            let host = &mut self.hosts[host_id];
            let mut slices = Slices::new();
            let offered = host.shard.gather(key, &mut slices);
            if offered == 0 {
                return;
            }
            let Ok(taken) = self.peers[id].pipe.write(offered, most) else {
                drop(slices);
                host.shard.on_end(key, End::Failed);
                return;
            };
            let mut bytes: Vec<u8> = Vec::with_capacity(taken);
            for slice in &slices {
                bytes.extend_from_slice(&slice[..slice.len().min(taken - bytes.len())]);
            }
            drop(slices);
            let again = host.shard.advance(key, Written::plain(taken, offered));
            self.tell(|| {
                format!("shard {host_id} writes {taken} of {offered} bytes to client {id}")
            });
            self.take_written(host_id, id, &bytes);
            self.raise(id);
            if !again {
                return;
            }
        }
    }

    /// Has the model look at what was written, and the client read it in its time.
    fn take_written(&mut self, host: usize, id: usize, bytes: &[u8]) {
        let items = self.peers[id].stream.push(bytes);
        let items = items.unwrap_or_else(|error| panic!("to client {id}: {error}"));
        for (offset, item) in items {
            self.tell(|| format!("client {id} is sent {}", describe(&item)));
            let may_be_refused = self.may_be_refused(host, id, &item);
            self.model.written(id, &item, may_be_refused);
            self.peers[id].expect(offset, item);
        }
    }

    fn may_be_refused(&self, host: usize, id: usize, item: &Item) -> bool {
        let is_draining = self.hosts[host].shard.is_draining();
        let is_too_late = *item == Item::Response(408);
        let is_turned_away = *item == Item::Response(503) && is_draining;
        self.peers[id].request != Request::Upgrade || is_too_late || is_turned_away
    }

    // What follows.

    fn apply_effects(&mut self, host: usize) {
        let effects: Vec<Effect> = self.hosts[host].shard.take_effects().collect();
        for effect in effects {
            let (Effect::ShutdownWrite(key) | Effect::Close(key)) = effect;
            let Some(id) = self.hosts[host].peer_of(key) else {
                panic!("{effect:?} of a connection that is not there");
            };
            self.tell(|| format!("client {id}: {effect:?}"));
            let Peer { pipe, stream, .. } = &mut self.peers[id];
            match effect {
                Effect::ShutdownWrite(_) => {
                    assert!(
                        !stream.is_torn(),
                        "client {id}: shut in the middle of a frame"
                    );
                    pipe.shut_by_server();
                }
                Effect::Close(_) => {
                    pipe.close_by_server();
                    self.hosts[host].conns[key.slot as usize] = None;
                    self.model.close(id);
                }
            }
        }
    }

    fn take_resumed(&mut self, host: usize) {
        let resumed: Vec<ClientKey> = self.hosts[host].shard.take_resumed().collect();
        for key in resumed {
            self.hosts[host].make_ready(key);
        }
    }
}

fn summary(envelope: &Envelope) -> String {
    match envelope {
        Envelope::Publish { topic, draft } => format!("Publish {} to {topic}", draft.len()),
        Envelope::Deliver { topic, batch } => {
            format!(
                "Deliver {} of {topic} from {:?}",
                batch.frames(),
                batch.first()
            )
        }
        other => format!("{other:?}"),
    }
}

fn describe(item: &Item) -> String {
    match item {
        Item::Message { payload, .. } => {
            let start = payload.get(..8).unwrap_or(payload);
            format!(
                "{} bytes, {:?}",
                payload.len(),
                String::from_utf8_lossy(start)
            )
        }
        other => format!("{other:?}"),
    }
}
