//! Coalescing: how much time passes between two fan-outs of one topic, and which topics wait for it.
//!
//! A small write costs the kernel as much as sixty messages in it, so a topic that is fanned out whenever something has
//! come spends most of its time on writes that carry little. Hence a topic's owner lets `relay.coalesce` pass between the
//! *beginnings* of two fan-outs, and hands out what has come meanwhile as one. But for waves, a topic that was quiet for so
//! long waits for nothing, and one whose fan-out takes longer does not either: what counts is when the last one began.
//!
//! - **Where:** at the owner, before anything is numbered, so that the flushes of all shards are joined alike, and what
//!   waits is on its way from the publisher's shard to the log, for windows and the drain as for everybody.
//! - **Small topics** wait less, [`PER_MEMBER`] for each member: with two members there is next to nothing to save, and a
//!   pair that answers each other would do so once in an interval.
//! - **Waves:** clients that send when they have what they wait for all do so after a fan-out, one a little after the other.
//!   Were the first one's messages handed out at once, everybody would be written to for these alone, and then again for the
//!   others'. Hence in a topic whose last fan-out had messages of several clients, what comes when nothing waits has
//!   [half an interval](Coalesce::wave_wait) for more to come. What one client sends in answer most often comes at once.
//! - **Delivery first:** in such a topic there is no fan-out while the last one is [under way](crate::receipt) on other
//!   shards, or has just been delivered, a quarter of an interval ago, for their clients' answers have to come here first. What
//!   one wave is answered with left in part with the next, else, and in part with the one behind it, for ever: with eight
//!   shards on one processor to nine thousand members, for 1.9 times what it costs with one. The owner's own members are not
//!   waited for: those who have not been visited are sent what comes meanwhile in the same write, so that waiting would be
//!   later (5.3 ms instead of 4.2 at 5,000 a second to a thousand) and save nothing.
//! - **Enough is enough:** once [`FULL_BYTES`] wait, joining more gains nothing, and only a fan-out under way elsewhere is
//!   waited for. Nor may what waits keep publishers from being read, so it goes out, whatever is under way, before it fills
//!   the window that one shard has.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Timestamp;

/// How long a topic waits at most, for each member: about seven times what a small write costs
/// (2.7 µs here, 6 elsewhere). Writes of a topic that waits less than `relay.coalesce` then take a seventh of the time.
pub const PER_MEMBER: Duration = Duration::from_micros(20);

/// What has this many bytes of frames waits for nothing but the last fan-out's delivery elsewhere. Delivering 1 KiB in writes
/// of 1, 8, 16, 32, 64 and 128 KiB costs 4.1, 0.50, 0.25, 0.14, 0.13 and 0.11 µs here: from 32 KiB on it is the bytes that
/// cost, and not the writes.
pub const FULL_BYTES: u64 = 32 << 10;

/// Topics whose interval is shorter do without waves: all of fewer than eight members, and all where `relay.coalesce` is
/// shorter. A wait costs the owner a sleep and a wake, some 20 µs, which is not worth it if it is short, or spares a fan-out
/// to few: two of which each sends one message after each fan-out took 1.8 times the CPU and the time, and with five or eight
/// it was all the same.
pub const WAVE_FROM: Duration = Duration::from_micros(160);

/// No topic needs longer to be quiet, and no fan-out is waited for to be delivered beyond that. To nine thousand waves came
/// together no more often when they had twice as long.
pub const LONGEST_WAVE_SPAN: Duration = Duration::from_millis(100);

/// Nobody is woken for a topic sooner than this after a wake for another: what is due in between is taken together.
/// A sleep and its end cost 15 to 20 µs of CPU here, most of it the machine's own falling asleep, so that those for any
/// number of topics leave most of the time to the writes.
pub const WAKE_GAP: Duration = Duration::from_micros(50);

/// No owner is woken sooner than this after it has seen that others have not delivered its fan-out.
pub const LOOK_GAP: Duration = Duration::from_micros(100);

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

    /// How long the first messages of a wave wait for the others, in a topic that has `members`. Of the 128 messages that 64
    /// clients have in flight in a topic of a thousand, some 120 leave in one write, be it with one shard or with eight; were
    /// it a quarter of an interval, 80 with one shard, and at once 70.
    pub fn wave_wait(&self, members: u32) -> Duration {
        if !self.has_waves(members) {
            return Duration::ZERO;
        }
        self.interval(members) / 2
    }

    /// Whether a topic that has `members` has waves.
    pub fn has_waves(&self, members: u32) -> bool {
        self.interval(members) >= WAVE_FROM
    }

    /// For how long after the interval a wave may begin, in a topic that has `members`; one in which nothing comes for so long
    /// is quiet. With a fifth of it, to a thousand, or a third, to three thousand, waves that have come apart stay so: the
    /// owner has to write to its own members before it hears of an answer, and so do all others on its processor.
    pub fn wave_span(&self, members: u32) -> Duration {
        PER_MEMBER.saturating_mul(members).min(LONGEST_WAVE_SPAN)
    }

    /// Whether a topic's owner, told of `told` members on one shard, has to be told of `members`: when it counts more than
    /// twice as many. So far it may be wrong, and topics wait for twice as long as they should or have waves with half of the
    /// members that it takes, so that departures cost next to nothing to tell.
    pub fn is_misled(&self, told: u32, members: u32) -> bool {
        !self.interval.is_zero() && members.saturating_mul(2) < told
    }

    /// Whether joining more to so many bytes of frames gains nothing.
    pub fn is_enough(&self, frame_bytes: u64) -> bool {
        frame_bytes >= FULL_BYTES || self.fills_window(frame_bytes)
    }

    /// Whether so many bytes of frames, left waiting, keep publishers from being read.
    pub fn fills_window(&self, frame_bytes: u64) -> bool {
        frame_bytes > self.window_bytes
    }
}

/// The topics in which something waits, by the moment at which it goes out or is put off again.
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

    /// Strikes out the next topic that is due at `now`.
    pub fn take_due(&mut self, now: Timestamp) -> Option<usize> {
        let &(due, _) = self.waiting.first()?;
        if due > now {
            return None;
        }
        self.served_at = now;
        self.take()
    }

    /// Strikes out the next topic, due or not.
    pub fn take(&mut self) -> Option<usize> {
        self.waiting.pop_first().map(|(_, slot)| slot)
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
    fn a_wave_takes_half_an_interval_that_is_long_enough() {
        let coalesce = Coalesce::new(MS, 1 << 20);
        let least = 8;
        assert_eq!(coalesce.interval(least), WAVE_FROM);
        assert_eq!(coalesce.wave_wait(least - 1), Duration::ZERO);
        assert_eq!(coalesce.wave_wait(least), WAVE_FROM / 2);
        assert_eq!(coalesce.wave_wait(1000), MS / 2);
        assert_eq!(coalesce.wave_span(1000), 20 * MS);
        assert_eq!(coalesce.wave_span(u32::MAX), LONGEST_WAVE_SPAN);
        let short = Coalesce::new(WAVE_FROM / 2, 1 << 20);
        assert_eq!(short.wave_wait(1000), Duration::ZERO);
        assert_eq!(
            Coalesce::new(Duration::ZERO, 1).wave_wait(1000),
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
        assert_eq!(agenda.take_due(Timestamp(99)), None);
        assert_eq!(agenda.take_due(Timestamp(299)), Some(2));
        assert_eq!(agenda.take_due(Timestamp(299)), None);
        assert!(agenda.len() == 1 && agenda.contains(Timestamp(300), 1));
        assert_eq!(agenda.take(), Some(1));
        assert!(agenda.is_empty());
    }

    #[test]
    fn topics_that_are_due_one_after_the_other_are_woken_for_together() {
        let mut agenda = Agenda::default();
        agenda.insert(Timestamp(100), 1);
        agenda.insert(Timestamp(101), 2);
        assert_eq!(agenda.next_wake(), Some(Timestamp(100)));
        assert_eq!(agenda.take_due(Timestamp(100)), Some(1));
        assert_eq!(agenda.next_wake(), Some(Timestamp(100) + WAKE_GAP));
    }
}
