//! Mail from thread to thread, and the boxes that it arrives in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::admission::Admission;
use super::balance::Balance;
use super::conn::Conn;
use super::engine::finder::Found;
use super::listener::Peer;
use super::stream::Stream;
use crate::config::Config;
use crate::ids::ShardId;
use crate::mailbox::{Mailbox, Wake};
use crate::relay::envelope::Envelope;
use crate::relay::owner::keepsake::Keepsake;
use crate::relay::shard::{Settings, Transfer, Whom};
use crate::ws::handshake::{Refusal, RefusalKind};

/// Something for a worker.
#[derive(Debug)]
pub(crate) enum Mail {
    /// From another shard.
    Envelope(Envelope),
    /// From the acceptor: a connection to take in, and its origin.
    Socket(Stream, Peer, Admission),
    /// From another worker: a client that moves here, and its connection.
    Client(Box<(Conn, Transfer)>),
    /// From the acceptor: a connection over a limit, to be refused with an answer.
    Refusal(Stream, Refusal),
    /// From the acceptor: a connection over a limit was closed at once, because too many are being refused.
    Surplus(RefusalKind),
    /// From the control thread: the operator closes clients.
    Close(Arc<Whom>),
    /// From the control thread: the configuration was read again.
    Settings(Box<NewSettings>),
    /// From the thread that looks for an engine: its addresses.
    Found(Box<Found>),
    /// From the control thread: drain, and close every member in order.
    Drain,
    /// From the control thread: the relay has failed. Tell every member so at once, whatever it is still owed.
    Abandon,
    /// From the control thread: cut the clients that are left, and end.
    Stop,
}

/// A configuration as a worker needs it. It is one value, so that nothing is judged by parts of two.
#[derive(Clone, Debug)]
pub(crate) struct NewSettings {
    /// For the shard.
    pub(crate) settings: Settings,
    /// The number of connections up to which a worker takes the clients of its own topics.
    pub(crate) fill_to: usize,
}

/// Mail for the control thread.
#[derive(Debug)]
pub(crate) enum Report {
    /// A shard has numbered everything that will ever be published in its topics, and this is what is kept of them.
    History(Keepsake),
    /// The history is written, or cannot be. The writer has logged which.
    HistoryEnded,
    /// A shard is drained, and its last client has left.
    Drained,
    /// The worker has ended before it was told to. The relay cannot go on without it.
    Failed(ShardId, String),
    /// The metrics thread has ended before it was told to.
    MetricsFailed(String),
    /// The library's user asks for a shutdown.
    ShutdownRequested,
    /// The library's user asks that the configuration be read again, with certificates and keys for tokens.
    ReloadRequested,
    /// The library's user closes clients.
    Close(Whom),
    /// The library's user has another configuration.
    Reconfigured(Box<Config>),
}

/// Ends the sleep of a poll loop.
#[derive(Debug)]
pub struct PollWaker(pub mio::Waker);

impl Wake for PollWaker {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            // Either the loop's counter is full, and then it wakes anyway, or its descriptor is gone, and then it ends.
            tracing::debug!(%error, "wake failed");
        }
    }
}

/// A worker as the other threads see it.
#[derive(Debug)]
pub(crate) struct Postbox {
    /// Its inbox.
    pub inbox: Mailbox<Mail, PollWaker>,
    /// Connections that it has or is about to get, without refused ones: for placement. The acceptor and workers that hand a
    /// client over raise it; the worker itself lowers it.
    connections: CachePadded<AtomicUsize>,
    /// Connections that were let in and that it has closed or refused since the start, for the limit on all of them. It only
    /// rises. So the sum over all workers is never too high, even while clients move between them.
    ended: CachePadded<AtomicUsize>,
    /// Connections over a limit that are being refused. The thread that refuses raises it; the worker lowers it.
    refusals: CachePadded<AtomicUsize>,
    /// Whether the worker stands still. The control thread keeps it.
    is_frozen: AtomicBool,
    /// The worker was told to stop, and has begun to close its connections.
    is_stopping: AtomicBool,
}

impl Postbox {
    /// An empty box whose owner is woken by `waker`.
    pub(crate) fn new(waker: mio::Waker) -> Self {
        Postbox {
            inbox: Mailbox::new(PollWaker(waker)),
            connections: CachePadded::default(),
            ended: CachePadded::default(),
            refusals: CachePadded::default(),
            is_frozen: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Whether the worker stands still, so that new clients should go elsewhere.
    pub(crate) fn is_frozen(&self) -> bool {
        // Relaxed, here and below: a hint, and numbers for placement or limits, on which no other data depends.
        self.is_frozen.load(Ordering::Relaxed)
    }

    /// The worker stands still, or runs again.
    pub(crate) fn note_frozen(&self, is_frozen: bool) {
        self.is_frozen.store(is_frozen, Ordering::Relaxed);
    }

    /// Whether the worker has begun to stop. Closing many connections takes time.
    pub(crate) fn is_stopping(&self) -> bool {
        // Relaxed: as above.
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// The worker begins to stop.
    pub(crate) fn note_stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// The worker is about to get a connection, from the acceptor or from another worker.
    pub(crate) fn note_arrival(&self) {
        // Relaxed: as above.
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker hands one of its connections to another.
    pub(crate) fn note_departure(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// The worker has closed one of its connections, or is refusing it.
    pub(crate) fn note_end(&self) {
        self.note_departure();
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker is about to refuse a connection with an answer.
    pub(crate) fn note_refusal(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker has closed a connection that it refused.
    pub(crate) fn note_refusal_end(&self) {
        self.refusals.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The number of connections that were let in and have ended, over all workers.
pub(crate) fn ended(postboxes: &[Postbox]) -> usize {
    // Relaxed: as above.
    let ended = |postbox: &Postbox| postbox.ended.load(Ordering::Relaxed);
    postboxes.iter().map(ended).sum()
}

/// The spread of the connections over the workers now.
pub(crate) fn balance(postboxes: &[Postbox]) -> Balance {
    // Relaxed: as above.
    let connections = |postbox: &Postbox| postbox.connections.load(Ordering::Relaxed);
    Balance::of(postboxes.iter().map(connections))
}

/// The most connections over a limit that are refused with an answer at any time. More are closed at once. It is less than
/// the number of descriptors in reserve.
const REFUSED_IN_ORDER: usize = 32;

/// Whether one more connection may be refused with an answer. Two threads that ask at once may both hear yes: there are a
/// few descriptors in reserve for each worker.
pub(crate) fn may_refuse_in_order(postboxes: &[Postbox]) -> bool {
    // Relaxed: as above.
    let refusals = postboxes
        .iter()
        .map(|postbox| postbox.refusals.load(Ordering::Relaxed));
    refusals.sum::<usize>() < REFUSED_IN_ORDER
}

/// The boxes of all workers, by shard.
pub(crate) type Postboxes = Arc<[Postbox]>;

/// The control thread's box.
pub(crate) type ControlBox = Arc<Mailbox<Report, PollWaker>>;
