//! What the relay does about members that lag: the limits, and the decision, in one place.
//!
//! A member lags when its socket accepts less than its topic brings; a member that merely has not been visited yet in
//! this turn does not. The limits are the same whatever the transport, because what waits always waits in the log.

use std::time::Duration;

use super::grace::{Grace, LogState};
use crate::config::{SlowConsumer, SlowConsumerPolicy};
use crate::time::Timestamp;

/// Publishers of a topic wait while its log holds more than this share of `max_lag_bytes`: under `backpressure` because
/// a member lags, under every policy because the shard has not got round to all members, and otherwise as long as
/// [`Grace`] is granted.
const HOLD_SHARE: u64 = 2;

/// They go on when it holds less than this share.
const RELEASE_SHARE: u64 = 4;

/// A publisher that is itself this share of `max_lag_bytes` behind is not read: whoever sends faster than it reads is
/// slowed down by its own connection, before it can push those that read as fast as it does over the limit.
const OWN_LAG_SHARE: u64 = 4;

/// What the shards together may have on its way to a topic's log is this share of `max_lag_bytes`, and on each shard one
/// read more, so that what comes between a hold and its effect puts hardly a member over the limit.
const WINDOW_SHARE: u64 = 4;

/// See the module.
#[derive(Clone, Debug)]
pub struct Policy {
    policy: SlowConsumerPolicy,
    max_lag_bytes: u64,
    /// Bytes of messages that one shard may have on their way to one topic's log.
    pub window_bytes: u64,
    /// The longest time a member may accept nothing while it is owed something.
    pub stall_timeout: Duration,
}

/// What becomes of a member whose socket is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on lagging.
    Keep,
    /// Its cursor jumps to the head, and what it skips is counted.
    Skip,
    /// It is disconnected with 1013.
    Disconnect,
}

impl Policy {
    /// The policy of a relay with `shards` shards.
    pub fn new(config: &SlowConsumer, shards: u16) -> Self {
        let max_lag_bytes = config.max_lag_bytes as u64;
        Policy {
            policy: config.policy,
            max_lag_bytes,
            window_bytes: max_lag_bytes / WINDOW_SHARE / u64::from(shards.max(1)),
            stall_timeout: config.stall_timeout,
        }
    }

    /// The verdict on a blocked member that lags by `lag_bytes`.
    pub fn verdict(&self, lag_bytes: u64) -> Verdict {
        if lag_bytes <= self.max_lag_bytes {
            return Verdict::Keep;
        }
        match self.policy {
            SlowConsumerPolicy::Disconnect => Verdict::Disconnect,
            SlowConsumerPolicy::Drop => Verdict::Skip,
            SlowConsumerPolicy::Backpressure => Verdict::Keep,
        }
    }

    /// Whether a log that holds this much has members that the verdict falls on.
    pub fn is_log_over(&self, held_bytes: u64) -> bool {
        held_bytes > self.max_lag_bytes && !self.is_lossless()
    }

    /// Whether a shard wants a topic's publishers held. `held_bytes` is what its log holds, `is_round_open` whether
    /// members are still to be visited, `holding` whether it has asked for it already.
    pub fn wants_hold(&self, held_bytes: u64, is_round_open: bool, holding: bool) -> bool {
        let mark = if holding {
            self.release_mark()
        } else {
            self.hold_mark()
        };
        (self.is_lossless() || is_round_open) && held_bytes > mark
    }

    /// The state of a topic's grace at `now`. There is none under `backpressure`, which waits as long as it takes.
    pub fn review_grace(
        &self,
        grace: Grace,
        now: Timestamp,
        held_bytes: u64,
        is_round_open: bool,
        laggards_progress: bool,
    ) -> Grace {
        if self.is_lossless() {
            return Grace::Unneeded;
        }
        let log = LogState {
            held_bytes,
            hold_mark: self.hold_mark(),
            release_mark: self.release_mark(),
            is_round_open,
            laggards_progress,
        };
        grace.review(now, log)
    }

    /// Whether a member that lags by `lag_bytes` is one that grace is granted for.
    pub fn is_behind(&self, lag_bytes: u64) -> bool {
        lag_bytes > self.release_mark()
    }

    /// Whether a publisher that lags by `lag_bytes` may be read.
    pub fn may_publish(&self, lag_bytes: u64) -> bool {
        lag_bytes <= self.max_lag_bytes / OWN_LAG_SHARE
    }

    fn is_lossless(&self) -> bool {
        self.policy == SlowConsumerPolicy::Backpressure
    }

    fn hold_mark(&self) -> u64 {
        self.max_lag_bytes / HOLD_SHARE
    }

    fn release_mark(&self) -> u64 {
        self.max_lag_bytes / RELEASE_SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(policy: SlowConsumerPolicy) -> Policy {
        let config = SlowConsumer {
            policy,
            max_lag_bytes: 1000,
            stall_timeout: Duration::from_secs(1),
        };
        Policy::new(&config, 2)
    }

    #[test]
    fn a_laggard_is_judged_by_the_policy_once_it_is_over_the_limit() {
        for (rule, over) in [
            (SlowConsumerPolicy::Disconnect, Verdict::Disconnect),
            (SlowConsumerPolicy::Drop, Verdict::Skip),
            (SlowConsumerPolicy::Backpressure, Verdict::Keep),
        ] {
            assert_eq!(policy(rule).verdict(1000), Verdict::Keep);
            assert_eq!(policy(rule).verdict(1001), over);
        }
    }

    #[test]
    fn only_backpressure_holds_publishers_for_a_member() {
        assert!(policy(SlowConsumerPolicy::Backpressure).wants_hold(501, false, false));
        assert!(!policy(SlowConsumerPolicy::Disconnect).wants_hold(501, false, false));
        assert!(!policy(SlowConsumerPolicy::Drop).wants_hold(501, false, false));
    }

    #[test]
    fn a_shard_that_is_behind_with_its_own_work_holds_publishers_under_every_policy() {
        assert!(policy(SlowConsumerPolicy::Disconnect).wants_hold(501, true, false));
        assert!(!policy(SlowConsumerPolicy::Disconnect).wants_hold(500, true, false));
    }

    #[test]
    fn the_shards_share_what_may_be_on_its_way() {
        assert_eq!(policy(SlowConsumerPolicy::Disconnect).window_bytes, 125);
    }

    #[test]
    fn a_hold_ends_well_below_where_it_began() {
        let policy = policy(SlowConsumerPolicy::Backpressure);
        assert!(policy.wants_hold(251, false, true));
        assert!(!policy.wants_hold(250, false, true));
    }
}
