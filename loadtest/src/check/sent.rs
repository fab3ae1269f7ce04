//! The number of messages that each publisher has sent. Every delivery is checked against it.
//!
//! The thread of a publisher writes its number, and all threads read it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The messages sent, by publisher.
#[derive(Debug)]
pub(crate) struct Sent(Vec<AtomicU64>);

impl Sent {
    /// The numbers at the beginning: nobody has sent anything.
    pub(crate) fn new(publishers: usize) -> Sent {
        Sent((0..publishers).map(|_| AtomicU64::new(0)).collect())
    }

    /// The number of messages that a publisher has sent.
    pub(crate) fn of(&self, publisher: usize) -> u64 {
        self.0[publisher].load(Ordering::Acquire)
    }

    /// Sets the number of messages that a publisher has sent.
    pub(crate) fn set(&self, publisher: usize, sent: u64) {
        self.0[publisher].store(sent, Ordering::Release);
    }
}
