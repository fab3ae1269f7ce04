//! A turn's link to the kernel: the sockets of a worker's clients, its event loop, and other workers' inboxes.
//!
//! [`Sockets`] is the host of the worker's [`Turn`](crate::relay::turn::Turn). It decides nothing about clients: it moves
//! bytes between sockets and the shard, and envelopes between shards.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use crate::cluster::engine::Action;
use crate::http::health::Health;
use crate::ids::{ClientKey, ShardId};
use crate::metrics::engines::ClusterStat;
use crate::metrics::stats::{Published, Stat};
use crate::net::admission::{Admission, Entry, Seats};
use crate::net::alarm::Alarm;
use crate::net::clock::Clock;
use crate::net::complaint::Complaints;
use crate::net::conn::{Conn, Scratch, client_of, token_of};
use crate::net::engine::Links;
use crate::net::mail::{ControlBox, Mail, Postboxes, Report, balance};
use crate::net::stream::Stream;
use crate::net::tls::keeper::Keeper;
use crate::net::tls::session::Handshake;
use crate::net::vitals::Vitals;
use crate::relay::envelope::Envelope;
use crate::relay::owner::cluster::Tally;
use crate::relay::shard::{Effect, End, Named, Shard, Transfer, Undecided, Written};
use crate::relay::turn::{Filled, Host, Moment, Readiness, Sleep};
use crate::time::Timestamp;

/// The token of the worker's waker. No client has it, because a generation and a slot do not both reach their last value.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// The token of the worker's alarm, which no client has either.
pub(crate) const ALARM: Token = Token(usize::MAX - 1);

/// Events taken from the kernel in one go.
pub(super) const EVENTS: usize = 1024;

/// No shard reads while any shard's inbox holds this many bytes of messages. Numbered messages are never dropped, so messages
/// that are not numbered yet must wait in the senders' sockets.
const INBOX_HIGH_WATER_BYTES: usize = 8 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) events: Events,
    /// Events that the turn has not seen.
    pub(super) news: VecDeque<(ClientKey, Readiness)>,
    pub(super) id: ShardId,
    pub(super) poll: Poll,
    pub(super) alarm: Alarm,
    pub(super) postboxes: Postboxes,
    pub(super) control: ControlBox,
    pub(super) published: Arc<Published>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) fill_to: usize,
    pub(super) seats: Arc<Seats>,
    pub(super) complaints: Arc<Complaints>,
    pub(super) clock: Clock,
    /// By slot.
    pub(super) conns: Vec<Option<Conn>>,
    pub(super) scratch: Scratch,
    pub(super) tls: Option<Arc<Keeper>>,
    /// The connections to engines, if several relays are one.
    pub(super) links: Option<Links>,
    /// By shard: whether it has mail that it was not woken for yet.
    pub(super) to_notify: Vec<bool>,
    /// The history is to be handed to the control thread, once it is final.
    pub(super) leaves_history: bool,
    pub(super) has_reported: bool,
    pub(super) stopped: bool,
}

impl Sockets {
    /// Sleeps until an event, or for as long as `sleep` says.
    pub(super) fn wait(&mut self, sleep: Sleep, now: Timestamp) -> io::Result<()> {
        let is_busy = self.links.as_ref().is_some_and(Links::is_busy);
        let timeout = if is_busy {
            Some(Duration::ZERO)
        } else {
            sleep.until.map(|until| until.since(now))
        };
        if timeout != Some(Duration::ZERO)
            && let Some(due) = sleep.alarm
        {
            self.alarm.set(due, now)?;
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        for event in &self.events {
            match event.token() {
                WAKER => {}
                ALARM => self.alarm.note_heard(),
                token => {
                    let links = self.links.as_mut();
                    if !links.is_some_and(|links| links.note_event(event)) {
                        self.news.push_back((client_of(token), readiness_of(event)));
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn conn(&mut self, key: ClientKey) -> Option<&mut Conn> {
        conn_in(&mut self.conns, key)
    }

    pub(super) fn take_socket(
        &mut self,
        shard: &mut Shard,
        stream: Stream,
        admission: Admission,
    ) -> ClientKey {
        self.free_slots(shard);
        shard.set_wall_time(SystemTime::now().into());
        let key = match admission.as_deref() {
            Some(Entry::Header(..)) => shard.accept_with_preface(),
            Some(Entry::Proxy(_) | Entry::Seat(_)) | None => shard.accept(),
        };
        if matches!(admission.as_deref(), Some(Entry::Proxy(_))) {
            shard.trust(key);
            shard.believe(key);
        }
        if let Some(address) = stream.peer_address() {
            shard.note_origin(key, address.into());
        }
        let session = match (&self.tls, &stream) {
            (Some(tls), Stream::Tcp(_)) => Some(tls.session()),
            (Some(_), Stream::Unix(_)) | (None, _) => None,
        };
        if session.is_some() {
            shard.set_heavy(key, true);
        }
        self.watch(
            shard,
            key,
            Conn::new(stream, admission, session, key.generation),
        );
        key
    }

    /// Takes in a client that another worker has handed over.
    ///
    /// In a drain that is not cut short, the new worker has not stopped yet. A shard is drained when it has every owner's
    /// answer to its fence. Each answer comes after the fences of all shards, and so after the last client that they handed
    /// over.
    pub(super) fn take_client(&mut self, shard: &mut Shard, mut conn: Conn, transfer: Transfer) {
        self.free_slots(shard);
        shard.set_wall_time(SystemTime::now().into());
        let key = shard.transfer_in(transfer);
        shard.set_heavy(key, conn.is_encrypted());
        conn.generation = key.generation;
        self.watch(shard, key, conn);
        // The transport may hold input that the other worker left unread. No event announces it.
        shard.make_ready(key);
    }

    /// Closes the connections of clients that have left, because their slots may be given out again in this turn.
    fn free_slots(&mut self, shard: &mut Shard) {
        for effect in shard.take_effects() {
            self.apply(effect);
        }
    }

    /// Registers the connection of a client that the shard has just taken in with the event loop.
    fn watch(&mut self, shard: &mut Shard, key: ClientKey, mut conn: Conn) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        let registered = registry.register(conn.stream_mut(), token_of(key), interest);
        let slot = key.slot as usize;
        if slot >= self.conns.len() {
            self.conns.resize_with(slot + 1, || None);
        }
        self.conns[slot] = Some(conn);
        if let Err(error) = registered {
            tracing::debug!(%error, "a connection cannot be watched");
            shard.on_end(key, End::Failed);
        }
    }

    fn leave_history_if_final(&mut self, shard: &Shard) {
        if self.leaves_history && shard.is_history_final() {
            self.leaves_history = false;
            self.control.send(Report::History(shard.keepsake()));
        }
    }

    fn report_if_drained(&mut self, shard: &Shard) {
        if shard.is_drained() && !std::mem::replace(&mut self.has_reported, true) {
            self.control.send(Report::Drained);
        }
    }

    /// Gives back the memory that a crowd of connections needed.
    fn shrink(&mut self) {
        while self.conns.last().is_some_and(Option::is_none) {
            self.conns.pop();
        }
        if self.conns.capacity() > 4 * self.conns.len() {
            self.conns.shrink_to(2 * self.conns.len());
        }
    }
}

impl Host for Sockets {
    fn now(&mut self) -> Timestamp {
        self.clock.now()
    }

    fn next_event(&mut self) -> Option<(ClientKey, Readiness)> {
        while let Some((key, readiness)) = self.news.pop_front() {
            // An event may name a connection that is gone, whose slot may have a new tenant.
            if let Some(conn) = conn_in(&mut self.conns, key) {
                conn.ending |= readiness.is_read_closed || readiness.is_error;
                return Some((key, readiness));
            }
        }
        None
    }

    fn take_mail(&mut self, shard: &mut Shard) {
        if shard.wants_wall_time() {
            shard.set_wall_time(SystemTime::now().into());
        }
        self.postboxes[self.id.index()].inbox.open();
        // Mail that is pushed from now on comes with a wake of its own. So a busy inbox cannot keep the turn here.
        for _ in 0..self.postboxes[self.id.index()].inbox.len() {
            let Some(mail) = self.postboxes[self.id.index()].inbox.pop() else {
                return;
            };
            self.on_mail(shard, mail);
            if self.stopped {
                // Mail behind a stop is not taken in.
                return;
            }
        }
    }

    fn is_congested(&mut self) -> bool {
        let mut boxes = self.postboxes.iter();
        boxes.any(|other| other.inbox.backlog_bytes() > INBOX_HIGH_WATER_BYTES)
    }

    fn is_introduced(&mut self, shard: &mut Shard, key: ClientKey) -> bool {
        match self.conn(key).and_then(|conn| conn.admission.as_deref()) {
            Some(Entry::Header(..)) => self.read_header(shard, key),
            Some(Entry::Proxy(_) | Entry::Seat(_)) | None => true,
        }
    }

    /// Reads into the client's own buffer if it is in the middle of a large message, and into the scratch otherwise.
    fn fill(&mut self, shard: &mut Shard, key: ClientKey) -> Filled {
        let Some(conn) = conn_in(&mut self.conns, key) else {
            return Filled::Empty;
        };
        if !conn.is_encrypted()
            && let Some(buffer) = shard.direct_buffer(key)
        {
            let filled = conn.fill_plain(buffer);
            if let Filled::More(n) | Filled::Last(n) = filled {
                shard.on_direct(key, n);
            }
            return filled;
        }
        let is_handshaking = conn.is_handshaking();
        let filled = conn.fill(&mut self.scratch);
        if is_handshaking && let Some(handshake) = conn.handshake() {
            shard.stats_mut().inc(match handshake {
                Handshake::Full => Stat::TlsFull,
                Handshake::Resumed => Stat::TlsResumed,
            });
        }
        // A read may bring only records of TLS itself, or of a session that was given up.
        if let Filled::More(n @ 1..) | Filled::Last(n) = filled
            && !conn.has_given_up_tls()
        {
            shard.on_bytes(key, &mut self.scratch.plain[..n]);
        }
        filled
    }

    fn is_handshaking(&mut self, key: ClientKey) -> bool {
        self.conn(key).is_some_and(|conn| conn.is_handshaking())
    }

    fn seat_named(&mut self, shard: &mut Shard, named: &Named) -> bool {
        self.seat_client_of_proxy(shard, named)
    }

    fn note_misnamed(&mut self, named: &Named) {
        self.complain_of_proxy(named);
    }

    fn home(&mut self, _shard: &Shard, undecided: Undecided) -> Option<ShardId> {
        let owner = undecided.owner.index();
        let has_room = !self.postboxes[owner].is_frozen()
            && balance(&self.postboxes).has_room(owner, self.fill_to);
        has_room.then_some(undecided.owner)
    }

    fn health(&mut self) -> Health {
        match self.vitals.health() {
            // The check has a place itself, and gives it back.
            Health::Full => Health::Ready,
            health @ (Health::Ready
            | Health::Draining
            | Health::Frozen
            | Health::Joining
            | Health::CutOff) => health,
        }
    }

    fn hand_over(&mut self, key: ClientKey, home: ShardId, transfer: Transfer) {
        let Some(mut conn) = self.conns.get_mut(key.slot as usize).and_then(Option::take) else {
            return;
        };
        if let Err(error) = self.poll.registry().deregister(conn.stream_mut()) {
            tracing::debug!(%error, "a connection that moves was not watched");
        }
        let weight = transfer.weight_bytes();
        let postbox = &self.postboxes[home.index()];
        postbox.note_arrival();
        self.postboxes[self.id.index()].note_departure();
        let mail = Mail::Client(Box::new((conn, transfer)));
        postbox.inbox.push(mail, weight);
        // It is woken once, when the turn is decided.
        self.to_notify[home.index()] = true;
    }

    fn holds_back(&mut self, key: ClientKey) -> bool {
        self.conn(key).is_some_and(|conn| conn.holds_back())
    }

    fn flush_own(&mut self, key: ClientKey) -> bool {
        self.write(key, &[], 0).is_some()
    }

    fn write(&mut self, key: ClientKey, slices: &[IoSlice<'_>], offered: usize) -> Option<Written> {
        self.conn(key)?.flush(slices, offered).ok()
    }

    fn post(&mut self, to: ShardId, envelope: Envelope) {
        let weight = envelope.weight_bytes();
        let inbox = &self.postboxes[to.index()].inbox;
        inbox.push(Mail::Envelope(envelope), weight);
        self.to_notify[to.index()] = true;
    }

    fn wake_others(&mut self) {
        for (postbox, has_mail) in self.postboxes.iter().zip(&mut self.to_notify) {
            if std::mem::take(has_mail) {
                postbox.inbox.notify();
            }
        }
    }

    fn take_engine_news(&mut self, shard: &mut Shard) {
        let hears = shard.takes_arrivals();
        let now = self.clock.now();
        if let (Some(links), Some(cluster)) = (&mut self.links, shard.cluster_mut()) {
            links.take_news(cluster.engines_mut(), hears, now);
        }
    }

    fn act_on_engine(&mut self, engine: usize, action: Action) {
        if let Some(links) = &mut self.links {
            links.act(engine, action, self.poll.registry());
        }
    }

    fn flush_engines(&mut self) {
        if let Some(links) = &mut self.links {
            links.flush();
        }
    }

    fn apply(&mut self, effect: Effect) {
        let (Effect::ShutdownWrite(key) | Effect::Close(key) | Effect::LimitSilence(key, _)) =
            effect;
        let Some(slot) = self.conns.get_mut(key.slot as usize) else {
            return;
        };
        match (effect, &mut *slot) {
            (Effect::ShutdownWrite(_), Some(conn)) => conn.shutdown_write(),
            (Effect::LimitSilence(_, longest), Some(conn)) => {
                conn.stream_mut().limit_silence(longest);
            }
            (Effect::Close(_), Some(conn)) => {
                conn.say_goodbye();
                let postbox = &self.postboxes[self.id.index()];
                if conn.refused {
                    postbox.note_refusal_end();
                } else {
                    postbox.note_end();
                }
                // To close the descriptor also takes it out of the event loop.
                *slot = None;
            }
            (_, None) => {}
        }
    }

    fn note(&mut self, shard: &mut Shard, moment: Moment) {
        if moment == Moment::Settled {
            self.shrink();
            self.leave_history_if_final(shard);
            self.report_if_drained(shard);
            self.published.publish(shard.stats());
            if let (Some(links), Some(cluster)) = (&mut self.links, shard.cluster()) {
                links.publish(cluster.engines());
                links.publish_topics(numbers_of(cluster.tally()));
            }
        }
    }
}

/// In the order of `ClusterStat`.
fn numbers_of(tally: Tally) -> [u64; ClusterStat::COUNT] {
    [
        tally.given_up,
        tally.dropped,
        tally.passed,
        tally.moved,
        tally.told_gap,
        tally.told_back,
        tally.told_unknown,
    ]
}

fn readiness_of(event: &Event) -> Readiness {
    Readiness {
        is_readable: event.is_readable(),
        is_writable: event.is_writable(),
        is_read_closed: event.is_read_closed(),
        is_error: event.is_error(),
    }
}

/// The connection of a client, unless it is gone; borrows nothing else of the sockets.
pub(super) fn conn_in(conns: &mut [Option<Conn>], key: ClientKey) -> Option<&mut Conn> {
    conns
        .get_mut(key.slot as usize)?
        .as_mut()
        .filter(|conn| conn.generation == key.generation)
}
