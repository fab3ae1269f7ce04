//! The times of a shutdown. The control thread keeps to them.
//!
//! ```text
//! signal ── delay ── drain ───────────────── cut ── threads stop, last lines ── end
//!                    └──────────────── shutdown.timeout ──────────────────────┘
//! ```
//!
//! A healthy thread stops within milliseconds. The times behind the cut are for one that stands still. Threads have half of
//! that time, the metrics thread an eighth, and the last lines of the log a quarter.
//!
//! Each has a least time, because a healthy thread on a busy machine must not be taken for one that stands still. So a timeout
//! of less than 4 s may be overrun, by less than a second.

use std::time::{Duration, Instant};

use super::watch::FROZEN_AFTER;
use crate::config::Shutdown;

/// The least time that threads get to stop once they are told to. Those that stand still do not.
const LEAST_STOPPING: Duration = Duration::from_millis(500);

/// The least time that the metrics thread gets to stop after the workers.
const LEAST_LAST_THREAD: Duration = Duration::from_millis(125);

/// The time that members have to take their Close after the relay has failed. It is short, because the supervisor waits
/// to start the process again.
const FAREWELL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// The drain begins. Until then the relay goes on as before, but is not ready.
    pub(super) drain_at: Instant,
    /// Connections that are left are cut.
    pub(super) cut_at: Instant,
    /// The process should be gone.
    pub(super) end_at: Instant,
}

impl Ending {
    /// The end of a relay that was asked `now`.
    pub(super) fn ask(now: Instant, keys: &Shutdown) -> Ending {
        let drain_at = now + keys.delay;
        Ending {
            drain_at,
            cut_at: drain_at + keys.time_for_clients(),
            end_at: drain_at + keys.timeout,
        }
    }

    /// The end of a relay that was asked again `now`.
    pub(super) fn hurry(self, now: Instant) -> Ending {
        Ending {
            cut_at: now,
            end_at: self.end_at.min(now + Shutdown::LAST_STEPS),
            ..self
        }
    }

    /// The end of the wait for threads that are told to stop `now`. It is generous if there is time, because on a busy machine
    /// a healthy thread may need it.
    pub(super) fn stop_by(self, now: Instant) -> Instant {
        let half = self.last_steps() / 2;
        let least = now + half.max(LEAST_STOPPING);
        let planned = self.end_at.checked_sub(half);
        planned.map_or(least, |planned| planned.clamp(least, now + FROZEN_AFTER))
    }

    /// The end of the wait for the metrics thread, if the wait for the workers ended `now`, and was to end at `stop_by`.
    pub(super) fn last_thread_by(self, now: Instant, stop_by: Instant) -> Instant {
        stop_by.max(now + (self.last_steps() / 8).max(LEAST_LAST_THREAD))
    }

    fn last_steps(self) -> Duration {
        self.end_at.saturating_duration_since(self.cut_at)
    }

    /// The end of a relay that fails `now`, and may be ending already.
    pub(super) fn fail(now: Instant, earlier: Option<Ending>) -> Ending {
        let cut_at = now + FAREWELL;
        let end_at = cut_at + Shutdown::LAST_STEPS;
        let earlier = earlier.unwrap_or(Ending {
            drain_at: now,
            cut_at,
            end_at,
        });
        Ending {
            drain_at: now,
            cut_at: cut_at.min(earlier.cut_at),
            end_at: end_at.min(earlier.end_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn ask(delay: Duration, timeout: Duration) -> (Instant, Ending) {
        let now = Instant::now();
        let mut config = Config::default();
        config.shutdown.delay = delay;
        config.shutdown.timeout = timeout;
        (now, Ending::ask(now, &config.shutdown))
    }

    /// The time at which the process is gone, if all but the control thread stand still from the cut on, and the reader of
    /// the log is stuck.
    fn gone_at(cut_at: Instant, ending: Ending, keys: &Shutdown) -> Instant {
        let stop_by = ending.stop_by(cut_at);
        ending.last_thread_by(stop_by, stop_by) + keys.time_for_last_lines()
    }

    #[test]
    fn the_whole_fits_the_timeout_even_if_a_thread_stands_still_at_the_end() {
        let mut keys = Config::default().shutdown;
        let now = Instant::now();
        for millis in (0..20_000).step_by(50) {
            keys.timeout = Duration::from_millis(millis);
            let ending = Ending::ask(now, &keys);
            let gone_at = gone_at(ending.cut_at, ending, &keys);
            let over = gone_at.saturating_duration_since(ending.end_at);
            let allowed = Duration::from_millis(if millis < 4000 { 875 } else { 0 });
            assert!(over <= allowed, "{over:?} over {millis} ms");
            // The second signal, halfway.
            let asked = now + keys.timeout / 2;
            let hurried = ending.hurry(asked);
            let gone_at = self::gone_at(asked, hurried, &keys);
            let over = gone_at.saturating_duration_since(ending.end_at);
            assert!(over <= allowed, "{over:?} over {millis} ms");
            assert!(gone_at <= asked + Shutdown::LAST_STEPS);
        }
    }

    #[test]
    fn the_whole_fits_the_timeout_with_room_for_the_last_steps() {
        let (now, ending) = ask(Duration::ZERO, Duration::from_secs(10));
        assert_eq!(ending.drain_at, now);
        assert_eq!(ending.cut_at, now + Duration::from_secs(8));
        assert_eq!(ending.stop_by(ending.cut_at), now + Duration::from_secs(9));
        assert_eq!(ending.end_at, now + Duration::from_secs(10));
    }

    #[test]
    fn most_of_a_short_timeout_is_for_the_clients() {
        let (now, ending) = ask(Duration::ZERO, Duration::from_secs(1));
        assert_eq!(ending.cut_at, now + Duration::from_millis(750));
        let (now, ending) = ask(Duration::ZERO, Duration::ZERO);
        assert_eq!((ending.cut_at, ending.end_at), (now, now));
    }

    #[test]
    fn the_delay_comes_before_the_timeout() {
        let (now, ending) = ask(Duration::from_secs(5), Duration::from_secs(10));
        assert_eq!(ending.drain_at, now + Duration::from_secs(5));
        assert_eq!(ending.end_at, now + Duration::from_secs(15));
    }

    #[test]
    fn asked_again_it_ends_within_two_seconds() {
        let (now, ending) = ask(Duration::ZERO, Duration::from_mins(10));
        let hurried = ending.hurry(now);
        assert_eq!(hurried.cut_at, now);
        assert_eq!(hurried.stop_by(now), now + Duration::from_secs(1));
        assert_eq!(hurried.end_at, now + Duration::from_secs(2));
    }

    #[test]
    fn a_failure_never_makes_the_end_later() {
        let (now, ending) = ask(Duration::ZERO, Duration::from_secs(10));
        assert_eq!(Ending::fail(now, None).cut_at, now + FAREWELL);
        let late = now + Duration::from_millis(7900);
        let failed = Ending::fail(late, Some(ending));
        assert_eq!(
            (failed.cut_at, failed.end_at),
            (ending.cut_at, ending.end_at)
        );
    }
}
