//! The state that the threads of a run share: the phase, the times of the measurement, the messages sent, and a board
//! for each thread's own counts. The control writes the phase and the times; everything else has one thread that writes
//! it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mio::Waker;

use crate::check::sent::Sent;
use crate::check::tally::Tally;
use crate::clock::{Clock, MILLISECOND};
use crate::report::latency;

/// Time between two samples, in nanoseconds. Each thread posts its counts so often.
pub(crate) const TICK: u64 = 100 * MILLISECOND;

/// Time from the answer to a handshake until a client counts as joined, in nanoseconds: it may join a moment after the
/// relay has answered.
pub(crate) const SETTLE: u64 = 100 * MILLISECOND;

/// The phase of a run. Threads go to the next one when the control says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections are opened.
    Connect,
    /// Messages are sent.
    Load,
    /// Nothing more is sent, and missing deliveries are awaited.
    Drain,
    /// Connections are closed.
    Close,
}

/// The state that all threads see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    phase: AtomicU8,
    load_start: AtomicU64,
    measure_start: AtomicU64,
    measure_end: AtomicU64,
    pub(crate) sent: Arc<Sent>,
    /// By thread and publisher: the first message that a connection there has not received.
    heads: Vec<Vec<AtomicU64>>,
    /// In scenarios with rounds: the number of the round, from 1, and its start.
    round: AtomicU64,
    round_start: AtomicU64,
    /// The number of times that messages in flight were given up.
    forgiven: AtomicU64,
    /// Whether the wait for missing deliveries was cut short.
    is_cut_short: AtomicBool,
    pub(crate) boards: Vec<Board>,
}

/// The board on which one thread posts its own state.
#[derive(Debug)]
pub(crate) struct Board {
    waker: Waker,
    /// Connections that are not open yet and have not failed.
    pub(crate) pending: AtomicUsize,
    /// Connections opened.
    pub(crate) opened: AtomicU64,
    /// Whether nothing is owed to its connections.
    pub(crate) is_settled: AtomicBool,
    /// The time at which something was last received.
    pub(crate) last_delivery: AtomicU64,
    /// The last round that the thread has finished, and the time at which it did.
    pub(crate) round_done: AtomicU64,
    pub(crate) round_done_at: AtomicU64,
    tally: Mutex<Tally>,
}

impl Shared {
    /// The state for one thread per waker.
    pub(crate) fn new(
        clock: Clock,
        publishers: usize,
        pending: &[usize],
        wakers: Vec<Waker>,
    ) -> Shared {
        let zeros = || {
            (0..publishers)
                .map(|_| AtomicU64::new(0))
                .collect::<Vec<_>>()
        };
        Shared {
            clock,
            phase: AtomicU8::new(Phase::Connect as u8),
            load_start: AtomicU64::new(u64::MAX),
            measure_start: AtomicU64::new(u64::MAX),
            measure_end: AtomicU64::new(u64::MAX),
            sent: Arc::new(Sent::new(publishers)),
            heads: wakers.iter().map(|_| zeros()).collect(),
            round: AtomicU64::new(0),
            round_start: AtomicU64::new(u64::MAX),
            forgiven: AtomicU64::new(0),
            is_cut_short: AtomicBool::new(false),
            boards: wakers
                .into_iter()
                .zip(pending)
                .map(|(waker, pending)| Board::new(waker, *pending))
                .collect(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Connect,
            1 => Phase::Load,
            2 => Phase::Drain,
            _ => Phase::Close,
        }
    }

    /// Enters a phase, and wakes all threads.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
        self.wake_all();
    }

    /// Begins the load.
    pub(crate) fn start_load(&self, start: u64, warmup: u64, duration: u64) {
        self.load_start.store(start, Ordering::SeqCst);
        self.measure_start.store(start + warmup, Ordering::SeqCst);
        self.measure_end
            .store(start + warmup + duration, Ordering::SeqCst);
        self.enter(Phase::Load);
    }

    /// Ends the measurement earlier than planned.
    pub(crate) fn end_early(&self, now: u64) {
        self.measure_end.fetch_min(now, Ordering::SeqCst);
        self.measure_start.fetch_min(now, Ordering::SeqCst);
    }

    pub(crate) fn load_start(&self) -> u64 {
        self.load_start.load(Ordering::SeqCst)
    }

    /// The start and the end of the measurement.
    pub(crate) fn measured(&self) -> (u64, u64) {
        (
            self.measure_start.load(Ordering::SeqCst),
            self.measure_end.load(Ordering::SeqCst),
        )
    }

    /// Begins a round at a time to come.
    pub(crate) fn start_round(&self, round: u64, start: u64) {
        self.round_start.store(start, Ordering::SeqCst);
        self.round.store(round, Ordering::SeqCst);
        self.wake_all();
    }

    /// The number of the round, 0 before the first, and its start.
    pub(crate) fn round(&self) -> (u64, u64) {
        // The number is read first. The start then belongs to the same round: the next round is not announced before
        // all threads are done with this one.
        let round = self.round.load(Ordering::SeqCst);
        (round, self.round_start.load(Ordering::SeqCst))
    }

    /// Gives up the messages in flight.
    pub(crate) fn forgive(&self) {
        self.forgiven.fetch_add(1, Ordering::SeqCst);
        self.wake_all();
    }

    pub(crate) fn forgiven(&self) -> u64 {
        self.forgiven.load(Ordering::SeqCst)
    }

    /// Cuts the wait for missing deliveries short.
    pub(crate) fn cut_short(&self) {
        self.is_cut_short.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_cut_short(&self) -> bool {
        self.is_cut_short.load(Ordering::SeqCst)
    }

    /// Sets the first message of a publisher that a connection of this thread has not received.
    pub(crate) fn set_head(&self, thread: usize, publisher: usize, head: u64) {
        self.heads[thread][publisher].store(head, Ordering::Release);
    }

    /// The first message of a publisher that some connection has not received.
    pub(crate) fn head(&self, publisher: usize) -> u64 {
        let heads = self.heads.iter();
        heads
            .map(|of_thread| of_thread[publisher].load(Ordering::Acquire))
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Wakes a thread.
    pub(crate) fn wake(&self, thread: usize) {
        self.boards[thread]
            .waker
            .wake()
            .expect("an event counter of ours can be written");
    }

    fn wake_all(&self) {
        (0..self.boards.len()).for_each(|thread| self.wake(thread));
    }
}

impl Board {
    fn new(waker: Waker, pending: usize) -> Board {
        Board {
            waker,
            pending: AtomicUsize::new(pending),
            opened: AtomicU64::new(0),
            is_settled: AtomicBool::new(false),
            last_delivery: AtomicU64::new(0),
            round_done: AtomicU64::new(0),
            round_done_at: AtomicU64::new(0),
            tally: Mutex::default(),
        }
    }

    /// Posts a thread's counts, and its distributions since the last time. Empties the distributions.
    pub(crate) fn post(&self, tally: &mut Tally) {
        // A thread that panicked with it left whole numbers behind.
        let mut posted = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        posted.totals = tally.totals;
        latency::merge(&mut posted.measured, &tally.measured);
        latency::merge(&mut posted.outside, &tally.outside);
        tally.measured.reset();
        tally.outside.reset();
    }

    /// Adds what was posted to `into`.
    pub(crate) fn collect(&self, into: &mut Tally) {
        let mut posted = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        into.totals.add(&posted.totals);
        latency::merge(&mut into.measured, &posted.measured);
        latency::merge(&mut into.outside, &posted.outside);
        posted.measured.reset();
        posted.outside.reset();
    }
}
