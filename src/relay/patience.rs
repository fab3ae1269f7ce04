//! The patience that a host owes its clients after a pause of its own.

use std::time::Duration;

use crate::time::Timestamp;

/// A gap of this length between two looks at the clock, beyond what the worker meant to sleep, is a pause of the
/// process or the machine and not of its clients.
const PAUSE: Duration = Duration::from_millis(500);

/// How long deadlines then wait, so that what clients sent during the pause is read before any of them is cut.
const GRACE: Duration = Duration::from_secs(1);

/// Puts off deadlines after a pause, such as a stopped process or a suspended machine.
#[derive(Debug)]
pub struct Patience {
    expected: Timestamp,
    until: Timestamp,
}

impl Patience {
    /// Patience that is not needed yet.
    pub fn new(now: Timestamp) -> Self {
        Patience {
            expected: now,
            until: now,
        }
    }

    /// Notes the time, and for how long at most the host does not look at the clock now; `None` if nothing is due, so that a
    /// pause does no harm.
    pub fn note(&mut self, now: Timestamp, limit: Option<Duration>) {
        let late = now.since(self.expected);
        self.expected = limit.map_or(Timestamp(u64::MAX), |limit| now + limit);
        if late > PAUSE {
            self.until = now + GRACE;
        }
    }

    /// Whether deadlines may be enforced.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until
    }

    /// The moment from which on deadlines are enforced.
    pub fn until(&self) -> Timestamp {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn sleeping_as_long_as_meant_is_no_pause() {
        let mut patience = Patience::new(Timestamp(0));
        patience.note(Timestamp(0), Some(60 * SECOND));
        let woken = Timestamp(0) + 60 * SECOND;
        patience.note(woken, Some(SECOND));
        assert!(patience.is_over(woken));
    }

    #[test]
    fn after_a_pause_deadlines_wait_a_second() {
        let mut patience = Patience::new(Timestamp(0));
        patience.note(Timestamp(0), Some(SECOND));
        let woken = Timestamp(0) + 4 * SECOND;
        patience.note(woken, Some(Duration::ZERO));
        assert!(!patience.is_over(woken));
        assert!(patience.is_over(woken + GRACE));
    }

    #[test]
    fn a_turn_that_is_stopped_half_way_is_a_pause() {
        let mut patience = Patience::new(Timestamp(0));
        patience.note(Timestamp(0), Some(Duration::ZERO));
        patience.note(Timestamp(0) + 3 * SECOND, None);
        assert!(!patience.is_over(Timestamp(0) + 3 * SECOND));
    }
}
