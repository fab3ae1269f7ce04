//! The time that a topic's publishers are held for members that have fallen behind, under the policies that lose.
//!
//! A burst that is faster than the fastest reader can read would put every member over the limit, and disconnecting
//! honest readers for a burst is no isolation. So before anybody is judged, publishers wait a little for the laggards.
//! Whoever drains in that time is not cut: half of `max_lag_bytes` in [`GRACE`], thus some twice `max_lag_bytes` a
//! second, however fast is published. The wait is shorter when no laggard makes progress, and once it was in vain it is
//! not granted again for a while: on one shard, members that do not read cost the others [`WITHOUT_PROGRESS`] in
//! [`RECOVERY`], and members that read too slowly [`GRACE`] in it, however many they are.
//!
//! One for each topic and shard: laggards on several shards may be waited for one after the other. It knows how much the
//! log holds and what time it is; the marks are the policy's.

use std::time::Duration;

use crate::time::Timestamp;

/// The longest wait for laggards that make progress.
pub const GRACE: Duration = Duration::from_millis(250);

/// The longest wait in which no laggard takes a byte.
pub const WITHOUT_PROGRESS: Duration = Duration::from_millis(50);

/// How long no wait is granted after one that was in vain.
pub const RECOVERY: Duration = Duration::from_secs(5);

/// What a review looks at.
#[derive(Clone, Copy, Debug)]
pub struct LogState {
    /// Bytes in the topic's log.
    pub held_bytes: u64,
    /// Above it, publishers are held.
    pub hold_mark: u64,
    /// Below it, they are released.
    pub release_mark: u64,
    /// Members are still to be visited.
    pub is_round_open: bool,
    /// A member that is behind has taken bytes since the last review.
    pub laggards_progress: bool,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub enum Grace {
    /// There is no need of it.
    #[default]
    Unneeded,
    /// Publishers are held.
    Granted {
        /// When the hold ends at the latest.
        until: Timestamp,
        /// When a laggard took bytes last.
        progress_at: Timestamp,
    },
    /// It was granted in vain: members are judged.
    Spent {
        /// When it may be granted again.
        until: Timestamp,
    },
}

impl Grace {
    /// Reviews the state at `now`, with `held_bytes` in the log. Grace is granted above `hold_mark` and ends below
    /// `release_mark`. While a round `is_round_open`, members wait for the shard and not the shard for them: publishers
    /// are held on that account, and no time passes.
    #[must_use]
    pub fn review(self, now: Timestamp, log: LogState) -> Grace {
        match self {
            Grace::Spent { until } if now < until => self,
            Grace::Granted { .. } if log.held_bytes <= log.release_mark => Grace::Unneeded,
            Grace::Granted { .. } if log.is_round_open => Grace::grant(now),
            Grace::Granted { until, progress_at } => {
                let progress_at = if log.laggards_progress {
                    now
                } else {
                    progress_at
                };
                let renewed = Grace::Granted { until, progress_at };
                if renewed.next_review().is_some_and(|end| now >= end) {
                    return Grace::Spent {
                        until: now + RECOVERY,
                    };
                }
                renewed
            }
            Grace::Unneeded | Grace::Spent { .. }
                if log.held_bytes <= log.hold_mark || log.is_round_open =>
            {
                Grace::Unneeded
            }
            Grace::Unneeded | Grace::Spent { .. } => Grace::grant(now),
        }
    }

    fn grant(now: Timestamp) -> Grace {
        Grace::Granted {
            until: now + GRACE,
            progress_at: now,
        }
    }

    /// Whether publishers are to be held.
    pub fn is_granted(self) -> bool {
        matches!(self, Grace::Granted { .. })
    }

    /// Whether members over the limit are to be judged.
    pub fn is_spent(self) -> bool {
        matches!(self, Grace::Spent { .. })
    }

    /// When the state is to be reviewed even if nothing happens.
    pub fn next_review(self) -> Option<Timestamp> {
        match self {
            Grace::Granted { until, progress_at } => {
                Some(until.min(progress_at + WITHOUT_PROGRESS))
            }
            Grace::Unneeded | Grace::Spent { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    fn log(held_bytes: u64) -> LogState {
        LogState {
            held_bytes,
            hold_mark: 500,
            release_mark: 250,
            is_round_open: false,
            laggards_progress: false,
        }
    }

    fn at(after_ms: u64) -> Timestamp {
        START + Duration::from_millis(after_ms)
    }

    fn review(grace: Grace, after_ms: u64, held_bytes: u64) -> Grace {
        grace.review(at(after_ms), log(held_bytes))
    }

    fn review_with_progress(grace: Grace, after_ms: u64, held_bytes: u64) -> Grace {
        let log = LogState {
            laggards_progress: true,
            ..log(held_bytes)
        };
        grace.review(at(after_ms), log)
    }

    fn review_in_round(grace: Grace, after_ms: u64, held_bytes: u64) -> Grace {
        let log = LogState {
            is_round_open: true,
            ..log(held_bytes)
        };
        grace.review(at(after_ms), log)
    }

    fn granted() -> Grace {
        review(Grace::default(), 0, 501)
    }

    #[test]
    fn it_is_granted_over_the_mark_and_not_below() {
        assert!(!review(Grace::default(), 0, 500).is_granted());
        assert!(granted().is_granted());
    }

    #[test]
    fn laggards_that_drain_in_time_are_not_judged_and_may_need_it_again() {
        let drained = review(review(granted(), 40, 400), 80, 250);
        assert!(!drained.is_granted() && !drained.is_spent());
        assert!(review(drained, 81, 501).is_granted());
    }

    #[test]
    fn it_ends_early_when_nobody_makes_progress() {
        assert!(review(granted(), 49, 501).is_granted());
        assert!(review(granted(), 50, 501).is_spent());
    }

    #[test]
    fn it_ends_for_those_who_are_too_slow() {
        let mut grace = granted();
        for step in 1..10 {
            grace = review_with_progress(grace, step * 25, 501);
            assert!(grace.is_granted(), "step {step}");
        }
        assert!(review_with_progress(grace, 250, 490).is_spent());
    }

    #[test]
    fn once_it_was_in_vain_it_is_not_granted_for_a_while() {
        let spent = review(granted(), 50, 501);
        assert!(review(spent, 5_049, 501).is_spent());
        assert!(review(spent, 5_050, 501).is_granted());
        assert!(!review(spent, 5_050, 100).is_granted());
    }

    #[test]
    fn progress_within_one_large_batch_counts() {
        let grace = review_with_progress(granted(), 49, 900);
        assert!(review(grace, 98, 900).is_granted());
        assert!(review(grace, 99, 900).is_spent());
    }

    #[test]
    fn no_time_passes_while_members_wait_for_the_shard() {
        let grace = review_in_round(granted(), 1_000, 501);
        assert!(grace.is_granted());
        assert!(review(grace, 1_049, 501).is_granted());
        assert!(review(grace, 1_050, 501).is_spent());
        assert!(!review_in_round(Grace::default(), 0, 501).is_granted());
    }
}
