//! Sending: which publishers of a thread may send what, and when.
//!
//! In an open loop each message has its time. A thread that comes late sends all that is due, and the latency counts from
//! when it was due. In a closed loop a message may go when another has been received by all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Id, Worker};
use crate::clock::MILLISECOND;
use crate::options::Pace;
use crate::plan::Plan;
use crate::publisher::Publisher;
use crate::shared::{Phase, Shared};

/// Sent later than this after it was due, a message counts as late.
const LATE: u64 = MILLISECOND;

/// The publishers of a thread.
#[derive(Debug)]
pub(super) struct Sending {
    publishers: Vec<Publisher>,
    /// By publisher, of all threads: its thread, and its place there.
    homes: Vec<(usize, usize)>,
    /// Open loop: by when their next message is due, publishers by place.
    schedule: BinaryHeap<Reverse<(u64, usize)>>,
    /// Closed loop: places of publishers that may have something to send.
    runnable: Vec<usize>,
    /// Burst: when the messages that may be sent were due.
    burst_due: u64,
    /// Connections to be flushed.
    dirty: Vec<usize>,
    /// By thread: whether to wake it.
    wakes: Vec<bool>,
    unsent: u64,
}

impl Sending {
    pub(super) fn new(plan: &Plan, thread: usize) -> Sending {
        let mut homes = vec![(0, 0); plan.places.len()];
        let mut publishers = Vec::new();
        for (home, wanted) in plan.wanted.iter().enumerate() {
            let of_thread = wanted.iter().filter_map(|wanted| wanted.publisher);
            for (place, publisher) in of_thread.enumerate() {
                homes[publisher as usize] = (home, place);
                if home == thread {
                    publishers.push(Publisher::new(publisher, &plan.format));
                }
            }
        }
        Sending {
            publishers,
            homes,
            schedule: BinaryHeap::new(),
            runnable: Vec::new(),
            burst_due: 0,
            dirty: Vec::new(),
            wakes: vec![false; plan.threads],
            unsent: 0,
        }
    }

    /// A publisher's connection is open.
    pub(super) fn connect(&mut self, publisher: u32, conn: usize) {
        self.of(publisher).conn = Some(conn);
    }

    /// It is gone.
    pub(super) fn disconnect(&mut self, publisher: u32) {
        self.of(publisher).conn = None;
    }

    fn of(&mut self, publisher: u32) -> &mut Publisher {
        let (_, place) = self.homes[publisher as usize];
        &mut self.publishers[place]
    }

    /// The load begins.
    pub(super) fn start(&mut self, plan: &Plan, start: u64) {
        if let Some(Pace::Rate(rate)) = plan.pace {
            for (place, publisher) in self.publishers.iter().enumerate() {
                let due = start + plan.due(publisher.index, 0, rate);
                self.schedule.push(Reverse((due, place)));
            }
        } else {
            self.run_all();
        }
    }

    /// It is over: what was due before `end` and could not be sent is counted.
    pub(super) fn stop(&mut self, plan: &Plan, start: u64, end: u64) {
        self.schedule.clear();
        self.runnable.clear();
        let Some(Pace::Rate(rate)) = plan.pace else {
            return;
        };
        for publisher in &self.publishers {
            let due = plan.due_before(publisher.index, end.saturating_sub(start), rate);
            self.unsent += due.saturating_sub(publisher.sent);
        }
    }

    /// A publisher's connection has ended with so many messages that never left: nobody can have them.
    pub(super) fn take_back(&mut self, publisher: u32, messages: u64, shared: &Shared) {
        let publisher = self.of(publisher);
        publisher.sent = publisher.sent.saturating_sub(messages);
        shared.set_sent(publisher.index as usize, publisher.sent);
    }

    /// Bytes of a publisher's frame.
    pub(super) fn frame_bytes(&mut self, publisher: u32) -> usize {
        self.of(publisher).frame_bytes()
    }

    /// A burst begins: each publisher may send its share.
    pub(super) fn start_burst(&mut self, due: u64, plan: &Plan) {
        self.burst_due = due;
        for publisher in &mut self.publishers {
            publisher.target += plan.burst[publisher.index as usize];
        }
        self.run_all();
    }

    /// Has every publisher look whether it may send.
    pub(super) fn run_all(&mut self) {
        self.runnable.clear();
        self.runnable.extend(0..self.publishers.len());
    }

    /// A connection takes more again.
    pub(super) fn release(&mut self, publisher: u32, plan: &Plan, shared: &Shared) {
        let (_, place) = self.homes[publisher as usize];
        let publisher = &mut self.publishers[place];
        if !std::mem::take(&mut publisher.is_held) {
            return;
        }
        if let Some(Pace::Rate(rate)) = plan.pace {
            let due = shared.load_start() + plan.due(publisher.index, publisher.sent, rate);
            self.schedule.push(Reverse((due, place)));
        } else {
            self.runnable.push(place);
        }
    }

    /// When the next message is due.
    pub(super) fn next_due(&self) -> u64 {
        let next = self.schedule.peek();
        next.map_or(u64::MAX, |Reverse((due, _))| *due)
    }

    /// Whether a publisher may have something to send in a closed loop.
    pub(super) fn has_runnable(&self) -> bool {
        !self.runnable.is_empty()
    }

    /// Messages that were due and could not be sent.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent
    }
}

impl Worker {
    /// Moves the closed loop's window, and tells whoever waits for it.
    pub(super) fn settle(&mut self) {
        let Some(window) = &mut self.books.window else {
            return;
        };
        let (index, shared, sending) = (self.index, &self.shared, &mut self.sending);
        let mut has_moved = false;
        window.settle(|publisher, head| {
            has_moved = true;
            shared.set_head(index, publisher, head);
            let (home, place) = sending.homes[publisher];
            if home == index {
                sending.runnable.push(place);
            } else {
                sending.wakes[home] = true;
            }
        });
        for (thread, wake) in sending.wakes.iter_mut().enumerate() {
            if std::mem::take(wake) {
                shared.wake(thread);
            }
        }
        if has_moved {
            self.check_round();
        }
    }

    /// Tells of all publishers.
    pub(super) fn settle_all(&mut self) {
        if let Some(window) = &mut self.books.window {
            window.touch_all();
        }
        self.settle();
    }

    /// Gives up what is in flight.
    pub(super) fn forgive(&mut self) {
        if let Some(window) = &mut self.books.window {
            for publisher in 0..self.plan.places.len() {
                window.forgive(publisher, self.shared.sent(publisher));
            }
        }
        self.settle();
    }

    /// Sends what may be sent. What is due in an open loop is sent even when the load is over: a server that took nothing
    /// at its end is not excused.
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
            _ if has_begun => self.sending.runnable.clear(),
            _ => {}
        }
        self.flush_dirty();
    }

    /// Sends what became due during a turn that is long, in an open loop.
    pub(super) fn publish_in_between(&mut self) {
        if self.sending.schedule.is_empty() {
            return;
        }
        let now = self.clock.now();
        if now >= self.sending.next_due() {
            self.now = now;
            self.publish();
        }
    }

    fn flush_dirty(&mut self) {
        while let Some(key) = self.sending.dirty.pop() {
            let generation = self.conns[key].generation;
            self.flush(Id { key, generation });
        }
    }

    fn publish_due(&mut self, rate: f64, start: u64, end: u64) {
        while let Some(Reverse((due, place))) = self.sending.schedule.peek().copied() {
            if due > self.now {
                break;
            }
            self.sending.schedule.pop();
            if due < end && self.push(place, due) {
                let publisher = &self.sending.publishers[place];
                let next = start + self.plan.due(publisher.index, publisher.sent, rate);
                self.sending.schedule.push(Reverse((next, place)));
            }
        }
    }

    /// The closed loop with a window, or a burst without.
    fn publish_allowed(&mut self, window: Option<u64>) {
        while let Some(place) = self.sending.runnable.pop() {
            let publisher = &self.sending.publishers[place];
            let (allowed, due) = match window {
                Some(window) => {
                    let head = self.shared.head(publisher.index as usize);
                    (head.saturating_add(window), self.now)
                }
                None => (publisher.target, self.sending.burst_due),
            };
            while self.sending.publishers[place].sent < allowed && self.push(place, due) {}
        }
    }

    /// Puts a publisher's next message where it waits to be sent; false if its connection takes none for now, or is gone.
    fn push(&mut self, place: usize, due: u64) -> bool {
        let publisher = &mut self.sending.publishers[place];
        let Some(key) = publisher.conn else {
            return false;
        };
        let conn = &mut self.conns[key];
        if !conn.outgoing.has_room() {
            publisher.is_held = true;
            return false;
        }
        if conn.outgoing.is_empty() {
            self.sending.dirty.push(key);
        }
        publisher.push(due, &self.plan.format, conn.outgoing.messages());
        self.shared
            .set_sent(publisher.index as usize, publisher.sent);
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
