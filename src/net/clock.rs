//! The clock that all workers of a relay share.

use std::time::Instant;

use crate::time::Timestamp;

/// Monotonic time since the relay's start. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Clock {
            epoch: Instant::now(),
        }
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Timestamp {
        // 2⁶⁴ µs are half a million years.
        Timestamp(self.epoch.elapsed().as_micros() as u64)
    }
}
