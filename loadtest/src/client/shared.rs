//! What the threads of a run share: the phase they are in, when it is what time, how much was sent, and a board for each
//! thread on which it says how far it is. The control writes the phases; each of the rest has one writer.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mio::Waker;

use crate::check::sent::Sent;
use crate::check::tally::Tally;
use crate::clock::{Clock, MILLISECOND};
use crate::report::latency;

/// Time between two samples, in nanoseconds: threads put up their counts so often.
pub(crate) const TICK: u64 = 100 * MILLISECOND;

/// Time from the answer to a handshake until a client counts as joined, in nanoseconds: a relay may have a client join a
/// moment after it has answered it.
pub(crate) const SETTLE: u64 = 100 * MILLISECOND;

/// What a run is doing. Threads go from one to the next when the control says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections are opened.
    Connect,
    /// Messages are sent.
    Load,
    /// Nothing more is sent; what is owed is waited for.
    Drain,
    /// Connections are closed.
    Close,
}

/// What all threads see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    phase: AtomicU8,
    load_start: AtomicU64,
    measure_start: AtomicU64,
    measure_end: AtomicU64,
    pub(crate) sent: Arc<Sent>,
    /// By thread and publisher: the first message that somebody there has not received.
    heads: Vec<Vec<AtomicU64>>,
    /// Burst, reconnect: which round it is, from 1, and when it begins.
    round: AtomicU64,
    round_start: AtomicU64,
    /// How often messages in flight were given up.
    forgiven: AtomicU64,
    /// Whether what is owed when the run is over was not waited for.
    is_cut_short: AtomicBool,
    pub(crate) boards: Vec<Board>,
}

/// What one thread says of itself.
#[derive(Debug)]
pub(crate) struct Board {
    waker: Waker,
    /// Connections that are neither open nor have failed yet.
    pub(crate) pending: AtomicUsize,
    /// Connections opened.
    pub(crate) opened: AtomicU64,
    /// Whether nothing is owed to its connections.
    pub(crate) is_settled: AtomicBool,
    /// When something was last received.
    pub(crate) last_delivery: AtomicU64,
    /// The last round that it is done with, and when it was.
    pub(crate) round_done: AtomicU64,
    pub(crate) round_done_at: AtomicU64,
    tally: Mutex<Tally>,
}

impl Shared {
    /// For one thread per waker.
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

    /// Goes on to a phase, and wakes everybody.
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

    /// From when to when is measured.
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

    /// Which round it is, 0 before the first, and when it begins.
    pub(crate) fn round(&self) -> (u64, u64) {
        // The number first: the start is then at least as new, and of the same round, as the next is not announced before
        // all threads are done with this one.
        let round = self.round.load(Ordering::SeqCst);
        (round, self.round_start.load(Ordering::SeqCst))
    }

    /// Gives up what is in flight.
    pub(crate) fn forgive(&self) {
        self.forgiven.fetch_add(1, Ordering::SeqCst);
        self.wake_all();
    }

    pub(crate) fn forgiven(&self) -> u64 {
        self.forgiven.load(Ordering::SeqCst)
    }

    /// Waits no longer for what is owed, although it may still come.
    pub(crate) fn cut_short(&self) {
        self.is_cut_short.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_cut_short(&self) -> bool {
        self.is_cut_short.load(Ordering::SeqCst)
    }

    /// Says up to which message of a publisher everybody on a thread has all.
    pub(crate) fn set_head(&self, thread: usize, publisher: usize, head: u64) {
        self.heads[thread][publisher].store(head, Ordering::Release);
    }

    /// Up to which message of a publisher everybody has all.
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

    /// Puts up what happened since the last time; empties the distributions.
    pub(crate) fn post(&self, tally: &mut Tally) {
        // Whoever panicked with it left whole numbers behind.
        let mut posted = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        posted.totals = tally.totals;
        latency::merge(&mut posted.measured, &tally.measured);
        latency::merge(&mut posted.outside, &tally.outside);
        tally.measured.reset();
        tally.outside.reset();
    }

    /// Adds what was put up to `into`.
    pub(crate) fn collect(&self, into: &mut Tally) {
        let mut posted = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        into.totals.add(&posted.totals);
        latency::merge(&mut into.measured, &posted.measured);
        latency::merge(&mut into.outside, &posted.outside);
        posted.measured.reset();
        posted.outside.reset();
    }
}
