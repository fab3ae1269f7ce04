//! A thread of the generator: an event loop over its connections.
//!
//! It works in turns: it reads what has come, does what is due, sends what may be sent, tells the other threads, and
//! waits. All that it sends on a connection in one turn leaves in one write. The files of this folder are its parts.

pub(crate) mod absent;
mod connecting;
mod duties;
mod ending;
mod id;
pub(crate) mod outcome;
mod posting;
mod publishing;
mod returning;
mod rounds;
mod sending;
mod timed;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Events, Poll, Token};
use slab::Slab;
use tungstenite::handshake::client::Request;

use self::absent::{Call, Posting, Returns};
use self::duties::Duties;
use self::id::Id;
use self::outcome::Outcome;
use self::sending::Sending;
use crate::check::books::Books;
use crate::client::connection::{Conn, Outlook};
use crate::client::shared::{Phase, Shared};
use crate::client::stream::Route;
use crate::clock::{Clock, Timer, thread_cpu, thread_wait};
use crate::report::latency;
use crate::scenario::plan::{Kind, Plan};
use crate::scenario::target::Target;

/// Wakes a thread.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// The timer goes off when something is due.
const TIMER: Token = Token(usize::MAX - 1);

/// Bytes of one read: mostly more than a relay sends to one connection at once.
const SCRATCH_BYTES: usize = 256 << 10;

/// Events of one poll.
const EVENTS: usize = 1024;

/// CPU time, and time spent waiting for a CPU, at the beginning and the end of the measurement.
#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    start: Option<(u64, u64)>,
    end: Option<(u64, u64)>,
}

/// A thread of the generator.
pub(crate) struct Worker {
    index: usize,
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    routes: Vec<Route>,
    /// The next client connects by this route.
    next_route: usize,
    /// By topic.
    requests: Vec<Vec<Request>>,
    clock: Clock,
    now: u64,
    phase: Phase,
    poll: Poll,
    timer: Timer,
    scratch: Vec<u8>,
    conns: Slab<Conn>,
    generation: u32,
    books: Books,
    /// Connections with more to read.
    ready: Vec<Id>,
    /// Connections to be opened.
    queue: VecDeque<Call>,
    /// Handshakes in flight.
    connecting: usize,
    /// Connections that are to be back before the round is over.
    awaited: usize,
    /// The round that has begun.
    round: u64,
    duties: Duties,
    returns: Returns,
    sending: Sending,
    posting: Posting,
    forgiven: u64,
    cpu: Cpu,
    /// CPU time of turns in which there was nothing to do, in nanoseconds. Only a thread that never sleeps has such
    /// turns.
    idle: u64,
    failed: BTreeMap<String, u64>,
    ended: BTreeMap<String, u64>,
    unexpected_ends: u64,
    stayed: u64,
    handshakes: Histogram<u64>,
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        plan: Arc<Plan>,
        shared: Arc<Shared>,
        routes: Vec<Route>,
        poll: Poll,
    ) -> io::Result<Worker> {
        let of_target = |target: &Target| {
            let requests = (0..plan.topics).map(|topic| target.request(topic, plan.topics));
            requests.collect::<Result<Vec<_>, _>>()
        };
        let requests = plan.targets().map(of_target).collect::<Result<_, _>>();
        let requests = requests.map_err(io::Error::other)?;
        Ok(Worker {
            requests,
            clock: shared.clock,
            now: 0,
            phase: Phase::Connect,
            timer: Timer::new(poll.registry(), TIMER)?,
            poll,
            scratch: vec![0; SCRATCH_BYTES],
            conns: Slab::with_capacity(plan.wanted[index].len()),
            generation: 0,
            books: Books::new(plan.clone(), shared.sent.clone(), index),
            ready: Vec::new(),
            queue: plan.wanted[index].iter().copied().map(Call::new).collect(),
            connecting: 0,
            awaited: 0,
            round: 0,
            duties: Duties::new(plan.arrival_interval),
            returns: Returns::new(),
            sending: Sending::new(&plan, index),
            posting: Posting::default(),
            forgiven: 0,
            cpu: Cpu::default(),
            idle: 0,
            failed: BTreeMap::new(),
            ended: BTreeMap::new(),
            unexpected_ends: 0,
            stayed: 0,
            handshakes: latency::new(),
            next_route: index % routes.len(),
            routes,
            index,
            plan,
            shared,
        })
    }

    /// Works until the run is over.
    pub(crate) fn run(mut self) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(EVENTS);
        let mut cpu = thread_cpu();
        while !self.is_done() {
            self.now = self.clock.now();
            self.timer.arm(self.next_deadline(), self.now)?;
            let has_work = self.has_work();
            let timeout = (has_work || self.plan.busy_poll).then_some(Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.turn(&events);
            if self.plan.busy_poll {
                let began = std::mem::replace(&mut cpu, thread_cpu());
                if !has_work && events.is_empty() {
                    self.idle += cpu - began;
                }
            }
        }
        Ok(self.conclude())
    }

    fn turn(&mut self, events: &Events) {
        self.now = self.clock.now();
        self.books.now = self.now;
        self.follow_phase();
        // 1. Read what has come.
        for event in events {
            self.on_event(event);
            self.publish_in_between();
        }
        self.read_ready();
        // 2. Do what is due.
        self.now = self.clock.now();
        self.mark_cpu();
        self.do_duties();
        self.follow_round();
        self.dial();
        // 3. Send what may be sent, and tell the others.
        self.settle();
        self.publish();
        self.post_last_delivery();
    }

    fn is_done(&self) -> bool {
        self.phase == Phase::Close && self.conns.is_empty()
    }

    /// Whether there is something to do without waiting for an event.
    fn has_work(&self) -> bool {
        let has_begun = self.phase == Phase::Load && self.now >= self.shared.load_start();
        let may_send = has_begun && self.sending.has_runnable();
        !self.ready.is_empty() || may_send || self.phase != self.shared.phase()
    }

    fn on_event(&mut self, event: &Event) {
        match event.token() {
            // In an open loop each message has its time, and there is nothing to look for.
            WAKER if self.books.window.is_some() => self.sending.run_all(),
            WAKER => {}
            TIMER => self.timer.on_event(),
            token => {
                let id = Id::of(token);
                if self.conn(id).is_some() {
                    self.on_conn_event(id, event);
                }
            }
        }
    }

    /// The connection, if it is still there.
    fn conn(&mut self, id: Id) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(id.key)?;
        (conn.generation == id.generation).then_some(conn)
    }

    fn on_conn_event(&mut self, id: Id, event: &Event) {
        let conn = &mut self.conns[id.key];
        if !conn.is_open() {
            self.proceed(id);
            return;
        }
        if event.is_writable() && (conn.is_blocked || !conn.outgoing.is_empty()) {
            self.flush(id);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.receive(id, event.is_read_closed());
        }
    }

    fn read_ready(&mut self) {
        for id in std::mem::take(&mut self.ready) {
            self.receive(id, true);
            self.publish_in_between();
        }
    }

    /// Reads from a connection, if it is still there and not stalled.
    fn receive(&mut self, id: Id, has_ended: bool) {
        let Some(conn) = self.conns.get_mut(id.key) else {
            return;
        };
        if conn.generation != id.generation {
            return;
        }
        if conn.is_stalled {
            conn.has_unread = true;
            return;
        }
        let outlook = conn.receive(&mut self.scratch, has_ended, &mut self.books, self.clock);
        if !conn.outgoing.is_empty() && !conn.is_blocked {
            // A Pong or the answer to a Close, now and then. If it cannot be sent, the next read will tell.
            let _ = conn.flush();
        }
        if conn.is_catching_up() {
            self.follow_return(id);
        } else if conn.wanted.kind == Kind::Posting {
            self.after_answers(id);
        }
        self.on_outlook(id, outlook);
    }

    fn on_outlook(&mut self, id: Id, outlook: Outlook) {
        match outlook {
            Outlook::Wait => {}
            Outlook::More => self.ready.push(id),
            Outlook::Over(end) => self.on_end(id, &end),
        }
    }

    /// Sends the unsent bytes of a connection. A publisher that was held back may go on, if there is room again.
    fn flush(&mut self, id: Id) {
        let conn = &mut self.conns[id.key];
        if conn.flush().is_err() {
            // The read that follows will say how it ended.
            self.ready.push(id);
            return;
        }
        if let Some(publisher) = conn.wanted.publisher.filter(|_| conn.may_send()) {
            self.release_unless_paused(publisher);
        }
    }

    /// Goes to the phase that the control has entered.
    fn follow_phase(&mut self) {
        let phase = self.shared.phase();
        while self.phase < phase {
            match self.phase {
                // The run ended before the load began.
                Phase::Connect if self.shared.load_start() == u64::MAX => {
                    self.start_close();
                    self.phase = Phase::Close;
                }
                Phase::Connect => {
                    self.phase = Phase::Load;
                    self.start_load();
                }
                Phase::Load => {
                    self.phase = Phase::Drain;
                    self.start_drain();
                }
                Phase::Drain | Phase::Close => {
                    self.start_close();
                    self.phase = Phase::Close;
                }
            }
        }
        if self.phase == Phase::Load {
            self.books.set_measured(self.shared.measured());
        }
        let forgiven = self.shared.forgiven();
        if self.forgiven != forgiven {
            self.forgiven = forgiven;
            self.forgive();
        }
    }

    fn start_load(&mut self) {
        self.books.set_measured(self.shared.measured());
        self.settle_all();
        self.sending.start(&self.plan, self.shared.load_start());
        self.start_duties();
    }

    fn start_drain(&mut self) {
        self.mark_cpu();
        self.publish();
        self.call_back_all();
        self.resume_all();
        self.check_settled();
    }

    /// Notes the CPU time when the measurement begins and when it ends.
    fn mark_cpu(&mut self) {
        if self.phase == Phase::Connect {
            return;
        }
        let (start, end) = self.shared.measured();
        let is_over = self.phase > Phase::Load || self.now >= end;
        if self.cpu.start.is_none() && (self.now >= start || is_over) {
            self.cpu.start = Some((self.busy(), thread_wait()));
        }
        if self.cpu.end.is_none() && is_over {
            self.cpu.end = Some((self.busy(), thread_wait()));
        }
    }

    /// CPU time of turns that had something to do.
    fn busy(&self) -> u64 {
        thread_cpu().saturating_sub(self.idle)
    }

    /// The time at which there is something to do, if nothing happens before.
    fn next_deadline(&self) -> u64 {
        let (start, end) = self.shared.measured();
        let mut deadline = self.duties.next();
        if self.phase <= Phase::Drain {
            deadline = deadline.min(self.sending.next_due());
        }
        if self.phase == Phase::Load {
            if self.now < self.shared.load_start() {
                deadline = deadline.min(self.shared.load_start());
            }
            if self.cpu.start.is_none() {
                deadline = deadline.min(start);
            }
            if self.cpu.end.is_none() {
                deadline = deadline.min(end);
            }
            let (round, start) = self.shared.round();
            if round > self.round {
                deadline = deadline.min(start);
            }
        }
        deadline
    }

    /// Posts the counts.
    fn post(&mut self) {
        self.books.tally.totals.at = self.clock.now();
        self.books.tally.totals.cpu = self.busy();
        self.shared.boards[self.index].post(&mut self.books.tally);
    }

    /// Posts the time of the last delivery, which the control wants to know soon.
    fn post_last_delivery(&self) {
        let board = &self.shared.boards[self.index];
        board
            .last_delivery
            .store(self.books.last_delivery(), Ordering::Release);
    }

    fn conclude(mut self) -> Outcome {
        self.post();
        let span = |at: fn((u64, u64)) -> u64| {
            let end = self.cpu.end.map_or(0, at);
            end.saturating_sub(self.cpu.start.map_or(0, at))
        };
        Outcome {
            cpu: span(|(cpu, _)| cpu),
            waited: span(|(_, waited)| waited),
            unsent: self.sending.unsent(),
            arrivals_left_out: self.duties.arrivals_left_out,
            stalls: self.duties.stalls,
            failed: self.failed,
            ended: self.ended,
            unexpected_ends: self.unexpected_ends,
            handshakes: self.handshakes,
            lives: std::mem::take(&mut self.books.lives),
            forgotten_lives: self.books.forgotten_lives,
            records: std::mem::take(&mut self.books.records),
            stayed: self.stayed,
            posts: std::mem::take(&mut self.books.posts),
            posts_repeated: self.posting.repeated,
            posts_reopened: self.posting.reopened,
            resumes: self.books.resumes,
            returns: self.returns,
        }
    }
}
