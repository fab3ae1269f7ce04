//! The world of a script: hosts, clients, and the time, all of it data.
//!
//! The operations call it to say what happens. A [`host`](super::host) hears of that in its next turn, and not before.

use std::collections::BTreeMap;
use std::time::Duration;

use fanwire::config::{Config, SlowConsumerPolicy, Topics};
use fanwire::internals::relay::{Readiness, Router, Settings, Shard};
use fanwire::internals::{ClientKey, ShardId, Timestamp};
use fanwire::server::Stats;

use super::client::{Client, router};
use super::host::{Due, Host, Portion};
use super::model::Model;

/// The most clients of a script.
const MAX_CLIENTS: usize = 24;

/// The size of the pieces in which a socket brings everything.
const READ_BYTES: usize = 16 << 10;

/// The bytes that an encrypting transport takes while it cannot send: some messages of most scripts.
const TAKES_AHEAD_BYTES: usize = 300;

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) hosts: Vec<Host>,
    pub(super) clients: Vec<Client>,
    clients_by_key: BTreeMap<(usize, ClientKey), usize>,
    pub(super) model: Model,
    router: Router,
    topics: Topics,
    max_message_bytes: usize,
    /// A host whose inboxes hold more than this keeps all hosts from reading.
    pub(super) inbox_mark_bytes: usize,
    pub(super) is_lossy: bool,
    /// The script is over: sockets take everything, and clients answer.
    pub(super) is_at_end: bool,
    pub(super) now: Timestamp,
    /// By shard: messages of which the last byte was written.
    pub(super) delivered: Vec<u64>,
}

impl World {
    pub(super) fn new(config: &Config, shards: usize, inbox_mark_bytes: usize) -> Self {
        let now = Timestamp(0);
        let router = router(shards);
        let settings = Settings::new(config, shards as u16);
        let shard = |id| Shard::new(ShardId(id), settings.clone(), router, now);
        let hosts = 0..shards as u16;
        let is_lossy = config.slow_consumer.policy == SlowConsumerPolicy::Drop;
        World {
            hosts: hosts.map(|id| Host::new(shard(id), shards, now)).collect(),
            clients: Vec::new(),
            clients_by_key: BTreeMap::new(),
            model: Model::new(shards, config.relay.echo, is_lossy),
            max_message_bytes: config.limits.max_message_bytes,
            inbox_mark_bytes,
            router,
            topics: config.relay.topics,
            is_lossy,
            is_at_end: false,
            now,
            delivered: vec![0; shards],
        }
    }

    /// The host that a byte means.
    pub(super) fn any_host(&self, byte: u8) -> usize {
        usize::from(byte) % self.hosts.len()
    }

    /// The client that a byte means.
    pub(super) fn any_client(&self, byte: u8) -> Option<usize> {
        usize::from(byte).checked_rem(self.clients.len())
    }

    /// The counters of all shards, added up.
    pub(super) fn stats(&self) -> Stats {
        let hosts = self.hosts.iter();
        hosts.map(|host| host.shard().stats().clone()).sum()
    }

    // Names of clients.

    /// The client behind a name, if its connection is there.
    pub(super) fn client_of(&self, host: usize, key: ClientKey) -> Option<usize> {
        let client = *self.clients_by_key.get(&(host, key))?;
        (!self.clients[client].is_closed).then_some(client)
    }

    /// A host gives the client a name.
    pub(super) fn name(&mut self, host: usize, key: ClientKey, client: usize) {
        self.clients[client].key = Some(key);
        let before = self.clients_by_key.insert((host, key), client);
        assert!(before.is_none(), "two clients with one name");
    }

    /// The client leaves its host. Returns that.
    pub(super) fn unname(&mut self, client: usize) -> usize {
        let Client { host, key, .. } = &mut self.clients[client];
        let (host, key) = (*host, key.take().expect("it has a name"));
        self.clients_by_key.remove(&(host, key));
        host
    }

    // Acts of clients.

    /// A client connects. The lower bits of `byte` say to which shard. 0x80: its transport encrypts. 0x20: it begins with a
    /// handshake, if so. 0x40: the client moves to another shard if it can.
    pub(super) fn connect(&mut self, byte: u8, due: fn(usize) -> Due) -> Option<usize> {
        if self.clients.len() == MAX_CLIENTS {
            return None;
        }
        let host = self.any_host(byte & 0x3f);
        let is_encrypted = byte & 0x80 != 0;
        let takes_ahead = if is_encrypted { TAKES_AHEAD_BYTES } else { 0 };
        let id = self.clients.len();
        let mut client = Client::new(host, takes_ahead);
        client.moves = byte & 0x40 != 0;
        client.is_handshaking = is_encrypted && byte & 0x20 != 0;
        self.clients.push(client);
        self.hosts[host].due.push_back(due(id));
        Some(id)
    }

    /// Something happens to a client's socket. Its host will see it as an event.
    pub(super) fn happens_to(&mut self, client: usize, what: impl FnOnce(&mut Client)) {
        what(&mut self.clients[client]);
        self.raise(client);
    }

    /// Lists the client with its host, if its socket has events.
    pub(super) fn raise(&mut self, id: usize) {
        let client = &mut self.clients[id];
        let is_watched = client.key.is_some() && !client.is_closed;
        let has_news = client.news != Readiness::default();
        if is_watched && has_news && !std::mem::replace(&mut client.is_listed, true) {
            self.hosts[client.host].events.push_back(id);
        }
    }

    /// Notes what a shard is about to read of a client.
    pub(super) fn note_read(&mut self, client: usize, bytes: &[u8]) {
        let client = &mut self.clients[client];
        client.note_read(bytes, self.topics, self.max_message_bytes);
        if let Some(topic) = client.topic() {
            let owner = self.router.owner(topic).index();
            self.model.know(topic, owner);
        }
    }

    // Time and turns.

    pub(super) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// A host takes a turn, unless it sleeps. Says whether it did.
    pub(super) fn wake(&mut self, host: usize, portion: Portion) -> bool {
        let is_awake = self.hosts[host].is_awake(self.now);
        if is_awake {
            self.turn(host, portion);
        }
        is_awake
    }

    /// Sockets bring everything, all mail arrives, and each host takes a turn unless it sleeps. Says whether any did.
    pub(super) fn step(&mut self) -> bool {
        for client in 0..self.clients.len() {
            while self.clients[client].has_more() {
                self.happens_to(client, |client| client.bring(READ_BYTES));
            }
        }
        let mut has_acted = false;
        for host in 0..self.hosts.len() {
            for from in 0..self.hosts.len() {
                let Host { inboxes, due, .. } = &mut self.hosts[host];
                let count = inboxes[from].len();
                if count > 0 {
                    due.push_back(Due::Mail { from, count });
                }
            }
            has_acted |= self.wake(host, Portion::ALL);
        }
        has_acted
    }
}
