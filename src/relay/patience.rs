//! Patience with clients after the process itself was stopped. [`super::turn`] asks before it enforces deadlines.

use std::time::Duration;

use crate::time::Timestamp;

/// If the host looks at the clock this much later than it meant to, the process or the machine was paused. Its clients
/// were not.
const PAUSE: Duration = Duration::from_millis(500);

/// Deadlines wait this long after a pause. In that time the input of the pause is read, before any client is cut.
const GRACE: Duration = Duration::from_secs(1);

/// Puts off deadlines after a pause, such as a stopped process or a suspended machine.
#[derive(Debug)]
pub(crate) struct Patience {
    expected: Timestamp,
    until: Timestamp,
}

impl Patience {
    /// No pause so far.
    pub(crate) fn new(now: Timestamp) -> Self {
        Patience {
            expected: now,
            until: now,
        }
    }

    /// Notes the time. The host means to look at the clock again within `limit`; with `None` nothing is due, and a pause
    /// does no harm.
    pub(crate) fn note(&mut self, now: Timestamp, limit: Option<Duration>) {
        let late = now.since(self.expected);
        self.expected = limit.map_or(Timestamp(u64::MAX), |limit| now + limit);
        if late > PAUSE {
            self.until = now + GRACE;
        }
    }

    /// Whether deadlines may be enforced.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until
    }

    /// The moment from which on deadlines are enforced.
    pub(crate) fn until(&self) -> Timestamp {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_sleep_as_long_as_meant_is_not_a_pause() {
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
