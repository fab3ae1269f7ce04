//! The clock that all workers of a relay share.

use std::time::{Duration, Instant};

use crate::config::MAX_HISTORY_AGE;
use crate::time::Timestamp;

/// The time of the start. It is not 0, because kept messages of an earlier process are older than the start.
const START: Duration = Duration::from_hours(25);

const _: () = assert!(START.as_secs() > MAX_HISTORY_AGE.as_secs());

/// Monotonic time, which begins at the relay's start. Copies agree with each other.
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

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        // 2⁶⁴ µs are half a million years.
        Timestamp((START + self.epoch.elapsed()).as_micros() as u64)
    }
}
