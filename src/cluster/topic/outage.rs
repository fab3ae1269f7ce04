//! A time in which a topic cannot publish.

use std::time::Duration;

use crate::time::Timestamp;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    pub(crate) since: Option<Timestamp>,
    /// It has lasted for too long.
    pub(crate) is_given_up: bool,
}

impl Outage {
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
    }

    pub(crate) fn end(&mut self) {
        *self = Outage::default();
    }

    pub(crate) fn ends_at(&self, timeout: Duration) -> Option<Timestamp> {
        let since = self.since.filter(|_| !self.is_given_up);
        since.map(|since| since + timeout)
    }

    pub(crate) fn is_over(&self, now: Timestamp, timeout: Duration) -> bool {
        self.ends_at(timeout).is_some_and(|end| now >= end)
    }
}
