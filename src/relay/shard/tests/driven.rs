//! A shard that takes real turns, with a host that does what a test says.
//!
//! The files in `tests/` hand it input, events and mail, and call [`Driven::run`]. As with sockets, input waits until the
//! shard permits a read, envelopes stay here until the turn wakes the others, and time passes only between turns.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::mem::take;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::ids::{ClientKey, ShardId};
use crate::metrics::stats::Stat;
use crate::relay::envelope::Envelope;
use crate::relay::shard::{Effect, Shard, Transfer, Undecided, Written};
use crate::relay::turn::{Budgets, Filled, Host, Moment, Readiness, Turn};
use crate::time::Timestamp;

/// More turns than any test needs. A shard that asks for more may keep its worker awake for nothing, and a test that takes more
/// may wait for something that never comes.
const MOST_TURNS: u64 = 20_000;

/// Something from another thread.
#[derive(Debug)]
pub(super) enum Mail {
    Envelope(Envelope),
    /// A client that moves here.
    Client(Transfer),
    Drain,
}

/// The world of one shard, between its turns.
#[derive(Debug, Default)]
struct World {
    now: Timestamp,
    news: VecDeque<(ClientKey, Readiness)>,
    /// By the client's slot and generation: bytes that were not read yet.
    unread: BTreeMap<(u32, u32), Vec<u8>>,
    /// The end of a connection, behind its last byte.
    ends: BTreeMap<(u32, u32), Filled>,
    mail: Vec<Mail>,
    /// All undecided clients are to live there.
    home: Option<ShardId>,
    /// Clients that have moved here.
    moved_in: Vec<ClientKey>,
    /// Clients whose transport has taken bytes that the kernel has not accepted.
    held_back: Vec<ClientKey>,
    /// Clients whose transport was told to send its own bytes.
    flushed_own: Vec<ClientKey>,
    writes: Vec<(ClientKey, Vec<u8>)>,
    /// For shards that were not woken for it.
    posted: Vec<(ShardId, Mail)>,
    said: Vec<(ShardId, Mail)>,
    /// The number of those before the turn's first write.
    said_before_writing: Option<usize>,
    effects: Vec<Effect>,
    is_flushing: bool,
}

fn id(key: ClientKey) -> (u32, u32) {
    (key.slot, key.generation)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Driven {
    turn: Turn,
    world: World,
}

impl Deref for Driven {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.turn.shard
    }
}

impl DerefMut for Driven {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.turn.shard
    }
}

impl Driven {
    pub(super) fn new(shard: Shard) -> Driven {
        let now = shard.now();
        let budgets = Budgets {
            read_bytes: usize::MAX,
            flush_clients: usize::MAX,
            flush_bytes: usize::MAX,
            ..Budgets::default()
        };
        let world = World {
            now,
            ..World::default()
        };
        Driven {
            turn: Turn::new(shard, budgets, now),
            world,
        }
    }

    /// Takes a turn that visits up to `visits` clients to flush them. `takes` says what becomes of each write.
    pub(super) fn run(
        &mut self,
        visits: usize,
        takes: &mut dyn FnMut(ClientKey, usize) -> Written,
    ) {
        self.world.said_before_writing = None;
        self.turn.run(&mut Scripted {
            world: &mut self.world,
            visits,
            takes,
        });
        self.turn.shard.check();
        self.sleeps_until();
        let turns = self.turn.shard.stats().value(Stat::Turns);
        assert!(turns < MOST_TURNS, "there is no end of turns");
    }

    /// Takes turns until the shard would sleep.
    pub(super) fn rest(&mut self, takes: &mut dyn FnMut(ClientKey, usize) -> Written) {
        while self.is_awake() {
            self.run(usize::MAX, takes);
        }
    }

    /// Whether the shard has something to do now.
    fn is_awake(&mut self) -> bool {
        let has_news = !self.world.news.is_empty() || !self.world.mail.is_empty();
        let now = self.world.now;
        has_news || self.sleeps_until().is_some_and(|end| end <= now)
    }

    /// The moment at which the shard wants its next turn, if nothing happens.
    pub(super) fn sleeps_until(&mut self) -> Option<Timestamp> {
        self.turn.sleep(self.world.now).ends_at()
    }

    /// Lets time pass. The shard takes the turns that it has asked for by its sleeps, and is awake at the end.
    pub(super) fn sleep(
        &mut self,
        span: Duration,
        takes: &mut dyn FnMut(ClientKey, usize) -> Written,
    ) {
        let end = self.world.now + span;
        self.rest(takes);
        while let Some(due) = self.sleeps_until().filter(|&due| due < end) {
            self.world.now = due;
            self.run(usize::MAX, takes);
            self.rest(takes);
        }
        self.world.now = end;
        self.run(usize::MAX, takes);
    }

    /// Lets time pass without a turn, as if the host were slow.
    pub(super) fn pass(&mut self, span: Duration) {
        self.world.now = self.world.now + span;
    }

    /// Lets time pass up to `now`, without a turn.
    pub(super) fn pass_until(&mut self, now: Timestamp) {
        assert!(now >= self.world.now, "time goes on");
        self.world.now = now;
    }

    /// The time in the world. The shard learns it when its next turn begins.
    pub(super) fn time(&self) -> Timestamp {
        self.world.now
    }

    /// Bytes of the client arrive.
    pub(super) fn sends(&mut self, client: ClientKey, bytes: &[u8]) {
        let unread = self.world.unread.entry(id(client)).or_default();
        unread.extend_from_slice(bytes);
        self.world.news.push_back((client, READABLE));
    }

    /// Whether bytes of the client wait in its socket, because the shard does not read it.
    pub(super) fn has_unread(&self, client: ClientKey) -> bool {
        self.world.unread.contains_key(&id(client))
    }

    /// Takes back the bytes that were not read.
    pub(super) fn take_unread(&mut self, client: ClientKey) {
        self.world.unread.remove(&id(client));
    }

    /// The client's connection fails.
    pub(super) fn fails(&mut self, client: ClientKey) {
        self.world.ends.insert(id(client), Filled::Failed);
        let is_error = true;
        let readiness = Readiness {
            is_error,
            ..Readiness::default()
        };
        self.world.news.push_back((client, readiness));
    }

    /// The client breaks TLS.
    pub(super) fn breaks_tls(&mut self, client: ClientKey) {
        self.world.ends.insert(id(client), Filled::TlsFailed);
        self.world.news.push_back((client, READABLE));
    }

    /// The client shuts its writing side.
    pub(super) fn ends(&mut self, client: ClientKey) {
        self.world.ends.insert(id(client), Filled::Eof);
        self.world.news.push_back((client, READABLE));
    }

    /// The client's socket takes bytes again.
    pub(super) fn accepts(&mut self, client: ClientKey) {
        let is_writable = true;
        let readiness = Readiness {
            is_writable,
            ..Readiness::default()
        };
        self.world.news.push_back((client, readiness));
    }

    /// The client's transport has bytes of its own to send.
    pub(super) fn holds_back_own(&mut self, client: ClientKey) {
        self.world.held_back.push(client);
    }

    /// Clients whose transport was told to send its own bytes.
    pub(super) fn take_flushed_own(&mut self) -> Vec<ClientKey> {
        take(&mut self.world.flushed_own)
    }

    /// Mail of another thread arrives.
    pub(super) fn gets(&mut self, mail: Mail) {
        self.world.mail.push(mail);
    }

    /// An envelope of another shard arrives.
    pub(super) fn hears(&mut self, envelope: Envelope) {
        self.gets(Mail::Envelope(envelope));
    }

    /// All undecided clients are to live on `home`.
    pub(super) fn set_home(&mut self, home: ShardId) {
        self.world.home = Some(home);
    }

    /// The clients that have moved here.
    pub(super) fn moved_in(&self) -> &[ClientKey] {
        &self.world.moved_in
    }

    /// The mail to others, in order. The turn has woken them for it.
    pub(super) fn take_said(&mut self) -> Vec<(ShardId, Mail)> {
        take(&mut self.world.said)
    }

    /// How much of that others were woken for before the last turn's first write; `None` if it wrote nothing.
    pub(super) fn said_before_writing(&self) -> Option<usize> {
        self.world.said_before_writing
    }

    /// The orders for sockets.
    pub(super) fn take_applied(&mut self) -> Vec<Effect> {
        take(&mut self.world.effects)
    }

    /// Forgets the writes so far.
    pub(super) fn forget_writes(&mut self) {
        self.world.writes.clear();
    }

    /// The clients that were written to, in order.
    pub(super) fn written_to(&self) -> Vec<ClientKey> {
        let writes = self.world.writes.iter();
        let mut clients: Vec<ClientKey> = writes.map(|&(client, _)| client).collect();
        clients.dedup();
        clients
    }

    /// The bytes that the client was sent, write by write.
    pub(super) fn writes_to(&self, client: ClientKey) -> Vec<Vec<u8>> {
        let writes = self.world.writes.iter();
        let writes = writes.filter(|(to, _)| *to == client);
        writes.map(|(_, bytes)| bytes.clone()).collect()
    }
}

const READABLE: Readiness = Readiness {
    is_readable: true,
    is_writable: false,
    is_read_closed: false,
    is_error: false,
};

/// The host of one turn.
struct Scripted<'a> {
    world: &'a mut World,
    visits: usize,
    takes: &'a mut dyn FnMut(ClientKey, usize) -> Written,
}

impl Host for Scripted<'_> {
    fn now(&mut self) -> Timestamp {
        self.world.now
    }

    fn next_event(&mut self) -> Option<(ClientKey, Readiness)> {
        self.world.news.pop_front()
    }

    fn take_mail(&mut self, shard: &mut Shard) {
        for mail in take(&mut self.world.mail) {
            match mail {
                Mail::Envelope(envelope) => shard.handle(envelope),
                Mail::Client(transfer) => self.world.moved_in.push(shard.transfer_in(transfer)),
                Mail::Drain => shard.begin_drain(),
            }
        }
    }

    fn is_congested(&mut self) -> bool {
        false
    }

    fn fill(&mut self, shard: &mut Shard, key: ClientKey) -> Filled {
        let Some(mut bytes) = self.world.unread.remove(&id(key)) else {
            return self.world.ends.remove(&id(key)).unwrap_or(Filled::Empty);
        };
        shard.on_bytes(key, &mut bytes);
        if self.world.ends.contains_key(&id(key)) {
            return Filled::More(bytes.len());
        }
        Filled::Last(bytes.len())
    }

    fn home(&mut self, _shard: &Shard, _undecided: Undecided) -> Option<ShardId> {
        self.world.home
    }

    fn hand_over(&mut self, key: ClientKey, home: ShardId, transfer: Transfer) {
        self.world.unread.remove(&id(key));
        self.world.posted.push((home, Mail::Client(transfer)));
    }

    fn holds_back(&mut self, key: ClientKey) -> bool {
        self.world.held_back.contains(&key)
    }

    fn flush_own(&mut self, key: ClientKey) -> bool {
        self.world.flushed_own.push(key);
        self.world.held_back.retain(|&held| held != key);
        true
    }

    fn write(&mut self, key: ClientKey, slices: &[IoSlice<'_>], offered: usize) -> Option<Written> {
        let said = self.world.said.len();
        self.world.said_before_writing.get_or_insert(said);
        let written = (self.takes)(key, offered);
        let mut bytes = Vec::with_capacity(offered);
        for slice in slices {
            bytes.extend_from_slice(slice);
        }
        bytes.truncate(written.taken);
        self.world.writes.push((key, bytes));
        self.world.held_back.retain(|&held| held != key);
        if written.holds_back {
            self.world.held_back.push(key);
        }
        Some(written)
    }

    fn post(&mut self, to: ShardId, envelope: Envelope) {
        self.world.posted.push((to, Mail::Envelope(envelope)));
    }

    fn wake_others(&mut self) {
        self.world.said.append(&mut self.world.posted);
    }

    fn apply(&mut self, effect: Effect) {
        if let Effect::Close(key) = effect {
            self.world.unread.remove(&id(key));
            self.world.ends.remove(&id(key));
        }
        self.world.effects.push(effect);
    }

    fn portion(&mut self, count: usize) -> usize {
        if self.world.is_flushing {
            self.visits.min(count)
        } else {
            count
        }
    }

    fn note(&mut self, _shard: &mut Shard, moment: Moment) {
        match moment {
            Moment::Told => self.world.is_flushing = true,
            Moment::Ended => self.world.is_flushing = false,
            Moment::Begun
            | Moment::Permitted(_)
            | Moment::Heard
            | Moment::Deadlines
            | Moment::TakenIn
            | Moment::Decided
            | Moment::Wrote(..)
            | Moment::Settled => {}
        }
    }
}
