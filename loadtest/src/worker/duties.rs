//! What is due at a time: deadlines of handshakes, stalls, arrivals and departures, and the samples.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::Ordering;

use super::connecting::PATIENCE;
use super::{Id, Worker};
use crate::clock::{MILLISECOND, SECOND};
use crate::conn::Departure;
use crate::options::Scenario;
use crate::plan::{Kind, Wanted};
use crate::shared::Phase;

/// Between two samples, in nanoseconds.
pub(crate) const TICK: u64 = 100 * MILLISECOND;

/// Between two looks at whether all has come.
const SETTLED_CHECK: u64 = 5 * MILLISECOND;

/// How long a connection may take to end after we have said goodbye.
const GOODBYE: u64 = 5 * SECOND;

/// How long one that the relay has ended keeps away.
const REJOIN_AFTER: u64 = 100 * MILLISECOND;

/// From the answer to a handshake: a relay may have a client join a moment after it has answered it.
pub(crate) const SETTLE: u64 = 100 * MILLISECOND;

/// Between two looks at whether one that is to go has what it is owed.
const LEAVE_CHECK: u64 = 5 * MILLISECOND;

/// Arrivals that wait to be dialled; more are left out.
const MAX_ARRIVALS_WAITING: usize = 4096;

/// The shortest stay of one that comes and goes, and what is added to it at most.
const SHORTEST_STAY: u64 = 50 * MILLISECOND;
const LONGER_STAY: u64 = 900 * MILLISECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Duty {
    /// Put up a sample.
    Sample,
    /// See whether all has come.
    CheckSettled,
    /// A handshake must be over.
    Opened(Id),
    /// A connection must have ended.
    Ended(Id),
    /// A slow one stops reading.
    Stall(Id),
    /// It goes on reading.
    Resume(Id),
    /// One that the relay has ended returns.
    Rejoin,
    /// One comes.
    Arrive,
    /// One that came late has joined for certain.
    Joined(Id),
    /// One is to go, as soon as it has what it is owed.
    Depart(Id),
    /// One goes that has it, or has waited for it long enough.
    Leave(Id),
}

/// What a thread has to do, and when.
#[derive(Debug)]
pub(super) struct Duties {
    heap: BinaryHeap<Reverse<(u64, Duty)>>,
    rejoining: VecDeque<Wanted>,
    arrivals: u64,
    arrival_interval: u64,
    pub(super) arrivals_left_out: u64,
    /// How often one that is slow has stopped reading.
    pub(super) stalls: u64,
}

impl Duties {
    pub(super) fn new(arrival_interval: u64) -> Duties {
        let mut duties = Duties {
            heap: BinaryHeap::new(),
            rejoining: VecDeque::new(),
            arrivals: 0,
            arrival_interval,
            arrivals_left_out: 0,
            stalls: 0,
        };
        duties.add(TICK, Duty::Sample);
        duties
    }

    fn add(&mut self, at: u64, duty: Duty) {
        self.heap.push(Reverse((at, duty)));
    }

    /// When the next is due.
    pub(super) fn next(&self) -> u64 {
        self.heap.peek().map_or(u64::MAX, |Reverse((at, _))| *at)
    }

    pub(super) fn expect_opening(&mut self, at: u64, id: Id) {
        self.add(at, Duty::Opened(id));
    }

    pub(super) fn expect_end(&mut self, now: u64, id: Id) {
        self.add(now + GOODBYE, Duty::Ended(id));
    }

    /// Plans what one does that is open now, or was when the load began.
    pub(super) fn plan_life(&mut self, now: u64, id: Id, kind: Kind, stall: u64) {
        match kind {
            Kind::Slow => self.add(
                now + spread(u64::from(id.generation), stall),
                Duty::Stall(id),
            ),
            Kind::Passing => {
                let stay = SHORTEST_STAY + spread(self.arrivals, LONGER_STAY);
                self.add(now + stay, Duty::Depart(id));
            }
            Kind::Steady | Kind::Returning => {}
        }
    }

    /// Expects one that came late to have joined soon.
    pub(super) fn expect_joining(&mut self, now: u64, id: Id) {
        self.add(now + SETTLE, Duty::Joined(id));
    }

    /// Has one return after a while.
    pub(super) fn rejoin(&mut self, now: u64, wanted: Wanted) {
        self.rejoining.push_back(wanted);
        self.add(now + REJOIN_AFTER, Duty::Rejoin);
    }
}

/// A number below `range` that looks random and is the same each time.
fn spread(index: u64, range: u64) -> u64 {
    let mixed = u128::from(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // Below the range, as what it is multiplied with is below one.
    ((mixed * u128::from(range.max(1))) >> 64) as u64
}

impl Worker {
    /// Plans what begins with the load.
    pub(super) fn start_duties(&mut self) {
        let start = self.shared.load_start();
        for (key, conn) in self.conns.iter().filter(|(_, conn)| conn.is_open()) {
            let generation = conn.generation;
            let id = Id { key, generation };
            self.duties
                .plan_life(start, id, conn.wanted.kind, self.plan.stall);
        }
        if self.plan.scenario == Scenario::Churn {
            self.duties.add(start, Duty::Arrive);
        }
    }

    /// Does what is due.
    pub(super) fn do_duties(&mut self) {
        while let Some(Reverse((at, duty))) = self.duties.heap.peek().copied() {
            if at > self.now {
                break;
            }
            self.duties.heap.pop();
            self.do_duty(at, duty);
        }
    }

    fn do_duty(&mut self, at: u64, duty: Duty) {
        let is_loading = self.phase == Phase::Load;
        match duty {
            Duty::Sample => {
                self.post();
                // In step with the load, so that the control can collect in between.
                let start = self.shared.load_start().min(self.now);
                let ticks = (self.now - start) / TICK + 1;
                self.duties.add(start + ticks * TICK, Duty::Sample);
            }
            Duty::CheckSettled => self.check_settled(),
            Duty::Opened(id) => {
                let is_opening = self.conn(id).is_some_and(|conn| !conn.is_open());
                if is_opening {
                    self.give_up(id, format!("not open within {} s", PATIENCE / SECOND));
                }
            }
            Duty::Ended(id) => self.drop_conn(id),
            Duty::Stall(id) if is_loading => self.stall(id),
            Duty::Resume(id) => self.resume(id, is_loading),
            Duty::Rejoin => {
                let wanted = self.duties.rejoining.pop_front();
                self.queue.extend(wanted.filter(|_| is_loading));
            }
            Duty::Arrive if is_loading => self.arrive(at),
            Duty::Joined(id) => self.joined(id),
            Duty::Depart(id) if is_loading => self.depart(id),
            Duty::Leave(id) if is_loading => self.leave(at, id),
            Duty::Stall(_) | Duty::Arrive | Duty::Depart(_) | Duty::Leave(_) => {}
        }
    }

    fn stall(&mut self, id: Id) {
        let resume_at = self.now + self.plan.stall;
        if let Some(conn) = self.conn(id) {
            conn.is_stalled = true;
            conn.has_stalled = true;
            self.duties.stalls += 1;
            self.duties.add(resume_at, Duty::Resume(id));
        }
    }

    fn resume(&mut self, id: Id, is_loading: bool) {
        let stall_at = self.now + self.plan.stall;
        let Some(conn) = self.conn(id) else {
            return;
        };
        conn.is_stalled = false;
        if std::mem::take(&mut conn.has_unread) {
            self.ready.push(id);
        }
        if is_loading {
            self.duties.add(stall_at, Duty::Stall(id));
        }
    }

    /// Has all go on reading.
    pub(super) fn resume_all(&mut self) {
        for (key, conn) in &mut self.conns {
            conn.is_stalled = false;
            if std::mem::take(&mut conn.has_unread) {
                let generation = conn.generation;
                self.ready.push(Id { key, generation });
            }
        }
    }

    fn arrive(&mut self, at: u64) {
        let next = at + self.duties.arrival_interval;
        self.duties.add(next, Duty::Arrive);
        let arrival = self.duties.arrivals;
        self.duties.arrivals += 1;
        if self.queue.len() >= MAX_ARRIVALS_WAITING {
            self.duties.arrivals_left_out += 1;
            return;
        }
        let number = arrival as usize * self.plan.threads + self.index;
        self.queue.push_back(Wanted {
            topic: (number % self.plan.topics) as u32,
            publisher: None,
            kind: Kind::Passing,
            records: false,
            source: number,
        });
    }

    fn joined(&mut self, id: Id) {
        if let Some(conn) = self
            .conns
            .get_mut(id.key)
            .filter(|conn| conn.generation == id.generation)
        {
            self.books.on_joined(&mut conn.received);
        }
    }

    /// One is to go: it waits for what has been sent until now, as far as it is owed that.
    fn depart(&mut self, id: Id) {
        let Some(conn) = self
            .conns
            .get_mut(id.key)
            .filter(|conn| conn.generation == id.generation)
        else {
            return;
        };
        if self.books.owed(&conn.received) == 0 {
            return self.go(id);
        }
        let sent = self.books.sent_in(conn.received.topic());
        let publishers = self.plan.publishers_by_topic[conn.received.topic() as usize].len();
        conn.departure = Some(Box::new(Departure {
            sent: (0..publishers).map(sent).collect(),
            until: self.now + self.plan.patience,
        }));
        self.duties.add(self.now + LEAVE_CHECK, Duty::Leave(id));
    }

    fn leave(&mut self, at: u64, id: Id) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        let Some(departure) = &conn.departure else {
            return;
        };
        let owed = conn.received.owed(|local| departure.sent[local]);
        if owed > 0 && at < departure.until {
            self.duties.add(at + LEAVE_CHECK, Duty::Leave(id));
            return;
        }
        if owed > 0 {
            conn.received.mark_unclean();
            self.books.tally.totals.counts.lost += owed;
        }
        self.go(id);
    }

    /// One goes: every second one with a word, the others without.
    fn go(&mut self, id: Id) {
        if id.generation.is_multiple_of(2) {
            self.say_goodbye(id);
        } else {
            self.drop_conn(id);
        }
    }

    /// Says whether all has come that is owed, and if not, looks again soon.
    pub(super) fn check_settled(&mut self) {
        if self.phase != Phase::Drain {
            return;
        }
        let is_settled = self.is_settled();
        let board = &self.shared.boards[self.index];
        board.is_settled.store(is_settled, Ordering::SeqCst);
        self.duties
            .add(self.now + SETTLED_CHECK, Duty::CheckSettled);
    }

    fn is_settled(&self) -> bool {
        // What the relay counts with the answer to a handshake, we count when that has come.
        let is_nobody_coming = self.connecting == 0;
        let has_sent_all = self.sending.next_due() >= self.shared.measured().1;
        is_nobody_coming
            && has_sent_all
            && self.conns.iter().all(|(_, conn)| {
                conn.is_leaving || conn.outgoing.is_empty() && self.books.owed(&conn.received) == 0
            })
    }
}
