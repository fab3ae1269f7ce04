//! A worker: the thread that owns a shard, its clients' sockets, and one event loop.
//!
//! It works in turns. Each step has a budget; what is left over waits on a list for the next turn,
//! which then begins without sleeping, so that no connection, however busy, keeps the others waiting.

mod admit;
mod reading;
#[cfg(test)]
mod tests;
mod transfer;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use super::admission::{Admission, Entry, Seats};
use super::alarm::Alarm;
use super::clock::{Clock, Patience};
use super::conn::{Conn, Scratch, client_of, token_of};
use super::mail::{ControlBox, Mail, Postboxes, Report};
use super::ready::Ready;
use super::stream::Stream;
use super::tls::keeper::Keeper;
use crate::ids::{ClientKey, ShardId};
use crate::metrics::stats::{Published, Stat};
use crate::relay::departure::refusal_stat;
use crate::relay::member::Slices;
use crate::relay::shard::{Effect, End, Permit, Shard};
use crate::time::Timestamp;
use crate::ws::handshake::Refusal;

/// The token of the worker's waker: no client has it, because generations and slots do not reach it together.
pub const WAKER: Token = Token(usize::MAX);

/// The token of the worker's alarm, which no client has either.
pub const ALARM: Token = Token(usize::MAX - 1);

/// Events taken from the kernel in one go.
const EVENTS: usize = 1024;

/// Clients flushed in one turn, before sockets and the inbox are looked at again: about 2 ms of writes.
const FLUSH_BUDGET_CLIENTS: usize = 256;

/// Bytes written in one turn, before the last write: about as long for large messages.
const FLUSH_BUDGET_BYTES: usize = 8 << 20;

/// How soon to look whether the inboxes have been emptied. Nobody announces it, because it is rare.
const CONGESTION_RETRY: Duration = Duration::from_millis(1);

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its shard.
    pub shard: Shard,
    /// Which one that is.
    pub id: ShardId,
    /// Its event loop, in which the waker of its postbox is registered.
    pub poll: Poll,
    /// Its alarm, registered there.
    pub alarm: Alarm,
    /// All workers' inboxes.
    pub postboxes: Postboxes,
    /// The control thread's inbox.
    pub control: ControlBox,
    /// Where its counters are published.
    pub published: Arc<Published>,
    /// Up to how many connections workers are filled one after the other.
    pub fill_to: usize,
    /// The connections that each address has, if they are limited.
    pub seats: Option<Arc<Seats>>,
    /// The relay's clock.
    pub clock: Clock,
    /// What clients over TCP are shown, where they speak TLS.
    pub tls: Option<Arc<Keeper>>,
}

/// See the module.
#[derive(Debug)]
pub struct Worker {
    shard: Shard,
    id: ShardId,
    poll: Poll,
    alarm: Alarm,
    postboxes: Postboxes,
    control: ControlBox,
    published: Arc<Published>,
    fill_to: usize,
    seats: Option<Arc<Seats>>,
    clock: Clock,
    patience: Patience,
    /// Sockets by slot.
    conns: Vec<Option<Conn>>,
    ready: Ready,
    scratch: Scratch,
    tls: Option<Arc<Keeper>>,
    /// Since when some inbox has been over its mark, so that reads wait.
    congested_since: Option<Timestamp>,
    /// For how long nobody has been read, of which the shard has not been told.
    unread: Duration,
    /// By shard: it has been sent something that it was not woken for yet.
    to_notify: Vec<bool>,
    has_reported: bool,
    stopped: bool,
}

impl Worker {
    /// A worker, ready to run.
    pub fn new(parts: Parts) -> Self {
        Worker {
            patience: Patience::new(parts.clock.now()),
            shard: parts.shard,
            id: parts.id,
            poll: parts.poll,
            alarm: parts.alarm,
            to_notify: vec![false; parts.postboxes.len()],
            postboxes: parts.postboxes,
            control: parts.control,
            published: parts.published,
            fill_to: parts.fill_to,
            seats: parts.seats,
            clock: parts.clock,
            conns: Vec::new(),
            ready: Ready::default(),
            scratch: Scratch::new(parts.tls.is_some()),
            tls: parts.tls,
            congested_since: None,
            unread: Duration::ZERO,
            has_reported: false,
            stopped: false,
        }
    }

    /// Runs until it is told to stop. Fails only if the kernel refuses to wait for events.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.stopped {
            let timeout = self.timeout();
            let timeout = self.set_alarm(timeout)?;
            self.unread += self.patience.note(self.clock.now(), timeout);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => self.turn(&events),
            }
        }
        Ok(())
    }

    /// How long to sleep when nothing happens: not at all while something is left over.
    fn timeout(&self) -> Option<Duration> {
        if self.shard.has_work() {
            return Some(Duration::ZERO);
        }
        if !self.ready.is_empty() {
            return Some(if self.congested_since.is_some() {
                CONGESTION_RETRY
            } else {
                Duration::ZERO
            });
        }
        let deadline = self.shard.next_deadline();
        let deadline = deadline.map(|due| due.max(self.patience.until()));
        let review = self.shard.next_review();
        let next = review.into_iter().chain(deadline).min()?;
        Some(next.since(self.clock.now()))
    }

    /// Before a sleep that would be as long as `timeout`: has it end in time for the next fan-out. Says how long to sleep.
    fn set_alarm(&mut self, timeout: Option<Duration>) -> io::Result<Option<Duration>> {
        let Some(due) = self.shard.next_fan_out() else {
            return Ok(timeout);
        };
        if timeout == Some(Duration::ZERO) {
            return Ok(timeout);
        }
        let now = self.clock.now();
        if due <= now {
            return Ok(Some(Duration::ZERO));
        }
        self.alarm.set(due, now)?;
        Ok(timeout)
    }

    /// One turn: take in, decide, tell the others, flush, settle, publish.
    ///
    /// The others are told before the flush, not after it: theirs then goes on beside ours.
    fn turn(&mut self, events: &Events) {
        let began = self.clock.now();
        self.unread += self.patience.note(began, Some(Duration::ZERO));
        // 1. Take in: what has become possible, what other threads sent, what clients sent, what is due.
        self.shard.begin_turn(began);
        for event in events {
            self.on_event(event);
        }
        self.take_mail();
        self.read_ready();
        self.transfer_clients();
        // Whoever is not read cannot be late.
        if self.patience.is_over(began) && self.congested_since.is_none() {
            self.shard.handle_timeouts();
        }
        // 2. Decide, and tell the others.
        self.shard.decide();
        self.post();
        // 3. Flush: one write for each client that has something to get.
        self.flush();
        // 4. Settle.
        self.shard.end_turn(self.clock.now());
        self.post();
        self.apply_effects();
        self.take_resumed();
        self.report_if_drained();
        // 5. Publish.
        let busy = self.clock.now().0 - began.0;
        self.shard.stats_mut().add(Stat::BusyMicros, busy);
        self.published.publish(self.shard.stats());
    }

    fn on_event(&mut self, event: &Event) {
        if event.token() == WAKER {
            return;
        }
        if event.token() == ALARM {
            return self.alarm.note_heard();
        }
        let key = client_of(event.token());
        // One poll may still name a connection that is gone, or its slot's new tenant.
        let Some(conn) = self.conn(key) else {
            return;
        };
        conn.ending |= event.is_read_closed() || event.is_error();
        if event.is_writable() && !self.shard.on_writable(key) {
            self.flush_own(key);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.make_ready(key);
        }
        if event.is_error() && self.shard.permit(key) == Permit::Parked {
            // It is not read, so no read will find out.
            self.shard.on_end(key, End::Failed);
        }
    }

    fn conn(&mut self, key: ClientKey) -> Option<&mut Conn> {
        conn_in(&mut self.conns, key)
    }

    /// Goes on sending what TLS has to say for itself, of which the shard knows nothing.
    fn flush_own(&mut self, key: ClientKey) {
        let Some(conn) = self.conn(key).filter(|conn| conn.holds_back()) else {
            return;
        };
        if conn.flush(&[], 0).is_err() {
            self.shard.on_end(key, End::Failed);
        }
    }

    fn make_ready(&mut self, key: ClientKey) {
        let Some(conn) = self.conn(key) else {
            return;
        };
        if !std::mem::replace(&mut conn.ready, true) {
            let is_heavy = conn.heavy;
            self.ready.push(key, is_heavy);
        }
    }

    fn take_mail(&mut self) {
        let inbox = &self.postboxes[self.id.index()].inbox;
        inbox.open();
        // What is pushed from now on comes with a wake of its own, so a full inbox cannot keep the turn here.
        for _ in 0..inbox.len() {
            let Some(mail) = self.postboxes[self.id.index()].inbox.pop() else {
                return;
            };
            self.on_mail(mail);
            if self.stopped {
                // Whoever has come behind that is not taken in any more.
                return;
            }
        }
    }

    fn on_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Envelope(envelope) => self.shard.handle(envelope),
            Mail::Socket(stream, admission) => {
                self.take_socket(stream, admission);
            }
            Mail::Client(client) => {
                let (conn, transfer) = *client;
                self.take_client(conn, transfer);
            }
            Mail::Refusal(stream, refusal) => self.refuse_socket(stream, refusal),
            Mail::Surplus(kind) => self.shard.stats_mut().inc(refusal_stat(kind)),
            Mail::Drain => self.shard.begin_drain(),
            Mail::Abandon => self.shard.abandon(),
            Mail::Stop => self.stop(),
        }
    }

    fn refuse_socket(&mut self, stream: Stream, refusal: Refusal) {
        let key = self.take_socket(stream, None);
        if let Some(conn) = self.conn(key) {
            conn.refused = true;
        }
        self.shard.refuse_unheard(key, refusal);
    }

    fn take_socket(&mut self, stream: Stream, admission: Admission) -> ClientKey {
        // A slot that was given up in this turn may be given out again.
        self.apply_effects();
        let key = self.shard.accept();
        let session = match (&self.tls, &stream) {
            (Some(tls), Stream::Tcp(_)) => Some(tls.session()),
            (Some(_), Stream::Unix(_)) | (None, _) => None,
        };
        if matches!(admission.as_deref(), Some(Entry::Header(_))) {
            self.shard.await_preface(key);
        }
        self.watch_conn(key, Conn::new(stream, admission, session, key.generation));
        key
    }

    /// Has the event loop watch the connection of a client that the shard has just taken in.
    fn watch_conn(&mut self, key: ClientKey, mut conn: Conn) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self
            .poll
            .registry()
            .register(conn.stream_mut(), token_of(key), interest);
        let slot = key.slot as usize;
        if slot >= self.conns.len() {
            self.conns.resize_with(slot + 1, || None);
        }
        self.conns[slot] = Some(conn);
        if let Err(error) = registered {
            tracing::debug!(%error, "registration of a connection");
            self.shard.on_end(key, End::Failed);
        }
    }

    fn stop(&mut self) {
        self.shard.cut_all();
        self.stopped = true;
    }

    fn flush(&mut self) {
        let mut bytes = 0;
        for _ in 0..FLUSH_BUDGET_CLIENTS {
            let Some(key) = self.shard.poll_flush() else {
                return;
            };
            bytes += self.write(key);
            if bytes >= FLUSH_BUDGET_BYTES {
                return;
            }
        }
    }

    /// Writes what a client is to get: once, unless something had to wait for a frame boundary.
    fn write(&mut self, key: ClientKey) -> usize {
        let Some(conn) = conn_in(&mut self.conns, key) else {
            return 0;
        };
        if conn.is_handshaking() {
            // A refusal, for which there is no way yet: it was too slow, or the relay is full or on its way down.
            self.shard.on_end(key, End::Failed);
            return 0;
        }
        let mut total = 0;
        loop {
            // What is held back waits for the writable edge, with or without more to come behind it.
            let is_due = conn.holds_back() && !self.shard.is_blocked(key);
            let mut slices = Slices::new();
            let offered = self.shard.gather(key, &mut slices);
            if offered == 0 && !is_due {
                return total;
            }
            let written = conn.flush(&slices, offered);
            drop(slices);
            let Ok(written) = written else {
                self.shard.stats_mut().inc(Stat::WritesFailed);
                self.shard.on_end(key, End::Failed);
                return total;
            };
            self.shard.stats_mut().inc(match written {
                _ if !written.is_blocked => Stat::WritesFull,
                _ if written.has_progressed => Stat::WritesPartial,
                _ => Stat::WritesBlocked,
            });
            total += written.taken;
            if !self.shard.advance(key, written) {
                return total;
            }
        }
    }

    /// Sends what the shard has for others, and wakes each of them once.
    fn post(&mut self) {
        for (to, envelope) in self.shard.take_outbox() {
            let weight = envelope.weight_bytes();
            self.postboxes[to.index()]
                .inbox
                .push(Mail::Envelope(envelope), weight);
            self.to_notify[to.index()] = true;
        }
        for (postbox, has_mail) in self.postboxes.iter().zip(&mut self.to_notify) {
            if std::mem::take(has_mail) {
                postbox.inbox.notify();
            }
        }
    }

    fn apply_effects(&mut self) {
        for effect in self.shard.take_effects() {
            let (Effect::ShutdownWrite(key) | Effect::Close(key)) = effect;
            let Some(slot) = self.conns.get_mut(key.slot as usize) else {
                continue;
            };
            match (effect, &mut *slot) {
                (Effect::ShutdownWrite(_), Some(conn)) => conn.shutdown_write(),
                (Effect::Close(_), Some(conn)) => {
                    conn.say_goodbye();
                    let postbox = &self.postboxes[self.id.index()];
                    if conn.refused {
                        postbox.note_refusal_end();
                    } else {
                        postbox.note_end();
                    }
                    // Closing the descriptor takes it out of the event loop.
                    *slot = None;
                }
                (_, None) => {}
            }
        }
        while self.conns.last().is_some_and(Option::is_none) {
            self.conns.pop();
        }
        if self.conns.capacity() > 4 * self.conns.len() {
            self.conns.shrink_to(2 * self.conns.len());
        }
    }

    fn take_resumed(&mut self) {
        let resumed: Vec<ClientKey> = self.shard.take_resumed().collect();
        for key in resumed {
            self.make_ready(key);
        }
    }

    fn report_if_drained(&mut self) {
        if self.shard.is_drained() && !std::mem::replace(&mut self.has_reported, true) {
            self.control.push(Report::Drained(self.id), 0);
            self.control.notify();
        }
    }
}

/// The connection of a client, unless it is gone; borrows nothing else of the worker.
fn conn_in(conns: &mut [Option<Conn>], key: ClientKey) -> Option<&mut Conn> {
    conns
        .get_mut(key.slot as usize)?
        .as_mut()
        .filter(|conn| conn.generation == key.generation)
}
