//! The state of the relay that other threads ask for: whether it is full, whether it is ending, whether a thread stands
//! still.
//!
//! The control thread keeps it. The metrics thread answers probes with [`Vitals::health`]. Any thread may ask, at any time;
//! nobody waits.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use super::mail::{Postbox, Postboxes, ended};
use crate::http::health::Health;

/// See the module.
// Relaxed throughout: each is a number or a flag of its own, on which no other data depends.
#[derive(Debug)]
pub(crate) struct Vitals {
    postboxes: Postboxes,
    /// A reload may change it.
    max_connections: AtomicUsize,
    /// Connections that were ever let in.
    admitted: AtomicUsize,
    is_ending: AtomicBool,
    is_control_frozen: AtomicBool,
    /// By worker: its [`Membership`]. Empty if there are no engines.
    memberships: Box<[AtomicU8]>,
}

/// A worker's place among several relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Membership {
    /// It has not been connected to all engines since the start, or another relay does not fit to this one.
    Joining,
    /// It has been connected to all engines once.
    Joined,
    /// It has been without an engine for too long.
    CutOff,
}

impl Vitals {
    /// The vitals of a relay that takes clients.
    pub(crate) fn new(postboxes: Postboxes, max_connections: usize) -> Vitals {
        Vitals {
            postboxes,
            max_connections: AtomicUsize::new(max_connections),
            admitted: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
            is_control_frozen: AtomicBool::new(false),
            memberships: Box::default(),
        }
    }

    /// The same for a relay that has engines: it is not ready before each worker has joined.
    pub(crate) fn of_cluster(mut self) -> Vitals {
        let joining = |_: &Postbox| AtomicU8::new(Membership::Joining as u8);
        self.memberships = self.postboxes.iter().map(joining).collect();
        self
    }

    /// A worker has joined the other relays, or is cut off from them.
    pub(crate) fn note_membership(&self, worker: usize, membership: Membership) {
        self.memberships[worker].store(membership as u8, Ordering::Relaxed);
    }

    fn has_worker(&self, membership: Membership) -> bool {
        let mut all = self.memberships.iter();
        all.any(|one| one.load(Ordering::Relaxed) == membership as u8)
    }

    /// The state now.
    pub(crate) fn health(&self) -> Health {
        if self.is_frozen() {
            Health::Frozen
        } else if self.is_ending.load(Ordering::Relaxed) {
            Health::Draining
        } else if self.has_worker(Membership::Joining) {
            Health::Joining
        } else if self.has_worker(Membership::CutOff) {
            Health::CutOff
        } else if self.is_full() {
            Health::Full
        } else {
            Health::Ready
        }
    }

    /// A connection was let in. Only the acceptor calls it.
    pub(crate) fn note_admitted(&self) {
        self.admitted.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that were ever let in. It is exact for the acceptor.
    pub(crate) fn admitted(&self) -> usize {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Whether the relay has as many connections as it may have.
    pub(crate) fn is_full(&self) -> bool {
        self.connections() >= self.max_connections()
    }

    /// The most connections at once.
    pub(crate) fn max_connections(&self) -> usize {
        self.max_connections.load(Ordering::Relaxed)
    }

    /// Puts another limit on connections in force.
    pub(crate) fn set_max_connections(&self, most: usize) {
        self.max_connections.store(most, Ordering::Relaxed);
    }

    /// Connections that were let in and have not ended. It is never too low.
    pub(crate) fn connections(&self) -> usize {
        // In this order: connections that are let in meanwhile must not be missed.
        let ended = ended(&self.postboxes);
        let admitted = self.admitted();
        // A miscount must not refuse everybody from then on.
        admitted.saturating_sub(ended)
    }

    /// The end has begun.
    pub(crate) fn note_ending(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// Whether a thread stands still.
    fn is_frozen(&self) -> bool {
        self.is_control_frozen.load(Ordering::Relaxed)
            || self.postboxes.iter().any(Postbox::is_frozen)
    }

    /// The control thread stands still, or runs again.
    pub(crate) fn note_control(&self, is_frozen: bool) {
        self.is_control_frozen.store(is_frozen, Ordering::Relaxed);
    }
}
