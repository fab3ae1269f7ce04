//! The clock as a turn looks at it. It never goes back, and it tells a pause of the process from a sleep.
//!
//! [`super::turn`] takes every look through here. A pause, such as a stopped process or a machine that moves to another host, is
//! the relay's fault. So it does not count against clients: the shard moves their deadlines, and deadlines wait for a moment.

use std::time::Duration;

use crate::time::Timestamp;

/// If the host looks at the clock this much later than it meant to, the process or the machine was paused. Its clients
/// were not.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest sleep of a host that has clients. With [`PAUSE`], every pause of a second is noticed, whatever the next deadline
/// is. Without this, a host that is woken in the middle of a long sleep could not tell that it was stopped.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);

/// Deadlines wait this long after a pause. In that time the input of the pause is read, before any client is cut.
const GRACE: Duration = Duration::from_secs(1);

/// A time in which the host did nothing, although it meant to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    /// The last look at the clock before it.
    pub(crate) began: Timestamp,
    /// The first look behind it.
    pub(crate) ended: Timestamp,
}

impl Pause {
    /// Its length.
    pub(crate) fn span(self) -> Duration {
        self.ended.since(self.began)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Patience {
    /// The latest time that was ever seen.
    now: Timestamp,
    /// A look that is later than this shows a pause.
    late_after: Timestamp,
    /// Deadlines wait until then.
    until: Timestamp,
}

impl Patience {
    /// No pause so far.
    pub(crate) fn new(now: Timestamp) -> Self {
        Patience {
            now,
            late_after: now + PAUSE,
            until: now,
        }
    }

    /// A look at the clock, which shows `now`. Returns the time, and the pause since the last look if there was one. The next
    /// look follows at once, unless a sleep is announced.
    ///
    /// A clock that goes back stands still here. Some machines do this to a process when they move it.
    pub(crate) fn look(&mut self, now: Timestamp) -> (Timestamp, Option<Pause>) {
        let began = self.now;
        let ended = now.max(began);
        let is_late = ended > self.late_after;
        self.now = ended;
        self.late_after = ended + PAUSE;
        if is_late {
            self.until = ended + GRACE;
        }
        (ended, is_late.then_some(Pause { began, ended }))
    }

    /// The host sleeps until `end`. With `None` nothing is due, and a pause does no harm.
    pub(crate) fn expect(&mut self, end: Option<Timestamp>) {
        self.late_after = end.map_or(Timestamp(u64::MAX), |end| end + PAUSE);
    }

    /// Whether deadlines may be enforced.
    pub(crate) fn is_over(&self) -> bool {
        self.now >= self.until
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
    const START: Timestamp = Timestamp(1_000_000);

    #[test]
    fn a_sleep_as_long_as_meant_is_not_a_pause() {
        let mut patience = Patience::new(START);
        let woken = START + 60 * SECOND;
        patience.expect(Some(woken));
        assert_eq!(patience.look(woken), (woken, None));
        assert!(patience.is_over());
    }

    #[test]
    fn after_a_pause_deadlines_wait_a_second() {
        let mut patience = Patience::new(START);
        patience.expect(Some(START + SECOND));
        let woken = START + 4 * SECOND;
        let pause = Pause {
            began: START,
            ended: woken,
        };
        assert_eq!(patience.look(woken), (woken, Some(pause)));
        assert!(!patience.is_over());
        patience.expect(Some(woken + SECOND));
        assert_eq!(patience.look(woken + SECOND).1, None);
        assert!(patience.is_over());
    }

    #[test]
    fn a_turn_that_is_stopped_half_way_is_a_pause() {
        let mut patience = Patience::new(START);
        patience.look(START);
        let (_, pause) = patience.look(START + 3 * SECOND);
        assert_eq!(pause.map(Pause::span), Some(3 * SECOND));
    }

    #[test]
    fn a_clock_that_goes_back_stands_still_until_it_has_caught_up() {
        let mut patience = Patience::new(START);
        assert_eq!(patience.look(Timestamp(0)), (START, None));
        let later = START + SECOND / 10;
        assert_eq!(patience.look(later), (later, None));
        assert_eq!(patience.look(START), (later, None));
    }
}
