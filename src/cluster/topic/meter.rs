//! Memory that the topics of a worker hold for the cluster: batches that are not back yet, and arrivals that are kept.

/// See the module.
#[derive(Debug)]
pub struct Meter {
    limit: u64,
    used: u64,
}

impl Meter {
    /// Nothing yet. `limit` is the worker's share of `cluster.pending`, in bytes.
    pub fn new(limit: u64) -> Self {
        Meter { limit, used: 0 }
    }

    /// Bytes that are held.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Whether publishers are to wait: more is held than may be.
    pub fn is_over(&self) -> bool {
        self.used > self.limit
    }

    /// Whether `bytes` more may be kept.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.used + bytes <= self.limit
    }

    /// Counts `after` in place of `before`.
    pub(crate) fn change(&mut self, before: u64, after: u64) {
        debug_assert!(self.used >= before, "what is given back was counted");
        self.used = self.used - before + after;
    }
}
