//! The publishers of a thread, and which of them may send.
//!
//! In an open loop each message has its time. A thread that is late sends all that is due, and latency counts from when
//! it was due. In a closed loop a message may be sent when all have received another.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::client::publisher::Publisher;
use crate::client::shared::Shared;
use crate::scenario::options::Pace;
use crate::scenario::plan::Plan;

/// The publishers of a thread.
#[derive(Debug)]
pub(super) struct Sending {
    publishers: Vec<Publisher>,
    /// By publisher of all threads: its thread and its place there.
    homes: Vec<(usize, usize)>,
    /// Open loop: places of publishers, by the time of their next message.
    schedule: BinaryHeap<Reverse<(u64, usize)>>,
    /// Closed loop: places of publishers that may have something to send.
    runnable: Vec<usize>,
    /// Burst: the time at which its messages were due.
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
                    let head = plan.post_head(publisher);
                    publishers.push(Publisher::new(publisher, &plan.format, head.as_deref()));
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

    /// A publisher's connection is gone.
    pub(super) fn disconnect(&mut self, publisher: u32) {
        self.of(publisher).conn = None;
    }

    /// The publisher at a place.
    pub(super) fn at(&mut self, place: usize) -> &mut Publisher {
        &mut self.publishers[place]
    }

    fn of(&mut self, publisher: u32) -> &mut Publisher {
        let (_, place) = self.homes[publisher as usize];
        &mut self.publishers[place]
    }

    /// The load begins.
    pub(super) fn start(&mut self, plan: &Plan, start: u64) {
        if let Some(Pace::Rate(rate)) = plan.pace {
            for place in 0..self.publishers.len() {
                self.plan_next(place, plan, start, rate);
            }
        } else {
            self.run_all();
        }
    }

    /// The load is over. Counts the messages that were due before `end` and were not sent.
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

    /// Takes back the messages that had not left when a publisher's connection ended.
    pub(super) fn take_back(&mut self, publisher: u32, messages: u64, shared: &Shared) {
        let publisher = self.of(publisher);
        publisher.sent = publisher.sent.saturating_sub(messages);
        shared.sent.set(publisher.index as usize, publisher.sent);
    }

    /// A publisher's last message was refused for now, so it is the next one again.
    pub(super) fn repeat(&mut self, publisher: u32, shared: &Shared) {
        self.take_back(publisher, 1, shared);
        let publisher = self.of(publisher);
        publisher.is_repeat = true;
        publisher.is_held = true;
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

    /// Lets every publisher look whether it may send.
    pub(super) fn run_all(&mut self) {
        self.runnable.clear();
        self.runnable.extend(0..self.publishers.len());
    }

    /// A publisher's connection has room again.
    pub(super) fn release(&mut self, publisher: u32, plan: &Plan, shared: &Shared) {
        let (_, place) = self.homes[publisher as usize];
        let publisher = &mut self.publishers[place];
        if !std::mem::take(&mut publisher.is_held) {
            return;
        }
        if let Some(Pace::Rate(rate)) = plan.pace {
            self.plan_next(place, plan, shared.load_start(), rate);
        } else {
            self.runnable.push(place);
        }
    }

    /// The time of the next message.
    pub(super) fn next_due(&self) -> u64 {
        let next = self.schedule.peek();
        next.map_or(u64::MAX, |Reverse((due, _))| *due)
    }

    /// Whether a publisher may have something to send in a closed loop.
    pub(super) fn has_runnable(&self) -> bool {
        !self.runnable.is_empty()
    }

    /// A place whose publisher may have something to send in a closed loop.
    pub(super) fn pop_runnable(&mut self) -> Option<usize> {
        self.runnable.pop()
    }

    /// Nobody may send any more in a closed loop.
    pub(super) fn clear_runnable(&mut self) {
        self.runnable.clear();
    }

    /// Whether this is an open loop in which something is still due.
    pub(super) fn has_schedule(&self) -> bool {
        !self.schedule.is_empty()
    }

    /// The time of a message that is due, and the place of its publisher.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(u64, usize)> {
        if self.next_due() > now {
            return None;
        }
        self.schedule.pop().map(|Reverse(due)| due)
    }

    /// Plans the next message of the publisher at a place.
    pub(super) fn plan_next(&mut self, place: usize, plan: &Plan, start: u64, rate: f64) {
        let publisher = &self.publishers[place];
        let next = start + plan.due(publisher.index, publisher.sent, rate);
        self.schedule.push(Reverse((next, place)));
    }

    /// The time at which the messages of the burst were due.
    pub(super) fn burst_due(&self) -> u64 {
        self.burst_due
    }

    /// Notes a connection that is to be flushed.
    pub(super) fn mark_dirty(&mut self, conn: usize) {
        self.dirty.push(conn);
    }

    /// A connection that is to be flushed.
    pub(super) fn pop_dirty(&mut self) -> Option<usize> {
        self.dirty.pop()
    }

    /// All connections of this thread have a message of a publisher. The publisher may go on if `thread` is its own;
    /// otherwise [`Sending::wake_others`] wakes its thread.
    pub(super) fn on_moved(&mut self, publisher: usize, thread: usize) {
        let (home, place) = self.homes[publisher];
        if home == thread {
            self.runnable.push(place);
        } else {
            self.wakes[home] = true;
        }
    }

    /// Wakes the threads whose publishers may go on.
    pub(super) fn wake_others(&mut self, shared: &Shared) {
        for (thread, wake) in self.wakes.iter_mut().enumerate() {
            if std::mem::take(wake) {
                shared.wake(thread);
            }
        }
    }

    /// Messages that were due and were never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent
    }
}
