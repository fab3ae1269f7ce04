//! What reaches a worker from other threads, and the box it arrives in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::admission::Admission;
use super::balance::Balance;
use super::conn::Conn;
use super::stream::Stream;
use crate::ids::ShardId;
use crate::mailbox::{Mailbox, Wake};
use crate::relay::envelope::Envelope;
use crate::relay::shard::Transfer;
use crate::ws::handshake::{Refusal, RefusalKind};

/// Something for a worker.
#[derive(Debug)]
pub enum Mail {
    /// From another shard.
    Envelope(Envelope),
    /// From the acceptor: a connection to take in.
    Socket(Stream, Admission),
    /// From another worker: a client that is to live here, and its connection.
    Client(Box<(Conn, Transfer)>),
    /// From the acceptor: a connection over a limit, to be told so and closed in order.
    Refusal(Stream, Refusal),
    /// From the acceptor: a connection over a limit was closed at once, because too many are being refused already.
    Surplus(RefusalKind),
    /// From the control thread: see every member off.
    Drain,
    /// From the control thread: the relay has failed; tell every member so, without regard to what it is owed.
    Abandon,
    /// From the control thread: cut whatever is left, and end.
    Stop,
}

/// What a worker tells the control thread.
#[derive(Debug)]
pub enum Report {
    /// The shard has seen off its last client.
    Drained(ShardId),
    /// The worker has ended before it was told to; the relay cannot go on without it.
    Failed(ShardId, String),
    /// The metrics thread has ended before it was told to.
    MetricsFailed(String),
    /// The library's user asks for a shutdown.
    ShutdownRequested,
    /// The library's user asks that certificates be read again.
    ReloadRequested,
}

/// Ends the sleep of a poll loop.
#[derive(Debug)]
pub struct PollWaker(pub mio::Waker);

impl Wake for PollWaker {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            // The event loop's counter is full or its descriptor is gone: the first is a wake already, the second ends
            // the loop.
            tracing::debug!(%error, "wake failed");
        }
    }
}

/// A worker as the other threads see it.
#[derive(Debug)]
pub struct Postbox {
    /// Its inbox.
    pub inbox: Mailbox<Mail, PollWaker>,
    /// Connections that it has or is about to get, refused ones aside: for placement. Raised by the acceptor and by
    /// whoever hands a client over, lowered by the worker.
    connections: CachePadded<AtomicUsize>,
    /// Connections that were let in and that it has closed or refused, ever: for the limit on all of them. It only rises, so
    /// that the sum over all workers is never too high, however clients move among them meanwhile.
    ended: CachePadded<AtomicUsize>,
    /// Connections over a limit, which are being refused: raised by whoever refuses, lowered by the worker.
    refusals: CachePadded<AtomicUsize>,
}

impl Postbox {
    /// An empty box whose owner is woken by `waker`.
    pub fn new(waker: mio::Waker) -> Self {
        Postbox {
            inbox: Mailbox::new(PollWaker(waker)),
            connections: CachePadded::default(),
            ended: CachePadded::default(),
            refusals: CachePadded::default(),
        }
    }

    /// The worker is about to get a connection, from the acceptor or from another worker.
    pub fn note_arrival(&self) {
        // Relaxed, here and below: counts for placement and limits, which bear no other data.
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker hands one of its connections to another.
    pub fn note_departure(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// The worker has closed one of its connections, or is refusing it.
    pub fn note_end(&self) {
        self.note_departure();
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker is about to refuse a connection, in order.
    pub fn note_refusal(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker has closed a connection that it refused.
    pub fn note_refusal_end(&self) {
        self.refusals.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many of all that were let in are over.
pub fn ended(postboxes: &[Postbox]) -> usize {
    // Relaxed: as above.
    let ended = |postbox: &Postbox| postbox.ended.load(Ordering::Relaxed);
    postboxes.iter().map(ended).sum()
}

/// How the connections are spread now.
pub fn balance(postboxes: &[Postbox]) -> Balance {
    // Relaxed: as above.
    let connections = |postbox: &Postbox| postbox.connections.load(Ordering::Relaxed);
    Balance::of(postboxes.iter().map(connections))
}

/// Connections over a limit that are refused in order at any time; what comes beyond is closed at once. Fewer than the
/// descriptors that are kept in reserve.
const REFUSED_IN_ORDER: usize = 32;

/// Whether one more connection may be refused in order. Two threads that ask at once may both be told so: there are a few
/// descriptors in reserve for each worker.
pub fn may_refuse_in_order(postboxes: &[Postbox]) -> bool {
    // Relaxed: a count that bears no other data.
    let refusals = postboxes
        .iter()
        .map(|postbox| postbox.refusals.load(Ordering::Relaxed));
    refusals.sum::<usize>() < REFUSED_IN_ORDER
}

/// The boxes of all workers, by shard.
pub type Postboxes = Arc<[Postbox]>;

/// The control thread's box.
pub type ControlBox = Arc<Mailbox<Report, PollWaker>>;
