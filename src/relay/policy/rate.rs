//! The limits on a client's frames: token buckets, as the generic cell rate algorithm keeps them.
//!
//! A bucket holds the burst and fills at the rate. Each message takes one token, and a message that finds none is over the
//! limit. Only the moment at which a bucket is full again is stored, so an idle client costs nothing. The shard asks at each
//! message, with the time of the turn.
//!
//! Control frames have a bucket of their own.
//!
//! While a client is parked (its topic is held, say), its messages wait in its socket. They arrive at once afterwards, and
//! that is the relay's fault. So the client may also send what it could have sent while it was parked. This excuse lasts as
//! long as the client was parked.
//!
//! A pause of the relay itself is excused in the same way. A turn that skips reading because inboxes are full is not: it is
//! short.

use std::time::Duration;

use crate::config::{Keepalive, Limits};
use crate::time::Timestamp;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The most that a time in whole microseconds leaves out. A client that sends exactly at the rate must not be over the limit
/// because of it.
const CUT_OFF_NANOS: u64 = 999;

/// The most pings of the relay in `keepalive.ping_interval`. It reviews what a client was sent twice in that time, and may ping
/// after each review.
const MOST_PINGS_PER_INTERVAL: u128 = 2;

/// The limits, the same for all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rates {
    /// On messages; `None` for no limit.
    messages: Option<RateLimit>,
    /// On control frames and on frames that bring nothing; `None` for no limit.
    controls: Option<RateLimit>,
}

/// A rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RateLimit {
    /// The time in which the bucket gains one frame.
    frame_nanos: u64,
    /// The time in which an empty bucket fills, with [`CUT_OFF_NANOS`].
    burst_nanos: u64,
}

/// The answer to several messages at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// They are within the limit.
    Granted,
    /// They are within it after this time.
    Wait(Duration),
    /// They are more than a full bucket holds.
    Never,
}

/// A client's buckets; new ones are full.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buckets {
    /// The moment at which the bucket for messages is full again; if it is full, a moment in the past.
    messages_full_at_nanos: u64,
    /// The same for control frames.
    controls_full_at_nanos: u64,
    /// While the client is read, the end of its excuse. While it is not read, the beginning of the excuse.
    excuse: Timestamp,
}

impl Rates {
    /// The limits of a configuration.
    pub(crate) fn new(limits: &Limits, keepalive: &Keepalive) -> Self {
        let burst = match limits.burst {
            0 => limits.messages_per_second * Limits::DEFAULT_BURST_SECONDS,
            burst => burst,
        };
        // Answers to the relay's own pings are not the client's idea, so there is room for them on top.
        let own_pings = match keepalive.ping_interval.as_millis() {
            0 => 0,
            // An interval is a millisecond at least, so the number is small.
            millis => (MOST_PINGS_PER_INTERVAL * 1_000).div_ceil(millis) as usize,
        };
        let controls = match limits.control_frames_per_second {
            0 => 0,
            rate => rate + own_pings,
        };
        Rates {
            messages: RateLimit::new(limits.messages_per_second, burst),
            controls: RateLimit::new(controls, controls * Limits::CONTROL_BURST_SECONDS),
        }
    }

    /// Takes a token for a message that was read at `now`. Says whether there was one.
    pub(crate) fn admit_message(&self, buckets: &mut Buckets, now: Timestamp) -> bool {
        let excuse = buckets.excuse;
        let limit = self.messages.as_ref();
        limit.is_none_or(|limit| limit.admits(&mut buckets.messages_full_at_nanos, excuse, now))
    }

    /// Whether there is a limit on messages.
    pub(crate) fn limit_messages(&self) -> bool {
        self.messages.is_some()
    }

    /// Takes tokens for `count` messages at `now` from a bucket that is full again at `full_at_nanos`, all or none.
    pub(crate) fn admit_posts(
        &self,
        full_at_nanos: &mut u64,
        count: usize,
        now: Timestamp,
    ) -> Admission {
        let Some(limit) = &self.messages else {
            return Admission::Granted;
        };
        let cost_nanos = (count as u64).saturating_mul(limit.frame_nanos);
        if cost_nanos > limit.burst_nanos {
            return Admission::Never;
        }
        let now_nanos = nanos(Duration::from_micros(now.0));
        let full_at = (*full_at_nanos).max(now_nanos) + cost_nanos;
        let excess_nanos = full_at.saturating_sub(now_nanos + limit.burst_nanos);
        if excess_nanos > 0 {
            return Admission::Wait(Duration::from_nanos(excess_nanos));
        }
        *full_at_nanos = full_at;
        Admission::Granted
    }

    /// Takes a token for a control frame, or a frame that brings nothing. Says whether there was one.
    pub(crate) fn admit_control(&self, buckets: &mut Buckets, now: Timestamp) -> bool {
        let excuse = buckets.excuse;
        let limit = self.controls.as_ref();
        limit.is_none_or(|limit| limit.admits(&mut buckets.controls_full_at_nanos, excuse, now))
    }
}

impl RateLimit {
    /// A limit, if the rate is not 0.
    fn new(frames_per_second: usize, burst: usize) -> Option<Self> {
        // Nanoseconds, because microseconds are too coarse for a hundred thousand messages a second. The products fit:
        // rate and burst are below 2²⁴.
        let frame_nanos = NANOS_PER_SECOND.checked_div(frames_per_second as u64)?;
        Some(RateLimit {
            frame_nanos,
            burst_nanos: burst as u64 * frame_nanos + CUT_OFF_NANOS,
        })
    }

    fn admits(&self, bucket: &mut u64, excuse: Timestamp, now: Timestamp) -> bool {
        let now_nanos = nanos(Duration::from_micros(now.0));
        // A full bucket gains nothing more, but an excused one goes on filling. A larger burst would not do: the client would
        // have to pay it back before the excuse ends.
        let full_since_nanos = now_nanos.saturating_sub(nanos(excuse.since(now)));
        let full_at_nanos = (*bucket).max(full_since_nanos) + self.frame_nanos;
        let is_within = full_at_nanos <= now_nanos + self.burst_nanos;
        if is_within {
            *bucket = full_at_nanos;
        }
        is_within
    }
}

impl Buckets {
    /// The relay stops reading the client.
    pub(crate) fn pause(&mut self, now: Timestamp) {
        // The rest of an earlier excuse is kept.
        let left = self.excuse.since(now);
        self.excuse = Timestamp(now.0.saturating_sub(left.as_micros() as u64));
    }

    /// Fills them, because other limits are in force. An excuse goes on.
    pub(crate) fn refill(&mut self) {
        self.messages_full_at_nanos = 0;
        self.controls_full_at_nanos = 0;
    }

    /// The relay reads it again.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        self.excuse = now + now.since(self.excuse);
    }
}

fn nanos(span: Duration) -> u64 {
    // 2⁶⁴ ns are half a thousand years.
    span.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Timestamp = Timestamp(1_000_000_000);

    fn limit(messages_per_second: usize, burst: usize) -> Rates {
        let limits = Limits {
            messages_per_second,
            burst,
            ..Limits::default()
        };
        Rates::new(&limits, &Keepalive::default())
    }

    /// The number of messages let through, of many that are read at once.
    fn burst(limit: &Rates, bucket: &mut Buckets, now: Timestamp) -> usize {
        (0..1000)
            .take_while(|_| limit.admit_message(bucket, now))
            .count()
    }

    /// The same for control frames.
    fn controls(limit: &Rates, bucket: &mut Buckets, now: Timestamp) -> usize {
        (0..100_000)
            .take_while(|_| limit.admit_control(bucket, now))
            .count()
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let limit = limit(0, 0);
        assert_eq!(burst(&limit, &mut Buckets::default(), START), 1000);
    }

    /// Limits on control frames alone, and the time between two pings of the relay.
    fn control_limit(control_frames_per_second: usize, ping_interval: Duration) -> Rates {
        let limits = Limits {
            control_frames_per_second,
            ..Limits::default()
        };
        let keepalive = Keepalive {
            ping_interval,
            ..Keepalive::default()
        };
        Rates::new(&limits, &keepalive)
    }

    #[test]
    fn control_frames_have_a_limit_of_their_own_and_a_burst_of_ten_seconds() {
        let limit = control_limit(20, Duration::ZERO);
        let mut bucket = Buckets::default();
        assert_eq!(controls(&limit, &mut bucket, START), 200);
        assert_eq!(controls(&limit, &mut bucket, START + SECOND), 20);
        assert_eq!(burst(&limit, &mut bucket, START), 1000);
        let none = control_limit(0, SECOND);
        assert_eq!(controls(&none, &mut Buckets::default(), START), 100_000);
    }

    #[test]
    fn whoever_answers_the_relays_pings_is_not_over_the_limit_however_many_there_are() {
        for millis in [1, 3, 10, 25_000] {
            let interval = Duration::from_millis(millis);
            let limit = control_limit(1, interval);
            let mut bucket = Buckets::default();
            for n in 0..20_000 {
                assert!(limit.admit_control(&mut bucket, START + interval * n));
            }
        }
    }

    #[test]
    fn exactly_the_burst_is_let_through_at_once() {
        let limit = limit(10, 7);
        assert_eq!(burst(&limit, &mut Buckets::default(), START), 7);
    }

    #[test]
    fn the_burst_is_five_seconds_worth_unless_it_is_set() {
        let limit = limit(10, 0);
        assert_eq!(burst(&limit, &mut Buckets::default(), START), 50);
    }

    #[test]
    fn an_empty_bucket_fills_at_the_rate_and_no_further_than_the_burst() {
        let limit = limit(10, 7);
        let mut bucket = Buckets::default();
        burst(&limit, &mut bucket, START);
        assert_eq!(burst(&limit, &mut bucket, START + SECOND / 2), 5);
        assert_eq!(burst(&limit, &mut bucket, START + SECOND * 100), 7);
    }

    #[test]
    fn a_client_that_keeps_to_the_rate_is_never_over_the_limit() {
        for rate in [1, 3, 10, 300_000, 1_000_000] {
            let limit = limit(rate, rate.div_ceil(10));
            let mut bucket = Buckets::default();
            for n in 0..10_000 {
                let now = START + SECOND * n / rate as u32;
                assert!(
                    limit.admit_message(&mut bucket, now),
                    "message {n} at {rate} a second"
                );
            }
        }
    }

    #[test]
    fn a_client_a_little_above_the_rate_is_eventually_over_the_limit() {
        let limit = limit(300_000, 30_000);
        let mut bucket = Buckets::default();
        let mut sent = (0..10_000_000u32).map(|n| START + SECOND * n / 303_000);
        assert!(sent.any(|now| !limit.admit_message(&mut bucket, now)));
    }

    #[test]
    fn a_message_over_the_limit_takes_nothing() {
        let limit = limit(10, 7);
        let mut bucket = Buckets::default();
        burst(&limit, &mut bucket, START);
        for _ in 0..100 {
            assert!(!limit.admit_message(&mut bucket, START));
        }
        assert!(limit.admit_message(&mut bucket, START + SECOND / 10));
    }

    #[test]
    fn messages_that_could_have_been_sent_during_a_pause_are_excused() {
        let limit = limit(10, 7);
        let mut bucket = Buckets::default();
        bucket.pause(START);
        let now = START + SECOND * 3;
        bucket.resume(now);
        assert_eq!(burst(&limit, &mut bucket, now), 7 + 30);
    }

    #[test]
    fn a_client_that_keeps_to_the_rate_is_not_over_the_limit_after_a_pause_either() {
        let limit = limit(100, 20);
        let mut bucket = Buckets::default();
        let span = SECOND / 80;
        let (pause, end) = (SECOND * 3 / 2, SECOND * 10);
        bucket.pause(START);
        bucket.resume(START + pause);
        for n in 0u32..800 {
            // The messages of the pause are read at its end.
            let now = START + (span * n).max(pause).min(end);
            assert!(limit.admit_message(&mut bucket, now), "message {n}");
        }
    }

    #[test]
    fn an_excuse_lasts_as_long_as_the_pause_was_and_through_another_pause() {
        let limit = limit(10, 7);
        let resumed = START + SECOND * 3;
        let after = |later: Duration| {
            let mut bucket = Buckets::default();
            bucket.pause(START);
            bucket.resume(resumed);
            let now = resumed + later;
            bucket.pause(now);
            bucket.resume(now);
            burst(&limit, &mut bucket, now)
        };
        assert_eq!(after(SECOND), 7 + 20);
        assert_eq!(after(SECOND * 3), 7);
    }
}
