//! Coalescing: the time between two fan-outs of one topic, and the topics that wait for it.
//!
//! A write costs the kernel as much as sixty small messages in it. A topic that is fanned out at every message would spend
//! most of its time on writes that carry little.
//!
//! So a topic's owner lets `relay.coalesce` pass between the *beginnings* of two fan-outs, and fans out together the
//! messages that came meanwhile. In a topic that was quiet for that long, a message leaves at once. If a fan-out takes
//! longer than the interval, the next one follows at once.
//!
//! - **Place:** messages wait at the owner, before they are numbered. So the writes of all shards benefit. The windows and the
//!   drain count waiting messages as still on their way.
//! - **Small topics** wait less: [`PER_MEMBER`] for each member. With two members there is almost nothing to save, and two
//!   clients that answer each other would get one answer per interval.
//! - **Enough is enough:** once [`FULL_BYTES`] wait, they leave at once, because larger writes gain nothing. They also
//!   leave once they exceed one shard's window, because a shard above its window does not read its publishers.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Timestamp;

/// The longest wait of a topic, for each member. A small write costs 2.7 µs, so the writes of a small topic take about a
/// seventh of the time.
pub const PER_MEMBER: Duration = Duration::from_micros(20);

/// Messages with this many bytes of frames wait no longer. Delivering 1 KiB costs 4.1 µs in writes of 1 KiB, 0.25 µs in writes
/// of 16 KiB, 0.14 µs in writes of 32 KiB, and 0.11 µs in writes of 128 KiB. So larger writes gain almost nothing.
pub(crate) const FULL_BYTES: u64 = 32 << 10;

/// The least time between two wakes for topics. Topics that become due in between are fanned out together. A sleep and a
/// wake cost 15 to 20 µs of CPU. At this gap most of the time is left for writes, however many topics there are.
pub(crate) const WAKE_GAP: Duration = Duration::from_micros(50);

/// The rule for how long topics wait.
#[derive(Clone, Copy, Debug)]
pub struct Coalesce {
    interval: Duration,
    window_bytes: u64,
}

impl Coalesce {
    /// `interval` is the time between two fan-outs, zero for none. One shard may have `window_bytes` on their way to a
    /// topic.
    pub fn new(interval: Duration, window_bytes: u64) -> Self {
        Coalesce {
            interval,
            window_bytes,
        }
    }

    /// The least time between the beginnings of two fan-outs, in a topic with `members` on all shards together. The cost of
    /// a delivery must not depend on the number of shards.
    pub(crate) fn interval(&self, members: u32) -> Duration {
        self.interval.min(PER_MEMBER.saturating_mul(members))
    }

    /// Whether an owner that knows of `told` members on a shard must hear that only `members` are left. It must if they are
    /// fewer than half. So a topic waits at most twice as long as it should, and few departures are told.
    pub(crate) fn is_misled(&self, told: u32, members: u32) -> bool {
        !self.interval.is_zero() && members.saturating_mul(2) < told
    }

    /// Whether messages with `frame_bytes` of frames are enough to be fanned out at once.
    pub(crate) fn is_enough(&self, frame_bytes: u64) -> bool {
        frame_bytes >= FULL_BYTES || frame_bytes > self.window_bytes
    }
}

/// The topics with waiting messages, by the moment at which these are due.
///
/// A topic enters with its first message that has to wait. Topics enter in any order, so this is a tree.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    waiting: BTreeSet<(Timestamp, usize)>,
    /// The moment at which a topic that was due was removed last.
    served_at: Timestamp,
}

impl Agenda {
    /// Enters the topic in `slot` for `due`. It may be there already.
    pub(crate) fn insert(&mut self, due: Timestamp, slot: usize) {
        self.waiting.insert((due, slot));
    }

    /// Removes it, because it is served `now`.
    ///
    /// # Panics
    ///
    /// If it is not there for `due`.
    pub(crate) fn remove(&mut self, due: Timestamp, slot: usize, now: Timestamp) {
        assert!(
            self.waiting.remove(&(due, slot)),
            "the topic is in the agenda"
        );
        if due <= now {
            self.served_at = now;
        }
    }

    /// The next topic that is due at `now`. It stays until it is removed.
    pub(crate) fn next_due(&self, now: Timestamp) -> Option<usize> {
        let &(due, slot) = self.waiting.first()?;
        (due <= now).then_some(slot)
    }

    /// The next topic, due or not. It stays until it is removed.
    pub(crate) fn next(&self) -> Option<usize> {
        self.waiting.first().map(|&(_, slot)| slot)
    }

    /// Whether the topic in `slot` is there for `due`. For tests.
    pub(crate) fn contains(&self, due: Timestamp, slot: usize) -> bool {
        self.waiting.contains(&(due, slot))
    }

    /// The next moment to look for due topics.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        let &(due, _) = self.waiting.first()?;
        Some(due.max(self.served_at + WAKE_GAP))
    }

    /// The number of topics.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn small_topics_wait_less_and_large_ones_no_longer_than_the_interval() {
        let coalesce = Coalesce::new(MS, 1 << 20);
        assert_eq!(coalesce.interval(0), Duration::ZERO);
        assert_eq!(coalesce.interval(2), 2 * PER_MEMBER);
        assert_eq!(coalesce.interval(1000), MS);
        assert_eq!(coalesce.interval(u32::MAX), MS);
        assert_eq!(
            Coalesce::new(Duration::ZERO, 1).interval(1000),
            Duration::ZERO
        );
    }

    #[test]
    fn departures_are_told_once_more_than_half_have_left() {
        let coalesce = Coalesce::new(MS, 1 << 20);
        assert!(!coalesce.is_misled(1000, 500) && !coalesce.is_misled(50, 25));
        assert!(coalesce.is_misled(1000, 499) && coalesce.is_misled(3, 1));
        assert!(!coalesce.is_misled(24, 1000) && !coalesce.is_misled(2, 1));
        assert!(!Coalesce::new(Duration::ZERO, 1).is_misled(1000, 1));
    }

    #[test]
    fn messages_that_fill_a_write_or_the_window_wait_no_longer() {
        let coalesce = Coalesce::new(MS, 1 << 20);
        assert!(coalesce.is_enough(FULL_BYTES) && !coalesce.is_enough(FULL_BYTES - 1));
        let narrow = Coalesce::new(MS, 100);
        assert!(narrow.is_enough(101) && !narrow.is_enough(100));
    }

    #[test]
    fn topics_are_due_by_their_moments_in_whatever_order_they_entered() {
        let mut agenda = Agenda::default();
        agenda.insert(Timestamp(300), 1);
        agenda.insert(Timestamp(100), 2);
        agenda.insert(Timestamp(200), 3);
        agenda.remove(Timestamp(200), 3, Timestamp(0));
        assert_eq!(agenda.next_due(Timestamp(99)), None);
        assert_eq!(agenda.next_due(Timestamp(299)), Some(2));
        agenda.remove(Timestamp(100), 2, Timestamp(299));
        assert_eq!(agenda.next_due(Timestamp(299)), None);
        assert!(agenda.len() == 1 && agenda.contains(Timestamp(300), 1));
        assert_eq!(agenda.next(), Some(1));
        agenda.remove(Timestamp(300), 1, Timestamp(299));
        assert_eq!(agenda.len(), 0);
    }

    #[test]
    fn topics_that_are_due_shortly_after_each_other_share_a_wake() {
        let mut agenda = Agenda::default();
        agenda.insert(Timestamp(100), 1);
        agenda.insert(Timestamp(101), 2);
        assert_eq!(agenda.next_wake(), Some(Timestamp(100)));
        assert_eq!(agenda.next_due(Timestamp(100)), Some(1));
        agenda.remove(Timestamp(100), 1, Timestamp(100));
        assert_eq!(agenda.next_wake(), Some(Timestamp(100) + WAKE_GAP));
    }
}
