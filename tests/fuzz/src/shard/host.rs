//! A worker without sockets and threads. It takes the same [`Turn`] as a worker, and sleeps as long as a worker would.
//!
//! [`World`] says what happens. A host keeps that until its turn asks for it. It decides nothing about clients.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use fanwire::internals::relay::{
    Budgets, Effect, Envelope, Filled, Moment, Readiness, Shard, Transfer, Turn, Undecided, Written,
};
use fanwire::internals::ws::Refusal;
use fanwire::internals::{ClientKey, ShardId, Timestamp, relay};
use fanwire::server::Stat;

use super::client::Brought;
use super::wire::Item;
use super::world::World;

/// Budgets that a script can use up.
const BUDGETS: Budgets = Budgets {
    step_frames: 3,
    read_bytes: 256 << 10,
    read_time: Duration::from_millis(2),
    flush_clients: 512,
    flush_bytes: 1 << 20,
};

/// The most that one read takes, unless it reads into a client's own buffer.
const SCRATCH_BYTES: usize = 64 << 10;

/// A flush may visit a client more than once. With this many visits for each client, it visits everybody.
const VISITS_PER_CLIENT: usize = 4;

/// A host that sleeps this much too long was stopped. It must not blame its clients for that.
const PAUSE: Duration = Duration::from_millis(500);

/// The sleep of a host after it found an inbox full.
const CONGESTION_RETRY: Duration = Duration::from_millis(1);

/// The code of the Close at the end of a drain. A member that gets it has had everything.
const GOING_AWAY: u16 = 1001;

/// The reasons for which a host disconnects idle clients.
const IMPATIENCE: [Stat; 3] = [
    Stat::DisconnectedStall,
    Stat::DisconnectedPong,
    Stat::HandshakeTimeout,
];

/// Something that another shard sends.
#[derive(Debug)]
pub(super) enum Mail {
    /// An envelope. With a batch goes how much of the topic's order has arrived with it.
    Envelope(Envelope, usize),
    /// A client that moves.
    Client(usize, Transfer),
}

impl Mail {
    fn weight_bytes(&self) -> usize {
        match self {
            Mail::Envelope(envelope, _) => envelope.weight_bytes(),
            Mail::Client(_, transfer) => transfer.weight_bytes(),
        }
    }
}

/// Something that a host takes in when its turn takes the mail.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// A client that has connected.
    Socket(usize),
    /// A client that is one too many.
    Surplus(usize),
    /// Up to `count` pieces of mail of this shard.
    Mail { from: usize, count: usize },
    /// The order to drain.
    Drain,
    /// The order to cut what is left.
    Cut,
}

/// The limits at which the steps of a turn stop early. See [`relay::Host::portion`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    /// The number of clients that the turn reads of each lane, and the number that it places.
    pub(super) most_taken_in: usize,
    /// The number of clients that the turn flushes.
    pub(super) most_flushed: usize,
}

impl Portion {
    /// No step stops early.
    pub(super) const ALL: Portion = Portion {
        most_taken_in: usize::MAX,
        most_flushed: usize::MAX,
    };
}

/// The counters that the model watches, and whether the shard drains.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    joined: u64,
    accepted: u64,
    is_draining: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Host {
    /// Away while it is being taken.
    turn: Option<Turn>,
    /// By sender.
    pub(super) inboxes: Vec<VecDeque<Mail>>,
    /// Another host has woken it, and mail is left. Mail alone does not end a sleep.
    is_woken: bool,
    /// By receiver: it has sent mail since it last woke the others.
    owes_wake: Vec<bool>,
    /// The input of the next turn, in order.
    pub(super) due: VecDeque<Due>,
    /// Clients with news, in the order in which the event loop reports them.
    pub(super) events: VecDeque<usize>,
    /// The end of its sleep if nothing happens.
    pub(super) wakes_at: Option<Timestamp>,
    /// Some inbox was full in its last turn.
    is_congested: bool,
    /// The counters as the model knows them.
    seen: Counts,
}

impl Host {
    pub(super) fn new(shard: Shard, shards: usize, now: Timestamp) -> Self {
        let mut turn = Turn::new(shard, BUDGETS, now);
        let sleep = turn.sleep(now);
        Host {
            turn: Some(turn),
            inboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            is_woken: false,
            owes_wake: vec![false; shards],
            due: VecDeque::new(),
            events: VecDeque::new(),
            wakes_at: sleep.ends_at(),
            is_congested: false,
            seen: Counts::default(),
        }
    }

    /// Its shard, between two turns.
    pub(super) fn shard(&self) -> &Shard {
        &self.turn.as_ref().expect("it is not in a turn").shard
    }

    pub(super) fn value(&self, stat: Stat) -> u64 {
        self.shard().stats().value(stat)
    }

    /// Whether a worker would run at `now`: something has happened to it, or its sleep is over.
    pub(super) fn is_awake(&self, now: Timestamp) -> bool {
        let is_news = |due: &Due| !matches!(due, Due::Mail { .. });
        let has_news = self.due.iter().any(is_news) || !self.events.is_empty();
        has_news || self.is_woken || self.wakes_at.is_some_and(|at| at <= now)
    }

    /// When it must act although nothing happens, so that messages move on. Deadlines of clients do not count.
    pub(super) fn next_move(&self) -> Option<Timestamp> {
        let shard = self.shard();
        let waits_for_room = self.is_congested && shard.has_ready();
        let retry = waits_for_room.then(|| shard.now() + CONGESTION_RETRY);
        let moves = [shard.next_fan_out(), shard.next_review(), retry];
        moves.into_iter().flatten().min()
    }

    /// The number of clients that it has disconnected because they did nothing.
    fn impatience(&self) -> u64 {
        IMPATIENCE.iter().map(|&stat| self.value(stat)).sum()
    }

    /// Whether there is mail of other shards, here or on its way.
    fn has_mail(&self) -> bool {
        self.inboxes.iter().any(|inbox| !inbox.is_empty())
    }

    fn weight_bytes(&self) -> usize {
        let mail = self.inboxes.iter().flatten();
        mail.map(Mail::weight_bytes).sum()
    }
}

/// A host in the middle of a turn.
struct InTurn<'a> {
    world: &'a mut World,
    host: usize,
    portion: Portion,
    is_flushing: bool,
    flushed_bytes: usize,
}

impl InTurn<'_> {
    fn client_of(&self, key: ClientKey) -> Option<usize> {
        self.world.client_of(self.host, key)
    }

    /// Whether the flush has visited everybody who waits for it.
    fn has_flushed_all(&self) -> bool {
        let visits = VISITS_PER_CLIENT * self.world.clients.len();
        let most = self.portion.most_flushed.min(BUDGETS.flush_clients);
        most >= visits && self.flushed_bytes < BUDGETS.flush_bytes
    }
}

impl relay::Host for InTurn<'_> {
    fn now(&mut self) -> Timestamp {
        self.world.now
    }

    fn next_event(&mut self) -> Option<(ClientKey, Readiness)> {
        while let Some(id) = self.world.hosts[self.host].events.pop_front() {
            let client = &mut self.world.clients[id];
            client.is_listed = false;
            let news = std::mem::take(&mut client.news);
            if let Some(key) = client.key.filter(|_| !client.is_closed) {
                client.is_known_to_end |= news.is_read_closed || news.is_error;
                return Some((key, news));
            }
        }
        None
    }

    fn take_mail(&mut self, shard: &mut Shard) {
        while let Some(due) = self.world.hosts[self.host].due.pop_front() {
            self.world.take(self.host, shard, due);
        }
        let host = &mut self.world.hosts[self.host];
        host.is_woken &= host.has_mail();
    }

    fn is_congested(&mut self) -> bool {
        let World { hosts, .. } = &*self.world;
        let mut weights = hosts.iter().map(Host::weight_bytes);
        let is_congested = weights.any(|bytes| bytes > self.world.inbox_mark_bytes);
        self.world.hosts[self.host].is_congested = is_congested;
        is_congested
    }

    fn fill(&mut self, shard: &mut Shard, key: ClientKey) -> Filled {
        match self.client_of(key) {
            Some(id) => self.world.fill(self.host, shard, key, id),
            None => Filled::Empty,
        }
    }

    fn is_handshaking(&mut self, key: ClientKey) -> bool {
        self.client_of(key)
            .is_some_and(|id| self.world.clients[id].is_handshaking)
    }

    /// Clients that move are spread over all other shards, not only the owner of their topic.
    fn home(&mut self, shard: &Shard, undecided: Undecided) -> Option<ShardId> {
        let World { hosts, clients, .. } = &*self.world;
        assert_ne!(undecided.owner, shard.id(), "the owner need not decide");
        let id = self.client_of(undecided.key).expect("it is there");
        let home = (self.host + 1 + id % (hosts.len() - 1)) % hosts.len();
        clients[id].moves.then_some(ShardId(home as u16))
    }

    fn hand_over(&mut self, key: ClientKey, home: ShardId, transfer: Transfer) {
        let id = self.client_of(key).expect("it is there");
        self.world.hand_over(id, home.index(), transfer);
    }

    fn holds_back(&mut self, key: ClientKey) -> bool {
        self.client_of(key)
            .is_some_and(|id| self.world.clients[id].held_back > 0)
    }

    fn flush_own(&mut self, key: ClientKey) -> bool {
        self.client_of(key)
            .is_some_and(|id| self.world.clients[id].write(0).is_some())
    }

    fn write(&mut self, key: ClientKey, slices: &[IoSlice<'_>], offered: usize) -> Option<Written> {
        let id = self.client_of(key)?;
        let written = self.world.write(id, slices, offered)?;
        self.flushed_bytes += written.taken;
        Some(written)
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
        count.min(if self.is_flushing {
            self.portion.most_flushed
        } else {
            self.portion.most_taken_in
        })
    }

    fn note(&mut self, shard: &mut Shard, moment: Moment) {
        let world = &mut *self.world;
        match moment {
            Moment::Permitted(key) => {
                let client = world.client_of(self.host, key);
                world.observe(self.host, shard, client);
            }
            Moment::Decided => {
                let waiting = |topic: &str| shard.waiting_messages(topic);
                world.model.number(self.host, waiting);
            }
            Moment::Told => self.is_flushing = true,
            Moment::Begun
            | Moment::Heard
            | Moment::Deadlines
            | Moment::TakenIn
            | Moment::Wrote(..)
            | Moment::Ended
            | Moment::Settled => world.observe(self.host, shard, None),
        }
    }
}

impl World {
    /// One turn of a host, and the decision of how long it sleeps then.
    pub(super) fn turn(&mut self, host: usize, portion: Portion) {
        let impatience = self.hosts[host].impatience();
        let meant = self.hosts[host].wakes_at;
        let was_stopped = meant.is_some_and(|meant| self.now.since(meant) > PAUSE);
        let mut turn = self.hosts[host].turn.take().expect("one turn at a time");
        let mut in_turn = InTurn {
            world: self,
            host,
            portion,
            is_flushing: false,
            flushed_bytes: 0,
        };
        turn.run(&mut in_turn);
        let has_flushed_all = in_turn.has_flushed_all();
        let is_all_said = turn.shard.take_outbox().next().is_none();
        assert!(is_all_said, "said to another shard, and not sent");
        let sleep = turn.sleep(self.now);
        self.hosts[host].turn = Some(turn);
        self.hosts[host].wakes_at = sleep.ends_at();
        assert!(
            !was_stopped || self.hosts[host].impatience() == impatience,
            "clients are blamed for a pause of their host"
        );
        self.check(host, has_flushed_all);
    }

    // The input of a turn.

    fn take(&mut self, host: usize, shard: &mut Shard, due: Due) {
        match due {
            Due::Socket(client) => {
                self.accept(host, shard, client);
            }
            Due::Surplus(client) => {
                let key = self.accept(host, shard, client);
                shard.refuse(key, Refusal::CAPACITY);
            }
            Due::Mail { from, count } => {
                for _ in 0..count {
                    let Some(mail) = self.hosts[host].inboxes[from].pop_front() else {
                        return;
                    };
                    self.handle(host, shard, from, mail);
                }
            }
            Due::Drain => shard.begin_drain(),
            Due::Cut => shard.cut_all(),
        }
        // So the model knows when the drain begins: nothing is accepted from then on.
        self.observe(host, shard, None);
    }

    fn accept(&mut self, host: usize, shard: &mut Shard, client: usize) -> ClientKey {
        self.free_slots(host, shard);
        let key = shard.accept();
        shard.set_heavy(key, self.clients[client].is_encrypted());
        self.connect_to(host, key, client);
        key
    }

    /// The shard may give a slot out again in the turn in which it was given up.
    fn free_slots(&mut self, host: usize, shard: &mut Shard) {
        for effect in shard.take_effects() {
            self.apply(host, effect);
        }
    }

    /// The host watches the socket of a client that its shard has just taken in.
    fn connect_to(&mut self, host: usize, key: ClientKey, client: usize) {
        self.name(host, key, client);
        self.clients[client].register();
        self.raise(client);
    }

    fn handle(&mut self, host: usize, shard: &mut Shard, from: usize, mail: Mail) {
        let (envelope, end) = match mail {
            Mail::Envelope(envelope, end) => (envelope, end),
            Mail::Client(client, transfer) => {
                return self.take_client(host, shard, client, transfer);
            }
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
            Envelope::Deliver { topic, .. } => self.model.arrive(topic, host, end),
            Envelope::Unsubscribe { .. }
            | Envelope::Members { .. }
            | Envelope::Refused { .. }
            | Envelope::Mark { .. }
            | Envelope::Returned { .. }
            | Envelope::Out { .. }
            | Envelope::Waits { .. }
            | Envelope::Post(_)
            | Envelope::Recall(_)
            | Envelope::Posted(_)
            | Envelope::Ask(_)
            | Envelope::Described(_)
            | Envelope::Arrived { .. }
            | Envelope::Hold { .. }
            | Envelope::Release { .. }
            | Envelope::Held { .. }
            | Envelope::Judge { .. }
            | Envelope::Fence
            | Envelope::Fenced => {}
        }
        shard.handle(envelope);
        self.observe(host, shard, joining);
    }

    fn take_client(&mut self, host: usize, shard: &mut Shard, client: usize, transfer: Transfer) {
        self.free_slots(host, shard);
        let key = shard.transfer_in(transfer);
        self.connect_to(host, key, client);
        self.observe(host, shard, Some(client));
        // The other host may have left bytes in the transport, which no event announces.
        shard.make_ready(key);
    }

    /// Reads a client's socket once.
    fn fill(&mut self, host: usize, shard: &mut Shard, key: ClientKey, id: usize) -> Filled {
        let client = &mut self.clients[id];
        let direct_len = if client.is_encrypted() {
            None
        } else {
            shard.direct_buffer(key).map(|buffer| buffer.len())
        };
        let most = direct_len.unwrap_or(SCRATCH_BYTES);
        let mut bytes = match client.read(most) {
            Brought::Bytes(bytes) => bytes,
            Brought::Nothing => return Filled::Empty,
            Brought::Eof => return Filled::Eof,
            Brought::Failure => return Filled::Failed,
            Brought::TlsFailure => return Filled::TlsFailed,
        };
        let count = bytes.len();
        let is_last = count < most && client.is_drained();
        if !client.is_unheard() {
            self.note_read(id, &bytes);
            match direct_len {
                Some(_) => {
                    let buffer = shard.direct_buffer(key).expect("it was there");
                    buffer[..count].copy_from_slice(&bytes);
                    shard.on_direct(key, count);
                }
                None => shard.on_bytes(key, &mut bytes),
            }
            self.observe(host, shard, Some(id));
        }
        if is_last {
            Filled::Last(count)
        } else {
            Filled::More(count)
        }
    }

    /// Tells the model the news of `client`: it has joined, or the shard has accepted messages of it.
    fn observe(&mut self, host: usize, shard: &Shard, client: Option<usize>) {
        let after = Counts {
            joined: shard.stats().value(Stat::Connections),
            accepted: shard.stats().value(Stat::Messages),
            is_draining: shard.is_draining(),
        };
        let before = std::mem::replace(&mut self.hosts[host].seen, after);
        let joined = after.joined - before.joined;
        let accepted = after.accepted - before.accepted;
        assert!(joined <= 1, "{joined} clients joined at once");
        let was_draining = before.is_draining;
        assert!(accepted == 0 || !was_draining, "accepted behind the fence");
        let Some(client) = client else {
            assert_eq!((joined, accepted), (0, 0), "of nobody");
            return;
        };
        if joined == 1 {
            let key = self.clients[client].key.expect("it is there");
            let topic = self.clients[client].topic().expect("it has asked for one");
            self.model.join(client, host, key, topic);
        }
        for _ in 0..accepted {
            let message = self.clients[client].accept();
            self.model.accept(host, client, message);
        }
    }

    // The output of a turn.

    fn hand_over(&mut self, id: usize, home: usize, transfer: Transfer) {
        let from = self.unname(id);
        self.hosts[from].events.retain(|&listed| listed != id);
        let client = &mut self.clients[id];
        (client.host, client.is_listed) = (home, false);
        self.send(from, home, Mail::Client(id, transfer));
    }

    fn post(&mut self, host: usize, to: usize, envelope: Envelope) {
        let end = match &envelope {
            Envelope::Deliver { topic, batch } => self.model.send(topic, to, batch.len()),
            _ => 0,
        };
        self.send(host, to, Mail::Envelope(envelope, end));
    }

    /// Puts mail into the inbox of another host, which sleeps on until it is woken.
    fn send(&mut self, host: usize, to: usize, mail: Mail) {
        self.hosts[to].inboxes[host].push_back(mail);
        self.hosts[host].owes_wake[to] = true;
    }

    /// The host wakes those to which it has sent mail.
    fn wake_others(&mut self, host: usize) {
        for to in 0..self.hosts.len() {
            self.hosts[to].is_woken |= std::mem::take(&mut self.hosts[host].owes_wake[to]);
        }
    }

    /// Writes to a client what its transport takes, and has the model look at it.
    fn write(&mut self, id: usize, slices: &[IoSlice<'_>], offered: usize) -> Option<Written> {
        let client = &mut self.clients[id];
        assert!(!client.is_finished, "written behind the end");
        assert!(!client.is_handshaking, "written before it can be encrypted");
        let listed = slices.iter().map(|slice| slice.len()).sum::<usize>();
        assert_eq!(listed, offered, "what is listed is what is said");
        assert!(offered > 0 || client.held_back > 0, "a write of nothing");
        let mut bytes = Vec::with_capacity(offered);
        for slice in slices {
            bytes.extend_from_slice(slice);
        }
        let written = client.write(offered)?;
        for item in client.wire.push(&bytes[..written.taken]) {
            self.on_item(id, item);
        }
        Some(written)
    }

    /// Something whole has been written.
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
                    // Unless it answers a Close of the client's with the same code.
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

    fn apply(&mut self, host: usize, effect: Effect) {
        let (Effect::ShutdownWrite(key) | Effect::Close(key) | Effect::LimitSilence(key, _)) =
            effect;
        let id = self.client_of(host, key);
        let id = id.unwrap_or_else(|| panic!("{effect:?} of a connection that is gone"));
        let client = &mut self.clients[id];
        match effect {
            Effect::LimitSilence(..) => {}
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
