//! The limit on a client's messages: a token bucket, as the generic cell rate algorithm keeps it.
//!
//! A bucket holds the burst and fills at the rate. Each message takes one token, and a message that finds none is over the
//! limit. Only the moment at which a bucket is full again is stored, so an idle client costs nothing. The
//! shard asks at each message, with the time of the turn.
//!
//! While a client is parked (its topic is held, say), its messages wait in its socket. They arrive at once
//! afterwards, and that is the relay's fault. So the client may also send what it could have sent while it was parked.
//! This excuse lasts as long as the client was parked.
//!
//! A turn may skip reading because inboxes are full. Such a turn is short and does not count.

use std::time::Duration;

use crate::config::Limits;
use crate::time::Timestamp;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The most that a time in whole microseconds leaves out. A client that sends exactly at the rate must not be over the limit
/// because of it.
const CUT_OFF_NANOS: u64 = 999;

/// The limit, the same for all clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    /// The time in which the bucket gains one message.
    message_nanos: u64,
    /// The time in which an empty bucket fills, with [`CUT_OFF_NANOS`].
    burst_nanos: u64,
}

/// A client's bucket; a new one is full.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// The moment at which it is full again; if it is full, a moment in the past.
    full_at_nanos: u64,
    /// While the client is read, the end of its excuse. While it is not read, the beginning of the excuse.
    excuse: Timestamp,
}

impl RateLimit {
    /// The limit of a configuration, if it has one.
    pub(crate) fn new(config: &Limits) -> Option<Self> {
        let rate = config.messages_per_second as u64;
        let burst = match config.burst as u64 {
            0 => rate * Limits::DEFAULT_BURST_SECONDS as u64,
            burst => burst,
        };
        // Nanoseconds, because microseconds are too coarse for a hundred thousand messages a second. The products fit:
        // rate and burst are below 2²⁴.
        let message_nanos = NANOS_PER_SECOND.checked_div(rate)?;
        Some(RateLimit {
            message_nanos,
            burst_nanos: burst * message_nanos + CUT_OFF_NANOS,
        })
    }

    /// Takes a token for a message that was read at `now`. Says whether there was one.
    pub(crate) fn admits(&self, bucket: &mut Bucket, now: Timestamp) -> bool {
        let now_nanos = nanos(Duration::from_micros(now.0));
        // A full bucket gains nothing more, but an excused one goes on filling. A larger burst would not do: the client would
        // have to pay it back before the excuse ends.
        let full_since_nanos = now_nanos.saturating_sub(nanos(bucket.excuse.since(now)));
        let full_at_nanos = bucket.full_at_nanos.max(full_since_nanos) + self.message_nanos;
        let is_within = full_at_nanos <= now_nanos + self.burst_nanos;
        if is_within {
            bucket.full_at_nanos = full_at_nanos;
        }
        is_within
    }
}

impl Bucket {
    /// The relay stops reading the client.
    pub(crate) fn pause(&mut self, now: Timestamp) {
        // The rest of an earlier excuse is kept.
        let left = self.excuse.since(now);
        self.excuse = Timestamp(now.0.saturating_sub(left.as_micros() as u64));
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

    fn limit(messages_per_second: usize, burst: usize) -> RateLimit {
        let limits = Limits {
            messages_per_second,
            burst,
            ..Limits::default()
        };
        RateLimit::new(&limits).expect("a limit")
    }

    /// The number of messages let through, of many that are read at once.
    fn burst(limit: &RateLimit, bucket: &mut Bucket, now: Timestamp) -> usize {
        (0..1000).take_while(|_| limit.admits(bucket, now)).count()
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        assert!(RateLimit::new(&Limits::default()).is_none());
    }

    #[test]
    fn exactly_the_burst_is_let_through_at_once() {
        let limit = limit(10, 7);
        assert_eq!(burst(&limit, &mut Bucket::default(), START), 7);
    }

    #[test]
    fn the_burst_is_five_seconds_worth_unless_it_is_set() {
        let limit = limit(10, 0);
        assert_eq!(burst(&limit, &mut Bucket::default(), START), 50);
    }

    #[test]
    fn an_empty_bucket_fills_at_the_rate_and_no_further_than_the_burst() {
        let limit = limit(10, 7);
        let mut bucket = Bucket::default();
        burst(&limit, &mut bucket, START);
        assert_eq!(burst(&limit, &mut bucket, START + SECOND / 2), 5);
        assert_eq!(burst(&limit, &mut bucket, START + SECOND * 100), 7);
    }

    #[test]
    fn a_client_that_keeps_to_the_rate_is_never_over_the_limit() {
        for rate in [1, 3, 10, 300_000, 1_000_000] {
            let limit = limit(rate, rate.div_ceil(10));
            let mut bucket = Bucket::default();
            for n in 0..10_000 {
                let now = START + SECOND * n / rate as u32;
                assert!(
                    limit.admits(&mut bucket, now),
                    "message {n} at {rate} a second"
                );
            }
        }
    }

    #[test]
    fn a_client_a_little_above_the_rate_is_eventually_over_the_limit() {
        let limit = limit(300_000, 30_000);
        let mut bucket = Bucket::default();
        let mut sent = (0..10_000_000u32).map(|n| START + SECOND * n / 303_000);
        assert!(sent.any(|now| !limit.admits(&mut bucket, now)));
    }

    #[test]
    fn a_message_over_the_limit_takes_nothing() {
        let limit = limit(10, 7);
        let mut bucket = Bucket::default();
        burst(&limit, &mut bucket, START);
        for _ in 0..100 {
            assert!(!limit.admits(&mut bucket, START));
        }
        assert!(limit.admits(&mut bucket, START + SECOND / 10));
    }

    #[test]
    fn messages_that_could_have_been_sent_during_a_pause_are_excused() {
        let limit = limit(10, 7);
        let mut bucket = Bucket::default();
        bucket.pause(START);
        let now = START + SECOND * 3;
        bucket.resume(now);
        assert_eq!(burst(&limit, &mut bucket, now), 7 + 30);
    }

    #[test]
    fn a_client_that_keeps_to_the_rate_is_not_over_the_limit_after_a_pause_either() {
        let limit = limit(100, 20);
        let mut bucket = Bucket::default();
        let span = SECOND / 80;
        let (pause, end) = (SECOND * 3 / 2, SECOND * 10);
        bucket.pause(START);
        bucket.resume(START + pause);
        for n in 0u32..800 {
            // The messages of the pause are read at its end.
            let now = START + (span * n).max(pause).min(end);
            assert!(limit.admits(&mut bucket, now), "message {n}");
        }
    }

    #[test]
    fn an_excuse_lasts_as_long_as_the_pause_was_and_through_another_pause() {
        let limit = limit(10, 7);
        let resumed = START + SECOND * 3;
        let after = |later: Duration| {
            let mut bucket = Bucket::default();
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
