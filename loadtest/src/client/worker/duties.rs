//! The duties of a thread, each with its time: deadlines of handshakes, stalls, arrivals and departures, and the
//! samples.
//!
//! A worker asks what is due, and does it in `timed.rs`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::id::Id;
use crate::client::shared::{SETTLE, TICK};
use crate::clock::{MILLISECOND, SECOND};
use crate::scenario::plan::{Kind, Wanted};

/// Time that a connection may take to end after our Close.
const GOODBYE: u64 = 5 * SECOND;

/// Time after which a client returns that the relay has ended.
const REJOIN_AFTER: u64 = 100 * MILLISECOND;

/// The shortest stay of a client that comes and goes, and the most that is added to it.
const SHORTEST_STAY: u64 = 50 * MILLISECOND;
const LONGER_STAY: u64 = 900 * MILLISECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    /// Post a sample.
    Sample,
    /// See whether all has come.
    CheckSettled,
    /// A handshake must be over.
    Opened(Id),
    /// A connection must have ended.
    Ended(Id),
    /// A slow subscriber stops reading.
    Stall(Id),
    /// It goes on reading.
    Resume(Id),
    /// A client that the relay has ended returns.
    Rejoin,
    /// A client is cut.
    Cut(Id),
    /// A client that is away comes back, by its place among those.
    Return(usize),
    /// A publisher sends a message again that was refused for now.
    Post(u32),
    /// All clients are cut.
    Avalanche,
    /// A client comes.
    Arrive,
    /// A late comer has joined for certain.
    Joined(Id),
    /// A client is to go, as soon as it has all that it is owed.
    Depart(Id),
    /// It goes if it has all, or has waited long enough.
    Leave(Id),
}

/// The duties of a thread.
#[derive(Debug)]
pub(super) struct Duties {
    heap: BinaryHeap<Reverse<(u64, Duty)>>,
    rejoining: VecDeque<Wanted>,
    arrivals: u64,
    arrival_interval: u64,
    pub(super) arrivals_left_out: u64,
    /// The number of times that a slow subscriber stopped reading.
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

    /// Adds a duty.
    pub(super) fn add(&mut self, at: u64, duty: Duty) {
        self.heap.push(Reverse((at, duty)));
    }

    /// Takes out a duty that is due, with its time.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(u64, Duty)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    /// The client that returns next.
    pub(super) fn pop_rejoining(&mut self) -> Option<Wanted> {
        self.rejoining.pop_front()
    }

    /// The number of the client that comes now. Plans the arrival of the next.
    pub(super) fn next_arrival(&mut self, at: u64) -> u64 {
        self.add(at + self.arrival_interval, Duty::Arrive);
        let arrival = self.arrivals;
        self.arrivals += 1;
        arrival
    }

    /// The time of the next duty.
    pub(super) fn next(&self) -> u64 {
        self.heap.peek().map_or(u64::MAX, |Reverse((at, _))| *at)
    }

    pub(super) fn expect_opening(&mut self, at: u64, id: Id) {
        self.add(at, Duty::Opened(id));
    }

    pub(super) fn expect_end(&mut self, now: u64, id: Id) {
        self.add(now + GOODBYE, Duty::Ended(id));
    }

    /// Plans the stalls or the departure of a connection that is open now, or was when the load began.
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
            Kind::Steady | Kind::Returning | Kind::Jittery | Kind::Posting => {}
        }
    }

    /// Plans the time at which a late comer has joined for certain.
    pub(super) fn expect_joining(&mut self, now: u64, id: Id) {
        self.add(now + SETTLE, Duty::Joined(id));
    }

    /// Lets a client return after a while.
    pub(super) fn rejoin(&mut self, now: u64, wanted: Wanted) {
        self.rejoining.push_back(wanted);
        self.add(now + REJOIN_AFTER, Duty::Rejoin);
    }
}

/// A number below `range` that looks random and is the same each time.
fn spread(index: u64, range: u64) -> u64 {
    let mixed = u128::from(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // It is below the range, as the other factor is below one.
    ((mixed * u128::from(range.max(1))) >> 64) as u64
}
