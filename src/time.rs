//! Moments as the pure layers see them: numbers handed in by whoever owns a clock.
//!
//! `relay`, `ws` and `http` never ask what time it is; a worker reads its clock once or twice a turn and passes
//! a [`Timestamp`] down, and the simulation passes whatever it likes.

use std::time::Duration;

/// Microseconds since an epoch that all workers of a process share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time from `earlier` to `self`, zero when `earlier` is later.
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
