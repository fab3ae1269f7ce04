//! The rates at which subjects publish by requests.
//!
//! A client that publishes by WebSocket has its buckets with its connection. Requests come on any number of connections, so each
//! subject has a bucket in a table of the shard. The table has a bound: subjects for which it has no room share one bucket.
//!
//! Each shard counts on its own. So a subject whose requests come on connections of several workers has its rate on each.

use std::collections::HashMap;
use std::time::Duration;

use crate::port::subject::Subject;
use crate::relay::policy::rate::{Admission, Rates};
use crate::time::Timestamp;

/// The most subjects with buckets of their own: less than a megabyte.
const MAX_SUBJECTS: usize = 16 << 10;

/// A full table is searched for buckets that are full again, but not more often than this.
const SWEEP_GAP: Duration = Duration::from_secs(1);

/// The reason why messages exceed a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// They are within the rate after this time.
    Until(Duration),
    /// They are more than the burst.
    Never,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    /// For each subject the moment at which its bucket is full again, in nanoseconds.
    full_at_nanos: HashMap<Subject, u64>,
    /// The same for all others.
    others_full_at_nanos: u64,
    swept_at: Timestamp,
}

impl Senders {
    /// Takes tokens for `count` messages of a subject at `now`, all or none.
    ///
    /// # Errors
    /// They exceed its rate.
    pub(crate) fn admit(
        &mut self,
        rates: &Rates,
        subject: Subject,
        count: usize,
        now: Timestamp,
    ) -> Result<(), Excess> {
        if !rates.limit_messages() || count == 0 {
            return Ok(());
        }
        let is_known = self.full_at_nanos.contains_key(&subject);
        if !is_known && self.full_at_nanos.len() >= MAX_SUBJECTS {
            self.sweep(now);
        }
        let bucket = if is_known || self.full_at_nanos.len() < MAX_SUBJECTS {
            self.full_at_nanos.entry(subject).or_default()
        } else {
            &mut self.others_full_at_nanos
        };
        match rates.admit_posts(bucket, count, now) {
            Admission::Granted => Ok(()),
            Admission::Wait(wait) => Err(Excess::Until(wait)),
            Admission::Never => Err(Excess::Never),
        }
    }

    /// Forgets the subjects whose buckets are full.
    fn sweep(&mut self, now: Timestamp) {
        if now.since(self.swept_at) < SWEEP_GAP {
            return;
        }
        self.swept_at = now;
        let now_nanos = now.0.saturating_mul(1000);
        self.full_at_nanos.retain(|_, full_at| *full_at > now_nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Keepalive, Limits};
    use crate::port::subject::Origin;

    const START: Timestamp = Timestamp(10_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn rates(messages_per_second: usize, burst: usize) -> Rates {
        let limits = Limits {
            messages_per_second,
            burst,
            ..Limits::default()
        };
        Rates::new(&limits, &Keepalive::default())
    }

    fn subject(n: u32) -> Subject {
        Subject::Address(Origin::V4(n))
    }

    #[test]
    fn a_subject_may_send_its_burst_and_then_its_rate() {
        let (rates, mut senders) = (rates(2, 5), Senders::default());
        let mut send = |count, at| senders.admit(&rates, subject(1), count, at);
        assert_eq!(send(5, START), Ok(()));
        let Err(Excess::Until(wait)) = send(1, START) else {
            panic!("the burst is used up");
        };
        assert!(wait > Duration::ZERO && wait <= SECOND / 2, "{wait:?}");
        assert_eq!(send(1, START + SECOND / 2), Ok(()));
        assert_eq!(send(6, START + 99 * SECOND), Err(Excess::Never));
        assert_eq!(send(5, START + 99 * SECOND), Ok(()));
    }

    #[test]
    fn subjects_do_not_share_a_rate_and_without_a_rate_nothing_is_kept() {
        let (rates, mut senders) = (rates(1, 1), Senders::default());
        assert_eq!(senders.admit(&rates, subject(1), 1, START), Ok(()));
        assert_eq!(senders.admit(&rates, subject(2), 1, START), Ok(()));
        assert!(senders.admit(&rates, subject(1), 1, START).is_err());
        let (unlimited, mut senders) = (self::rates(0, 0), Senders::default());
        assert_eq!(senders.admit(&unlimited, subject(1), 999, START), Ok(()));
        assert!(senders.full_at_nanos.is_empty());
    }

    #[test]
    fn the_table_has_a_bound_and_those_without_a_place_share_a_bucket() {
        let (rates, mut senders) = (rates(1, 1), Senders::default());
        let most = MAX_SUBJECTS as u32;
        for n in 0..most {
            assert_eq!(senders.admit(&rates, subject(n), 1, START), Ok(()));
        }
        assert_eq!(senders.admit(&rates, subject(most), 1, START), Ok(()));
        assert!(senders.admit(&rates, subject(most + 1), 1, START).is_err());
        assert_eq!(senders.full_at_nanos.len(), MAX_SUBJECTS);
        // Their buckets are full again.
        let later = START + 5 * SECOND;
        assert_eq!(senders.admit(&rates, subject(most + 1), 1, later), Ok(()));
        assert_eq!(senders.full_at_nanos.len(), 1);
    }
}
