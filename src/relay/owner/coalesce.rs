//! Coalescing: how much time passes between two fan-outs of one topic, and which topics wait for it.
//!
//! A small write costs the kernel as much as sixty messages in it, so a topic that is fanned out at every message spends
//! most of its time on writes that carry little. Hence a topic's owner lets `relay.coalesce` pass between the *beginnings*
//! of two fan-outs, and hands out as one what has come meanwhile. In a topic that was quiet for so long a message leaves
//! at once. A fan-out that takes longer than the interval is followed by the next one at once.
//!
//! - **Place:** messages wait at the owner and are not numbered yet. So the writes of all shards are joined alike, and
//!   what waits counts as on its way for the windows and the drain.
//! - **Small topics** wait less, [`PER_MEMBER`] for each member. With two members there is next to nothing to save, and a
//!   pair that answers each other would do so once in an interval.
//! - **Enough is enough:** once [`FULL_BYTES`] wait, joining more gains nothing, and they leave at once. What waits also
//!   leaves before it fills the window that one shard has, because a full window keeps publishers from being read.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Timestamp;

/// How long a topic waits at most, for each member: about seven times what a small write costs
/// (2.7 µs here, 6 elsewhere). Writes of a topic that waits less than `relay.coalesce` then take a seventh of the time.
pub const PER_MEMBER: Duration = Duration::from_micros(20);

/// Messages with this many bytes of frames wait no longer. Delivering 1 KiB in writes of 1, 8, 16, 32, 64 and 128 KiB
/// costs 4.1, 0.50, 0.25, 0.14, 0.13 and 0.11 µs here: from 32 KiB on the bytes cost, and not the writes.
pub const FULL_BYTES: u64 = 32 << 10;

/// Nobody is woken for a topic sooner than this after a wake for another: what is due in between is taken together.
/// A sleep and its end cost 15 to 20 µs of CPU here, most of it the machine's own falling asleep, so that those for any
/// number of topics leave most of the time to the writes.
pub const WAKE_GAP: Duration = Duration::from_micros(50);

/// How long topics wait.
#[derive(Clone, Copy, Debug)]
pub struct Coalesce {
    interval: Duration,
    window_bytes: u64,
}

impl Coalesce {
    /// `interval` between two fan-outs, zero for none, where one shard may have `window_bytes` on their way to a topic.
    pub fn new(interval: Duration, window_bytes: u64) -> Self {
        Coalesce {
            interval,
            window_bytes,
        }
    }

    /// The least time between the beginning of a fan-out and that of the next, in a topic that has `members`, over all
    /// shards: what a delivery costs must not depend on how many shards there are.
    pub fn interval(&self, members: u32) -> Duration {
        self.interval.min(PER_MEMBER.saturating_mul(members))
    }

    /// Whether a topic's owner, told of `told` members on one shard, has to be told of `members`: when it counts more than
    /// twice as many. A topic may thus wait twice as long as it should, and departures cost next to nothing to tell.
    pub fn is_misled(&self, told: u32, members: u32) -> bool {
        !self.interval.is_zero() && members.saturating_mul(2) < told
    }

    /// Whether so many bytes of frames wait no longer.
    pub fn is_enough(&self, frame_bytes: u64) -> bool {
        frame_bytes >= FULL_BYTES || frame_bytes > self.window_bytes
    }
}

/// The topics in which something waits, by the moment at which it goes out.
///
/// Topics come into it in any order, with the first message that has to wait, so it is a tree and no queue: a queue of
/// all topics in the order of their last fan-outs would have to be searched for those in which something waits.
#[derive(Debug, Default)]
pub struct Agenda {
    waiting: BTreeSet<(Timestamp, usize)>,
    /// When something was due last.
    served_at: Timestamp,
}

impl Agenda {
    /// Puts the topic in `slot` down for `due`.
    pub fn insert(&mut self, due: Timestamp, slot: usize) {
        self.waiting.insert((due, slot));
    }

    /// Strikes it out again.
    ///
    /// # Panics
    ///
    /// If it is not down for `due`.
    pub fn remove(&mut self, due: Timestamp, slot: usize) {
        assert!(self.waiting.remove(&(due, slot)), "the topic waits");
    }

    /// The next topic that is due at `now`. It stays until it is struck out.
    pub fn next_due(&mut self, now: Timestamp) -> Option<usize> {
        let &(due, slot) = self.waiting.first()?;
        if due > now {
            return None;
        }
        self.served_at = now;
        Some(slot)
    }

    /// The next topic, due or not. It stays until it is struck out.
    pub fn next(&self) -> Option<usize> {
        self.waiting.first().map(|&(_, slot)| slot)
    }

    /// Whether the topic in `slot` is down for `due`. For tests.
    pub fn contains(&self, due: Timestamp, slot: usize) -> bool {
        self.waiting.contains(&(due, slot))
    }

    /// When to look again even if nothing happens.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let &(due, _) = self.waiting.first()?;
        Some(due.max(self.served_at + WAKE_GAP))
    }

    /// How many topics wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn small_topics_wait_less_and_large_ones_no_longer_than_they_are_told() {
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
    fn departures_are_told_when_more_than_half_have_left() {
        let coalesce = Coalesce::new(MS, 1 << 20);
        assert!(!coalesce.is_misled(1000, 500) && !coalesce.is_misled(50, 25));
        assert!(coalesce.is_misled(1000, 499) && coalesce.is_misled(3, 1));
        assert!(!coalesce.is_misled(24, 1000) && !coalesce.is_misled(2, 1));
        assert!(!Coalesce::new(Duration::ZERO, 1).is_misled(1000, 1));
    }

    #[test]
    fn what_fills_a_write_or_the_window_is_enough() {
        let coalesce = Coalesce::new(MS, 1 << 20);
        assert!(coalesce.is_enough(FULL_BYTES) && !coalesce.is_enough(FULL_BYTES - 1));
        let narrow = Coalesce::new(MS, 100);
        assert!(narrow.is_enough(101) && !narrow.is_enough(100));
    }

    #[test]
    fn topics_are_due_in_the_order_of_their_moments_whenever_they_came() {
        let mut agenda = Agenda::default();
        agenda.insert(Timestamp(300), 1);
        agenda.insert(Timestamp(100), 2);
        agenda.insert(Timestamp(200), 3);
        agenda.remove(Timestamp(200), 3);
        assert_eq!(agenda.next_due(Timestamp(99)), None);
        assert_eq!(agenda.next_due(Timestamp(299)), Some(2));
        agenda.remove(Timestamp(100), 2);
        assert_eq!(agenda.next_due(Timestamp(299)), None);
        assert!(agenda.len() == 1 && agenda.contains(Timestamp(300), 1));
        assert_eq!(agenda.next(), Some(1));
        agenda.remove(Timestamp(300), 1);
        assert!(agenda.is_empty());
    }

    #[test]
    fn topics_that_are_due_one_after_the_other_are_woken_for_together() {
        let mut agenda = Agenda::default();
        agenda.insert(Timestamp(100), 1);
        agenda.insert(Timestamp(101), 2);
        assert_eq!(agenda.next_wake(), Some(Timestamp(100)));
        assert_eq!(agenda.next_due(Timestamp(100)), Some(1));
        agenda.remove(Timestamp(100), 1);
        assert_eq!(agenda.next_wake(), Some(Timestamp(100) + WAKE_GAP));
    }
}
