//! The world of a script: shards, the envelopes between them, and clients' sockets, all as data.
//!
//! It keeps the contract of `net::worker` with its shard: the steps of a turn in order, no read without a permit, no
//! write after the end, and an edge only when one is due.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fanwire::config::{Config, SlowConsumerPolicy, Topics};
use fanwire::ids::{ClientKey, ShardId};
use fanwire::metrics::stats::{Stat, Stats};
use fanwire::relay::envelope::Envelope;
use fanwire::relay::router::Router;
use fanwire::relay::shard::{Effect, End, Permit, Settings, Shard, Transfer};
use fanwire::relay::topic::member::Slices;
use fanwire::time::Timestamp;
use fanwire::ws::handshake::Refusal;

use super::client::{Client, router};
use super::model::Model;
use super::wire::Item;

/// The most clients of a script.
const MAX_CLIENTS: usize = 24;

/// The code of the Close that ends the drain. A client that gets it has got everything.
const GOING_AWAY: u16 = 1001;

/// The most bytes that a socket returns in one read.
const READ_BYTES: usize = 16 << 10;

/// The bytes that a transport takes while it can send nothing: enough for some messages of most scripts.
const TAKES_AHEAD_BYTES: usize = 300;

/// The clients that a turn flushes, when it flushes all.
const FLUSH_BUDGET: usize = 512;

/// Mail for a shard.
#[derive(Debug)]
enum Mail {
    Envelope(Envelope),
    /// A client that moves to the shard.
    Client(usize, Transfer),
}

/// A shard and its inboxes, one for each sending shard.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) shard: Shard,
    inboxes: Vec<VecDeque<Mail>>,
}

/// The counters of a shard, and whether it drains.
#[derive(Clone, Copy, Debug)]
struct Counts {
    joined: u64,
    accepted: u64,
    is_draining: bool,
}

impl Counts {
    fn of(shard: &Shard) -> Counts {
        Counts {
            joined: shard.stats().value(Stat::Connections),
            accepted: shard.stats().value(Stat::Messages),
            is_draining: shard.is_draining(),
        }
    }
}

/// The world.
#[derive(Debug)]
pub(super) struct World {
    pub(super) hosts: Vec<Host>,
    pub(super) clients: Vec<Client>,
    clients_by_key: BTreeMap<(usize, ClientKey), usize>,
    pub(super) model: Model,
    router: Router,
    topics: Topics,
    max_message_bytes: usize,
    pub(super) is_lossy: bool,
    /// The script is over: sockets accept everything, and clients answer.
    pub(super) is_at_end: bool,
    now: Timestamp,
    /// By shard: messages whose last byte was written.
    pub(super) delivered: Vec<u64>,
}

impl World {
    pub(super) fn new(config: &Config, shards: usize) -> Self {
        let router = router(shards);
        let settings = Settings::new(config, shards as u16);
        let host = |id: usize| {
            let id = ShardId(id as u16);
            let mut shard = Shard::new(id, settings.clone(), router, Timestamp(0));
            shard.begin_turn(Timestamp(0));
            Host {
                shard,
                inboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            }
        };
        let is_lossy = config.slow_consumer.policy == SlowConsumerPolicy::Drop;
        World {
            hosts: (0..shards).map(host).collect(),
            clients: Vec::new(),
            clients_by_key: BTreeMap::new(),
            model: Model::new(shards, config.relay.echo, is_lossy),
            max_message_bytes: config.limits.max_message_bytes,
            router,
            topics: config.relay.topics,
            is_lossy,
            is_at_end: false,
            now: Timestamp(0),
            delivered: vec![0; shards],
        }
    }

    /// The host that a byte selects.
    pub(super) fn any_host(&self, byte: u8) -> usize {
        usize::from(byte) % self.hosts.len()
    }

    /// The client that a byte selects.
    pub(super) fn any_client(&self, byte: u8) -> Option<usize> {
        usize::from(byte).checked_rem(self.clients.len())
    }

    fn client_of(&self, host: usize, key: ClientKey) -> Option<usize> {
        let client = *self.clients_by_key.get(&(host, key))?;
        (!self.clients[client].is_closed).then_some(client)
    }

    /// The sum of all shards' counters.
    pub(super) fn stats(&self) -> Stats {
        let hosts = self.hosts.iter();
        hosts.map(|host| host.shard.stats().clone()).sum()
    }

    // Clients' actions

    /// Connects a client. The lower bits of `shard` select the shard. With the highest bit, its transport takes more
    /// than it can send. With the bit below, the client moves to another shard, if it may.
    pub(super) fn connect(&mut self, shard: u8) -> Option<usize> {
        if self.clients.len() == MAX_CLIENTS {
            return None;
        }
        let host = self.any_host(shard & 0x3f);
        // A slot freed in this turn may be reused.
        self.apply_effects(host);
        let key = self.hosts[host].shard.accept();
        let client = self.clients.len();
        let mut new = Client::new(host, key);
        new.takes_ahead = if shard & 0x80 != 0 {
            TAKES_AHEAD_BYTES
        } else {
            0
        };
        new.moves = shard & 0x40 != 0;
        self.clients.push(new);
        let before = self.clients_by_key.insert((host, key), client);
        assert!(before.is_none(), "two clients with one name");
        Some(client)
    }

    pub(super) fn refuse(&mut self, client: usize) {
        let Client { host, key, .. } = self.clients[client];
        self.hosts[host]
            .shard
            .refuse_unheard(key, Refusal::CAPACITY);
    }

    /// Reads a socket once. With `is_edge`, it has just become readable, so it is read even if it was parked.
    pub(super) fn read(&mut self, client: usize, size: usize, is_edge: bool) {
        let Client {
            host,
            key,
            is_parked,
            is_moving,
            is_closed,
            ..
        } = self.clients[client];
        if is_closed || is_moving || is_parked && !is_edge {
            return;
        }
        let permit = self.watch(host, Some(client), |shard| shard.permit(key));
        self.clients[client].is_parked = permit == Permit::Parked;
        if permit == Permit::Parked {
            return;
        }
        if self.clients[client].unsent.is_empty() {
            let is_shut = self.clients[client].is_shut;
            if is_shut {
                self.hosts[host].shard.on_end(key, End::Eof);
            }
            return;
        }
        self.fill(client, size.max(1));
    }

    fn fill(&mut self, client: usize, size: usize) {
        let Client { host, key, .. } = self.clients[client];
        let direct = self.hosts[host].shard.direct_buffer(key);
        let direct_len = direct.map(|buffer| buffer.len());
        let unsent = &mut self.clients[client].unsent;
        let count = size.min(unsent.len()).min(direct_len.unwrap_or(usize::MAX));
        let mut bytes = unsent.make_contiguous()[..count].to_vec();
        unsent.drain(..count);
        self.clients[client].note_read(&bytes, self.topics, self.max_message_bytes);
        if let Some(topic) = self.clients[client].topic() {
            let owner = self.router.owner(topic).index();
            self.model.know(topic, owner);
        }
        self.watch(host, Some(client), |shard| match direct_len {
            Some(_) => {
                let buffer = shard.direct_buffer(key).expect("it was there");
                buffer[..count].copy_from_slice(&bytes);
                shard.on_direct(key, count);
            }
            None => shard.on_bytes(key, &mut bytes),
        });
        self.transfer_clients(host);
    }

    fn transfer_clients(&mut self, host: usize) {
        while let Some(undecided) = self.hosts[host].shard.poll_undecided() {
            let key = undecided.key;
            let client = self.client_of(host, key).expect("it is there");
            if !self.clients[client].moves {
                self.hosts[host].shard.stay(key);
                continue;
            }
            let hosts = self.hosts.len();
            // Each client moves to a different other shard, whether it owns the topic or not.
            let home = (host + 1 + client % (hosts - 1)) % hosts;
            let transfer = self.hosts[host].shard.transfer_out(key);
            let transfer = transfer.expect("it was undecided");
            self.clients_by_key.remove(&(host, key));
            self.clients[client].is_moving = true;
            let mail = Mail::Client(client, transfer);
            self.hosts[home].inboxes[host].push_back(mail);
        }
    }

    fn take_client(&mut self, host: usize, client: usize, transfer: Transfer) {
        // A slot freed in this turn may be reused.
        self.apply_effects(host);
        let before = Counts::of(&self.hosts[host].shard);
        let key = self.hosts[host].shard.transfer_in(transfer);
        let arrived = &mut self.clients[client];
        (arrived.host, arrived.key) = (host, key);
        // Another event loop watches it now, and reports everything from the start.
        (arrived.is_moving, arrived.is_parked) = (false, false);
        self.clients_by_key.insert((host, key), client);
        self.note(host, Some(client), before);
    }

    /// Does something to a shard, and tells the model about the effects.
    fn watch<T>(
        &mut self,
        host: usize,
        client: Option<usize>,
        act: impl FnOnce(&mut Shard) -> T,
    ) -> T {
        let shard = &mut self.hosts[host].shard;
        let before = Counts::of(shard);
        let result = act(shard);
        self.note(host, client, before);
        result
    }

    /// Tells the model the effects since `before`: `client` has joined, or messages of it were accepted.
    fn note(&mut self, host: usize, client: Option<usize>, before: Counts) {
        let after = Counts::of(&self.hosts[host].shard);
        let joined = after.joined - before.joined;
        let accepted = after.accepted - before.accepted;
        assert!(joined <= 1, "{joined} clients joined at once");
        let was_draining = before.is_draining;
        assert!(accepted == 0 || !was_draining, "accepted behind the fence");
        let Some(client) = client else {
            assert_eq!((joined, accepted), (0, 0), "of nobody");
            return;
        };
        let key = self.clients[client].key;
        if joined == 1 {
            let topic = self.clients[client].topic().expect("it has asked for one");
            self.model.join(client, host, key, topic);
        }
        for _ in 0..accepted {
            let message = self.clients[client].accept();
            self.model.accept(host, client, message);
        }
    }

    pub(super) fn make_room(&mut self, client: usize, size: usize) {
        let client = &mut self.clients[client];
        client.room += size;
        if client.room > 0 && !client.is_closed && std::mem::take(&mut client.is_starved) {
            let (host, key) = (client.host, client.key);
            let was_awaited = self.hosts[host].shard.is_blocked(key);
            assert_eq!(self.hosts[host].shard.on_writable(key), was_awaited);
        }
    }

    pub(super) fn end_of(&mut self, client: usize, end: End) {
        let Client {
            host,
            key,
            is_moving,
            ..
        } = self.clients[client];
        if is_moving {
            // The shard that gets the client finds out.
            self.clients[client].is_shut = true;
            return;
        }
        if end == End::TlsFailed {
            // The session is given up, with all bytes that it held back.
            self.clients[client].takes_ahead = 0;
            self.clients[client].held_back = 0;
        }
        self.hosts[host].shard.on_end(key, end);
    }

    pub(super) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    // Mail

    pub(super) fn take_mail(&mut self, host: u8, from: u8, count: usize) {
        let (host, from) = (self.any_host(host), self.any_host(from));
        for _ in 0..count {
            let Some(mail) = self.hosts[host].inboxes[from].pop_front() else {
                return;
            };
            self.handle(host, from, mail);
        }
    }

    fn handle(&mut self, host: usize, from: usize, mail: Mail) {
        let envelope = match mail {
            Mail::Envelope(envelope) => envelope,
            Mail::Client(client, transfer) => return self.take_client(host, client, transfer),
        };
        let mut joining = None;
        match &envelope {
            Envelope::Subscribe { topic, client, .. } => {
                self.model.confirm(topic, from, *client);
            }
            Envelope::Subscribed { client, .. } => joining = self.client_of(host, *client),
            Envelope::Publish { topic, draft, .. } => {
                self.model.publish(topic, from, draft.len());
            }
            Envelope::Unsubscribe { .. }
            | Envelope::Members { .. }
            | Envelope::Numbered { .. }
            | Envelope::Deliver { .. }
            | Envelope::Hold { .. }
            | Envelope::Release { .. }
            | Envelope::Held { .. }
            | Envelope::Judge { .. }
            | Envelope::Fence
            | Envelope::Fenced => {}
        }
        self.watch(host, joining, |shard| shard.handle(envelope));
    }

    // The steps of a turn

    /// Lets everything possible happen: each shard takes its mail, reads, and ends a turn.
    pub(super) fn step(&mut self) {
        for host in 0..self.hosts.len() {
            for from in 0..self.hosts.len() {
                while let Some(mail) = self.hosts[host].inboxes[from].pop_front() {
                    self.handle(host, from, mail);
                }
            }
            for client in 0..self.clients.len() {
                if self.clients[client].host == host {
                    self.read(client, READ_BYTES, false);
                }
            }
            self.turn(host, FLUSH_BUDGET, true);
        }
    }

    /// Ends the host's turn and begins the next.
    pub(super) fn turn(&mut self, host: usize, flush_budget: usize, has_timeouts: bool) {
        if has_timeouts {
            self.hosts[host].shard.handle_timeouts();
        }
        let shard = &mut self.hosts[host].shard;
        shard.decide();
        self.model
            .number(host, |topic| shard.waiting_messages(topic));
        self.post(host);
        self.flush(host, flush_budget);
        self.hosts[host].shard.end_turn(self.now);
        self.post(host);
        self.apply_effects(host);
        while let Some(key) = self.hosts[host].shard.take_ready(false) {
            if let Some(client) = self.client_of(host, key) {
                self.clients[client].is_parked = false;
            }
        }
        self.check(host);
        self.hosts[host].shard.begin_turn(self.now);
    }

    fn post(&mut self, host: usize) {
        let outbox: Vec<(ShardId, Envelope)> = self.hosts[host].shard.take_outbox().collect();
        for (to, envelope) in outbox {
            self.hosts[to.index()].inboxes[host].push_back(Mail::Envelope(envelope));
        }
    }

    fn flush(&mut self, host: usize, budget: usize) {
        for _ in 0..budget {
            let Some(key) = self.hosts[host].shard.poll_flush() else {
                return;
            };
            if let Some(client) = self.client_of(host, key) {
                self.write(client);
            }
        }
    }

    fn write(&mut self, id: usize) {
        let Client { host, key, .. } = self.clients[id];
        loop {
            let shard = &mut self.hosts[host].shard;
            let client = &mut self.clients[id];
            let is_due = client.held_back > 0 && !shard.is_blocked(key);
            let mut slices = Slices::new();
            let offered = shard.gather(key, &mut slices);
            if offered == 0 && !is_due {
                return;
            }
            assert!(!client.is_finished, "written behind the end");
            let listed = slices.iter().map(|slice| slice.len()).sum::<usize>();
            assert_eq!(listed, offered, "what is listed is what is said");
            let mut bytes = Vec::with_capacity(offered);
            for slice in &slices {
                bytes.extend_from_slice(slice);
            }
            drop(slices);
            let written = client.write(offered);
            let taken = written.taken;
            let again = shard.advance(key, written);
            let items = self.clients[id].wire.push(&bytes[..taken]);
            for item in items {
                self.on_item(id, item);
            }
            if !again {
                return;
            }
        }
    }

    /// A complete item has been written.
    fn on_item(&mut self, id: usize, item: Item) {
        let client = &mut self.clients[id];
        match item {
            Item::Response(101) => assert!(client.topic().is_some(), "101 for no upgrade"),
            Item::Response(status) => assert!((400..600).contains(&status), "{status}"),
            Item::Message(is_text, payload) => {
                self.delivered[client.host] += 1;
                self.model.deliver(id, &(is_text, payload));
            }
            Item::Ping if self.is_at_end && client.is_open() => client.say_frame(0x8a, b""),
            Item::Ping => {}
            Item::Pong(payload) => assert!(client.answers(&payload), "a pong to no ping"),
            Item::Close(code) => {
                match code {
                    // But not the answer to the client's own Close with the same code.
                    Some(GOING_AWAY) if client.is_open() => self.model.send_away(id),
                    Some(_) | None => self.model.leave(id),
                }
                let client = &mut self.clients[id];
                if self.is_at_end && client.is_open() {
                    client.say_frame(0x88, b"");
                    client.is_shut = true;
                }
            }
        }
    }

    fn apply_effects(&mut self, host: usize) {
        let effects: Vec<Effect> = self.hosts[host].shard.take_effects().collect();
        for effect in effects {
            let (Effect::ShutdownWrite(key) | Effect::Close(key)) = effect;
            let id = self.client_of(host, key);
            let id = id.unwrap_or_else(|| panic!("{effect:?} of a connection that is gone"));
            let client = &mut self.clients[id];
            match effect {
                Effect::ShutdownWrite(_) => {
                    assert!(!client.wire.is_torn(), "shut inside a frame");
                    assert_eq!(client.held_back, 0, "shut before everything was sent");
                    assert!(!client.is_finished, "shut twice");
                    client.is_finished = true;
                }
                Effect::Close(_) => {
                    client.is_closed = true;
                    self.model.leave(id);
                }
            }
        }
    }
}
