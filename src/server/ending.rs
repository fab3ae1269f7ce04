//! The times of a shutdown. The control thread keeps to them.
//!
//! ```text
//! signal ── delay ── drain ───────────────── cut ── threads stop, last lines ── end
//!                    └──────────────── shutdown.timeout ──────────────────────┘
//! ```

use std::time::{Duration, Instant};

use super::watch::FROZEN_AFTER;
use crate::config::Shutdown;

/// The least time that threads get to stop once they are told to. Those that stand still do not.
const STOPPING: Duration = Duration::from_secs(1);

/// The time that the metrics thread has in any case to stop after the workers.
pub(super) const LAST_THREAD: Duration = Duration::from_millis(250);

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
        let least = now + STOPPING;
        let planned = self.end_at.checked_sub(STOPPING);
        planned.map_or(least, |planned| planned.clamp(least, now + FROZEN_AFTER))
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
