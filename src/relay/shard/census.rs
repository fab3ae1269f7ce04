//! Topics that members have left, and whose owners are not told yet.
//!
//! An owner answers clients that ask how many members a topic has. Joins and messages tell it, and a departure does not, because
//! a crowd that leaves would send an envelope each. So departures are collected for a second.

use std::time::Duration;

use crate::port::topic_name::TopicName;
use crate::time::Timestamp;

/// The longest time for which an owner believes in members that have left.
const PERIOD: Duration = Duration::from_secs(1);

/// See the module. A flag in the topic keeps it from being in here twice, unless it is forgotten and comes back.
#[derive(Debug, Default)]
pub(super) struct Census {
    topics: Vec<TopicName>,
    due: Option<Timestamp>,
}

impl Census {
    /// A member of the topic has left.
    pub(super) fn enter(&mut self, topic: TopicName, now: Timestamp) {
        self.topics.push(topic);
        self.due.get_or_insert(now + PERIOD);
    }

    /// The time at which the owners are told.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// Takes the topics if it is time.
    pub(super) fn take(&mut self, now: Timestamp) -> Vec<TopicName> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = None;
        std::mem::take(&mut self.topics)
    }
}
