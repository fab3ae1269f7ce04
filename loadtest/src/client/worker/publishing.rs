//! A worker sends what its publishers may send, and tells the other threads how far its connections are.

use super::Worker;
use super::id::Id;
use crate::client::shared::Phase;
use crate::clock::MILLISECOND;
use crate::scenario::options::Pace;

/// A message counts as late if it is sent this long after it was due.
const LATE: u64 = MILLISECOND;

impl Worker {
    /// Moves the window of the closed loop, and tells the threads that wait for it.
    pub(super) fn settle(&mut self) {
        let Some(window) = &mut self.books.window else {
            return;
        };
        let (index, shared, sending) = (self.index, &self.shared, &mut self.sending);
        let mut has_moved = false;
        window.settle(|publisher, head| {
            has_moved = true;
            shared.set_head(index, publisher, head);
            sending.on_moved(publisher, index);
        });
        sending.wake_others(shared);
        if has_moved {
            self.check_round();
        }
    }

    /// The same for all publishers.
    pub(super) fn settle_all(&mut self) {
        if let Some(window) = &mut self.books.window {
            window.touch_all();
        }
        self.settle();
    }

    /// Gives up the messages in flight.
    pub(super) fn forgive(&mut self) {
        if let Some(window) = &mut self.books.window {
            for publisher in 0..self.plan.places.len() {
                window.forgive(publisher, self.shared.sent.of(publisher));
            }
        }
        self.settle();
    }

    /// Sends what may be sent. In an open loop, messages that were due are sent even when the load is over: a server
    /// that took nothing towards the end is not excused.
    pub(super) fn publish(&mut self) {
        let (start, end) = (self.shared.load_start(), self.shared.measured().1);
        let has_begun = self.phase >= Phase::Load && self.now >= start;
        let is_under_way = has_begun && self.phase == Phase::Load && self.now < end;
        match self.plan.pace {
            Some(Pace::Rate(rate)) if has_begun && self.phase < Phase::Close => {
                self.publish_due(rate, start, end);
            }
            Some(Pace::Window(window)) if is_under_way => {
                self.publish_allowed(Some(window as u64));
            }
            None if is_under_way => self.publish_allowed(None),
            _ if has_begun => self.sending.clear_runnable(),
            _ => {}
        }
        self.flush_dirty();
    }

    /// Sends messages that became due during a long turn, in an open loop.
    pub(super) fn publish_in_between(&mut self) {
        if !self.sending.has_schedule() {
            return;
        }
        let now = self.clock.now();
        if now >= self.sending.next_due() {
            self.now = now;
            self.publish();
        }
    }

    fn flush_dirty(&mut self) {
        while let Some(key) = self.sending.pop_dirty() {
            let generation = self.conns[key].generation;
            self.flush(Id { key, generation });
        }
    }

    fn publish_due(&mut self, rate: f64, start: u64, end: u64) {
        while let Some((due, place)) = self.sending.pop_due(self.now) {
            if due < end && self.push(place, due) {
                self.sending.plan_next(place, &self.plan, start, rate);
            }
        }
    }

    /// Sends what the window allows or, without one, the rest of the burst.
    fn publish_allowed(&mut self, window: Option<u64>) {
        while let Some(place) = self.sending.pop_runnable() {
            let burst_due = self.sending.burst_due();
            let publisher = self.sending.at(place);
            let (allowed, due) = match window {
                Some(window) => {
                    let head = self.shared.head(publisher.index as usize);
                    (head.saturating_add(window), self.now)
                }
                None => (publisher.target, burst_due),
            };
            while self.sending.at(place).sent < allowed && self.push(place, due) {}
        }
    }

    /// Adds a publisher's next message to the unsent bytes of its connection. Returns false if that has no room, or is
    /// gone.
    fn push(&mut self, place: usize, due: u64) -> bool {
        let publisher = self.sending.at(place);
        let Some(key) = publisher.conn else {
            // A connection that publishes by POST is opened again.
            publisher.is_held = self.plan.posts;
            return false;
        };
        let conn = &mut self.conns[key];
        if !conn.may_send() {
            publisher.is_held = true;
            return false;
        }
        let had_nothing = conn.outgoing.is_empty();
        let is_repeat = std::mem::take(&mut publisher.is_repeat);
        conn.on_sent(publisher.sent, self.now);
        publisher.push(due, &self.plan.format, conn.outgoing.messages());
        self.shared
            .sent
            .set(publisher.index as usize, publisher.sent);
        if had_nothing {
            self.sending.mark_dirty(key);
        }
        if is_repeat {
            return true;
        }
        let is_measured = self.books.is_measured(due);
        let totals = &mut self.books.tally.totals;
        totals.published += 1;
        totals.published_while_measured += u64::from(is_measured);
        if self.now - due > LATE && self.plan.pace.is_some() {
            totals.sent_late += 1;
        }
        true
    }
}
