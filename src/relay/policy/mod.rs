//! What the relay does about members that lag: the limits, and the decision, in one place.
//!
//! A member lags when its socket accepts less than its topic brings; a member that merely has not been visited yet in
//! this turn does not. The limits are the same whatever the transport, because what waits always waits in the log.

pub mod departure;
pub mod grace;
pub mod rate;

use std::time::Duration;

use crate::config::{SlowConsumer, SlowConsumerPolicy};
use crate::relay::envelope::Hold;
use crate::relay::policy::grace::{Grace, LogState};
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

/// Nobody waits for a member that has not accepted this share of `max_lag_bytes`: half a megabyte by default, more than
/// sockets take in for a client that never reads.
const PROBATION_SHARE: u64 = 8;

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

/// How far the members of a topic on one shard are behind, and what is done about it.
#[derive(Clone, Copy, Debug)]
pub struct Lag {
    /// Bytes in the topic's log: what its slowest member lags.
    pub held_bytes: u64,
    /// The same without members that are not waited for.
    pub trusted_bytes: u64,
    /// The most that a member lags because it has not been visited yet: how far the shard itself is behind.
    pub unvisited_bytes: u64,
    /// The shard has asked for a hold already.
    pub is_holding: bool,
    /// The owner holds publishers for laggards, on whatever shard.
    pub is_granted: bool,
    /// The shard is short of memory.
    pub is_pressed: bool,
    /// Whether the shard waits for its laggards.
    pub grace: Grace,
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

    /// How much a member has to accept, since it joined or was skipped, until it is waited for when it lags: whoever never
    /// reads would need and waste the patience that others deserve.
    pub fn probation_bytes(&self) -> u32 {
        // At most 1 GiB.
        (self.max_lag_bytes / PROBATION_SHARE) as u32
    }

    /// How many bytes a member may lag: on a member that keeps no more in its log, [`Policy::verdict`] is to keep it.
    pub fn max_lag_bytes(&self) -> u64 {
        self.max_lag_bytes
    }

    /// How a shard wants a topic's publishers held, if at all.
    pub fn wants_hold(&self, lag: Lag) -> Option<Hold> {
        let mark = if lag.is_pressed { 0 } else { self.mark(lag) };
        if self.is_lossless() && lag.held_bytes > mark {
            return Some(Hold::Open);
        }
        if lag.unvisited_bytes > mark {
            return Some(Hold::Open);
        }
        lag.grace.is_asked().then_some(Hold::Grace)
    }

    fn mark(&self, lag: Lag) -> u64 {
        if lag.is_holding {
            self.release_mark()
        } else {
            self.hold_mark()
        }
    }

    /// The state of a topic's grace at `now`. There is none under `backpressure`, which waits as long as it takes.
    pub fn review_grace(&self, now: Timestamp, lag: Lag, laggards_progress: bool) -> Grace {
        if self.is_lossless() {
            return Grace::Unneeded;
        }
        let log = LogState {
            held_bytes: lag.trusted_bytes,
            hold_mark: self.hold_mark(),
            release_mark: self.release_mark(),
            // What a laggard keeps in the log says nothing of how far the shard is behind.
            is_shard_behind: lag.unvisited_bytes > self.mark(lag),
            laggards_progress,
            is_granted: lag.is_granted,
        };
        lag.grace.review(now, log)
    }

    /// Whether a member that lags by `lag_bytes` is one that grace is granted for.
    pub fn is_behind(&self, lag_bytes: u64) -> bool {
        lag_bytes > self.release_mark()
    }

    /// Whether a publisher that lags by `lag_bytes` may be read.
    pub fn may_publish(&self, lag_bytes: u64) -> bool {
        lag_bytes <= self.max_lag_bytes / OWN_LAG_SHARE
    }

    /// Whether laggards skip to the head instead of being disconnected.
    pub fn skips(&self) -> bool {
        self.policy == SlowConsumerPolicy::Drop
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

    fn lag(held_bytes: u64) -> Lag {
        Lag {
            held_bytes,
            trusted_bytes: held_bytes,
            unvisited_bytes: 0,
            is_holding: false,
            is_granted: false,
            is_pressed: false,
            grace: Grace::Unneeded,
        }
    }

    #[test]
    fn only_backpressure_holds_publishers_for_a_member_without_end() {
        let wish = |rule| policy(rule).wants_hold(lag(501));
        assert_eq!(wish(SlowConsumerPolicy::Backpressure), Some(Hold::Open));
        assert_eq!(wish(SlowConsumerPolicy::Disconnect), None);
        assert_eq!(wish(SlowConsumerPolicy::Drop), None);
    }

    #[test]
    fn a_shard_that_is_behind_with_its_own_work_holds_publishers_under_every_policy() {
        let wish = |held_bytes| {
            policy(SlowConsumerPolicy::Disconnect).wants_hold(Lag {
                unvisited_bytes: held_bytes,
                ..lag(held_bytes)
            })
        };
        assert_eq!(wish(501), Some(Hold::Open));
        assert_eq!(wish(500), None);
    }

    #[test]
    fn a_laggard_does_not_pass_for_the_shards_own_lag() {
        let wish = |grace, unvisited_bytes| {
            policy(SlowConsumerPolicy::Disconnect).wants_hold(Lag {
                grace,
                unvisited_bytes,
                is_holding: true,
                ..lag(900)
            })
        };
        let now = Timestamp(0);
        let asked = policy(SlowConsumerPolicy::Disconnect).review_grace(now, lag(501), false);
        for (grace, otherwise) in [
            (Grace::Unneeded, None),
            (asked, Some(Hold::Grace)),
            (Grace::spent(now), None),
        ] {
            assert_eq!(wish(grace, 250), otherwise);
            assert_eq!(wish(grace, 251), Some(Hold::Open));
        }
    }

    #[test]
    fn time_for_laggards_passes_although_members_are_still_to_be_visited_but_not_for_much() {
        let review = |unvisited_bytes| {
            let lag = Lag {
                unvisited_bytes,
                ..lag(900)
            };
            policy(SlowConsumerPolicy::Disconnect).review_grace(Timestamp(0), lag, false)
        };
        assert!(review(500).is_asked());
        assert_eq!(review(501), Grace::Unneeded);
    }

    #[test]
    fn the_shards_share_what_may_be_on_its_way() {
        assert_eq!(policy(SlowConsumerPolicy::Disconnect).window_bytes, 125);
    }

    #[test]
    fn under_pressure_publishers_wait_for_whatever_waits_but_not_for_those_who_may_be_cut() {
        let wish = |rule, unvisited_bytes| {
            policy(rule).wants_hold(Lag {
                is_pressed: true,
                unvisited_bytes,
                ..lag(1)
            })
        };
        assert_eq!(wish(SlowConsumerPolicy::Backpressure, 0), Some(Hold::Open));
        assert_eq!(wish(SlowConsumerPolicy::Disconnect, 1), Some(Hold::Open));
        assert_eq!(wish(SlowConsumerPolicy::Disconnect, 0), None);
    }

    #[test]
    fn a_hold_ends_well_below_where_it_began() {
        let wish = |held_bytes| {
            policy(SlowConsumerPolicy::Backpressure).wants_hold(Lag {
                is_holding: true,
                ..lag(held_bytes)
            })
        };
        assert_eq!(wish(251), Some(Hold::Open));
        assert_eq!(wish(250), None);
    }
}
