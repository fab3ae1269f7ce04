//! Time for the layers that have no clock.
//!
//! `relay`, `ws` and `http` never read the time. A worker reads its clock once or twice a turn and passes a
//! [`Timestamp`] down; the simulation passes any value it likes. [`WallTime`] is shown, and tells
//! whether a token is still valid.

use std::time::{Duration, SystemTime};

/// Microseconds since a moment that all workers of the process share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, span: Duration) -> Timestamp {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(micros))
    }
}

/// The time of day, since the Unix epoch. It may go back, when somebody sets the system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime(pub Duration);

impl From<SystemTime> for WallTime {
    /// A time before the epoch, on a machine without a clock, is the epoch.
    fn from(time: SystemTime) -> WallTime {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        WallTime(since.unwrap_or_default())
    }
}
