//! The wait after an error of the engine, until it is asked again.

use std::time::Duration;

use crate::cluster::backoff::Backoff;
use crate::time::Timestamp;

/// The first wait after an error.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The wait after an error.
#[derive(Debug)]
pub(crate) struct Retry {
    pub(crate) backoff: Backoff,
    pub(crate) at: Option<Timestamp>,
    /// Since when the engine says that the stream is ahead.
    pub(crate) ahead_since: Option<Timestamp>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            at: None,
            ahead_since: None,
        }
    }
}

impl Retry {
    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.at
    }

    pub(crate) fn take_due(&mut self, now: Timestamp) -> bool {
        let is_due = self.at.is_some_and(|at| now >= at);
        if is_due {
            self.at = None;
        }
        is_due
    }

    /// Nothing is to be tried again.
    pub(crate) fn stop(&mut self) {
        self.at = None;
    }

    /// A batch has its place: the next error is the first again. A wait that has begun goes on: an echo may arrive during it.
    pub(crate) fn note_success(&mut self) {
        self.backoff.reset();
        self.ahead_since = None;
    }
}
