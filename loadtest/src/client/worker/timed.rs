//! A worker does what is due: it posts samples, stalls and resumes connections, and lets clients come and go.

use std::sync::atomic::Ordering;

use super::Worker;
use super::absent::Call;
use super::connecting::PATIENCE;
use super::duties::Duty;
use super::id::Id;
use crate::client::connection::{Conn, Departure};
use crate::client::shared::{Phase, TICK};
use crate::clock::{MILLISECOND, SECOND};
use crate::scenario::plan::{Kind, Wanted};
use crate::scenario::protocol::Protocol;
use crate::scenario::scenarios::Scenario;

/// Time between two checks whether all has come.
const SETTLED_CHECK: u64 = 5 * MILLISECOND;

/// Time between two checks whether a client that is to go has all.
const LEAVE_CHECK: u64 = 5 * MILLISECOND;

/// The most clients that wait to connect. More are left out.
const MAX_ARRIVALS_WAITING: usize = 4096;

impl Worker {
    /// Plans the duties that begin with the load.
    pub(super) fn start_duties(&mut self) {
        let start = self.shared.load_start();
        for id in self.ids(Conn::is_open) {
            let kind = self.conns[id.key].wanted.kind;
            self.duties.plan_life(start, id, kind, self.plan.stall);
            self.plan_cut(start, id);
        }
        if let Some(after) = self.plan.avalanche {
            let (measured, _) = self.shared.measured();
            self.duties.add(measured + after, Duty::Avalanche);
        }
        if self.plan.scenario == Scenario::Churn {
            self.duties.add(start, Duty::Arrive);
        }
    }

    /// Does what is due.
    pub(super) fn do_duties(&mut self) {
        while let Some((at, duty)) = self.duties.pop_due(self.now) {
            self.do_duty(at, duty);
        }
    }

    fn do_duty(&mut self, at: u64, duty: Duty) {
        let is_loading = self.phase == Phase::Load;
        match duty {
            Duty::Sample => {
                self.post();
                // In step with the load, so that the control can collect the counts in between.
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
            Duty::Cut(id) if is_loading => self.cut(id),
            Duty::Return(key) => self.come_back(key),
            Duty::Post(publisher) => self.post_again(publisher),
            Duty::Avalanche if is_loading => self.avalanche(at),
            Duty::Stall(id) if is_loading => self.stall(id),
            Duty::Resume(id) => self.resume(id, is_loading),
            Duty::Rejoin => {
                let wanted = self.duties.pop_rejoining();
                self.queue.extend(
                    wanted
                        .filter(|it| is_loading || it.kind == Kind::Posting)
                        .map(Call::new),
                );
            }
            Duty::Arrive if is_loading => self.arrive(at),
            Duty::Joined(id) => self.joined(id),
            Duty::Depart(id) if is_loading => self.depart(id),
            Duty::Leave(id) if is_loading => self.leave(at, id),
            Duty::Cut(_)
            | Duty::Avalanche
            | Duty::Stall(_)
            | Duty::Arrive
            | Duty::Depart(_)
            | Duty::Leave(_) => {}
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

    /// Lets all connections go on reading.
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
        let arrival = self.duties.next_arrival(at);
        if self.queue.len() >= MAX_ARRIVALS_WAITING {
            self.duties.arrivals_left_out += 1;
            return;
        }
        let number = arrival as usize * self.plan.threads + self.index;
        self.queue.push_back(Call::new(Wanted {
            topic: (number % self.plan.topics) as u32,
            publisher: None,
            kind: Kind::Passing,
            protocol: Protocol::WebSocket,
            records: false,
            source: number,
            client: number,
        }));
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

    /// A client is to go. It waits until it has all that was sent until now.
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

    /// A client goes: every second one with a Close, the others without.
    fn go(&mut self, id: Id) {
        if id.generation.is_multiple_of(2) {
            self.say_goodbye(id);
        } else {
            self.drop_conn(id);
        }
    }

    /// Posts whether all has come that is owed, and plans the next check.
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
        // The relay counts a client when it answers the handshake, and we when the answer has come.
        let is_nobody_coming = self.connecting == 0 && !self.is_anybody_away();
        let has_sent_all = self.sending.next_due() >= self.shared.measured().1;
        is_nobody_coming
            && has_sent_all
            && self.posting.is_settled()
            && self.conns.iter().all(|(_, conn)| {
                conn.is_leaving
                    || conn.outgoing.is_empty()
                        && !conn.awaits_answer()
                        && self.books.owed(&conn.received) == 0
            })
    }
}
