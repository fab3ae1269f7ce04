//! One turn of a shard, and the sleep after it.
//!
//! A [`Turn`] owns a shard and takes it through the steps of a turn, each with a budget. A [`Host`] does the work of a
//! kernel: it reports events, fills buffers, writes, and carries mail. The worker is a host with sockets. The simulation,
//! the fuzzing world and the benches are hosts without.
//!
//! So all of them run the steps in the same order and sleep by the same decision. The unit tests of a shard take turns, too,
//! with a small host of their own; a test that needs one step alone says why. The steps are visible in `relay` only.

use std::io::IoSlice;
use std::time::Duration;

use crate::cluster::engine::Action;
use crate::http::health::Health;
use crate::ids::{ClientKey, ShardId};
use crate::metrics::stats::Stat;
use crate::relay::envelope::Envelope;
use crate::relay::patience::{HEARTBEAT, Patience};
use crate::relay::shard::{Effect, End, Named, Permit, Shard, Transfer, Undecided, Written};
use crate::relay::topic::member::Slices;
use crate::time::Timestamp;

/// Reads of one connection in one turn.
const READS_PER_CONN: usize = 4;

/// No step of a visit begins after this time. Four full reads of large messages take less. A flood of tiny frames takes more.
/// If something is left then, the connection waits in the heavy lane for the next visit, behind those to others.
const VISIT: Duration = Duration::from_micros(500);

/// After a visit that takes longer than this, the connection waits in the heavy lane in any case. Four full reads take
/// a third of this time. A TLS handshake takes longer, and so do records that bring nothing but new keys.
const HEAVY_VISIT: Duration = Duration::from_millis(1);

// A visit ends a step after `VISIT`. A step takes a tenth of a millisecond, so nearly no flood would be heavy by this alone.
const _: () = assert!(VISIT.as_micros() < HEAVY_VISIT.as_micros());

/// The time after which to look again whether the inboxes have room. This is rare, so nobody announces it.
const CONGESTION_RETRY: Duration = Duration::from_millis(1);

/// The limits of a turn's steps.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Frames of one client that are decoded in one step. The turn looks at the clock between two steps, so a read of twenty
    /// thousand tiny frames keeps nobody waiting.
    pub step_frames: usize,
    /// No read begins after this many bytes. The turns that follow have to send many times as much. Compressed messages count
    /// with both of their lengths.
    pub read_bytes: usize,
    /// No visit begins once reading has taken this long. It is as long as a flush takes, so a flood of expensive input does
    /// not keep the members waiting.
    pub read_time: Duration,
    /// Clients flushed before sockets and the inbox are looked at again.
    pub flush_clients: usize,
    /// No write begins after this many bytes.
    pub flush_bytes: usize,
}

impl Default for Budgets {
    /// Reading and flushing take about 2 ms each.
    fn default() -> Self {
        Budgets {
            // A tenth of a millisecond.
            step_frames: 1024,
            read_bytes: 1 << 20,
            read_time: Duration::from_millis(2),
            flush_clients: 256,
            flush_bytes: 8 << 20,
        }
    }
}

/// The news about a connection in an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There may be something to read.
    pub is_readable: bool,
    /// The socket takes bytes again.
    pub is_writable: bool,
    /// The client has shut its side.
    pub is_read_closed: bool,
    /// The connection has failed.
    pub is_error: bool,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// This many bytes, and there may be more, or the end.
    More(usize),
    /// This many bytes, and the socket is drained: an event will announce the next.
    Last(usize),
    /// Nothing now.
    Empty,
    /// The client has shut its writing side.
    Eof,
    /// The connection is dead.
    Failed,
    /// The client broke TLS, and was told so as far as possible. Its further input is read and thrown away.
    TlsFailed,
}

/// A moment of a turn that a host may want to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The turn has begun.
    Begun,
    /// The shard has taken in what had waited of this client: because it may be read now, has a seat, or is to be closed.
    Permitted(ClientKey),
    /// Events and mail are taken in.
    Heard,
    /// Deadlines are about to be enforced.
    Deadlines,
    /// Deadlines were enforced, if it was time.
    TakenIn,
    /// The messages of this fan-out are numbered. The envelopes for others follow.
    Decided,
    /// The others have been told.
    Told,
    /// This client was written to.
    Wrote(ClientKey, Written),
    /// Limits are applied. The last envelopes and effects on sockets follow.
    Ended,
    /// The turn is over.
    Settled,
}

/// The world outside the shard. All times are of one clock.
pub trait Host {
    /// The time. If it is earlier than one before, the turn takes that one instead.
    fn now(&mut self) -> Timestamp;

    /// The next event of a connection that the shard knows; `None` if there are no more for this turn.
    fn next_event(&mut self) -> Option<(ClientKey, Readiness)>;

    /// Hands the shard the mail of other threads: envelopes, connections, clients that move here, orders.
    fn take_mail(&mut self, shard: &mut Shard);

    /// Whether some shard's inbox is so full that no shard may read.
    fn is_congested(&mut self) -> bool;

    /// Whether the connection's bytes are for the shard. A host that expects a proxy's header first reads it here.
    fn is_introduced(&mut self, _shard: &mut Shard, _key: ClientKey) -> bool {
        true
    }

    /// Reads once from the connection, and hands the bytes to the shard.
    fn fill(&mut self, shard: &mut Shard, key: ClientKey) -> Filled;

    /// Whether the transport is not ready: nothing can be sent yet, and the next read is expensive whatever the last one cost.
    fn is_handshaking(&mut self, _key: ClientKey) -> bool {
        false
    }

    /// Seats a client that a trusted proxy has named. A host that has no seat for it refuses the client, and returns false.
    fn seat_named(&mut self, _shard: &mut Shard, _named: &Named) -> bool {
        true
    }

    /// A client publishes, and its proxy has not named it well.
    fn note_misnamed(&mut self, _named: &Named) {}

    /// The shard on which an undecided client is to live; `None` for this one.
    fn home(&mut self, _shard: &Shard, _undecided: Undecided) -> Option<ShardId> {
        None
    }

    /// The state of the relay, as a health check that has been let in is told.
    fn health(&mut self) -> Health {
        Health::Ready
    }

    /// Sends a client to another shard, with its connection. It may overtake this shard's envelopes, but must not come behind
    /// this shard's fence.
    fn hand_over(&mut self, key: ClientKey, home: ShardId, transfer: Transfer);

    /// Whether the transport has taken bytes that the kernel has not accepted.
    fn holds_back(&mut self, _key: ClientKey) -> bool {
        false
    }

    /// Sends on the transport's own bytes, of which the shard knows nothing. Says whether the connection lives.
    fn flush_own(&mut self, _key: ClientKey) -> bool {
        true
    }

    /// Writes the bytes that are held back and then `slices`, which have `offered` bytes, in one call. Returns `None` if the
    /// connection is dead.
    fn write(&mut self, key: ClientKey, slices: &[IoSlice<'_>], offered: usize) -> Option<Written>;

    /// Puts an envelope into another shard's inbox.
    fn post(&mut self, to: ShardId, envelope: Envelope);

    /// Wakes the shards that envelopes were posted to.
    fn wake_others(&mut self) {}

    /// Tells the engines of [`Shard::cluster_mut`] what has happened on their connections. While [`Shard::takes_arrivals`] says
    /// no, subscriptions are not read. Called once a turn, if the shard has engines.
    fn take_engine_news(&mut self, _shard: &mut Shard) {}

    /// Does what an engine says, by its index in the cluster. Commands may wait for [`Host::flush_engines`].
    fn act_on_engine(&mut self, _engine: usize, _action: Action) {}

    /// Sends the commands of all engines. Called behind the last of a row of actions.
    fn flush_engines(&mut self) {}

    /// Does something to a socket.
    fn apply(&mut self, effect: Effect);

    /// The number of things that this turn does, of `count`. A host for tests returns less, so that steps end early.
    fn portion(&mut self, count: usize) -> usize {
        count
    }

    /// Looks at a moment of the turn.
    fn note(&mut self, _shard: &mut Shard, _moment: Moment) {}
}

/// The longest sleep of a host. Events end it earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleep {
    /// Its end, to the millisecond, as event loops count; `None` for no end.
    pub until: Option<Timestamp>,
    /// An end to the microsecond, if there is one.
    pub alarm: Option<Timestamp>,
}

impl Sleep {
    /// The earlier of both ends.
    pub fn ends_at(self) -> Option<Timestamp> {
        self.until.into_iter().chain(self.alarm).min()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Turn {
    /// The shard. Between two turns a host may look at it and give it orders.
    pub shard: Shard,
    budgets: Budgets,
    patience: Patience,
    /// Some inbox is over its mark, so that reads wait.
    is_congested: bool,
}

/// The rest of a turn's budget for reading.
struct Left {
    bytes: usize,
    until: Timestamp,
    /// The last look at the clock.
    at: Timestamp,
}

impl Left {
    /// A read has brought `bytes`, and it is `now`.
    fn note(&mut self, bytes: usize, now: Timestamp) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.at = now;
    }

    fn is_over(&self) -> bool {
        self.bytes == 0 || self.at >= self.until
    }
}

impl Turn {
    /// Turns of `shard`, of which the first begins `now` or later.
    pub fn new(mut shard: Shard, budgets: Budgets, now: Timestamp) -> Self {
        shard.limit_steps(budgets.step_frames);
        Turn {
            shard,
            budgets,
            patience: Patience::new(now),
            is_congested: false,
        }
    }

    /// Decides how long to sleep. It is called before every sleep, also one of no length, to tell a pause of the process
    /// from a sleep.
    pub fn sleep(&mut self, now: Timestamp) -> Sleep {
        let now = self.note_time(now);
        let sleep = self.next_sleep(now);
        self.patience.expect(sleep.ends_at());
        sleep
    }

    /// Looks at the clock. Every look is this one. If the process was paused since the last, clients are excused first.
    fn look<H: Host>(&mut self, host: &mut H) -> Timestamp {
        self.note_time(host.now())
    }

    #[inline]
    fn note_time(&mut self, now: Timestamp) -> Timestamp {
        let (now, pause) = self.patience.look(now);
        if let Some(pause) = pause {
            self.shard.excuse(pause);
        }
        now
    }

    fn next_sleep(&self, now: Timestamp) -> Sleep {
        let has_work = self.shard.has_work() || self.shard.has_ready() && !self.is_congested;
        let alarm = self.shard.next_fan_out();
        if has_work || alarm.is_some_and(|due| due <= now) {
            return Sleep {
                until: Some(now),
                alarm: None,
            };
        }
        let retry = now + CONGESTION_RETRY;
        let deadline = self.shard.next_deadline().map(|due| {
            let due = due.max(self.patience.until());
            // Deadlines wait for the inboxes. So one that has passed must not end the sleep at once.
            if self.is_congested {
                due.max(retry)
            } else {
                due
            }
        });
        let next_read = self.shard.has_ready().then_some(retry);
        let heartbeat = (!self.shard.is_empty()).then_some(now + HEARTBEAT);
        let next = [
            self.shard.next_review(),
            self.shard.next_close(),
            self.shard.next_expiry(),
            self.shard.next_census(),
            self.shard.next_of_engines(),
            deadline,
            next_read,
            heartbeat,
        ];
        Sleep {
            until: next.into_iter().flatten().min(),
            alarm,
        }
    }

    /// Takes a turn: take in, decide, tell the others, flush, settle.
    ///
    /// The others are told before the flush, so that they flush at the same time.
    pub fn run<H: Host>(&mut self, host: &mut H) {
        let began = self.look(host);
        // 1. Take in: events, mail, input of clients. Then what these ask for: seats, places, answers to checks. Then what is
        //    due: deadlines, and the Closes of a spread.
        self.shard.begin_turn(began);
        host.note(&mut self.shard, Moment::Begun);
        while let Some((key, readiness)) = host.next_event() {
            self.on_event(host, key, readiness);
        }
        host.take_mail(&mut self.shard);
        self.hear_engines(host);
        host.note(&mut self.shard, Moment::Heard);
        self.read(host);
        self.seat_clients(host);
        self.place_clients(host);
        self.answer_probes(host);
        host.note(&mut self.shard, Moment::Deadlines);
        // A client that is not read cannot be late.
        if self.patience.is_over() && !self.is_congested {
            self.shard.handle_timeouts();
        }
        self.begin_closes(host);
        host.note(&mut self.shard, Moment::TakenIn);
        // 2. Decide, and tell the others.
        self.shard.decide();
        host.note(&mut self.shard, Moment::Decided);
        self.post(host);
        self.act_on_engines(host);
        host.note(&mut self.shard, Moment::Told);
        // 3. Flush: one write for each client that has something to get.
        self.flush(host);
        // 4. Settle.
        let flushed_at = self.look(host);
        self.shard.end_turn(flushed_at);
        host.note(&mut self.shard, Moment::Ended);
        self.post(host);
        self.act_on_engines(host);
        for effect in self.shard.take_effects() {
            host.apply(effect);
        }
        let busy = self.look(host).since(began).as_micros();
        // Turns last milliseconds.
        self.shard.stats_mut().add(Stat::BusyMicros, busy as u64);
        host.note(&mut self.shard, Moment::Settled);
    }

    fn on_event<H: Host>(&mut self, host: &mut H, key: ClientKey, readiness: Readiness) {
        let Readiness {
            is_readable,
            is_writable,
            is_read_closed,
            is_error,
        } = readiness;
        if is_writable
            && !self.shard.on_writable(key)
            && host.holds_back(key)
            && !host.flush_own(key)
        {
            self.shard.on_end(key, End::Failed);
        }
        if is_error {
            self.shard.note_failure(key);
        } else if is_readable || is_read_closed {
            self.shard.make_ready(key);
        }
    }

    /// Visits the connections that may have input: the light ones first, then at least one heavy one.
    fn read<H: Host>(&mut self, host: &mut H) {
        self.is_congested = host.is_congested();
        if self.is_congested {
            self.shard.stats_mut().inc(Stat::ReadsDeferred);
            return;
        }
        let now = self.look(host);
        let mut left = Left {
            bytes: self.budgets.read_bytes,
            until: now + self.budgets.read_time,
            at: now,
        };
        // Counted first: a light connection that turns heavy waits for the next turn.
        let lanes = [false, true].map(|is_heavy| (is_heavy, self.shard.ready_len(is_heavy)));
        for (is_heavy, len) in lanes {
            for _ in 0..host.portion(len) {
                let Some(key) = self.shard.take_ready(is_heavy) else {
                    break;
                };
                self.visit(host, key, is_heavy, &mut left);
                if left.is_over() {
                    break;
                }
            }
        }
    }

    /// Reads a connection as often as one turn allows.
    fn visit<H: Host>(&mut self, host: &mut H, key: ClientKey, was_heavy: bool, left: &mut Left) {
        let began = left.at;
        let is_left_over = self.read_conn(host, key, left);
        let now = self.look(host);
        left.note(0, now);
        let took = now.since(began);
        // A heavy connection does not get lighter because the turn's time is over.
        let is_flood = is_left_over && (took >= VISIT || was_heavy && left.is_over());
        let is_heavy = is_flood || took > HEAVY_VISIT || host.is_handshaking(key);
        self.shard.set_heavy(key, is_heavy);
        if is_left_over {
            self.shard.make_ready(key);
        }
    }

    /// Reads a connection, until the budget is used up. Says whether there may be more to read now.
    ///
    /// A step is a read, or a part of what one brought. The clock is looked at after each, so input behind a pause is judged as
    /// such, and a flood does not keep others waiting.
    fn read_conn<H: Host>(&mut self, host: &mut H, key: ClientKey, left: &mut Left) -> bool {
        if !host.is_introduced(&mut self.shard, key) {
            return false;
        }
        let until = left.until.min(left.at + VISIT);
        let mut reads = 0;
        while reads < READS_PER_CONN {
            let permit = self.shard.permit(key);
            host.note(&mut self.shard, Moment::Permitted(key));
            match permit {
                Permit::Read => reads += 1,
                Permit::Again => {
                    if self.is_visit_over(host, until, left, 0) {
                        return true;
                    }
                    continue;
                }
                Permit::Later | Permit::Parked => {
                    if self.shard.has_failed(key) {
                        // It is not read, so no read will find out.
                        self.shard.on_end(key, End::Failed);
                    }
                    // Its end may have come with its request, and no further event announces that.
                    return permit == Permit::Later;
                }
            }
            let end = match host.fill(&mut self.shard, key) {
                Filled::Last(n) if !self.shard.has_backlog(key) => {
                    left.note(n + self.shard.take_inflated_bytes(), left.at);
                    return false;
                }
                Filled::More(n) | Filled::Last(n) => {
                    if self.is_visit_over(host, until, left, n) {
                        return true;
                    }
                    continue;
                }
                Filled::Empty => return false,
                Filled::Eof => End::Eof,
                Filled::Failed => End::Failed,
                Filled::TlsFailed => End::TlsFailed,
            };
            self.shard.on_end(key, end);
            // Input after a broken TLS is read, to be thrown away.
            return end == End::TlsFailed;
        }
        true
    }

    /// A step of a visit is done, and has read `bytes`. Says whether no other may begin, because it is `until` or the budget is
    /// used up.
    fn is_visit_over<H: Host>(
        &mut self,
        host: &mut H,
        until: Timestamp,
        left: &mut Left,
        bytes: usize,
    ) -> bool {
        let now = self.look(host);
        left.note(bytes + self.shard.take_inflated_bytes(), now);
        left.is_over() || now >= until
    }

    /// Asks for a seat for each client that a trusted proxy has just named, and tells of those that need none.
    fn seat_clients<H: Host>(&mut self, host: &mut H) {
        while let Some(named) = self.shard.poll_misnamed() {
            host.note_misnamed(&named);
        }
        for _ in 0..host.portion(self.shard.unseated_len()) {
            let Some(named) = self.shard.poll_unseated() else {
                return;
            };
            if host.seat_named(&mut self.shard, &named) {
                self.shard.admit(named.key);
                host.note(&mut self.shard, Moment::Permitted(named.key));
            }
        }
    }

    /// Decides for each client whose request was just granted whether it stays or moves to another shard.
    fn place_clients<H: Host>(&mut self, host: &mut H) {
        for _ in 0..host.portion(self.shard.undecided_len()) {
            let Some(undecided) = self.shard.poll_undecided() else {
                return;
            };
            let key = undecided.key;
            let home = host.home(&self.shard, undecided);
            let Some(home) = home.filter(|&home| home != self.shard.id()) else {
                self.shard.stay(key);
                continue;
            };
            if let Some(transfer) = self.shard.transfer_out(key) {
                host.hand_over(key, home, transfer);
            }
        }
    }

    /// Answers the health checks that this turn has read.
    fn answer_probes<H: Host>(&mut self, host: &mut H) {
        for _ in 0..host.portion(self.shard.probes_len()) {
            let Some(key) = self.shard.poll_probe() else {
                return;
            };
            let health = host.health();
            self.shard.answer_probe(key, health);
        }
    }

    /// Begins the Closes of a shutdown that are due. Everything that was read of these clients is decoded first.
    fn begin_closes<H: Host>(&mut self, host: &mut H) {
        for key in self.shard.last_heard() {
            self.shard.hear_out(key);
            host.note(&mut self.shard, Moment::Permitted(key));
        }
        self.shard.close_due();
    }

    fn post<H: Host>(&mut self, host: &mut H) {
        for (to, envelope) in self.shard.take_outbox() {
            host.post(to, envelope);
        }
        host.wake_others();
    }

    /// Takes in what the engines have for this shard.
    fn hear_engines<H: Host>(&mut self, host: &mut H) {
        if self.shard.is_clustered() {
            host.take_engine_news(&mut self.shard);
            self.shard.hear_engines();
        }
    }

    /// Has the host do what the engines want.
    fn act_on_engines<H: Host>(&mut self, host: &mut H) {
        let actions = self.shard.take_engine_actions();
        if actions.is_empty() {
            return;
        }
        for (engine, action) in actions {
            host.act_on_engine(engine, action);
        }
        host.flush_engines();
    }

    fn flush<H: Host>(&mut self, host: &mut H) {
        let mut bytes = 0;
        for _ in 0..host.portion(self.budgets.flush_clients) {
            let Some(key) = self.shard.poll_flush() else {
                return;
            };
            bytes += self.write(host, key);
            if bytes >= self.budgets.flush_bytes {
                return;
            }
        }
    }

    /// Writes to a client: once, unless something had to wait for the end of a frame.
    fn write<H: Host>(&mut self, host: &mut H, key: ClientKey) -> usize {
        if host.is_handshaking(key) {
            // A refusal before TLS is ready, which cannot be sent: the client was too slow, or the relay is full or shuts
            // down.
            self.shard.on_end(key, End::Failed);
            return 0;
        }
        let mut total = 0;
        loop {
            // Bytes that are held back wait for the socket to be writable, with or without more behind them.
            let is_due = host.holds_back(key) && !self.shard.is_blocked(key);
            let mut slices = Slices::new();
            let offered = self.shard.gather(key, &mut slices);
            if offered == 0 && !is_due {
                return total;
            }
            let written = host.write(key, &slices, offered);
            drop(slices);
            let Some(written) = written else {
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
            let is_behind = self.shard.advance(key, written);
            host.note(&mut self.shard, Moment::Wrote(key, written));
            if !is_behind {
                return total;
            }
        }
    }
}

#[cfg(test)]
mod tests;
